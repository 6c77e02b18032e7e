"""Which live sagas stand alike, and what a saga shows of the definition that it was begun with."""

from collections.abc import Iterator
from typing import Any

import msgspec

from unwind.core.author import AuthorError, ask
from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.state import State, StepRun

Shape = tuple[object, ...]


def shape_of(state: State) -> Shape:
    """Two sagas of one definition with the same shape are at the same point, and their contexts are built alike."""
    return (
        state.shown_status,
        state.status,
        state.pivoted,
        tuple((run.step, run.status) for run in state.runs),
        state.targets,
        tuple((undo.step, undo.status) for undo in state.undos),
        tuple((block.step, block.direction) for block in state.blocks),
        state.left,
        tuple(sorted(signal.step for signal in state.signals)),
        _outline(msgspec.json.decode(state.context)),
    )


def _outline(value: Any) -> Shape:
    """A JSON value without what authors rarely decide by: which names it has, and what is there or empty."""
    if isinstance(value, dict):
        return ("object", tuple(sorted((name, _outline(each)) for name, each in value.items())))
    if isinstance(value, list):
        return ("list", frozenset(_outline(each) for each in value))
    if value is None or isinstance(value, bool):
        return (value,)
    return ("text" if isinstance(value, str) else "number", bool(value))


def differences(saga: Saga[Any], state: State) -> Iterator[str]:
    """What in a saga that was begun with another definition of the name and version does not go with this one.

    Of the old definition only the hash is kept: what no saga has come to yet cannot be told.
    """
    planned = [plan.name for plan in saga.plans]
    for number, run in enumerate(state.runs):
        plan = saga.template(run.step)
        if plan is None:
            yield f"step {run.step} was begun, and is no step of it any more"
        elif saga.flat and planned[number : number + 1] != [run.step]:
            yield f"step {run.step} was number {number + 1}, and is number {planned.index(run.step) + 1} now"
        else:
            yield from _changes(plan, run)
    if (state.deadline is None) != (saga.deadline is None):
        yield "it has a deadline now" if state.deadline is None else "it has no deadline any more"
    elif state.deadline is not None and saga.deadline is not None:
        before = state.deadline - max(state.started_at, state.begin_at)
        if before != saga.deadline:
            yield f"its deadline was {_seconds(before)}, and is {_seconds(saga.deadline)} now"
    try:
        ask("the context", saga.decode_context, state.context)
    except AuthorError as error:
        yield f"its contexts do not fit any more: {error.reason}"


def _changes(plan: StepPlan, run: StepRun) -> Iterator[str]:
    if run.status == "skipped":
        return
    attempt, was = run.attempt, _kind_of(run)
    if plan.shape != was:
        yield f"step {plan.name} was {_named(was)}, and is {_named(plan.shape)} now"
    elif was == "command" and attempt.expires is not None and attempt.expires - attempt.at != plan.timeout:
        before = attempt.expires - attempt.at
        yield f"the timeout of {plan.name} was {_seconds(before)}, and is {_seconds(plan.timeout)} now"
    elif was == "action" and attempt.lease != plan.lease:
        yield f"the lease of {plan.name} was {_seconds(attempt.lease)}, and is {_seconds(plan.lease)} now"
    if run.pivot != (plan.kind == "pivot"):
        yield f"step {plan.name} was {'' if run.pivot else 'not '}the pivot, and is {'not ' if run.pivot else ''}now"


def _kind_of(run: StepRun) -> str:
    """As far as its run shows."""
    if run.waits:
        return run.waits
    if run.child:
        return "saga"
    if run.command is not None:
        return "command"
    return "action" if run.attempt.lease else "record"


def _named(shape: str) -> str:
    return f"an {shape}" if shape == "action" else f"a {shape}"


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:g} s"
