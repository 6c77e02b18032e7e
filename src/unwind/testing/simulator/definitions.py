"""The sagas that the simulator runs: random definitions over a few generic step classes, made once and shared."""

import random
from datetime import timedelta
from functools import lru_cache
from typing import Any

from msgspec import Struct

from unwind.core.attributes import Attribute
from unwind.core.events import Record
from unwind.core.groups import ForEach, OfItem, Parallel, Part
from unwind.core.messages import Direction
from unwind.core.saga import Saga
from unwind.core.steps import (
    PROCEED,
    SKIP,
    ActionCall,
    ActionStep,
    Command,
    CommandStep,
    Fail,
    Kind,
    Outcome,
    RecordStep,
    Refusal,
    Refused,
    Retry,
    SagaStep,
    SignalStep,
    SleepStep,
    Step,
    Verdict,
)
from unwind.runtime.families import child_id

SERVICES = ("alpha", "beta")
UNDO_ATTEMPTS = 4
WAITS = 0.06
"""Share of steps that wait for a signal or for time."""
GROUPED = 0.5
"""Share of definitions in which not all steps come one after another."""
CHILDREN = 0.08
"""Share of steps that are sagas of their own."""
DEPTH = 3
"""How deep groups stand inside one another."""
KEYS = ("x", "y", "z")


class SimContext(Struct, frozen=True):
    """What the simulated sagas carry: who they are and which steps were done."""

    saga: str
    done: tuple[str, ...] = ()


class AlphaDo(Command, frozen=True, tag="alpha.do"):
    """Do a step at service alpha."""

    saga: str
    step: str


class AlphaUndo(Command, frozen=True, tag="alpha.undo"):
    """Undo a step at service alpha."""

    saga: str
    step: str


class BetaDo(Command, frozen=True, tag="beta.do"):
    """Do a step at service beta."""

    saga: str
    step: str


class BetaUndo(Command, frozen=True, tag="beta.undo"):
    """Undo a step at service beta."""

    saga: str
    step: str


COMMANDS: dict[str, tuple[type[Command], type[Command]]] = {"alpha": (AlphaDo, AlphaUndo), "beta": (BetaDo, BetaUndo)}


class Answered(Struct, frozen=True, tag="answered"):
    """A participant's yes."""

    step: str


class Noted(Struct, frozen=True, tag="noted/1"):
    """The domain event that simulated sagas record."""

    what: str


NO = "no"
"""What a signal says that refuses."""


class _Shape(Struct, frozen=True):
    """What is drawn for one step."""

    name: str
    service: str
    kind: Kind
    timeout: timedelta
    retry: Retry
    undo_retry: Retry
    guard: Verdict


def note(saga: str, what: str) -> Record:
    """A domain event for the saga's own log stream."""
    return Record(f"log-{saga}", "log", Noted(what))


class _SimStep(Step[Any, Any]):
    def __init__(self, shape: _Shape) -> None:
        self.name = shape.name  # type: ignore[misc]
        self.kind = shape.kind  # type: ignore[misc]
        self.timeout = self.undo_timeout = shape.timeout  # type: ignore[misc]
        self.retry = shape.retry  # type: ignore[misc]
        self.undo_retry = shape.undo_retry  # type: ignore[misc]
        self.verdict = shape.guard
        self.service = shape.service

    def guard(self, context: SimContext) -> Verdict:
        return self.verdict

    def succeeded(self, context: SimContext, reply: Any) -> Outcome[SimContext]:
        return Outcome(SimContext(context.saga, (*context.done, self.name)), [note(context.saga, self.name)])


class SimCommandStep(_SimStep, CommandStep[SimContext, Answered]):
    """A step at a participant."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__(shape)
        self.resend = min(shape.timeout * 2 / 3, timedelta(seconds=4))  # type: ignore[misc]

    def execute(self, context: SimContext) -> Command:
        return COMMANDS[self.service][0](context.saga, self.name)

    def compensate(self, context: SimContext) -> Command:
        return COMMANDS[self.service][1](context.saga, self.name)


class SimActionStep(_SimStep, ActionStep[SimContext, Answered]):
    """A local action; what it does is the simulated world's business."""

    lease = timedelta(seconds=6)

    async def run(self, context: SimContext, call: ActionCall) -> Answered | Refusal:
        result: Answered | Refusal = await OUTSIDE.act(call.saga_id, _step_of(call), "do")
        return result

    async def compensate(self, context: SimContext, call: ActionCall) -> Refusal | None:
        await OUTSIDE.act(call.saga_id, _step_of(call), "undo")
        return None


