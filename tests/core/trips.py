"""Small sagas for the tests of the core: trips, whose parts are booked one after another."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from unwind.core.events import Record
from unwind.core.groups import ForEach, OfItem, Part
from unwind.core.saga import Saga
from unwind.core.steps import (
    PROCEED,
    ActionCall,
    ActionStep,
    Command,
    CommandStep,
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

SECONDS = 1_000_000
TWICE = Retry.fixed(2, timedelta(seconds=10))


class Trip(Struct, frozen=True):
    traveller: str = "ada"
    codes: tuple[str, ...] = ()


class Book(Command, frozen=True, tag="agency.book"):
    part: str
    codes: tuple[str, ...] = ()


class Unbook(Command, frozen=True, tag="agency.unbook"):
    part: str
    codes: tuple[str, ...] = ()


class Booked(Struct, frozen=True):
    code: str


class Noted(Struct, frozen=True, tag="noted/1"):
    text: str


def note(text: str) -> Record:
    return Record("diary-1", "diary", Noted(text))


BOOKED = Booked("x1")


class Booking(CommandStep[Trip, Booked]):
    """A step done by a participant."""

    retry = TWICE
    undo_retry = TWICE

    def execute(self, context: Trip) -> Command:
        return Book(self.name, context.codes)

    def succeeded(self, context: Trip, reply: Booked) -> Trip | Outcome[Trip]:
        return replace(context, codes=(*context.codes, reply.code))


class Errand(ActionStep[Trip, Any]):
    """A step done in the worker."""

    retry = TWICE
    undo_retry = TWICE

    async def run(self, context: Trip, call: ActionCall) -> Any:
        raise AssertionError("the core runs nothing")


class Diary(RecordStep[Trip]):
    """A step that only records."""

    def record(self, context: Trip) -> Outcome[Trip]:
        return Outcome(context, [note(f"{self.name} done")])


class _UndoneBooking(Booking):
    def compensate(self, context: Trip) -> Command:
        return Unbook(self.name, context.codes)


class _UndoneErrand(Errand):
    async def compensate(self, context: Trip, call: ActionCall) -> Refusal | None:
        raise AssertionError("the core runs nothing")


class _UndoneDiary(Diary):
    def compensate(self, context: Trip) -> Outcome[Trip]:
        return Outcome(context, [note(f"{self.name} undone")])


class Guarded(Step[Trip, Any]):
    """Mixed in: a guard whose answer is given from outside."""

    verdict: ClassVar[Any] = PROCEED

    def guard(self, context: Trip) -> Verdict:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict  # type: ignore[no-any-return]


def _made(bases: tuple[type, ...], name: str, attributes: dict[str, object]) -> Any:
    if "verdict" in attributes:
        bases = (Guarded, *bases)
    return type(name.title(), bases, {"name": name, **attributes})()


def booking(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """A command step; past the pivot, or as the pivot, without an undo."""
    return _made((_UndoneBooking if kind is Kind.COMPENSATABLE else Booking,), name, {"kind": kind, **attributes})


def errand(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """An action."""
    return _made((_UndoneErrand if kind is Kind.COMPENSATABLE else Errand,), name, {"kind": kind, **attributes})


def diary(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """A step that only records."""
    return _made((_UndoneDiary if kind is Kind.COMPENSATABLE else Diary,), name, {"kind": kind, **attributes})


class Approval(SignalStep[Trip, Booked]):
    """A step that waits for somebody's word; the code `no` is a no."""

    timeout = timedelta(seconds=30)

    def succeeded(self, context: Trip, reply: Booked) -> Trip | Outcome[Trip] | Refusal:
        if reply.code == "no":
            return Refused("the boss says no")
        return replace(context, codes=(*context.codes, reply.code))


class Nap(SleepStep[Trip]):
    """A step that lets half a minute pass."""

    duration = timedelta(seconds=30)


def approval(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """A step that waits for a signal."""
    return _made((Approval,), name, {"kind": kind, **attributes})


class Ask(CommandStep[Booked, Any]):
    """The step of a saga that is itself a step."""

    name = "ask"

    def execute(self, context: Booked) -> Command:
        return Book("room")

    def compensate(self, context: Booked) -> Command:
        return Unbook("room")


class Stay(SagaStep[Trip, Booked]):
    """A step that is a saga of its own."""

    saga = Saga("stay", context=Booked, steps=[Ask()])
    retry = TWICE
    undo_retry = TWICE

    def begin(self, context: Trip) -> Booked:
        return Booked("begun")

    def succeeded(self, context: Trip, reply: Booked) -> Trip | Outcome[Trip]:
        return replace(context, codes=(*context.codes, reply.code))


def stay(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """A step that is a saga of its own."""
    return _made((Stay,), name, {"kind": kind, **attributes})


def nap(name: str, kind: Kind = Kind.COMPENSATABLE, **attributes: object) -> Any:
    """A step that lets time pass."""
    return _made((Nap,), name, {"kind": kind, **attributes})


class OfParcel(OfItem[str]):
    """Mixed in: a step that is done for each parcel."""


def parcels(*steps: Step[Any, Any], of: Sequence[str], name: str = "parcels", **options: Any) -> Any:
    """These steps for each of some parcels, which are just names."""
    bodies = [type(type(step).__name__, (OfParcel, type(step)), {})() for step in steps]
    return ForEach(name, bodies, items=lambda _: {key: f"parcel {key}" for key in of}, of=str, **options)


def trip(*steps: Part[Trip], **options: Any) -> Saga[Trip]:
    """A saga of these steps."""
    parts: Sequence[Part[Trip]] = steps or (booking("flight"), booking("hotel"), booking("car"))
    return Saga("trip", context=Trip, steps=parts, **options)


def pivotal(**options: Any) -> Saga[Trip]:
    """A flight that can be undone, a hotel that is the point of no return, a car after it."""
    return trip(booking("flight"), booking("hotel", Kind.PIVOT), booking("car", Kind.RETRIABLE), **options)
