"""Why a saga is where it is, in plain language: what it waits for, what comes next, what an operator may do.

Pure: from the log and the store's time. A re-send writes no event, so how often a command went out is worked out from
the clock.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from unwind.core.events import CompensationStarted, Event, SagaPaused
from unwind.core.foresight import cancel_refused
from unwind.core.messages import Direction
from unwind.core.pending import due
from unwind.core.plans import key_of
from unwind.core.rules import deadline_holds
from unwind.core.saga import Saga
from unwind.core.state import Blocked, ShownStatus, State, StepRun
from unwind.runtime.acts import ACTS, May, may
from unwind.runtime.families import child_id
from unwind.runtime.instants import instant
from unwind.runtime.outage_story import parked_story
from unwind.runtime.situation import SECOND, Situation, failure, last, named, said, spoken, times_sent

LATE = 30 * SECOND
"""A wake-up that was due for longer than this is no matter of load."""
What = Literal["answer", "saga", "action", "backoff", "operator", "outage", "signal", "time", "wake-up"]


class WaitsFor(Struct, frozen=True):
    """What the saga waits for."""

    what: What
    """An answer, the end of a saga, an action, a backoff or an outage, a signal, its time, an operator; or to be woken.
    """
    step: str | None
    direction: Direction | None
    participant: str | None
    """The service that has the command; None where none was sent."""
    since: str
    attempt: int | None
    attempts: int | None
    """How many are allowed; None where nothing was begun, or this process does not know the definition."""
    sent: int | None
    """How often the command of this attempt was due to be sent so far, the first time included."""


class Explanation(Struct, frozen=True):
    """Why a saga is where it is."""

    saga_id: str
    status: ShownStatus
    headline: str
    sentences: tuple[str, ...]
    waits_for: WaitsFor | None
    """None once the saga has ended."""
    waits_beside: tuple[WaitsFor, ...]
    """What else is under way at the same time."""
    next_at: str | None
    """When the engine does something by itself at the latest; None when it has ended or is paused."""
    may: tuple[May, ...]


def explain(saga: Saga[Any] | None, state: State, log: Sequence[Event], now: int) -> Explanation:
    """Explain a saga. `log` holds its events, `state` what they fold to, `now` is the store's time."""
    told = Situation(saga, state, log, now)
    headline, sentences = _story(told)
    next_at = due(state, now)
    return Explanation(
        state.saga_id,
        state.shown_status,
        headline,
        tuple(sentences + [more for rule in ALSO for more in rule(told)]),
        _waits_for(told),
        tuple(_waits_for_run(told, *one) for one in told.all_awaited()[1:]) if state.live else (),
        None if next_at is None else instant(next_at),
        tuple(may(told, name, act) for name, act in ACTS.items()),
    )


# ----------------------------------------------------------------------------------------------------- what it does now


def _story(told: Situation) -> tuple[str, list[str]]:
    state = told.state
    if not state.live:
        return _ended(told)
    if state.paused:
        return _paused(told)
    if state.deadline is not None and deadline_holds(state) and told.now >= state.deadline:
        return f"Overdue: its deadline passed {told.ago(state.deadline)} ago, and it is about to be undone.", _now(told)
    if state.blocked is not None:
        return _blocked(told, state.blocked)
    headline, *sentences = _now(told)
    return headline, sentences


def _ended(told: Situation) -> tuple[str, list[str]]:
    state = told.state
    ended = told.now if state.ended_at is None else state.ended_at
    lasted, ago = spoken(ended - state.started_at), told.ago(ended)
    if state.status == "compensated":
        return f"Compensated {ago} ago.", [f"It took {lasted}. Everything that was done is undone, and confirmed."]
    skipped = [run.step for run in state.runs if run.status == "skipped"]
    how = f"Every step is done, or skipped: {', '.join(skipped)}." if skipped else "Every step is done."
    return f"Completed {ago} ago.", [f"It took {lasted}. {how}"]


def _paused(told: Situation) -> tuple[str, list[str]]:
    pause = last(told, SagaPaused)
    why = f": {said(pause.reason)}" if pause.reason else ""
    sentences = [
        f"{named(direction, run.step)} had begun; if its answer comes, it is recorded."
        for direction, run in told.all_awaited()
    ]
    sentences.append("Nothing new begins and nothing is sent until it is resumed or cancelled.")
    sentences.extend(f"It is blocked as well: {said(block.reason)}." for block in told.state.blocks)
    return f"Paused for {told.ago(pause.at)} by {pause.actor}{why}.", sentences


