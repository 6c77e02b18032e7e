"""What a state asks for: the effects to have in flight, and when to wake the saga at the latest."""

from unwind.core.effects import Effect, RunAction, SendCommand
from unwind.core.messages import Direction
from unwind.core.rules import deadline_holds, unheard
from unwind.core.state import LIVE, State, StepRun

AWAITED = frozenset(("outstanding", "backoff"))


def outstanding(state: State) -> list[tuple[Direction, StepRun]]:
    """What has been asked for and not answered: the steps of a running saga, the undo of a compensating one.

    Not what is parked: nobody is asked meanwhile.
    """
    if state.status == "running":
        return [("do", run) for run in state.runs if run.status == "outstanding" and not (run.waits or run.parked)]
    undo = state.undo if state.status == "compensating" else None
    if undo is not None and undo.status == "outstanding" and not undo.parked:
        return [("undo", undo)]
    return []


def pending(state: State) -> tuple[Effect, ...]:
    """The effects to have in flight. To recover anything: load the state and dispatch these again."""
    if state.paused:
        return ()
    return tuple(effect_of(state, direction, run) for direction, run in outstanding(state))


def probes(state: State) -> tuple[Effect, ...]:
    """What is parked, to be asked for once more all the same: to learn whether its participant is back."""
    found = None if state.paused else unheard(state)
    if found is None or not found[1].parked:
        return ()
    return (effect_of(state, *found),)


def effect_of(state: State, direction: Direction, run: StepRun) -> Effect:
    """The effect that something outstanding stands for."""
    attempt = run.attempt
    if run.command is None:
        return RunAction(state.saga_id, run.step, direction, attempt.number, attempt.runner, state.context)
    retriable = state.status == "running" and state.pivoted and not run.pivot
    return SendCommand(state.saga_id, run.step, direction, attempt.number, run.command, retriable)


def _next_multiple(since: int, every: int, now: int) -> int:
    return since + every * ((now - since) // every + 1) if now > since else since + every


def _awaited_backward(state: State) -> StepRun | None:
    """What a compensating saga waits for: its undo, or the action that must end before its undo may begin."""
    return state.undo or (state.run(state.targets[0]) if state.targets else None)


def due(state: State, now: int) -> int | None:
    """When the saga must be woken at the latest: the value that `wake_at` may never exceed by more than one claim.

    None exactly for ended and paused sagas; every other state has a finite answer, so no orphan can exist.
    """
    if state.paused or state.status not in LIVE:
        return None
    if state.blocked is not None:
        nearest = _next_multiple(state.blocked.since, state.blocked.retry_every, now)
    else:
        forward = state.status == "running"
        run = (state.runs[-1] if state.runs else None) if forward else _awaited_backward(state)
        if run is None:
            nearest = max(now, state.begin_at) if forward else now
        elif run.status not in AWAITED:
            nearest = now
        elif run.status == "backoff":
            nearest = run.retry_at
        elif run.parked:
            nearest = run.parked
        else:
            attempt = run.attempt
            expires, again = attempt.expires, attempt.lease or attempt.resend
            if expires is not None and not again:  # it waits for time, or a signal: nothing is sent again
                nearest = expires
            else:
                nearest = _next_multiple(attempt.at, again, now)
                if expires is not None and expires < nearest:
                    nearest = expires
    if state.deadline is not None and deadline_holds(state):
        return min(nearest, state.deadline)
    return nearest


def resend_due(state: State, now: int) -> bool:
    """Whether a wake-up at `now` should send again what is outstanding."""
    if state.blocked is not None:
        return now >= state.blocked.since + state.blocked.retry_every
    return any(now >= run.attempt.at + (run.attempt.lease or run.attempt.resend) for _, run in outstanding(state))
