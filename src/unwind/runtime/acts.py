"""What an operator may do to a saga now, and what each act would bring."""

from collections.abc import Callable

from msgspec import Struct

from unwind.core.acts import refusal
from unwind.core.foresight import cancel_refused
from unwind.core.messages import ResolveStep, RetryStep, SkipStep
from unwind.core.rules import must_undo
from unwind.core.state import State
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
        return "The pause ends and the undoing goes on." if state.paused else "Nothing changes: it is being undone."
    steps = [run.step for run in reversed(state.runs) if must_undo(run)]
    return (
        f"Undoes, in this order: {', '.join(steps)}; then it is compensated." if steps else "Ends it: nothing is done."
    )


def _pause(told: Situation) -> str:
    if told.state.paused:
        return "Nothing changes: it is paused."
    return "Nothing new begins and nothing is sent until it is resumed or cancelled; answers are recorded."


def _resume(told: Situation) -> str:
    state, awaited = told.state, told.awaited()
    pause = "The pause ends. " if state.paused else ""
    if awaited is None:
        if state.scheduled and state.begin_at > told.now:
            return f"{pause}It begins at its time."
        if state.blocked is None:
            return f"{pause}It goes on now."
        return f"{pause}Tries {named(state.blocked.direction, state.blocked.step)} again now."
    direction, run = awaited
    what = named(direction, run.step)
    if run.status == "backoff":
        attempts = told.attempts(run.step, direction)
        of = f" of {attempts}" if attempts else ""
        return f"{pause}Ends the backoff and tries {what} again now: attempt {run.attempt.number + 1}{of}."
    if run.waits:
        return f"{pause}Leaves {what} to wait on."
    if run.command is None:
        return f"{pause}Leaves {what} to run on."
    return f"{pause}Sends {what} again now, under the same id, with a new timeout; harmless to repeat."


def _what(told: Situation) -> str:
    """What is blocked, or waits for its next attempt."""
    blocked, awaited = told.state.blocked, told.awaited()
    if blocked is not None:
        return named(blocked.direction, blocked.step)
    return named(awaited[0], awaited[1].step) if awaited else "it"


def _retry(told: Situation) -> str:
    return f"Begins a fresh attempt at {_what(told)} now, with another command if one is given."


def _resolve(told: Situation) -> str:
    return f"Takes {_what(told)} as done by hand, keeps the evidence, and goes on."


def _skip(told: Situation) -> str:
    blocked = told.state.blocked
    if blocked is not None and blocked.direction == "undo" and blocked.step in told.state.targets:
        return _left(blocked.step)
    awaited = told.awaited()
    if blocked is None and awaited is not None and awaited[0] == "undo":
        return _left(awaited[1].step)
    return f"Leaves {_what(told)} out and goes on."


def _left(step: str) -> str:
    return f"Leaves {step} as it is for good, names it in left_undone, and goes on."


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
    "retry": Act(_retry, lambda state: refusal(state, RetryStep)),
    "resolve": Act(_resolve, lambda state: refusal(state, ResolveStep)),
    "skip": Act(_skip, lambda state: refusal(state, SkipStep)),
}
"""Every act by its name in the API, in the order in which they are listed."""


def may(told: Situation, name: str, act: Act) -> May:
    """What an act would do now."""
    state = told.state
    why = act.refused(state) if state.live else cancel_refused(state)
    if not why and told.saga is None:
        why = "this process does not know the saga's definition; ask one that does"
    return May(name, not why, f"Refused: {why}." if why else act.consequence(told))
