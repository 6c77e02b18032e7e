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
    ItemsListed,
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
    TurningRound,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.messages import NULL, Attempt, Direction
from unwind.core.state import Blocked, Heard, Listed, State, StepRun, StepStatus, Turning

_SETTLED: dict[str, StepStatus] = {"ok": "done", "refused": "refused", "failed": "unknown"}


def _replace_run(state: State, step: str, **changes: object) -> tuple[StepRun, ...]:
    return tuple([replace(run, parked=0, silent=0, **changes) if run.step == step else run for run in state.runs])


def _replace_undo(state: State, step: str, **changes: object) -> tuple[StepRun, ...]:
    return tuple([replace(undo, parked=0, silent=0, **changes) if undo.step == step else undo for undo in state.undos])


def _others(state: State, step: str, direction: Direction) -> tuple[Blocked, ...]:
    """What needs a person beside that step or undo."""
    return tuple([block for block in state.blocks if (block.step, block.direction) != (step, direction)])


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
        parent=event.parent,
    )


def _step_started(state: State, event: StepStarted) -> State:
    run = StepRun(event.step, "outstanding", event.attempt, event.command, 0, event.pivot, event.waits, event.child)
    return replace(
        state,
        version=state.version + 1,
        runs=(*state.runs, run),
        pivoted=state.pivoted or event.pivot,
        blocks=state.blocks and _others(state, event.step, "do"),
    )


def _step_done(state: State, event: StepDone) -> State:
    # What happens to most steps, and to the last one nearly always: spelled out, for speed.
    run = state.runs[-1]
    if run.step == event.step:
        done = StepRun(run.step, "done", run.attempt, run.command, run.retry_at, run.pivot, run.waits, run.child)
        runs = (*state.runs[:-1], done)
    else:
        runs = _replace_run(state, event.step, status="done")
    return replace(
        state,
        version=state.version + 1,
        runs=runs,
        context=state.context if event.context == NULL else event.context,
        blocks=state.blocks and _others(state, event.step, "do"),
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
        blocks=_others(state, event.step, "do"),
        outcomes=state.outcomes + 1,
    )


def _step_refused(state: State, event: StepRefused) -> State:
    runs, blocks = _replace_run(state, event.step, status="refused"), _others(state, event.step, "do")
    return replace(state, version=state.version + 1, runs=runs, blocks=blocks, outcomes=state.outcomes + 1)


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


def _turning_round(state: State, event: TurningRound) -> State:
    return replace(state, version=state.version + 1, turning=Turning(event.cause, event.step, event.reason))


def _compensation_started(state: State, event: CompensationStarted) -> State:
    return replace(
        state,
        version=state.version + 1,
        status="compensating",
        targets=event.targets,
        paused=state.paused and event.cause not in {"cancelled", "unwound"},
        blocks=(),
        turning=None,
        turned=Turning(event.cause, event.step, event.reason),
        ended_at=None,
    )


def _undo_started(state: State, event: UndoStarted) -> State:
    undos = (*state.undos, StepRun(event.step, "outstanding", event.attempt, event.command, child=event.child))
    blocks = state.blocks and _others(state, event.step, "undo")
    return replace(state, version=state.version + 1, undos=undos, blocks=blocks)


def _undo_failed(state: State, event: UndoFailed) -> State:
    undos = _replace_undo(state, event.step, status="backoff", retry_at=event.retry_at)
    return replace(state, version=state.version + 1, undos=undos)


def _undo_retried(state: State, event: UndoRetried) -> State:
    undos = _replace_undo(state, event.step, status="outstanding", attempt=event.attempt)
    return replace(state, version=state.version + 1, undos=undos)


def _undo_done(state: State, event: UndoDone) -> State:
    return _undo_over(state, event.step, state.left)


def _undo_skipped(state: State, event: UndoSkipped) -> State:
    return _undo_over(state, event.step, (*state.left, event.step))


def _undo_over(state: State, step: str, left: tuple[str, ...]) -> State:
    targets, undos = state.targets, state.undos
    return replace(
        state,
        version=state.version + 1,
        # One at a time, last begun first, as in most: spelled out, for speed.
        undos=() if len(undos) == 1 and undos[0].step == step else tuple([each for each in undos if each.step != step]),
        targets=targets[1:] if targets[:1] == (step,) else tuple([name for name in targets if name != step]),
        left=left,
        blocks=state.blocks and _others(state, step, "undo"),
        outcomes=state.outcomes + 1,
    )


