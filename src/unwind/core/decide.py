"""The transitions of a saga: `decide(saga, state, input, moment)` gives the events; their state says what to send.

The rules of the machine:

 1. A step is started when everything that stands before it is done or skipped: one after another, but for groups. Its
    command is frozen in the event that starts it.
 2. `ok` and `refused` count whatever the attempt, also in a backoff and when blocked. `failed` counts only for the
    attempt in progress. Every other input (late, duplicate, foreign, forged) is a legal no-op; an ended saga emits
    nothing.
 3. A refusal turns the saga round at once. A failure never does by itself: it is retried by the step's policy, and
    when the attempts are used up the step is *unknown*, and that turns the saga round.
 4. Undone is every started step that is not definitely refused (done, unknown, outstanding, in a backoff), in exact
    reverse order of start, each awaited before those that stand before it; what was side by side is undone so.
 5. An undo never gives up. After its attempts, or when it is refused, the saga is *blocked*: visible, not ended,
    tried again at the policy's cap without an event per try. It holds back the undos before it.
 6. Past its deadline a saga turns round and begins no step. From the pivot's start there is no cancel and no
    deadline. The pivot is retried until it answers: a refusal turns the saga round. After the pivot, done or skipped,
    there is only forward: whatever a step answers but yes blocks the saga until it says yes.
 7. A guard says proceed, skip or fail; fail turns the saga round.
 8. Paused is a flag: replies are recorded, also those that turn the saga round; nothing new begins. Resuming restarts
    the clock of what is outstanding; cancelling lifts the pause.
 9. An exception in the author's pure functions blocks this saga and no other; it is asked again at the cap.
10. An undo of an action waits until the action has ended or its lease has.
11. A saga that was accepted for a later time begins no step before it; its deadline counts from then.
12. A signal counts once for each step that waits for it, also when it comes before its step and while the saga is
    paused. One that says no turns the saga round; none in time does as the step says. Past the pivot both block, and
    another signal may take the place of one that was no use.
13. When a step fails beside others nothing new begins, and what is under way there may settle: its answers count, its
    failures are unknown outcomes. Then the saga turns round. A cancel or the deadline waits for none of it.
14. The items of a `ForEach` are asked for once and recorded; each step of each item is a step like any other.
15. An attempt whose time is up while its participant answers nobody is not spent: it is parked, for minutes at most at
    a time, and begun anew after that, or once its participant is back. Its answer counts all the same, and so does the
    saga's deadline.
16. A saga may be the doing of another one's step: its completion is the step's yes, its compensation the no, or the
    end of the undo. Only so may one that is completed be undone; one that was not begun yet never will be.

What an input does to a saga stands here; what operators do, under rules A to E, in `acts.py`; how a saga moves on after
either, in `advance.py`.
"""

from collections.abc import Sequence
from typing import Any, assert_never

from msgspec import Raw

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core import rules
from unwind.core.acts import act
from unwind.core.advance import advance, block, outcome_of, retry, turn_round, turn_round_late
from unwind.core.author import AuthorError, ask, attributes_of, checked_records
from unwind.core.draft import Decision, Draft
from unwind.core.parking import park, wake_parked
from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.state import AWAITED, State, StepRun
from unwind.core.waits import hear, wait_on


def decide(saga: Saga[Any], state: State, message: m.Input, moment: m.Moment) -> Decision:
    """Apply one input. Total: never raises for any state and input; time and jitter come in with `moment`."""
    draft = Draft(saga, state, moment, moment.at)
    match message:
        case m.Reply():
            _reply(draft, message)
            if draft.state.turning is not None:  # its last neighbour may just have been blocked
                advance(draft)
        case m.Start():
            return _start(draft, message)
        case m.Unwind():
            _unwind(draft, message.start)
        case m.Tick():
            _tick(draft, message)
            if draft.state.turning is not None:  # its last neighbour may just have been blocked
                advance(draft)
        case m.Signal():
            return hear(draft, message)
        case m.Cancel() | m.Resume() | m.Pause() | m.RetryStep() | m.ResolveStep() | m.SkipStep():
            return act(draft, message)
        case _:
            assert_never(message)
    events = draft.events
    return Decision(draft.state, tuple(events), tuple(draft.records), "accepted" if events else "ignored")


