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
    instant_of,
    listed_items,
    opening_of,
    storable,
)
from unwind.core.draft import Draft
from unwind.core.flow import OVER, all_over, next_to_begin, next_to_undo
from unwind.core.plans import StepPlan
from unwind.core.state import Heard, StepRun
from unwind.core.steps import Fail, Kind, Outcome, Refusal

_LETS_SETTLE: frozenset[m.Cause] = frozenset(("refused", "unknown", "guard"))
"""Causes that are a step's own; whoever cancels, or a deadline, waits for nothing."""


def advance(draft: Draft, leases: Mapping[str, int] | None = None) -> None:
    """Start whatever the state of a live saga allows next. Forward and backward movement share this one road."""
    turning = draft.state.turning
    if turning is not None and not rules.settling(draft.state):
        turn_round(draft, turning.cause, turning.step, turning.reason)
        return
    if draft.state.paused:
        return
    one_by_one = draft.saga.flat
    if draft.state.status != "running":
        if one_by_one:
            _go_back(draft, leases)
        else:
            _go_back_side_by_side(draft, leases)
    elif draft.state.begin_at <= draft.at or not draft.state.scheduled:
        if one_by_one:
            _go_on(draft)
        else:
            _go_on_side_by_side(draft)


def _go_on(draft: Draft) -> None:
    """Where all steps come one after another: each that follows, as long as the one before it is over."""
    plans = draft.saga.plans
    while draft.state.status == "running":
        runs = draft.state.runs
        if runs and runs[-1].status not in OVER:
            return
        if len(runs) == len(plans):
            draft.emit(e.SagaCompleted(draft.at))
            return
        plan = plans[len(runs)]
        try:
            _begin(draft, plan)
        except AuthorError as error:
            block(draft, plan, "do", error.reason)
            return


def _go_on_side_by_side(draft: Draft) -> None:
    tried: set[str] = set()
    while _goes_forward(draft):
        plan = next_to_begin(draft.saga, draft.state, tried)
        if plan is None:
            if all_over(draft.saga, draft.state):
                draft.emit(e.SagaCompleted(draft.at))
            return
        tried.add(plan.name)
        try:
            _begin(draft, plan)
        except AuthorError as error:
            block(draft, plan, "do", error.reason)


def _goes_forward(draft: Draft) -> bool:
    return draft.state.status == "running" and draft.state.turning is None


def _begin(draft: Draft, plan: StepPlan) -> None:
    if draft.state.deadline is not None and rules.overdue(draft.state, draft.at):
        turn_round_late(draft)
        return
    context = draft.context() if plan.guarded or plan.conditional or plan.shape != "action" else None
    pivot = plan.kind is Kind.PIVOT
    if plan.conditional and not _wanted(plan, context):
        draft.emit(e.StepSkipped(draft.at, plan.name, "its condition does not hold", pivot))
        return
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
    if plan.waits:
        _begin_wait(draft, plan, plan.waits, context)
        return
    if plan.shape == "each":
        draft.emit(e.ItemsListed(draft.at, plan.name, listed_items(plan, context)))
        return
    attempt = draft.attempt(plan, "do", 1)
    if plan.shape == "record":
        question = f"{plan.name}.record"
        outcome = checked_outcome(question, ask(question, plan.step.record, context))
        changed = encoded_context(draft.saga, "record", draft.state.context, outcome.context)
        draft.emit(e.StepStarted(draft.at, plan.name, attempt, None, pivot))
        draft.emit(e.StepDone(draft.at, plan.name, 1, m.NULL, changed))
        draft.record(outcome.records)
        return
    command, child = None, ""
    if plan.shape == "command":
        question = f"{plan.name}.execute"
        command = command_call(question, ask(question, plan.step.execute, context))
    elif plan.shape == "saga":
        command, child = opening_of(plan, context), plan.step.saga.name
    draft.emit(e.StepStarted(draft.at, plan.name, attempt, command, pivot, child=child))


def _wanted(plan: StepPlan, context: object) -> bool:
    wanted: object = ask(f"{plan.name}.when", plan.step.when, context)
    if not isinstance(wanted, bool):
        raise AuthorError(f"{plan.name}.when returned {wanted!r}; give True or False")
    return wanted