def _step_of(call: ActionCall) -> str:
    """The step with its item, if it has one."""
    return call.effect_id.split("/")[1]


class SimRecordStep(_SimStep, RecordStep[SimContext]):
    """A step that only records."""

    def record(self, context: SimContext) -> Outcome[SimContext]:
        return Outcome(context, [note(context.saga, self.name)])

    def compensate(self, context: SimContext) -> Outcome[SimContext]:
        return Outcome(context, [note(context.saga, f"{self.name} taken back")])


class SimSignalStep(_SimStep, SignalStep[SimContext, Answered]):
    """A step that waits for somebody; the world says yes, no, or nothing."""

    def succeeded(self, context: SimContext, reply: Answered) -> Outcome[SimContext] | Refusal:  # type: ignore[override]
        return Refused("the signal says no") if reply.step == NO else super().succeeded(context, reply)


class SimSleepStep(_SimStep, SleepStep[SimContext]):
    """A step that lets a few seconds pass."""

    def __init__(self, shape: _Shape) -> None:
        super().__init__(shape)
        self.duration = shape.timeout  # type: ignore[misc]


class SimSagaStep(_SimStep, SagaStep[SimContext, SimContext]):
    """A step that is a saga of its own, a small one."""

    resend = timedelta(seconds=6)

    def __init__(self, shape: _Shape) -> None:
        super().__init__(shape)
        self.saga = small(shape.service, shape.timeout)  # type: ignore[misc]

    def begin(self, context: SimContext) -> SimContext:
        return SimContext(f"{context.saga}+{self.name}" + (f"+{self.item}" if isinstance(self, OfItem) else ""))


class Outside:
    """Where actions reach the simulated world; each schedule sets its own."""

    async def act(self, saga_id: str, step: str, direction: Direction) -> Any:
        """Replaced by the world while a schedule runs."""
        raise NotImplementedError


OUTSIDE = Outside()


@lru_cache(maxsize=64)
def small(service: str, timeout: timedelta) -> Saga[SimContext]:
    """A saga that is the doing of a step: a command, an action, and another command side by side with a record."""
    retry = Retry.exponential(2, timedelta(seconds=1), cap=timedelta(seconds=16))
    undo = Retry.exponential(UNDO_ATTEMPTS, timedelta(seconds=1), cap=timedelta(seconds=16))
    shapes = [_Shape(name, service, Kind.COMPENSATABLE, timeout, retry, undo, PROCEED) for name in ("p", "q", "r", "s")]
    return Saga(
        f"small_{service}_{timeout.seconds}",
        context=SimContext,
        steps=[
            SimCommandStep(shapes[0]),
            Parallel(SimActionStep(shapes[1]), [SimCommandStep(shapes[2]), SimRecordStep(shapes[3])]),
        ],
        on_started=lambda context: [note(context.saga, "started")],
        on_compensated=lambda context: [note(context.saga, "compensated")],
        attributes={"saga": Attribute(str, lambda context: context.saga)},
    )