def _retry_ordered(state: State, event: RetryOrdered) -> State:
    """What was sent is over: a backoff that ends now, for the attempt that follows."""
    version, blocks = state.version + 1, _others(state, event.step, event.direction)
    if event.direction == "undo":
        undos = tuple(_over(undo, event) if undo.step == event.step else undo for undo in state.undos)
        return replace(state, version=version, undos=undos, blocks=blocks)
    runs = tuple(_over(run, event) if run.step == event.step else run for run in state.runs)
    return replace(state, version=version, runs=runs, blocks=blocks)


def _over(run: StepRun, event: RetryOrdered) -> StepRun:
    if run.waits:
        return _restarted(run, event.at)
    if run.command is None:
        return run
    command = event.command or run.command
    return replace(run, status="backoff", retry_at=event.at, command=command, parked=0, silent=0)


def _items_listed(state: State, event: ItemsListed) -> State:
    items = (*state.items, Listed(event.step, event.items))
    return replace(state, version=state.version + 1, items=items, blocks=_others(state, event.step, "do"))


def _signal_received(state: State, event: SignalReceived) -> State:
    others = [signal for signal in state.signals if signal.step != event.step]
    signals = (*others, Heard(event.step, event.payload, event.signal_id))
    return replace(state, version=state.version + 1, signals=signals)


def _resolved_by_hand(state: State, _: ResolvedByHand) -> State:
    return replace(state, version=state.version + 1)


def _action_taken_over(state: State, event: ActionTakenOver) -> State:
    if event.direction == "undo":
        undos = tuple(_taken(undo, event) if undo.step == event.step else undo for undo in state.undos)
        return replace(state, version=state.version + 1, undos=undos)
    runs = tuple(_taken(run, event) if run.step == event.step else run for run in state.runs)
    return replace(state, version=state.version + 1, runs=runs)


def _changed(
    state: State, event: AttemptParked | AttemptReleased | SagaBlocked, change: Callable[[StepRun], StepRun]
) -> State:
    """With one step, or its undo, changed."""
    if event.direction == "undo":
        undos = tuple(change(undo) if undo.step == event.step else undo for undo in state.undos)
        return replace(state, version=state.version + 1, undos=undos)
    runs = tuple(change(run) if run.step == event.step else run for run in state.runs)
    return replace(state, version=state.version + 1, runs=runs)


def _attempt_parked(state: State, event: AttemptParked) -> State:
    return _changed(state, event, lambda run: replace(run, parked=event.until, silent=run.silent or event.at))


def _attempt_released(state: State, event: AttemptReleased) -> State:
    return _changed(state, event, lambda run: _restarted(run, event.at))


def _saga_blocked(state: State, event: SagaBlocked) -> State:
    """What is outstanding there is tried at the cap from now on: it does not stay parked."""
    blocked = Blocked(event.step, event.direction, event.reason, event.at, event.retry_every)
    state = _changed(state, event, lambda run: replace(run, parked=0) if run.parked else run)
    return replace(state, blocks=(*state.blocks, blocked))


def _saga_paused(state: State, _: SagaPaused) -> State:
    return replace(state, version=state.version + 1, paused=True)


def _saga_resumed(state: State, event: SagaResumed) -> State:
    runs = tuple(_restarted(run, event.at) for run in state.runs)
    undos = tuple(_restarted(undo, event.at) for undo in state.undos)
    return replace(state, version=state.version + 1, paused=False, blocks=(), runs=runs, undos=undos)


def _domain_recorded(state: State, event: DomainRecorded) -> State:
    return replace(state, version=state.version + 1, streams=_counted(state.streams, event.stream, event.count))


def _saga_completed(state: State, event: SagaCompleted) -> State:
    return replace(state, version=state.version + 1, status="completed", ended_at=event.at, blocks=())


def _saga_compensated(state: State, event: SagaCompensated) -> State:
    return replace(state, version=state.version + 1, status="compensated", ended_at=event.at, blocks=())


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
    TurningRound: _turning_round,
    ItemsListed: _items_listed,
    DomainRecorded: _domain_recorded,
    SagaCompleted: _saga_completed,
    SagaCompensated: _saga_compensated,
}
