"""What operators may do to a saga: cancel, pause, resume; and, where it is blocked, retry, resolve or skip a step.

Rules, beside those of `decide.py`:

 A. An act that names the version it was decided on counts only while that is the saga's version. So of two operators
    who saw the same thing only one acts, and a button pressed twice acts once.
 B. RetryStep, resolve and skip are about the step that needs a person: one that is blocked, or was parked at a
    participant that may never come back; where several do, they say which. While the saga is paused they wait for a
    resume.
 C. A retry begins a fresh attempt at once; a signal is waited for anew, and one that was no use is asked again. The
    command may be replaced by one of the same type, under the same effect id: it is used unless the participant has
    stored an answer already, which then counts. (A failure is never stored, nor is the refusal of an undo, or of a step
    past the pivot.)
 D. A step resolved by hand counts as done, an undo as undone; the evidence is kept. What was never begun cannot have
    been done by hand.
 E. A step is skipped where nothing was begun, or where nothing is ever undone any more: past the pivot. Else it may
    have happened and would be forgotten: resolve it, or cancel. A skipped undo is named as left undone, for good. What
    only waits, for a signal or for time, may be skipped at any moment.
"""

from collections.abc import Sequence
from typing import assert_never

import msgspec
from msgspec import Raw

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core import rules
from unwind.core.advance import advance, outcome_of, retry, turn_round
from unwind.core.author import AuthorError, ask, command_call
from unwind.core.draft import Decision, Draft
from unwind.core.plans import StepPlan
from unwind.core.state import AWAITED, State, StepRun
from unwind.core.steps import Kind
from unwind.core.waits import wait_on

Mend = m.RetryStep | m.ResolveStep | m.SkipStep
"""Acts on what is blocked."""


class _Unfit(Exception):  # noqa: N818 - an answer, not a fault
    """The act does not fit the saga as it is."""


class _Invalid(Exception):  # noqa: N818 - an answer, not a fault
    """The act carries data that does not fit the step."""


def act(draft: Draft, message: m.Cancel | m.Pause | m.Resume | Mend) -> Decision:
    """Apply an operator's act."""
    state = draft.state
    if not state.live:
        return draft.decision("ended" if state.status != "new" else "ignored")
    if message.expected_version not in {None, state.version}:
        return draft.decision("conflict")
    match message:
        case m.Cancel():
            return _cancel(draft, message)
        case m.Resume():
            _resume(draft, message)
        case m.Pause():
            if not state.paused:
                draft.emit(e.SagaPaused(draft.at, message.actor, message.reason))
        case m.RetryStep() | m.ResolveStep() | m.SkipStep():
            return _mend(draft, message)
        case _:
            assert_never(message)
    return draft.decision()


def _cancel(draft: Draft, cancel: m.Cancel) -> Decision:
    state = draft.state
    if state.status == "compensating":
        if not state.paused:
            return draft.decision("undoing")
        draft.emit(e.SagaResumed(draft.at, cancel.actor, cancel.reason))
        advance(draft)
        return draft.decision()
    if state.pivoted:
        return draft.decision("past_pivot")
    turn_round(draft, "cancelled", state.current_step() or "", cancel.reason, cancel.actor)
    return draft.decision()


def _resume(draft: Draft, resume: m.Resume) -> None:
    draft.emit(e.SagaResumed(draft.at, resume.actor, resume.reason))
    for direction, run in rules.in_backoff(draft.state):
        retry(draft, draft.plan(run.step), run, direction)
    _drive(draft)


def _drive(draft: Draft) -> None:
    """On from here: what waits may have its signal, or its time may have come, while it was held up."""
    for run in rules.waiting(draft.state):
        if run in rules.waiting(draft.state):  # not once one of them has turned the saga round
            wait_on(draft, draft.plan(run.step), run)
    if draft.state.live:
        advance(draft)


# ---------------------------------------------------------------------------------------------------- what is blocked


def _mend(draft: Draft, message: Mend) -> Decision:
    try:
        direction, step = _in_need(draft, message)
        run, plan = _under_way(draft.state, direction, step), draft.plan(step)
        match message:
            case m.RetryStep():
                _retry(draft, message, plan, direction, run)
            case m.ResolveStep():
                _resolve(draft, message, plan, direction, run)
            case m.SkipStep():
                _skip(draft, message, plan, direction)
            case _:
                assert_never(message)
    except _Unfit as unfit:
        return Decision(draft.state, verdict="unfit", reason=str(unfit))
    except _Invalid as invalid:
        return Decision(draft.state, verdict="invalid", reason=str(invalid))
    return draft.decision()


def in_need(state: State, mend: type[Mend]) -> list[tuple[m.Direction, str]]:
    """What such an act may be about: steps, or undos, that need a person; else what waits for its next attempt."""
    found: list[tuple[m.Direction, str]] = [(block.direction, block.step) for block in state.blocks]
    found += [(direction, run.step) for direction, run in rules.unheard(state)]
    if mend is m.RetryStep:
        found += [(direction, run.step) for direction, run in rules.in_backoff(state)]
    elif mend is m.SkipStep:
        found += [("do", run.step) for run in rules.waiting(state)]
    return list(dict.fromkeys(found))


