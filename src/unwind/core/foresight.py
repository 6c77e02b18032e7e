"""What comes next, by asking the machine itself: the steps that are left, and what a cancel would undo now.

The undos are not worked out anew: `decide` is given a `Cancel`, and then a yes to every undo, on a copy of the state.
So the plan cannot disagree with what would happen. Nothing here is stored or sent.
"""

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from unwind.core import rules
from unwind.core.author import AuthorError, ask, command_call
from unwind.core.decide import decide
from unwind.core.events import UndoStarted
from unwind.core.messages import Cancel, CommandCall, Input, Moment, Reply, Tick
from unwind.core.plans import Shape, StepPlan, item_step
from unwind.core.saga import Saga
from unwind.core.state import AWAITED, ShownStatus, State, StepRun
from unwind.core.steps import Kind

Progress = Literal["outstanding", "backoff", "waiting"]
_RUNNING_STILL = "it is running; undone once it has ended, unless it ends refused"
_UNKNOWN_HERE = "this process does not know the saga's definition; only what is in the log can be said"


class StepAhead(Struct, frozen=True):
    """A step that is not over. Without the definition its kind, its shape and whether it is guarded are None."""

    step: str
    kind: Kind | None
    shape: Shape | None
    guarded: bool | None
    """A guard may skip the step, or turn the saga round, when its turn comes."""
    progress: Progress
    command: CommandCall | None
    """What was sent, or would be sent now; None for what sends no command, and where `note` says why."""
    forecast: bool
    """The command is made from today's context; what comes before the step may change it."""
    note: str = ""


class UndoAhead(Struct, frozen=True):
    """An undo that a cancel brings, or that is under way."""

    step: str
    shape: Shape | None
    progress: Progress
    command: CommandCall | None
    """What would be sent, to the letter; None for what sends no command, and where `note` says why."""
    note: str = ""


class Plan(Struct, frozen=True):
    """What is left to do, and what would be undone if the saga were cancelled now."""

    saga_id: str
    status: ShownStatus
    version: int
    definition_known: bool
    """False: this process does not know the definition; steps that are not begun cannot be told."""
    ahead: tuple[StepAhead, ...]
    """What is left to do, in order; empty once the saga has turned round."""
    cancel_possible: bool
    cancel_refused_because: str
    undo: tuple[UndoAhead, ...]
    """What would be undone, in order; of a saga that has turned round: what is still to be undone."""
    past_undoing: tuple[str, ...]
    """Steps that happened, or may have, and that no cancel undoes any more."""
    note: str = ""
    """What stands in the way: an undo that cannot be begun, or the definition that is not known."""


def foresee(saga: Saga[Any] | None, state: State, at: int) -> Plan:
    """The plan of a saga as it stands. `saga` None: not known here. `at` is the store's time. Never raises."""
    refused = cancel_refused(state)
    undone = not refused or state.status == "compensating"
    if saga is None:
        ahead, undo, note = _begun(state), _targets(state) if undone else (), _UNKNOWN_HERE
    else:
        ahead = _ahead(saga, state)
        undo, note = _undoing(saga, state, at) if undone else ((), "")
    past = not undone and state.status != "compensated"
    return Plan(
        state.saga_id,
        state.shown_status,
        state.version,
        saga is not None,
        ahead,
        not refused,
        refused,
        undo,
        tuple(run.step for run in state.runs if rules.must_undo(run)) if past else (),
        note,
    )


def cancel_refused(state: State) -> str:
    """Why a cancel would do nothing now; empty when it would do something."""
    if not state.live:
        return f"it has ended: it is {state.status}"
    if state.status == "compensating" and not state.paused:
        return "it is being undone already"
    if state.status == "running" and state.pivoted:
        pivot = next((run for run in state.runs if run.pivot), None)
        if pivot is not None and pivot.status in AWAITED:
            return f"its point of no return, {pivot.step}, was begun; only a refusal of that step would undo the others"
        return "it is past its point of no return and can only go forward"
    return ""


# ------------------------------------------------------------------------------------------------------- what is left


def _ahead(saga: Saga[Any], state: State) -> tuple[StepAhead, ...]:
    if state.status != "running":
        return ()
    begun = [
        _run_ahead(plan, run)
        for run in state.runs
        if run.status in AWAITED and (plan := saga.plan(run.step, state.items)) is not None
    ]
    return (*begun, *(ahead for plan in saga.plans for ahead in _forecasts(saga, plan, state)))


def _forecasts(saga: Saga[Any], plan: StepPlan, state: State) -> Iterator[StepAhead]:
    """What is not begun of a step: itself, or its run for each item."""
    listed = {each.step: each.items for each in state.items}
    if not plan.each:
        if state.run(plan.name) is None and plan.name not in listed:
            yield _forecast(saga, plan, state)
        return
    if plan.each not in listed and state.run(plan.each) is None:
        note = f"for each of {plan.each}, once its items are known"
        name = item_step(plan.name, "…")
        yield StepAhead(name, plan.kind, plan.shape, plan.guarded, "waiting", None, forecast=True, note=note)
    for key, _ in listed.get(plan.each, ()):
        own = saga.plan(item_step(plan.name, key), state.items)
        if own is not None and state.run(own.name) is None:
            yield _forecast(saga, own, state)


