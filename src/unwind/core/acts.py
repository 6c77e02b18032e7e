"""What operators may do to a saga: cancel, pause, resume; and, where it is blocked, retry, resolve or skip a step.

Rules, beside those of `decide.py`:

 A. An act that names the version it was decided on counts only while that is the saga's version. So of two operators
    who saw the same thing only one acts, and a button pressed twice acts once.
 B. RetryStep, resolve and skip are about the step that needs a person: one that is blocked, or was parked at a
    participant that may never come back. While the saga is paused they wait for a resume.
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

from typing import assert_never

import msgspec
from msgspec import Raw

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core import rules
from unwind.core.advance import advance, finish, outcome_of, retry, turn_round
from unwind.core.author import AuthorError, ask, command_call
from unwind.core.draft import Decision, Draft
from unwind.core.pending import AWAITED
from unwind.core.plans import StepPlan
from unwind.core.state import Blocked, State, StepRun
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
        if state.paused:
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
    run = rules.waiting(draft.state)
    if run is not None:
        wait_on(draft, draft.plan(run.step), run)
    if draft.state.live:
        advance(draft)


# ---------------------------------------------------------------------------------------------------- what is blocked


def _mend(draft: Draft, message: Mend) -> Decision:
    try:
        blocked = _in_need(draft.state, message)
        run = _under_way(draft.state, blocked)
        plan = draft.plan(blocked.step)
        match message:
            case m.RetryStep():
                _retry(draft, message, plan, blocked.direction, run)
            case m.ResolveStep():
                _resolve(draft, message, plan, blocked.direction, run)
            case m.SkipStep():
                _skip(draft, message, plan, blocked.direction)
            case _:
                assert_never(message)
    except _Unfit as unfit:
        return Decision(draft.state, verdict="unfit", reason=str(unfit))
    except _Invalid as invalid:
        return Decision(draft.state, verdict="invalid", reason=str(invalid))
    return draft.decision()


def refusal(state: State, mend: type[Mend]) -> str:
    """Why a live saga would refuse such an act as it is now (rules B, D, E); empty: it would not."""
    if state.paused:
        return "the saga is paused; resume it first"
    blocked, retries = _needing(state), mend is m.RetryStep
    if blocked is None:
        skips = mend is m.SkipStep
        fits = (retries and rules.in_backoff(state)) or (skips and rules.waiting(state) is not None)
        return "" if fits else "nothing in it is blocked"
    if retries:
        return ""
    step, resolves = blocked.step, mend is m.ResolveStep
    if blocked.direction == "undo":
        done = resolves and step not in state.targets
        return "nothing is left to undo: retry, or skip what failed at the end" if done else ""
    run = _under_way(state, blocked)
    begun = run is not None
    if resolves and not begun:
        return f"{step} was never begun, so nobody can have done it: retry or skip it"
    if run is not None and not run.waits and not resolves and not state.pivoted:
        return f"{step} may have happened, and would be forgotten: resolve it, or cancel the saga"
    return ""


def _needing(state: State) -> Blocked | None:
    """What is blocked; what was parked and is not answered counts as blocked."""
    unheard = None if state.blocked is not None else rules.unheard(state)
    return state.blocked if unheard is None else Blocked(unheard[1].step, unheard[0], "", 0, 0)


def _in_need(state: State, message: Mend) -> Blocked:
    """What the act is about: what is blocked, or waits for its next attempt. Raises _Unfit."""
    why = refusal(state, type(message))
    if why:
        raise _Unfit(why)
    found = _needing(state)
    if found is None:
        backoffs, waits = rules.in_backoff(state), rules.waiting(state)
        direction, run = backoffs[0] if waits is None else ("do", waits)
        found = Blocked(run.step, direction, "", 0, 0)
    if message.step not in {"", found.step}:
        raise _Unfit(f"what needs a person is {found.step}, not {message.step}")
    return found


def _under_way(state: State, blocked: Blocked) -> StepRun | None:
    """What was begun of it and not answered."""
    if blocked.direction == "undo":
        return state.undo
    run = state.run(blocked.step)
    return run if run is not None and run.status in AWAITED else None


def _retry(draft: Draft, act: m.RetryStep, plan: StepPlan, direction: m.Direction, run: StepRun | None) -> None:
    before = None if run is None else run.command
    after = None
    if act.command is not None:
        if before is None:
            raise _Unfit(f"{plan.name} has no command under way that could be replaced")
        after = _replacement(draft, plan, direction, act.command)
    draft.emit(
        e.RetryOrdered(
            draft.at, plan.name, direction, act.actor, act.reason, after, before if after is not None else None
        )
    )
    for _, waiting in rules.in_backoff(
        draft.state
    ):  # an action that is out is run again by its runner, under its lease
        retry(draft, plan, waiting, direction)
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
    finish(draft, begun, act.reply, changed, records)


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