def refusal(state: State, mend: type[Mend], direction: m.Direction, step: str) -> str:
    """Why a live saga would refuse such an act on what `in_need` names (rules B, D, E); empty: it would not."""
    if mend is m.RetryStep:
        return ""
    resolves = mend is m.ResolveStep
    if direction == "undo":
        done = resolves and step not in state.targets
        return "nothing is left to undo: retry, or skip what failed at the end" if done else ""
    run = _under_way(state, direction, step)
    if resolves and run is None:
        return f"{step} was never begun, so nobody can have done it: retry or skip it"
    if run is not None and not run.waits and not resolves and not state.pivoted:
        return f"{step} may have happened, and would be forgotten: resolve it, or cancel the saga"
    return ""


def held_up(state: State) -> str:
    """Why a live saga takes no act on a step for now; empty: it does."""
    if state.paused:
        return "the saga is paused; resume it first"
    if state.turning is not None:
        return f"the saga is about to be undone, since {state.turning.step} failed; cancel it to undo it at once"
    return ""


def _in_need(draft: Draft, message: Mend) -> tuple[m.Direction, str]:
    """What the act is about. Raises _Unfit."""
    state, mend = draft.state, type(message)
    found = in_need(state, mend)
    why = held_up(state) or ("" if found else "nothing in it is blocked")
    if why:
        raise _Unfit(why)
    named = [(direction, step) for direction, step in found if message.step in {"", step}]
    if not named:
        raise _Unfit(f"what needs a person is {_listed(found)}, not {message.step}")
    if len(named) > 1:
        raise _Unfit(f"several steps need a person: say which of {_listed(named)}")
    direction, step = named[0]
    why = refusal(state, mend, direction, step)
    if why:
        raise _Unfit(why)
    return direction, step


def _listed(found: Sequence[tuple[m.Direction, str]]) -> str:
    return ", ".join(step for _, step in found)


def _under_way(state: State, direction: m.Direction, step: str) -> StepRun | None:
    """What was begun of it and not answered."""
    if direction == "undo":
        return state.undo_of(step)
    run = state.run(step)
    return run if run is not None and run.status in AWAITED else None


def _retry(draft: Draft, act: m.RetryStep, plan: StepPlan, direction: m.Direction, run: StepRun | None) -> None:
    before = None if run is None or run.child else run.command
    after = None
    if act.command is not None:
        if before is None:
            raise _Unfit(f"{plan.name} has no command under way that could be replaced")
        after = _replacement(draft, plan, direction, act.command)
    replaced = before if after is not None else None
    draft.emit(e.RetryOrdered(draft.at, plan.name, direction, act.actor, act.reason, after, replaced))
    over = _under_way(draft.state, direction, plan.name)
    if over is not None and over.status == "backoff":  # an action that is out is run again by its runner
        retry(draft, plan, over, direction)
    _drive(draft)


def _replacement(draft: Draft, plan: StepPlan, direction: m.Direction, payload: Raw) -> m.CommandCall:
    """A command of the type that the step itself would send now."""
    author, method = (plan.step.execute, "execute") if direction == "do" else (plan.step.compensate, "compensate")
    question = f"{plan.name}.{method}"
    try:
        own = ask(question, author, draft.context())
        command_call(question, own)
        return command_call(question, msgspec.json.decode(payload, type=type(own)))
    except AuthorError as error:
        raise _Unfit(f"the command's type cannot be told: {error.reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Invalid(f"the command does not fit {plan.name}: {error}") from error


def _resolve(draft: Draft, act: m.ResolveStep, plan: StepPlan, direction: m.Direction, run: StepRun | None) -> None:
    resolved = e.ResolvedByHand(draft.at, plan.name, direction, act.actor, act.evidence, act.reference)
    if direction == "undo":
        draft.emit(resolved)
        if run is None:  # `compensate` raised: it is begun and over at once
            draft.emit(e.UndoStarted(draft.at, plan.name, draft.attempt(plan, "undo", 1)))
        number = 1 if run is None else run.attempt.number
        draft.emit(e.UndoDone(draft.at, plan.name, number))
        advance(draft)
        return
    begun = next(each for each in draft.state.runs if each.step == plan.name)
    try:
        changed, records = outcome_of(draft, plan, act.reply) if plan.maps_reply else (m.NULL, ())
    except AuthorError as error:
        raise _Invalid(f"the reply does not do: {error.reason}") from error
    draft.emit(resolved)
    draft.emit(e.StepDone(draft.at, begun.step, begun.attempt.number, act.reply, changed))
    draft.record(records)
    advance(draft)


def _skip(draft: Draft, act: m.SkipStep, plan: StepPlan, direction: m.Direction) -> None:
    if direction == "do":
        pivot = plan.kind is Kind.PIVOT
        draft.emit(e.StepSkipped(draft.at, plan.name, act.reason, pivot, act.actor))
        advance(draft)
    elif plan.name in draft.state.targets:
        draft.emit(e.UndoSkipped(draft.at, plan.name, act.actor, act.reason))
        advance(draft)
    else:  # `on_compensated` raised
        draft.emit(e.SagaResumed(draft.at, act.actor, act.reason))
        draft.emit(e.SagaCompensated(draft.at))
