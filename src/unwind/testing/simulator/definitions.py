"""The sagas that the simulator runs: random definitions over a few generic step classes, made once and shared."""

import random
from datetime import timedelta
from functools import lru_cache
from typing import Any

from msgspec import Struct

from unwind.core.attributes import Attribute
from unwind.core.events import Record
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
    SignalStep,
    SleepStep,
    Step,
    Verdict,
)

SERVICES = ("alpha", "beta")
UNDO_ATTEMPTS = 4
WAITS = 0.06
"""Share of steps that wait for a signal or for time."""


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
        result: Answered | Refusal = await OUTSIDE.act(context.saga, self.name, "do")
        return result

    async def compensate(self, context: SimContext, call: ActionCall) -> Refusal | None:
        await OUTSIDE.act(context.saga, self.name, "undo")
        return None


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


class Outside:
    """Where actions reach the simulated world; each schedule sets its own."""

    async def act(self, saga_id: str, step: str, direction: Direction) -> Any:
        """Replaced by the world while a schedule runs."""
        raise NotImplementedError


OUTSIDE = Outside()


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
        steps=steps,
        deadline=timedelta(seconds=rng.choice((15, 30, 1000))),
        on_started=lambda context: [note(context.saga, "started")],
        on_compensated=lambda context: [note(context.saga, "compensated")],
        attributes={"saga": Attribute(str, lambda context: context.saga)},
    )
