"""What a state asks for: the effects to have in flight, and when to wake the saga at the latest."""

from unwind.core.messages import Direction, Effect, RunAction, SendCommand
from unwind.core.rules import deadline_holds
from unwind.core.state import LIVE, State, StepRun

AWAITED = frozenset(("outstanding", "backoff"))


def outstanding(state: State) -> list[tuple[Direction, StepRun]]:
    """What has been asked for and not answered: the steps of a running saga, the undo of a compensating one."""
    if state.status == "running":
        return [("do", run) for run in state.runs if run.status == "outstanding"]
    if state.status == "compensating" and state.undo is not None and state.undo.status == "outstanding":
        return [("undo", state.undo)]
    return []


def pending(state: State) -> tuple[Effect, ...]:
    """The effects to have in flight. To recover anything: load the state and dispatch these again."""
    if state.paused:
        return ()
    return tuple(effect_of(state, direction, run) for direction, run in outstanding(state))


def effect_of(state: State, direction: Direction, run: StepRun) -> Effect:
    """The effect that something outstanding stands for."""
    attempt = run.attempt
    if run.command is None:
        return RunAction(state.saga_id, run.step, direction, attempt.number, attempt.runner, state.context)
    retriable = state.status == "running" and state.pivoted and not run.pivot
    return SendCommand(state.saga_id, run.step, direction, attempt.number, run.command, retriable)


def _next_multiple(since: int, every: int, now: int) -> int:
    return since + every * (max(0, now - since) // every + 1)


def _run_due(run: StepRun, now: int) -> int | None:
    """The nearest instant at which a step or undo wants attention by itself."""
    if run.status == "backoff":
        return run.retry_at
    attempt = run.attempt
    every = attempt.lease or attempt.resend
    nearest = None
    if every:
        nearest = attempt.at + every * ((now - attempt.at) // every + 1) if now > attempt.at else attempt.at + every
    if attempt.expires is not None and (nearest is None or attempt.expires < nearest):
        return attempt.expires
    return nearest


def _awaited(state: State) -> tuple[StepRun, ...]:
    """What a compensating saga waits for: its undo, or the action that must end before its undo may begin."""
    awaited = state.undo or (state.run(state.targets[0]) if state.targets else None)
    return () if awaited is None else (awaited,)


def due(state: State, now: int) -> int | None:
    """When the saga must be woken at the latest: the value that `wake_at` may never exceed by more than one claim.

    None exactly for ended and paused sagas; every other state has a finite answer, so no orphan can exist.
    """
    if state.paused or state.status not in LIVE:
        return None
    nearest: int | None = None
    if state.blocked is not None:
        nearest = _next_multiple(state.blocked.since, state.blocked.retry_every, now)
    else:
        for run in state.runs if state.status == "running" else _awaited(state):
            if run.status not in AWAITED:
                continue
            at = _run_due(run, now)
            if at is not None and (nearest is None or at < nearest):
                nearest = at
    if state.deadline is not None and deadline_holds(state) and (nearest is None or state.deadline < nearest):
        return state.deadline
    return now if nearest is None else nearest


def resend_due(state: State, now: int) -> bool:
    """Whether a wake-up at `now` should send again what is outstanding."""
    if state.blocked is not None:
        return now >= state.blocked.since + state.blocked.retry_every
    return any(now >= run.attempt.at + (run.attempt.lease or run.attempt.resend) for _, run in outstanding(state))