@lru_cache(maxsize=512)
def definition(number: int) -> Saga[SimContext]:
    """The definition of that number, always the same."""
    rng, waits = random.Random(number), random.Random(f"waits of {number}")
    count = rng.choice((2, 3, 3, 4, 4, 5, 6))
    pivot = count - 1 - rng.choice((0, 0, 1)) if rng.random() < 0.3 else None
    steps: list[Step[SimContext, Any]] = []
    for index in range(count):
        kind = Kind.COMPENSATABLE
        if pivot is not None:
            kind = Kind.PIVOT if index == pivot else Kind.RETRIABLE if index > pivot else Kind.COMPENSATABLE
        drawn = rng.random()
        cls: type[_SimStep] = SimActionStep if drawn < 0.22 else SimRecordStep if drawn < 0.27 else SimCommandStep
        if kind is not Kind.COMPENSATABLE:
            cls = SimCommandStep
        if waits.random() < WAITS and kind is not Kind.PIVOT:
            cls = waits.choice((SimSignalStep, SimSleepStep))
        if waits.random() < CHILDREN and kind is Kind.COMPENSATABLE:
            cls = SimSagaStep
        guard: Verdict = PROCEED
        if rng.random() < 0.06:
            guard = SKIP if rng.random() < 0.6 or kind is not Kind.COMPENSATABLE else Fail("the guard says no")
        shape = _Shape(
            "abcdef"[index],
            rng.choice(SERVICES),
            kind,
            timedelta(seconds=rng.choice((3, 5, 9))),
            Retry.exponential(rng.choice((1, 2, 3)), timedelta(seconds=1), cap=timedelta(seconds=16)),
            Retry.exponential(UNDO_ATTEMPTS, timedelta(seconds=1), cap=timedelta(seconds=16)),
            guard,
        )
        step = cls(shape)
        if isinstance(step, SimSignalStep):
            step.on_timeout = waits.choice(("turn_round", "skip"))  # type: ignore[misc]
        steps.append(step)
    return Saga(
        f"saga_{number}",
        context=SimContext,
        steps=_grouped(steps, random.Random(f"groups of {number}")),
        deadline=timedelta(seconds=rng.choice((15, 30, 1000))),
        on_started=lambda context: [note(context.saga, "started")],
        on_compensated=lambda context: [note(context.saga, "compensated")],
        attributes={"saga": Attribute(str, lambda context: context.saga)},
    )


def _grouped(steps: list[Step[SimContext, Any]], rng: random.Random) -> list[Part[SimContext]]:
    """The same steps, some of them side by side or for each item; never the pivot."""
    if rng.random() >= GROUPED:
        return [*steps]
    pivot = next((index for index, step in enumerate(steps) if step.kind is Kind.PIVOT), len(steps))
    return [*_parts(steps[:pivot], rng, DEPTH), *steps[pivot : pivot + 1], *_parts(steps[pivot + 1 :], rng, DEPTH)]


def _parts(
    steps: list[Step[SimContext, Any]], rng: random.Random, depth: int, *, item: bool = False
) -> list[Part[SimContext]]:
    """A sequence of these steps, cut into groups at random."""
    parts: list[Part[SimContext]] = []
    left = steps
    while left:
        size = rng.choice((1, 2, 3, 4))
        some, left = left[:size], left[size:]
        drawn = rng.random()
        if depth and len(some) > 1 and drawn < 0.6:
            cut = rng.randrange(1, len(some))
            branches = [_parts(branch, rng, depth - 1, item=item) for branch in (some[:cut], some[cut:])]
            parts.append(Parallel(*branches))
        elif depth and not item and drawn < 0.75:
            keys = KEYS[: rng.choice((0, 1, 2, 2, 3))]
            group = ForEach(
                f"each_{some[0].name}",
                _parts(some, rng, depth - 1, item=True),
                items=lambda _, keys=keys: {key: key for key in keys},  # type: ignore[misc]
                of=str,
                at_once=rng.choice((1, 2, 9)),
            )
            parts.append(group)
        else:
            parts += [_for_item(step) for step in some] if item else some
    return parts


def _for_item(step: Step[SimContext, Any]) -> Step[SimContext, Any]:
    """The same step, of a class that is done for each item."""
    step.__class__ = _KEYED[type(step)]
    return step


_KEYED: dict[type, type] = {
    cls: type(cls.__name__, (OfItem, cls), {})
    for cls in (SimCommandStep, SimActionStep, SimRecordStep, SimSignalStep, SimSleepStep, SimSagaStep)
}


def every_step(saga: Saga[SimContext]) -> list[str]:
    """Every step that such a saga may have, once for each item that there may be."""
    return [
        name for plan in saga.plans for name in ([f"{plan.name}[{key}]" for key in KEYS] if plan.each else [plan.name])
    ]


def relatives(saga_id: str, saga: Saga[SimContext]) -> dict[str, "Relative"]:
    """A saga and all that may be the doing of its steps, by id."""
    found = {saga_id: Relative(saga, saga_id, "")}
    for step in every_step(saga):
        plan = saga.template(step)
        if plan is not None and plan.shape == "saga":
            name, _, key = step.removesuffix("]").partition("[")
            stream = f"{saga_id}+{name}" + (f"+{key}" if key else "")
            found[child_id(saga_id, step)] = Relative(plan.step.saga, stream, f"{saga_id}/{step}")
    return found


class Relative(Struct, frozen=True):
    """A saga that a schedule may meet: its definition, its name in the log of its notes, and whose step it is."""

    saga: Any
    stream: str
    parent: str
