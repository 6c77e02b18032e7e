"""What an operator may do to a saga now, and what each act would bring."""

from collections.abc import Callable

from msgspec import Struct

from unwind.core.acts import Mend, held_up, in_need, refusal
from unwind.core.foresight import cancel_refused
from unwind.core.messages import Direction, ResolveStep, RetryStep, SkipStep
from unwind.core.rules import must_undo
from unwind.core.state import State, StepRun
from unwind.runtime.situation import Situation, named


class May(Struct, frozen=True):
    """An act that an operator may think of."""

    act: str
    possible: bool
    """False: the call would be refused: with 409, or with 503 where this process does not know the definition."""
    consequence: str
    """What it would do; where it is not possible, why."""


def _cancel(told: Situation) -> str:
    state = told.state
    if state.status == "compensating":
        return "The pause ends and the undoing goes on."
    steps = [run.step for run in reversed(state.runs) if must_undo(run)]
    return (
        f"Undoes, in this order: {', '.join(steps)}; then it is compensated." if steps else "Ends it: nothing is done."
    )


def _pause(told: Situation) -> str:
    if told.state.paused:
        return "Nothing changes: it is paused."
    return "Nothing new begins and nothing is sent until it is resumed or cancelled; answers are recorded."


def _resume(told: Situation) -> str:
    state, awaited = told.state, told.all_awaited()
    pause = "The pause ends. " if state.paused else ""
    if not awaited:
        if state.scheduled and state.begin_at > told.now:
            return f"{pause}It begins at its time."
        if not state.blocks:
            return f"{pause}It goes on now."
        blocked = " and ".join(named(block.direction, block.step) for block in state.blocks)
        return f"{pause}Tries {blocked} again now."
    return pause + " ".join(_driven(told, direction, run) for direction, run in awaited)


def _driven(told: Situation, direction: Direction, run: StepRun) -> str:
    """What resuming does to one thing under way."""
    what = named(direction, run.step)
    if run.status == "backoff":
        attempts = told.attempts(run.step, direction)
        of = f" of {attempts}" if attempts else ""
        return f"Ends the backoff and tries {what} again now: attempt {run.attempt.number + 1}{of}."
    if run.waits:
        return f"Leaves {what} to wait on."
    if run.child:
        return f"Looks after the saga of {what} now; what holds that one up is to be seen, and mended, there."
    if run.command is None:
        return f"Leaves {what} to run on."
    return f"Sends {what} again now, under the same id, with a new timeout; harmless to repeat."


def _what(told: Situation, mend: type[Mend]) -> str:
    """What is blocked, or waits for its next attempt, and takes that act."""
    found = [named(*one) for one in in_need(told.state, mend) if not refusal(told.state, mend, *one)]
    return found[0] if len(found) == 1 else f"the step that is named, one of {', '.join(found)},"


def _retry(told: Situation) -> str:
    return f"Begins a fresh attempt at {_what(told, RetryStep)} now, with another command if one is given."


def _resolve(told: Situation) -> str:
    return f"Takes {_what(told, ResolveStep)} as done by hand, keeps the evidence, and goes on."


def _skip(told: Situation) -> str:
    undos = [step for direction, step in in_need(told.state, SkipStep) if direction == "undo"]
    if undos and undos[0] in told.state.targets:
        what = undos[0] if len(undos) == 1 else _what(told, SkipStep)
        return f"Leaves {what} as it is for good, names it in left_undone, and goes on."
    return f"Leaves {_what(told, SkipStep)} out and goes on."


def _refused(mend: type[Mend]) -> Callable[[State], str]:
    """Why the act would be refused, whichever step it names."""

    def refused(state: State) -> str:
        found = in_need(state, mend)
        whys = [refusal(state, mend, *one) for one in found] or ["nothing in it is blocked"]
        return held_up(state) or ("" if "" in whys else whys[0])

    return refused


def _never(_: State) -> str:
    return ""


class Act(Struct, frozen=True):
    """An operator's act: what it would do, and why a live saga would refuse it (empty: it would not)."""

    consequence: Callable[[Situation], str]
    refused: Callable[[State], str] = _never


ACTS = {
    "cancel": Act(_cancel, cancel_refused),
    "pause": Act(_pause),
    "resume": Act(_resume),
    "retry": Act(_retry, _refused(RetryStep)),
    "resolve": Act(_resolve, _refused(ResolveStep)),
    "skip": Act(_skip, _refused(SkipStep)),
}
"""Every act by its name in the API, in the order in which they are listed."""


def may(told: Situation, name: str, act: Act) -> May:
    """What an act would do now."""
    state = told.state
    why = act.refused(state) if state.live else cancel_refused(state)
    if not why and told.saga is None:
        why = "this process does not know the saga's definition; ask one that does"
    return May(name, not why, f"Refused: {why}." if why else act.consequence(told))
