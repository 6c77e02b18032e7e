"""All transitions of a saga: `decide(saga, state, input, moment)` gives the events; their state says what to send.

The rules of the machine:

 1. Steps are started one after another; a step's command is frozen in the event that starts it.
 2. `ok` and `refused` count whatever the attempt, also in a backoff and when blocked. `failed` counts only for the
    attempt in progress. Every other input (late, duplicate, foreign, forged) is a legal no-op; an ended saga emits
    nothing.
 3. A refusal turns the saga round at once. A failure never does by itself: it is retried by the step's policy, and
    when the attempts are used up the step is *unknown*, and that turns the saga round.
 4. Undone is every started step that is not definitely refused (done, unknown, outstanding, in a backoff), in exact
    reverse order of start, one after the other, each awaited.
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
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from unwind.core import messages as m
from unwind.core import rules
from unwind.core.author import (
    AuthorError,
    ask,
    checked_outcome,
    checked_records,
    command_call,
    decoded_reply,
    encoded_context,
    storable,
)
from unwind.core.draft import Decision, Draft
from unwind.core.saga import Fail, Kind, Outcome, Saga, StepPlan
from unwind.core.state import State, StepRun


def decide(saga: Saga[Any], state: State, message: m.Input, moment: m.Moment) -> Decision:
    """Apply one input. Total: never raises for any state and input; time and jitter come in with `moment`."""
    draft = Draft(saga, state, moment, moment.at)
    match message:
        case m.Reply():
            _reply(draft, message)
        case m.Start():
            return _start(draft, message)
        case m.Tick():
            _tick(draft, message)
        case m.Cancel() | m.Resume() | m.Pause():
            return _act(draft, message)
        case _:
            assert_never(message)
    return draft.decision("accepted" if draft.events else "ignored")


# --------------------------------------------------------------------------------------------------------------- start


def _start(draft: Draft, start: m.Start) -> Decision:
    if draft.state.status != "new":
        return draft.decision("exists")
    saga = draft.saga
    try:
        context = ask("the context", saga.decode_context, start.context)
        opening: Sequence[m.Record] = ()
        if saga.on_started is not None:
            opening = checked_records("on_started", ask("on_started", saga.on_started, context))
    except AuthorError as error:
        return Decision(draft.state, verdict="author_error", reason=error.reason)
    draft.emit(
        m.SagaStarted(
            draft.at,
            start.saga_id,
            saga.name,
            saga.version,
            saga.hash,
            start.context,
            None if saga.deadline is None else draft.at + saga.deadline,
            start.request_hash,
            start.correlation_id or start.saga_id,
            start.traceparent,
        )
    )
    if opening:
        draft.record(opening)
    _advance(draft)
    return draft.decision()


# ------------------------------------------------------------------------------------------------------------- advance


def _advance(draft: Draft, leases: Mapping[str, int] | None = None) -> None:
    """Start whatever the state of a live saga allows next. Forward and backward movement share this one road."""
    if draft.state.paused:
        return
    if draft.state.status != "running":
        _advance_backward(draft, leases)
        return
    plans = draft.saga.plans
    while draft.state.status == "running":
        runs = draft.state.runs
        if runs and runs[-1].status in {"outstanding", "backoff"}:
            return
        if len(runs) == len(plans):
            draft.emit(m.SagaCompleted(draft.at))
            return
        if draft.state.deadline is not None and rules.overdue(draft.state, draft.at):
            _turn_round_late(draft)
            return
        plan = plans[len(runs)]
        try:
            _begin(draft, plan)
        except AuthorError as error:
            _block(draft, plan, "do", error.reason)
            return


def _begin(draft: Draft, plan: StepPlan) -> None:
    context = draft.context() if plan.guarded or plan.shape != "action" else None
    pivot = plan.kind is Kind.PIVOT
    if plan.guarded:
        verdict = ask(f"{plan.name}.guard", plan.step.guard, context)
        if verdict == "skip":
            draft.emit(m.StepSkipped(draft.at, plan.name, pivot=pivot))
            return
        if isinstance(verdict, Fail):
            if draft.state.pivoted:
                raise AuthorError(f"{plan.name}.guard said fail after the pivot: {verdict.reason}")
            _turn_round(draft, "guard", plan.name, storable(verdict.reason))
            return
        if verdict != "proceed":
            raise AuthorError(f"{plan.name}.guard returned {verdict!r}; give PROCEED, SKIP or Fail(reason)")
    attempt = draft.attempt(plan, "do", 1)
    if plan.shape == "record":
        question = f"{plan.name}.record"
        outcome = checked_outcome(question, ask(question, plan.step.record, context))
        changed = encoded_context(draft.saga, plan, draft.state.context, outcome.context)
        draft.emit(m.StepStarted(draft.at, plan.name, attempt, None, pivot))
        draft.emit(m.StepDone(draft.at, plan.name, 1, m.NULL, changed))
        draft.record(outcome.records)
        return
    command = None
    if plan.shape == "command":
        question = f"{plan.name}.execute"
        command = command_call(question, ask(question, plan.step.execute, context))
    draft.emit(m.StepStarted(draft.at, plan.name, attempt, command, pivot))


# ------------------------------------------------------------------------------------------------------- turning round


def _turn_round(draft: Draft, cause: m.Cause, step: str, reason: str, actor: str = "") -> None:
    targets = rules.compensation_targets(draft.saga, draft.state.runs)
    draft.emit(m.CompensationStarted(draft.at, cause, targets, step, reason, actor))
    _advance(draft)


def _turn_round_late(draft: Draft) -> None:
    _turn_round(draft, "deadline", draft.state.current_step() or "", "the saga's deadline passed")


def _advance_backward(draft: Draft, leases: Mapping[str, int] | None) -> None:
    while draft.state.undo is None:
        state = draft.state
        if not state.targets:
            _end_compensated(draft)
            return
        plan = draft.plan(state.targets[0])
        if rules.still_running(state, plan, draft.at, leases):
            return
        try:
            _begin_undo(draft, plan)
        except AuthorError as error:
            _block(draft, plan, "undo", error.reason)
            return


def _begin_undo(draft: Draft, plan: StepPlan) -> None:
    attempt = draft.attempt(plan, "undo", 1)
    question = f"{plan.name}.compensate"
    if plan.shape == "record":
        outcome = checked_outcome(question, ask(question, plan.step.compensate, draft.context()))
        draft.emit(m.UndoStarted(draft.at, plan.name, attempt))
        draft.emit(m.UndoDone(draft.at, plan.name, 1))
        draft.record(outcome.records)
        return
    command = None
    if plan.shape == "command":
        command = command_call(question, ask(question, plan.step.compensate, draft.context()))
    draft.emit(m.UndoStarted(draft.at, plan.name, attempt, command))


def _end_compensated(draft: Draft) -> None:
    if draft.saga.on_compensated is not None:
        try:
            given = ask("on_compensated", draft.saga.on_compensated, draft.context())
            records = checked_records("on_compensated", given)
        except AuthorError as error:
            _block(draft, draft.saga.plans[0], "undo", error.reason)
            return
        draft.record(records)
    draft.emit(m.SagaCompensated(draft.at))


def _block(draft: Draft, plan: StepPlan, direction: m.Direction, reason: str, *, refused: bool = False) -> None:
    """Ask for a person, once; what is outstanding goes on being tried at the cap (rule 5)."""
    if draft.state.blocked is None:
        every = (plan.retry if direction == "do" else plan.undo_retry).cap
        draft.emit(m.SagaBlocked(draft.at, plan.name, direction, reason, every, refused))


# -------------------------------------------------------------------------------------------------------------- reply


def _reply(draft: Draft, reply: m.Reply) -> None:
    state = draft.state
    plan = draft.saga.by_name.get(reply.step)
    if plan is None:
        return
    if reply.direction == "undo":
        if state.status == "compensating" and state.undo is not None and state.undo.step == reply.step:
            _undo_reply(draft, plan, state.undo, reply)
        return
    run = state.run(reply.step)
    if run is None:
        return
    if state.status == "running" and run.status in {"outstanding", "backoff"}:
        if reply.outcome == "ok":
            _succeed(draft, plan, run, reply)
        elif reply.outcome == "refused":
            _refuse(draft, plan, run, reply)
        elif run.status == "outstanding" and rules.current(run, reply):
            _attempt_over(draft, plan, run, reply.reason, timed_out=reply.timed_out)
    elif rules.awaited_action(state, plan, run) and (reply.outcome != "failed" or rules.current(run, reply)):
        draft.emit(m.StepSettled(draft.at, run.step, reply.outcome, reply.reason))
        _advance(draft)


def _refuse(draft: Draft, plan: StepPlan, run: StepRun, reply: m.Reply) -> None:
    if rules.forward_only(draft.state, run):
        _block(draft, plan, "do", reply.reason, refused=True)
        return
    draft.emit(m.StepRefused(draft.at, run.step, run.attempt.number, reply.reason, reply.payload))
    _turn_round(draft, "refused", run.step, reply.reason)


def _succeed(draft: Draft, plan: StepPlan, run: StepRun, reply: m.Reply) -> None:
    changed = m.NULL
    records: Sequence[m.Record] = ()
    if plan.maps_reply:
        question = f"{plan.name}.succeeded"
        try:
            given = ask(question, plan.step.succeeded, draft.context(), decoded_reply(plan, reply.payload))
            outcome = checked_outcome(question, given if isinstance(given, Outcome) else Outcome(given))
            changed = encoded_context(draft.saga, plan, draft.state.context, outcome.context)
            records = outcome.records
        except AuthorError as error:
            _block(draft, plan, "do", error.reason)
            return
    draft.emit(m.StepDone(draft.at, run.step, run.attempt.number, reply.payload, changed))
    if records:
        draft.record(records)
    _advance(draft)


def _attempt_over(draft: Draft, plan: StepPlan, run: StepRun, reason: str, *, timed_out: bool) -> None:
    number = run.attempt.number
    if draft.state.blocked is not None:
        return
    if number < plan.retry.attempts:
        retry_at = draft.at + plan.retry.delay(number, draft.moment.jitter)
        draft.emit(m.StepFailed(draft.at, run.step, number, retry_at, reason, timed_out))
    elif rules.held(draft.state):
        _block(draft, plan, "do", f"attempt {number} failed: {reason}")
    else:
        draft.emit(m.StepUnknown(draft.at, run.step, number, reason, timed_out))
        _turn_round(draft, "unknown", run.step, reason)


def _undo_reply(draft: Draft, plan: StepPlan, undo: StepRun, reply: m.Reply) -> None:
    match reply.outcome:
        case "ok":
            draft.emit(m.UndoDone(draft.at, undo.step, undo.attempt.number, reply.payload))
            _advance(draft)
        case "refused":
            _block(draft, plan, "undo", reply.reason, refused=True)
        case "failed":
            if undo.status == "outstanding" and rules.current(undo, reply):
                _undo_attempt_over(draft, plan, undo, reply.reason, timed_out=reply.timed_out)
        case _:
            assert_never(reply.outcome)


def _undo_attempt_over(draft: Draft, plan: StepPlan, undo: StepRun, reason: str, *, timed_out: bool) -> None:
    number = undo.attempt.number
    if draft.state.blocked is not None:
        return
    if number < plan.undo_retry.attempts:
        retry_at = draft.at + plan.undo_retry.delay(number, draft.moment.jitter)
        draft.emit(m.UndoFailed(draft.at, undo.step, number, retry_at, reason, timed_out))
    else:
        _block(draft, plan, "undo", f"attempt {number} failed: {reason}")


# --------------------------------------------------------------------------------------------------------------- tick


def _tick(draft: Draft, tick: m.Tick) -> None:
    state = draft.state
    if not state.live or state.paused:
        return
    if rules.overdue(draft.state, draft.at):
        _turn_round_late(draft)
    elif state.status == "running":
        if state.runs:
            _tick_run(draft, state.runs[-1], "do", tick)
        if draft.state.status == "running":
            _advance(draft)
    elif state.undo is not None:
        _tick_run(draft, state.undo, "undo", tick)
    else:
        _advance(draft, tick.leases)


def _tick_run(draft: Draft, run: StepRun, direction: m.Direction, tick: m.Tick) -> None:
    """What time alone does to a step or undo: a backoff ends, an attempt expires, a silent runner is replaced."""
    at, plan, attempt = draft.at, draft.plan(run.step), run.attempt
    if run.status == "backoff" and at >= run.retry_at:
        _retry(draft, plan, run, direction)
    elif run.status == "outstanding" and attempt.expires is not None and at >= attempt.expires:
        reason = "no answer in time"
        if direction == "do":
            _attempt_over(draft, plan, run, reason, timed_out=True)
        else:
            _undo_attempt_over(draft, plan, run, reason, timed_out=True)
    elif run.status == "outstanding" and plan.shape == "action":
        held_until = tick.leases.get(m.effect_id(draft.state.saga_id, run.step, direction), 0)
        if at >= rules.lease_end(run, held_until) and attempt.runner != draft.moment.worker:
            draft.emit(m.ActionTakenOver(at, run.step, direction, draft.moment.worker))


def _retry(draft: Draft, plan: StepPlan, run: StepRun, direction: m.Direction) -> None:
    attempt = draft.attempt(plan, direction, run.attempt.number + 1)
    if direction == "do":
        draft.emit(m.StepRetried(draft.at, run.step, attempt))
    else:
        draft.emit(m.UndoRetried(draft.at, run.step, attempt))


# ------------------------------------------------------------------------------------------------------ operators' acts


def _act(draft: Draft, message: m.Cancel | m.Pause | m.Resume) -> Decision:
    if not draft.state.live:
        return draft.decision("ended" if draft.state.status != "new" else "ignored")
    match message:
        case m.Cancel():
            return _cancel(draft, message)
        case m.Resume():
            _resume(draft, message)
        case m.Pause():
            if not draft.state.paused:
                draft.emit(m.SagaPaused(draft.at, message.actor, message.reason))
        case _:
            assert_never(message)
    return draft.decision()


def _cancel(draft: Draft, cancel: m.Cancel) -> Decision:
    state = draft.state
    if state.status == "compensating":
        if state.paused:
            draft.emit(m.SagaResumed(draft.at, cancel.actor, cancel.reason))
            _advance(draft)
        return draft.decision()
    if state.pivoted:
        return draft.decision("past_pivot")
    _turn_round(draft, "cancelled", state.current_step() or "", cancel.reason, cancel.actor)
    return draft.decision()


def _resume(draft: Draft, resume: m.Resume) -> None:
    draft.emit(m.SagaResumed(draft.at, resume.actor, resume.reason))
    for direction, run in rules.in_backoff(draft.state):
        _retry(draft, draft.plan(run.step), run, direction)
    _advance(draft)