def _blocked(told: Situation, blocked: Blocked) -> tuple[str, list[str]]:
    state = told.state
    what = named(blocked.direction, blocked.step)
    if state.status == "compensating" and not state.targets:
        what = "the end of the compensation"
    following = due(state, told.now) or told.now
    sentences = [
        f"The reason: {said(blocked.reason)}.",
        f"The engine goes on trying every {spoken(blocked.retry_every)}, next {told.within(following)}.",
    ]
    if waiting := _held_back(told, blocked):
        sentences.append(f"Waiting for it: {', '.join(waiting)}.")
    sentences += [
        f"{named(other.direction, other.step)} needs a person as well: {said(other.reason)}."
        for other in state.blocks[1:]
    ]
    sentences += [
        f"Beside it: {_awaiting(told, direction, run)}"
        for direction, run in told.all_awaited()
        if not state.blocked_on(run.step, direction)
    ]
    return f"Blocked for {told.ago(blocked.since)}: {what} needs a person.", sentences


def _held_back(told: Situation, blocked: Blocked) -> list[str]:
    """What cannot begin before it."""
    saga, targets = told.saga, told.state.targets
    name, _ = key_of(blocked.step)
    if blocked.direction == "undo":
        earlier = saga.by_name[name].before if saga else targets[1:]
        return [f"the undo of {step}" for step in targets if key_of(step)[0] in earlier]
    return [plan.name for plan in saga.plans if name in plan.before] if saga else []


def _now(told: Situation) -> list[str]:
    """What is awaited, what went wrong before, and what comes if nothing comes."""
    awaited = told.awaited()
    if told.state.scheduled and told.state.begin_at > told.now:
        return [f"Scheduled: it begins {told.within(told.state.begin_at)}.", "Until then nothing is done."]
    if awaited is None:
        return ["Ready to go on.", "Nothing is outstanding: it goes on as soon as the engine wakes it."]
    several = told.all_awaited()
    turning = told.state.turning
    sentences: list[str] = []
    if turning is not None:
        sentences.append(
            f"{turning.step} failed ({said(turning.reason)}): everything is undone once what is under way has settled."
        )
    elif len(several) > 1:
        sentences.append(
            f"{len(several)} things are under way: {', '.join(named(way, run.step) for way, run in several)}."
        )
    for direction, run in several:
        if run.parked and run.command is not None:
            sentences += parked_story(told, direction, run, run.command.service)
            continue
        sentences.append(_awaiting(told, direction, run))
        failed = failure(told, direction, run.step)
        if failed is not None:
            sentences.append(f"Attempt {failed.attempt} failed {told.ago(failed.at)} ago: {said(failed.reason)}.")
        if run.status == "outstanding":
            sentences += _if_nothing_comes(told, direction, run)
    return sentences


def _awaiting(told: Situation, direction: Direction, run: StepRun) -> str:
    number, what = run.attempt.number, named(direction, run.step)
    attempts = told.attempts(run.step, direction)
    of = f" of {attempts}" if attempts else ""
    if run.status == "backoff":
        return f"In a backoff: {what} is tried again {told.within(run.retry_at)}, attempt {number + 1}{of}."
    since = told.ago(run.attempt.at)
    if run.waits == "signal":
        return f"Waiting for the signal {run.step} for {since}."
    if run.waits == "sleep":
        return f"{run.step} lets time pass, for {since} so far."
    if run.child:
        whose = f"saga {child_id(told.state.saga_id, run.step)} ({run.child})"
        return f"Waiting for {since} for the {whose} to be {'completed' if direction == 'do' else 'undone'}."
    if run.command is not None:
        sent = times_sent(told, run) or 1
        times = "once" if sent == 1 else f"{sent} times"
        return f"Waiting for {run.command.service} to answer {what} for {since}: attempt {number}{of}, sent {times}."
    if not run.attempt.lease:
        return f"{run.step} is recorded in the decision that begins it; this is how the saga stood in between."
    if direction == "do" and told.state.status == "compensating":
        return f"Waiting for {since} for the action {run.step} to end, so that it can be undone."
    return (
        f"Waiting for {since} for {what} to end, which runs in the worker {run.attempt.runner}: attempt {number}{of}."
    )