# --------------------------------------------------------------------------------------------------------------- start


def _start(draft: Draft, start: m.Start) -> Decision:
    if draft.state.status != "new":
        return draft.decision("exists")
    saga = draft.saga
    try:
        context = ask("the context", saga.decode_context, start.context)
        opening: Sequence[e.Record] = ()
        if saga.on_started is not None:
            opening = checked_records("on_started", ask("on_started", saga.on_started, context))
        attributes = _attributes(saga, context, start) if saga.attributes else None
    except AuthorError as error:
        return Decision(draft.state, verdict="author_error", reason=f"saga {saga.name}: {error.reason}")
    draft.emit(_started(draft, start, attributes))
    if opening:
        draft.record(opening)
    advance(draft)
    return draft.decision()


def _attributes(saga: Saga[Any], context: object, start: m.Start) -> dict[str, e.Searched] | None:
    """What the saga can be found by. Of a step's doing nobody would hear that they raise: it goes without."""
    try:
        return attributes_of(saga, context)
    except AuthorError:
        if start.parent:
            return None
        raise


def _started(draft: Draft, start: m.Start, attributes: dict[str, e.Searched] | None) -> e.SagaStarted:
    saga = draft.saga
    return e.SagaStarted(
        draft.at,
        start.saga_id,
        saga.name,
        saga.version,
        saga.hash,
        start.context,
        None if saga.deadline is None else max(draft.at, start.begin_at) + saga.deadline,
        start.request_hash,
        start.correlation_id or start.saga_id,
        start.traceparent,
        start.begin_at if start.begin_at > draft.at else 0,
        start.parent,
        attributes,
    )


def _unwind(draft: Draft, start: m.Start) -> None:
    """The step that this saga is the doing of is undone (rule 16)."""
    status, reason = draft.state.status, "the step that it is the doing of is undone"
    if status == "new":
        draft.emit(_started(draft, start, None))
        draft.emit(e.CompensationStarted(draft.at, "unwound", (), "", reason))
        draft.emit(e.SagaCompensated(draft.at))
    elif status in {"running", "completed"} and not draft.state.pivoted:
        turn_round(draft, "unwound", "", reason)


# -------------------------------------------------------------------------------------------------------------- reply


def _reply(draft: Draft, reply: m.Reply) -> None:
    state, saga, step = draft.state, draft.saga, reply.step
    plan = saga.by_name.get(step) if saga.flat else saga.plan(step, state.items)
    if plan is None:
        return
    if reply.direction == "undo":
        undo = state.undo_of(reply.step)
        if state.status == "compensating" and undo is not None:
            _undo_reply(draft, plan, undo, reply)
        return
    runs = state.runs
    run = runs[-1] if runs and runs[-1].step == step else state.run(step)  # as a rule the last
    if run is None or run.waits:
        return
    if state.status == "running" and run.status in {"outstanding", "backoff"}:
        if reply.outcome == "ok":
            _succeed(draft, plan, run, reply)
        elif reply.outcome == "refused":
            _refuse(draft, plan, run, reply)
        elif run.status == "outstanding" and rules.current(run, reply):
            _attempt_over(draft, plan, run, reply.reason, timed_out=reply.timed_out)
    elif rules.awaited_action(state, plan, run) and (reply.outcome != "failed" or rules.current(run, reply)):
        draft.emit(e.StepSettled(draft.at, run.step, reply.outcome, reply.reason))
        advance(draft)


def _refuse(draft: Draft, plan: StepPlan, run: StepRun, reply: m.Reply) -> None:
    if rules.forward_only(draft.state, run):
        block(draft, plan, "do", reply.reason, refused=True)
        return
    draft.emit(e.StepRefused(draft.at, run.step, run.attempt.number, reply.reason, reply.payload))
    turn_round(draft, "refused", run.step, reply.reason)


def _succeed(draft: Draft, plan: StepPlan, run: StepRun, reply: m.Reply) -> None:
    changed: Raw = m.NULL
    records: Sequence[e.Record] = ()
    if plan.maps_reply:
        try:
            changed, records = outcome_of(draft, plan, reply.payload)
        except AuthorError as error:
            block(draft, plan, "do", error.reason)
            return
    draft.emit(e.StepDone(draft.at, run.step, run.attempt.number, reply.payload, changed))
    if records:
        draft.record(records)
    advance(draft)