def _begin_wait(draft: Draft, plan: StepPlan, waits: m.Waits, context: object) -> None:
    expires = draft.at + plan.timeout
    if waits == "sleep":
        question = f"{plan.name}.until"
        expires = (
            instant_of(question, ask(question, plan.step.until, context))
            if plan.duration is None
            else draft.at + plan.duration
        )
    attempt = m.Attempt(draft.at, 1, max(expires, draft.at))
    draft.emit(e.StepStarted(draft.at, plan.name, attempt, None, waits=waits))
    heard = draft.state.heard(plan.name)
    if heard is not None:
        take_signal(draft, plan, heard)
    elif waits == "sleep" and expires <= draft.at:
        draft.emit(e.StepDone(draft.at, plan.name, 1))


def take_signal(draft: Draft, plan: StepPlan, heard: Heard) -> None:
    """What a signal makes of the step that waits for it (rule 12). Raises AuthorError."""
    question = f"{plan.name}.succeeded"
    given = ask(question, plan.step.succeeded, draft.context(), decoded_reply(plan, heard.payload))
    if isinstance(given, Refusal):
        reason = storable(given.reason)
        if draft.state.pivoted:
            block(draft, plan, "do", reason, refused=True)
            return
        draft.emit(e.StepRefused(draft.at, plan.name, 1, reason, heard.payload))
        turn_round(draft, "refused", plan.name, reason)
        return
    changed, records = _checked(draft, plan, given)
    draft.emit(e.StepDone(draft.at, plan.name, 1, heard.payload, changed))
    draft.record(records)


# ------------------------------------------------------------------------------------------------------- turning round


def turn_round(draft: Draft, cause: m.Cause, step: str, reason: str, actor: str = "") -> None:
    """Undo what was done: now, or once what is under way beside a step that failed has settled (rules 4, 13)."""
    turning = draft.state.turning
    if cause in _LETS_SETTLE and not draft.saga.flat:
        if rules.settling(draft.state):
            if turning is None:
                draft.emit(e.TurningRound(draft.at, cause, step, reason))
            return
        if turning is not None:
            cause, step, reason = turning.cause, turning.step, turning.reason
    targets = rules.compensation_targets(draft.saga, draft.state.runs)
    draft.emit(e.CompensationStarted(draft.at, cause, targets, step, reason, actor))
    advance(draft)


def turn_round_late(draft: Draft) -> None:
    """The deadline has passed (rule 6)."""
    turn_round(draft, "deadline", draft.state.current_step() or "", "the saga's deadline passed")


def _go_back(draft: Draft, leases: Mapping[str, int] | None) -> None:
    """Where all steps come one after another: each undo, once the one that was begun after it is over."""
    while draft.state.targets:
        state = draft.state
        plan = draft.saga.by_name[state.targets[0]]
        if state.undos or rules.still_running(state, plan, draft.at, leases):
            return
        try:
            _begin_undo(draft, plan)
        except AuthorError as error:
            block(draft, plan, "undo", error.reason)
            return
    _end_compensated(draft)


def _go_back_side_by_side(draft: Draft, leases: Mapping[str, int] | None) -> None:
    tried: set[str] = set()
    while draft.state.targets:
        plan = next_to_undo(draft.saga, draft.state, tried)
        if plan is None:
            return
        tried.add(plan.name)
        if rules.still_running(draft.state, plan, draft.at, leases):
            continue
        try:
            _begin_undo(draft, plan)
        except AuthorError as error:
            block(draft, plan, "undo", error.reason)
    _end_compensated(draft)


def _begin_undo(draft: Draft, plan: StepPlan) -> None:
    attempt = draft.attempt(plan, "undo", 1)
    question = f"{plan.name}.compensate"
    if plan.shape == "record":
        outcome = checked_outcome(question, ask(question, plan.step.compensate, draft.context()))
        draft.emit(e.UndoStarted(draft.at, plan.name, attempt))
        draft.emit(e.UndoDone(draft.at, plan.name, 1))
        draft.record(outcome.records)
        return
    command, child = None, ""
    if plan.shape == "command":
        command = command_call(question, ask(question, plan.step.compensate, draft.context()))
    elif plan.shape == "saga":
        begun = next(run for run in draft.state.runs if run.step == plan.name)
        command, child = begun.command, begun.child
    draft.emit(e.UndoStarted(draft.at, plan.name, attempt, command, child))


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
    if not draft.state.blocked_on(plan.name, direction):
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
    return _checked(draft, plan, given)


def _checked(draft: Draft, plan: StepPlan, given: object) -> tuple[Raw, Sequence[e.Record]]:
    question = f"{plan.name}.succeeded"
    if isinstance(given, Refusal):
        raise AuthorError(f"{question} gave a refusal; only a signal may say no there")
    outcome = checked_outcome(question, given if isinstance(given, Outcome) else Outcome(given))
    return encoded_context(draft.saga, "succeeded", draft.state.context, outcome.context), outcome.records
