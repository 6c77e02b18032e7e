"""How each event changes a saga's state: `evolve`.

Nothing here needs the definition: every timing and every command is frozen in the event that started it, so a log can
be folded, audited and driven on by code that does not know the author's classes.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from unwind.core.events import (
    ActionTakenOver,
    AttemptParked,
    AttemptReleased,
    CompensationStarted,
    DomainRecorded,
    Event,
    ResolvedByHand,
    RetryOrdered,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    SignalReceived,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepUnknown,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.messages import NULL, Attempt
from unwind.core.state import Blocked, Heard, State, StepRun, StepStatus

_SETTLED: dict[str, StepStatus] = {"ok": "done", "refused": "refused", "failed": "unknown"}


def _replace_run(state: State, step: str, **changes: object) -> tuple[StepRun, ...]:
    return tuple([replace(run, parked=0, silent=0, **changes) if run.step == step else run for run in state.runs])


def _counted(streams: tuple[tuple[str, int], ...], stream: str, count: int) -> tuple[tuple[str, int], ...]:
    if len(streams) == 1 and streams[0][0] == stream:
        return ((stream, streams[0][1] + count),)
    have = dict(streams)
    have[stream] = have.get(stream, 0) + count
    return tuple(have.items())


def _restarted(run: StepRun, at: int) -> StepRun:
    """The same attempt with its clock started anew.

    An action has no clock here: its runner was never held up. A sleep is over when it is over.
    """
    attempt = run.attempt
    if run.status != "outstanding" or attempt.expires is None or run.waits == "sleep":
        return run
    return replace(run, attempt=replace(attempt, at=at, expires=at + attempt.expires - attempt.at), parked=0)


def evolve(state: State, event: Event) -> State:
    """The state after one more event. Total over events in the order in which `decide` emits them."""
    return EVOLVE[type(event)](state, event)


def _saga_started(state: State, event: SagaStarted) -> State:
    return State(
        saga_id=event.saga_id,
        version=state.version + 1,
        status="running",
        context=event.context,
        begin_at=event.begin_at,
        deadline=event.deadline,
        definition=event.definition,
        definition_version=event.definition_version,
        definition_hash=event.definition_hash,
        started_at=event.at,
        request_hash=event.request_hash,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
    )


def _step_started(state: State, event: StepStarted) -> State:
    run = StepRun(event.step, "outstanding", event.attempt, event.command, 0, event.pivot, event.waits)
    return replace(
        state,
        version=state.version + 1,
        runs=(*state.runs, run),
        pivoted=state.pivoted or event.pivot,
        blocked=None,
    )


def _step_done(state: State, event: StepDone) -> State:
    # What happens to most steps, and to the last one only: spelled out, for speed.
    run = state.runs[-1]
    done = StepRun(run.step, "done", run.attempt, run.command, run.retry_at, run.pivot, run.waits)
    return replace(
        state,
        version=state.version + 1,
        runs=(*state.runs[:-1], done),
        context=state.context if event.context == NULL else event.context,
        blocked=None,
        outcomes=state.outcomes + 1,
    )


def _step_skipped(state: State, event: StepSkipped) -> State:
    begun = state.run(event.step) is not None
    return replace(
        state,
        version=state.version + 1,
        runs=_replace_run(state, event.step, status="skipped")
        if begun
        else (*state.runs, StepRun(event.step, "skipped", Attempt(event.at))),
        pivoted=state.pivoted or event.pivot,
        blocked=None,
        outcomes=state.outcomes + 1,
    )


def _step_refused(state: State, event: StepRefused) -> State:
    runs = _replace_run(state, event.step, status="refused")
    return replace(state, version=state.version + 1, runs=runs, blocked=None, outcomes=state.outcomes + 1)


def _step_failed(state: State, event: StepFailed) -> State:
    runs = _replace_run(state, event.step, status="backoff", retry_at=event.retry_at)
    return replace(state, version=state.version + 1, runs=runs)


def _step_retried(state: State, event: StepRetried) -> State:
    runs = _replace_run(state, event.step, status="outstanding", attempt=event.attempt)
    return replace(state, version=state.version + 1, runs=runs)


def _step_unknown(state: State, event: StepUnknown) -> State:
    runs = _replace_run(state, event.step, status="unknown")
    return replace(state, version=state.version + 1, runs=runs, outcomes=state.outcomes + 1)


def _step_settled(state: State, event: StepSettled) -> State:
    runs = _replace_run(state, event.step, status=_SETTLED[event.outcome])
    refused = event.outcome == "refused"
    targets = tuple(name for name in state.targets if not (refused and name == event.step))
    return replace(state, version=state.version + 1, runs=runs, targets=targets)


def _compensation_started(state: State, event: CompensationStarted) -> State:
    return replace(
        state,
        version=state.version + 1,
        status="compensating",
        targets=event.targets,
        paused=state.paused and event.cause != "cancelled",
        blocked=None,
    )


def _undo_started(state: State, event: UndoStarted) -> State:
    undo = StepRun(event.step, "outstanding", event.attempt, event.command)
    return replace(state, version=state.version + 1, undo=undo, blocked=None)


def _undo_failed(state: State, event: UndoFailed) -> State:
    undo = state.undo and replace(state.undo, status="backoff", retry_at=event.retry_at, parked=0, silent=0)
    return replace(state, version=state.version + 1, undo=undo)


def _undo_retried(state: State, event: UndoRetried) -> State:
    undo = state.undo and replace(state.undo, status="outstanding", attempt=event.attempt)
    return replace(state, version=state.version + 1, undo=undo)


def _undo_done(state: State, event: UndoDone) -> State:
    return replace(
        state,
        version=state.version + 1,
        undo=None,
        targets=tuple([name for name in state.targets if name != event.step]),
        blocked=None,
        outcomes=state.outcomes + 1,
    )


def _undo_skipped(state: State, event: UndoSkipped) -> State:
    left = (*state.left, event.step)
    targets = tuple([name for name in state.targets if name != event.step])
    version, outcomes = state.version + 1, state.outcomes + 1
    return replace(state, version=version, undo=None, targets=targets, left=left, blocked=None, outcomes=outcomes)


def _retry_ordered(state: State, event: RetryOrdered) -> State:
    """What was sent is over: a backoff that ends now, for the attempt that follows."""
    version = state.version + 1
    if event.direction == "undo":
        undo = state.undo and _over(state.undo, event)
        return replace(state, version=version, undo=undo, blocked=None)
    runs = tuple(_over(run, event) if run.step == event.step else run for run in state.runs)
    return replace(state, version=version, runs=runs, blocked=None)


def _over(run: StepRun, event: RetryOrdered) -> StepRun:
    if run.waits:
        return _restarted(run, event.at)
    if run.command is None:
        return run
    command = event.command or run.command
    return replace(run, status="backoff", retry_at=event.at, command=command, parked=0, silent=0)


def _signal_received(state: State, event: SignalReceived) -> State:
    others = [signal for signal in state.signals if signal.step != event.step]
    signals = (*others, Heard(event.step, event.payload, event.signal_id))
    return replace(state, version=state.version + 1, signals=signals)


def _resolved_by_hand(state: State, _: ResolvedByHand) -> State:
    return replace(state, version=state.version + 1)


def _action_taken_over(state: State, event: ActionTakenOver) -> State:
    if event.direction == "undo":
        return replace(state, version=state.version + 1, undo=state.undo and _taken(state.undo, event))
    runs = tuple(_taken(run, event) if run.step == event.step else run for run in state.runs)
    return replace(state, version=state.version + 1, runs=runs)


def _changed(state: State, event: AttemptParked | AttemptReleased, change: Callable[[StepRun], StepRun]) -> State:
    """With one step, or its undo, changed."""
    if event.direction == "undo":
        return replace(state, version=state.version + 1, undo=state.undo and change(state.undo))
    runs = tuple(change(run) if run.step == event.step else run for run in state.runs)
    return replace(state, version=state.version + 1, runs=runs)


def _attempt_parked(state: State, event: AttemptParked) -> State:
    return _changed(state, event, lambda run: replace(run, parked=event.until, silent=run.silent or event.at))


def _attempt_released(state: State, event: AttemptReleased) -> State:
    return _changed(state, event, lambda run: _restarted(run, event.at))


def _saga_blocked(state: State, event: SagaBlocked) -> State:
    """What is outstanding is tried at the cap from now on: none of it stays parked."""
    blocked = Blocked(event.step, event.direction, event.reason, event.at, event.retry_every)
    runs = tuple([replace(run, parked=0) if run.parked else run for run in state.runs])
    undo = state.undo and replace(state.undo, parked=0)
    return replace(state, version=state.version + 1, blocked=blocked, runs=runs, undo=undo)


def _saga_paused(state: State, _: SagaPaused) -> State:
    return replace(state, version=state.version + 1, paused=True)


def _saga_resumed(state: State, event: SagaResumed) -> State:
    runs = tuple(_restarted(run, event.at) for run in state.runs)
    undo = state.undo and _restarted(state.undo, event.at)
    return replace(state, version=state.version + 1, paused=False, blocked=None, runs=runs, undo=undo)


def _domain_recorded(state: State, event: DomainRecorded) -> State:
    return replace(state, version=state.version + 1, streams=_counted(state.streams, event.stream, event.count))


def _saga_completed(state: State, event: SagaCompleted) -> State:
    return replace(state, version=state.version + 1, status="completed", ended_at=event.at, blocked=None)


def _saga_compensated(state: State, event: SagaCompensated) -> State:
    return replace(state, version=state.version + 1, status="compensated", ended_at=event.at, blocked=None)


def _taken(run: StepRun, event: ActionTakenOver) -> StepRun:
    return replace(run, attempt=replace(run.attempt, runner=event.runner, at=event.at))


# A table, not a match: an event costs one look-up, whichever it is.
EVOLVE: dict[type, Callable[[State, Any], State]] = {
    SagaStarted: _saga_started,
    StepStarted: _step_started,
    StepDone: _step_done,
    StepSkipped: _step_skipped,
    StepRefused: _step_refused,
    StepFailed: _step_failed,
    StepRetried: _step_retried,
    StepUnknown: _step_unknown,
    StepSettled: _step_settled,
    CompensationStarted: _compensation_started,
    UndoStarted: _undo_started,
    UndoFailed: _undo_failed,
    UndoRetried: _undo_retried,
    UndoDone: _undo_done,
    ActionTakenOver: _action_taken_over,
    AttemptParked: _attempt_parked,
    AttemptReleased: _attempt_released,
    SagaBlocked: _saga_blocked,
    SagaPaused: _saga_paused,
    SagaResumed: _saga_resumed,
    RetryOrdered: _retry_ordered,
    ResolvedByHand: _resolved_by_hand,
    UndoSkipped: _undo_skipped,
    SignalReceived: _signal_received,
    DomainRecorded: _domain_recorded,
    SagaCompleted: _saga_completed,
    SagaCompensated: _saga_compensated,
}