def _attempt_over(draft: Draft, plan: StepPlan, run: StepRun, reason: str, *, timed_out: bool) -> None:
    number = run.attempt.number
    if draft.state.blocked_on(run.step, "do"):
        return
    if draft.state.turning is not None:  # it is undone in any case: one answer less is worth no further attempt
        draft.emit(e.StepUnknown(draft.at, run.step, number, reason, timed_out))
    elif number < plan.retry.attempts:
        retry_at = draft.at + plan.retry.delay(number, draft.moment.jitter)
        draft.emit(e.StepFailed(draft.at, run.step, number, retry_at, reason, timed_out))
    elif rules.held(draft.state):
        block(draft, plan, "do", f"attempt {number} failed: {reason}")
    else:
        draft.emit(e.StepUnknown(draft.at, run.step, number, reason, timed_out))
        turn_round(draft, "unknown", run.step, reason)


def _undo_reply(draft: Draft, plan: StepPlan, undo: StepRun, reply: m.Reply) -> None:
    match reply.outcome:
        case "ok":
            draft.emit(e.UndoDone(draft.at, undo.step, undo.attempt.number, reply.payload))
            advance(draft)
        case "refused":
            block(draft, plan, "undo", reply.reason, refused=True)
        case "failed":
            if undo.status == "outstanding" and rules.current(undo, reply):
                _undo_attempt_over(draft, plan, undo, reply.reason, timed_out=reply.timed_out)
        case _:
            assert_never(reply.outcome)


def _undo_attempt_over(draft: Draft, plan: StepPlan, undo: StepRun, reason: str, *, timed_out: bool) -> None:
    number = undo.attempt.number
    if draft.state.blocked_on(undo.step, "undo"):
        return
    if number < plan.undo_retry.attempts:
        retry_at = draft.at + plan.undo_retry.delay(number, draft.moment.jitter)
        draft.emit(e.UndoFailed(draft.at, undo.step, number, retry_at, reason, timed_out))
    else:
        block(draft, plan, "undo", f"attempt {number} failed: {reason}")


# --------------------------------------------------------------------------------------------------------------- tick


def _tick(draft: Draft, tick: m.Tick) -> None:
    state = draft.state
    if not state.live or state.paused:
        return
    if rules.overdue(draft.state, draft.at):
        turn_round_late(draft)
    elif state.status == "running":
        for run in state.runs:
            if run.status in AWAITED and draft.state.status == "running":
                _tick_run(draft, run, "do", tick)
        if draft.state.status == "running":
            advance(draft)
    else:
        for undo in state.undos:
            _tick_run(draft, undo, "undo", tick)
        advance(draft, tick.leases)


def _tick_run(draft: Draft, run: StepRun, direction: m.Direction, tick: m.Tick) -> None:
    """What time alone does to a step or undo: a backoff ends, an attempt expires, a silent runner is replaced."""
    at, plan, attempt = draft.at, draft.plan(run.step), run.attempt
    if run.waits:
        if draft.state.turning is None:
            wait_on(draft, plan, run)
    elif run.status == "backoff" and at >= run.retry_at:
        if draft.state.turning is None:
            retry(draft, plan, run, direction)
    elif run.parked:
        wake_parked(draft, run, direction, tick)
    elif run.status == "outstanding" and attempt.expires is not None and at >= attempt.expires:
        if park(draft, run, direction, tick.held):
            return
        reason = "no answer in time"
        if direction == "do":
            _attempt_over(draft, plan, run, reason, timed_out=True)
        else:
            _undo_attempt_over(draft, plan, run, reason, timed_out=True)
    elif run.status == "outstanding" and plan.shape == "action":
        held_until = tick.leases.get(m.effect_id(draft.state.saga_id, run.step, direction), 0)
        if at >= rules.lease_end(run, held_until) and attempt.runner != draft.moment.worker:
            draft.emit(e.ActionTakenOver(at, run.step, direction, draft.moment.worker))