def _run_ahead(plan: StepPlan, run: StepRun) -> StepAhead:
    command, note = _asked(run)
    return StepAhead(plan.name, plan.kind, plan.shape, plan.guarded, _progress(run), command, forecast=False, note=note)


def _asked(run: StepRun) -> tuple[CommandCall | None, str]:
    """The command that was sent; of a step that is a saga of its own there is none."""
    return (None, f"a saga of its own, {run.child}") if run.child else (run.command, "")


def _progress(run: StepRun) -> Progress:
    return "backoff" if run.status == "backoff" else "outstanding"


def _forecast(saga: Saga[Any], plan: StepPlan, state: State) -> StepAhead:
    command, note = None, ""
    if plan.shape == "command":
        question = f"{plan.name}.execute"
        try:
            context = ask("the context", saga.decode_context, state.context)
            command = command_call(question, ask(question, plan.step.execute, context))
        except AuthorError as error:
            note = f"not to be told yet: {error.reason}"
    elif plan.shape == "saga":
        note = f"begins a saga {plan.step.saga.name}"
    return StepAhead(plan.name, plan.kind, plan.shape, plan.guarded, "waiting", command, forecast=True, note=note)


# ------------------------------------------------------------------------------------------------- what a cancel undoes


def _undoing(saga: Saga[Any], state: State, at: int) -> tuple[tuple[UndoAhead, ...], str]:
    """Cancel a copy, say yes to every undo, and write down what the machine asks for on the way."""
    undos: list[UndoAhead] = []
    for undo in state.undos:
        command, note = _asked(undo)
        undos.append(UndoAhead(undo.step, _shape(saga, undo.step), _progress(undo), command, note))
    moment = Moment(at, 0.0, "")
    decision = decide(saga, state, Cancel(""), moment)
    awaited: str | None = None
    while True:
        for event in decision.events:
            if isinstance(event, UndoStarted):
                note = _RUNNING_STILL if event.step == awaited else ""
                command = None if event.child else event.command
                note = f"its saga {event.child} is unwound, as its own plan says" if event.child else note
                undos.append(UndoAhead(event.step, _shape(saga, event.step), "waiting", command, note))
        now = decision.state
        if now.status != "compensating":
            return tuple(undos), ""
        message, awaited = agreeing(saga, now)
        decision = decide(saga, now, message, moment)
        if not decision.events:
            return (*undos, *_held_back(saga, now)), now.blocked.reason if now.blocked is not None else ""


def _shape(saga: Saga[Any], step: str) -> Shape | None:
    plan = saga.template(step)
    return None if plan is None else plan.shape


def agreeing(saga: Saga[Any], state: State) -> tuple[Input, str | None]:
    """What brings a compensating saga on, and the action that it waits for, if it does."""
    if state.undos:
        undo = state.undos[0]
        return Reply(undo.step, "undo", "ok", undo.attempt.number), None
    for run in reversed(state.runs):
        plan = saga.template(run.step)
        if plan is not None and rules.awaited_action(state, plan, run):
            return Reply(run.step, "do", "ok", run.attempt.number), run.step
    return Tick(0), None


def _held_back(saga: Saga[Any], state: State) -> tuple[UndoAhead, ...]:
    """What the machine cannot begin: an author's `compensate` that raises holds back the undos before it."""
    stuck = [step for step in state.targets if state.blocked_on(step, "undo")]
    held_back = f"held back by {', '.join(stuck)}"
    return tuple(
        UndoAhead(step, _shape(saga, step), "waiting", None, "it cannot be begun" if step in stuck else held_back)
        for step in state.targets
    )


# ---------------------------------------------------------------------------------------------- without the definition


def _begun(state: State) -> tuple[StepAhead, ...]:
    if state.status != "running":
        return ()
    return tuple(
        StepAhead(run.step, None, None, None, _progress(run), run.command, forecast=False)
        for run in state.runs
        if run.status in AWAITED
    )


def _targets(state: State) -> tuple[UndoAhead, ...]:
    """The order is in the log. The commands are not, but for the undo that was begun: `compensate` makes them."""
    turned = state.status == "compensating"
    steps = state.targets if turned else tuple(run.step for run in reversed(state.runs) if rules.must_undo(run))
    return tuple(
        UndoAhead(step, None, _progress(begun), begun.command)
        if (begun := state.undo_of(step)) is not None
        else UndoAhead(step, None, "waiting", None, "its command is made by the definition")
        for step in steps
    )
