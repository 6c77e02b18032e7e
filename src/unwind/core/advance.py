"""How a saga moves on: what begins next, forward or backward, and how it turns round or is blocked.

The rules stand in `decide.py`; these are the movements that its transitions and the operators' acts have in common.
"""

from collections.abc import Mapping, Sequence

from msgspec import Raw

from unwind.core import events as e
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
from unwind.core.draft import Draft
from unwind.core.saga import Fail, Kind, Outcome, StepPlan
from unwind.core.state import StepRun


def advance(draft: Draft, leases: Mapping[str, int] | None = None) -> None:
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
            draft.emit(e.SagaCompleted(draft.at))
            return
        if draft.state.deadline is not None and rules.overdue(draft.state, draft.at):
            turn_round_late(draft)
            return
        plan = plans[len(runs)]
        try:
            _begin(draft, plan)
        except AuthorError as error:
            block(draft, plan, "do", error.reason)
            return


def _begin(draft: Draft, plan: StepPlan) -> None:
    context = draft.context() if plan.guarded or plan.shape != "action" else None
    pivot = plan.kind is Kind.PIVOT
    if plan.guarded:
        verdict = ask(f"{plan.name}.guard", plan.step.guard, context)
        if verdict == "skip":
            draft.emit(e.StepSkipped(draft.at, plan.name, pivot=pivot))
            return
        if isinstance(verdict, Fail):
            if draft.state.pivoted:
                raise AuthorError(f"{plan.name}.guard said fail after the pivot: {verdict.reason}")
            turn_round(draft, "guard", plan.name, storable(verdict.reason))
            return
        if verdict != "proceed":
            raise AuthorError(f"{plan.name}.guard returned {verdict!r}; give PROCEED, SKIP or Fail(reason)")
    attempt = draft.attempt(plan, "do", 1)
    if plan.shape == "record":
        question = f"{plan.name}.record"
        outcome = checked_outcome(question, ask(question, plan.step.record, context))
        changed = encoded_context(draft.saga, plan, draft.state.context, outcome.context)
        draft.emit(e.StepStarted(draft.at, plan.name, attempt, None, pivot))
        draft.emit(e.StepDone(draft.at, plan.name, 1, m.NULL, changed))
        draft.record(outcome.records)
        return
    command = None
    if plan.shape == "command":
        question = f"{plan.name}.execute"
        command = command_call(question, ask(question, plan.step.execute, context))
    draft.emit(e.StepStarted(draft.at, plan.name, attempt, command, pivot))


# ------------------------------------------------------------------------------------------------------- turning round


def turn_round(draft: Draft, cause: m.Cause, step: str, reason: str, actor: str = "") -> None:
    """Undo what was done, from now on (rule 4)."""
    targets = rules.compensation_targets(draft.saga, draft.state.runs)
    draft.emit(e.CompensationStarted(draft.at, cause, targets, step, reason, actor))
    advance(draft)


def turn_round_late(draft: Draft) -> None:
    """The deadline has passed (rule 6)."""
    turn_round(draft, "deadline", draft.state.current_step() or "", "the saga's deadline passed")


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
            block(draft, plan, "undo", error.reason)
            return


def _begin_undo(draft: Draft, plan: StepPlan) -> None:
    attempt = draft.attempt(plan, "undo", 1)
    question = f"{plan.name}.compensate"
    if plan.shape == "record":
        outcome = checked_outcome(question, ask(question, plan.step.compensate, draft.context()))
        draft.emit(e.UndoStarted(draft.at, plan.name, attempt))
        draft.emit(e.UndoDone(draft.at, plan.name, 1))
        draft.record(outcome.records)
        return
    command = None
    if plan.shape == "command":
        command = command_call(question, ask(question, plan.step.compensate, draft.context()))
    draft.emit(e.UndoStarted(draft.at, plan.name, attempt, command))


def _end_compensated(draft: Draft) -> None:
    if draft.saga.on_compensated is not None:
        try:
            given = ask("on_compensated", draft.saga.on_compensated, draft.context())
            records = checked_records("on_compensated", given)
        except AuthorError as error:
            block(draft, draft.saga.plans[0], "undo", error.reason)
            return
        draft.record(records)
    draft.emit(e.SagaCompensated(draft.at))


def block(draft: Draft, plan: StepPlan, direction: m.Direction, reason: str, *, refused: bool = False) -> None:
    """Ask for a person, once; what is outstanding goes on being tried at the cap (rule 5)."""
    if draft.state.blocked is None:
        every = (plan.retry if direction == "do" else plan.undo_retry).cap
        draft.emit(e.SagaBlocked(draft.at, plan.name, direction, reason, every, refused))


def retry(draft: Draft, plan: StepPlan, run: StepRun, direction: m.Direction) -> None:
    """Begin the next attempt."""
    attempt = draft.attempt(plan, direction, run.attempt.number + 1)
    if direction == "do":
        draft.emit(e.StepRetried(draft.at, run.step, attempt))
    else:
        draft.emit(e.UndoRetried(draft.at, run.step, attempt))


def outcome_of(draft: Draft, plan: StepPlan, reply: Raw) -> tuple[Raw, Sequence[e.Record]]:
    """What a step's reply makes of the context (null: nothing), and the domain events. Raises AuthorError."""
    question = f"{plan.name}.succeeded"
    given = ask(question, plan.step.succeeded, draft.context(), decoded_reply(plan, reply))
    outcome = checked_outcome(question, given if isinstance(given, Outcome) else Outcome(given))
    return encoded_context(draft.saga, plan, draft.state.context, outcome.context), outcome.records


def finish(draft: Draft, run: StepRun, reply: Raw, changed: Raw, records: Sequence[e.Record]) -> None:
    """The step is done; on to the next."""
    draft.emit(e.StepDone(draft.at, run.step, run.attempt.number, reply, changed))
    if records:
        draft.record(records)
    advance(draft)