def _if_nothing_comes(told: Situation, direction: Direction, run: StepRun) -> list[str]:
    attempt = run.attempt
    if run.child:
        return ["How that one is, its own explanation says; it has no time limit here."]
    if attempt.expires is None and not attempt.lease:
        return ["Nothing can come between."]
    if attempt.expires is None:
        held = told.within(attempt.at + attempt.lease)
        return [f"If its worker is gone, another takes it over, {held} at the earliest."]
    if run.waits:
        return [_when_over(told, run, attempt.expires)]
    sentences = []
    again = attempt.at + attempt.resend * ((told.now - attempt.at) // attempt.resend + 1)
    if again < attempt.expires:
        sentences.append(f"It is sent again {told.within(again)}, under the same id, so that nothing happens twice.")
    attempts = told.attempts(run.step, direction)
    if told.state.turning is not None:
        then = "its outcome is unknown, and it is undone like the others"
    elif run.silent:
        then = "it is parked again, unless its participant has answered others"
    elif attempts is None:
        then = "the definition decides what follows"
    elif attempt.number < attempts:
        then = f"attempt {attempt.number + 1} follows"
    elif direction == "undo" or told.state.pivoted:
        then = "the saga is blocked, and the engine goes on trying"
    else:
        then = "its outcome is unknown and the saga is undone"
    sentences.append(f"Without an answer the attempt ends {told.within(attempt.expires)}; then {then}.")
    if run.command is not None and not run.silent:
        sentences.append(f"Should {run.command.service} answer nobody, it is parked instead: no attempt is spent.")
    return sentences


def _when_over(told: Situation, run: StepRun, at: int) -> str:
    """What comes at the end of a step that waits."""
    if run.waits == "sleep":
        return f"It goes on {told.within(at)}."
    plan = told.saga and told.saga.template(run.step)
    if not plan:
        then = "the definition decides what follows"
    elif plan.on_timeout == "skip":
        then = "it goes on without it"
    else:
        then = "the saga is blocked" if told.state.pivoted else "the saga is undone"
    return f"If it does not come, the wait ends {told.within(at)}; then {then}."


# ------------------------------------------------------------------------------------------------- what holds besides


def _turned(told: Situation) -> list[str]:
    if told.state.status not in {"compensating", "compensated"}:
        return []
    turn = last(told, CompensationStarted)
    because = f": {said(turn.reason)}" if turn.reason else ""
    whys = {
        "refused": f"{turn.step} was refused{because}",
        "unknown": f"the outcome of {turn.step} is unknown{because}",
        "guard": f"the guard of {turn.step} said no{because}",
        "cancelled": f"{turn.actor} cancelled it{because}",
        "deadline": "its deadline passed",
        "unwound": "the step that it is the doing of is undone",
    }
    return [f"It turned round {told.ago(turn.at)} ago because {whys[turn.cause]}."]


def _no_return(told: Situation) -> list[str]:
    state = told.state
    return [f"It cannot be cancelled: {cancel_refused(state)}."] if state.status == "running" and state.pivoted else []


def _deadline(told: Situation) -> list[str]:
    state, now = told.state, told.now
    if state.deadline is None or state.status != "running":
        return []
    if state.pivoted:
        over = (
            f"Its deadline passed {told.ago(state.deadline)} ago; past the point of no return it goes on all the same."
        )
        return [over] if now >= state.deadline else []
    if now < state.deadline:
        return [f"Its deadline is {told.within(state.deadline)}; then everything is undone."]
    return [f"Its deadline passed {told.ago(state.deadline)} ago: once resumed, it is undone."] if state.paused else []


def _late(told: Situation) -> list[str]:
    at = due(told.state, told.now)
    if at is None or told.now - at < LATE:
        return []
    return [f"It should have been woken {told.ago(at)} ago: check that a worker is running that knows the saga."]


def _not_known(told: Situation) -> list[str]:
    state = told.state
    bound = f"{state.definition} version {state.definition_version}"
    return [] if told.saga else [f"This process does not know {bound} as the saga has it; it leaves it to others."]


ALSO = (_turned, _no_return, _deadline, _late, _not_known)

# --------------------------------------------------------------------------------------------------------- the figures


def _waits_for(told: Situation) -> WaitsFor | None:
    state = told.state
    if not state.live:
        return None
    awaited, blocked = told.awaited(), state.blocked
    what, since = _kind_and_since(told)
    if awaited is None:
        step = direction = None
        if blocked is not None:
            step, direction = blocked.step, blocked.direction
        return WaitsFor(what, step, direction, None, instant(since), None, None, None)
    return replace(_waits_for_run(told, *awaited), what=what, since=instant(since))


def _waits_for_run(told: Situation, direction: Direction, run: StepRun) -> WaitsFor:
    what, since = _kind_of(told, direction, run)
    participant = run.command.service if run.command and not run.child else None
    attempts, sent = told.attempts(run.step, direction), times_sent(told, run)
    return WaitsFor(what, run.step, direction, participant, instant(since), run.attempt.number, attempts, sent)


def _kind_and_since(told: Situation) -> tuple[What, int]:
    state, awaited = told.state, told.awaited()
    if state.paused:
        return "operator", last(told, SagaPaused).at
    if state.blocked is not None:
        return "operator", state.blocked.since
    if awaited is None:
        return ("time" if state.begin_at > told.now else "wake-up"), told.log[-1].at
    return _kind_of(told, *awaited)


def _kind_of(told: Situation, direction: Direction, run: StepRun) -> tuple[What, int]:
    if run.status == "backoff":
        failed = failure(told, direction, run.step)
        return "backoff", run.attempt.at if failed is None else failed.at
    if run.parked:
        return "outage", run.silent
    if run.waits:
        return ("signal" if run.waits == "signal" else "time"), run.attempt.at
    if run.child:
        return "saga", run.attempt.at
    return ("action" if run.command is None else "answer"), run.attempt.at
