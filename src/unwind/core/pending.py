"""What a state asks for: the effects to have in flight, and when to wake the saga at the latest."""

from collections.abc import Collection

from unwind.core.effects import Effect, RunAction, RunSaga, SendCommand, TellParent
from unwind.core.messages import Direction, effect_id
from unwind.core.rules import deadline_holds, settling, unheard
from unwind.core.state import AWAITED, LIVE, State, StepRun


def outstanding(state: State) -> list[tuple[Direction, StepRun]]:
    """What has been asked for and not answered: the steps of a running saga, the undos of a compensating one.

    Not what is parked: nobody is asked meanwhile.
    """
    if state.status == "running":
        return [("do", run) for run in state.runs if run.status == "outstanding" and not (run.waits or run.parked)]
    if state.status == "compensating":
        return [("undo", undo) for undo in state.undos if undo.status == "outstanding" and not undo.parked]
    return []


def pending(state: State) -> tuple[Effect, ...]:
    """The effects to have in flight. To recover anything: load the state and dispatch these again."""
    if state.status not in LIVE:
        return (_told_to_parent(state),) if state.parent and state.status != "new" else ()
    if state.paused:
        return ()
    return tuple(effect_of(state, direction, run) for direction, run in outstanding(state))


def probes(state: State, wanted: Collection[str]) -> tuple[Effect, ...]:
    """What is parked of these effects, to be asked for all the same: to learn whether its participant is back."""
    if state.paused:
        return ()
    return tuple(
        effect_of(state, direction, run)
        for direction, run in unheard(state)
        if run.parked and effect_id(state.saga_id, run.step, direction) in wanted
    )


def effect_of(state: State, direction: Direction, run: StepRun) -> Effect:
    """The effect that something outstanding stands for."""
    attempt = run.attempt
    if run.child and run.command is not None:
        return RunSaga(state.saga_id, run.step, direction, run.command.payload, attempt.number, attempt.resend)
    if run.command is None:
        return RunAction(state.saga_id, run.step, direction, attempt.number, attempt.runner, state.context, state.items)
    retriable = state.status == "running" and state.pivoted and not run.pivot
    return SendCommand(state.saga_id, run.step, direction, attempt.number, run.command, retriable, attempt.resend)


def _told_to_parent(state: State) -> TellParent:
    saga_id, _, step = state.parent.rpartition("/")
    turned, reason = state.turned, ""
    if turned is not None:
        reason = f"{turned.step} {turned.cause}" if turned.step else turned.cause
        reason += f": {turned.reason}" if turned.reason else ""
    return TellParent(saga_id, step, state.status == "completed", state.context, reason)


def due(state: State, now: int) -> int | None:
    """When the saga must be woken at the latest: the value that `wake_at` may never exceed by more than one claim.

    None exactly for ended and paused sagas; every other state has a finite answer, so no orphan can exist.
    """
    if state.paused or state.status not in LIVE:
        return None
    nearest: int | None = None
    if state.status == "running":
        for run in state.runs if state.turning is None else settling(state):
            if run.status in AWAITED and not (state.blocks and state.blocked_on(run.step, "do")):
                at = _next_of(run, now)
                nearest = at if nearest is None or at < nearest else nearest
    else:
        nearest = _next_backward(state, now)
    for block in state.blocks:
        again = _next_multiple(block.since, block.retry_every, now)
        nearest = again if nearest is None or again < nearest else nearest
    if nearest is None:  # nothing is under way: whatever comes next may begin
        nearest = max(now, state.begin_at) if state.scheduled else now
    if state.deadline is not None and deadline_holds(state):
        return min(nearest, state.deadline)
    return nearest


def _next_backward(state: State, now: int) -> int | None:
    nearest: int | None = None
    for undo in state.undos:
        if not (state.blocks and state.blocked_on(undo.step, "undo")):
            at = _next_of(undo, now)
            nearest = at if nearest is None or at < nearest else nearest
    for run in state.runs:  # an action must have ended before its undo may begin
        if run.status == "outstanding" and _holds_back(state, run):
            at = _next_of(run, now)
            nearest = at if nearest is None or at < nearest else nearest
    return nearest


def _holds_back(state: State, run: StepRun) -> bool:
    return run.attempt.lease > 0 and run.step in state.targets and state.undo_of(run.step) is None


def _next_of(run: StepRun, now: int) -> int:
    """When time does something to what was begun: it is sent again, tried again, or over."""
    if run.status == "backoff":
        return run.retry_at
    if run.parked:
        return run.parked
    attempt = run.attempt
    expires, again = attempt.expires, attempt.lease or attempt.resend
    if not again:  # it waits for time, or a signal; or it is over in the decision that began it, and this is in between
        return now if expires is None else expires
    nearest = attempt.at + again
    if now >= nearest:
        nearest = _next_multiple(attempt.at, again, now)
    return expires if expires is not None and expires < nearest else nearest


def _next_multiple(since: int, every: int, now: int) -> int:
    return since + every * (max(now - since, 0) // every + 1)


def resend_due(state: State, now: int) -> bool:
    """Whether a wake-up at `now` should send again what is outstanding."""
    if any(now >= block.since + block.retry_every for block in state.blocks):
        return True
    return any(
        now >= run.attempt.at + (run.attempt.lease or run.attempt.resend)
        for direction, run in outstanding(state)
        if not state.blocked_on(run.step, direction)
    )
