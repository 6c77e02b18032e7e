"""From every state there is a way out by the public API alone, whatever the participants do; in virtual time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest
from msgspec import Raw, Struct
from msgspec.json import encode
from tests.core.trips import BOOKED, Trip, approval, booking, errand, nap, parcels, pivotal, stay, trip
from tests.runtime.rig import EPOCH, Answer, Rig, reply, virtual

from unwind.core.groups import Parallel
from unwind.core.saga import Saga
from unwind.core.state import State
from unwind.core.steps import Kind, Retry, Step
from unwind.errors import DefinitionError
from unwind.ports import Message
from unwind.runtime.engine import Engine
from unwind.runtime.families import child_id
from unwind.runtime.limits import SECOND, Limits

YES = Raw(encode(BOOKED))
Act = Callable[[Engine, str], Awaitable[State]]


def says(outcome: str, *names: str) -> Answer:
    """So to these, `step/direction`; yes to the others. `silent` is no answer at all."""

    def answer(command: Message) -> Message | None:
        if f"{command.step}/{command.direction}" not in names:
            return reply(command)
        return None if outcome == "silent" else reply(command, outcome, reason="no")

    return answer


def cancel(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.cancel(saga_id, actor="ada", reason="over")


def pause(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.pause(saga_id, actor="ada")


def resume(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.resume(saga_id, actor="ada")


def retry(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.retry(saga_id, actor="ada")


def resolve(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.resolve(saga_id, actor="ada", evidence="seen", reply=YES)


def skip(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.skip(saga_id, actor="ada", reason="so be it")


def approve(engine: Engine, saga_id: str) -> Awaitable[State]:
    return engine.signal(saga_id, "boss", YES)


class Case(Struct, frozen=True):
    """How a saga gets where it is, and one way out."""

    saga: Saga[Any]
    answer: Answer
    shown: str
    """What it is when nobody does anything."""
    ways: dict[str, Act]
    """The status it ends with, after a number to tell the ways apart → the act."""
    first: Act | None = None
    after: float = 1.0
    """Seconds until the way out is taken."""
    mended: bool = True
    """The participant comes round before the act; else it never does."""
    later: bool = False
    """The saga is accepted for a later time."""
    parks: bool = False
    """Attempts at a silent participant are parked; else they are spent."""


FLIGHT = trip(booking("flight"), booking("hotel"))
BOSS = trip(booking("flight"), approval("boss"))
FEE = trip(booking("flight", Kind.PIVOT), approval("fee", Kind.RETRIABLE))


class Broken(Exception):  # noqa: N818 - an author's mistake
    """What an author's function raises."""


def raising(name: str) -> Any:
    return booking(name, verdict=Broken("a typo"))


def also(*answers: Answer) -> Answer:
    """What the first says that does not simply agree."""

    def answer(command: Message) -> Message | None:
        agreed = reply(command)
        return next((said for said in (each(command) for each in answers) if said != agreed), agreed)

    return answer


def both(act: Any) -> Act:
    """On both steps that need a person."""

    async def acts(engine: Engine, saga_id: str) -> State:
        found = (await engine.loop.state(saga_id)).blocks
        more: dict[str, Any] = {"reason": "so be it"} if act is skip else {"evidence": "seen", "reply": YES}
        for block in found:
            await getattr(engine, act.__name__)(saga_id, actor="ada", step=block.step, **more)
        return await engine.loop.state(saga_id)

    return acts


def on_child(step: str, act: Act) -> Act:
    """On the saga that is the doing of a step."""
    return lambda engine, saga_id: act(engine, child_id(saga_id, step))


BESIDE = trip(Parallel(booking("flight"), booking("hotel"), booking("car")))

CASES: dict[str, Case] = {
    "accepted for a later time": Case(FLIGHT, reply, "pending", {"compensated": cancel}, later=True),
    "the participant is silent": Case(
        FLIGHT, says("silent", "flight/do"), "running", {"compensated": cancel, "completed": resume}
    ),
    "in a backoff": Case(
        FLIGHT,
        says("failed", "flight/do"),
        "running",
        {"compensated": cancel, "completed": resume, "2 completed": retry},
    ),
    "waiting for a signal": Case(
        BOSS, reply, "running", {"completed": approve, "2 completed": skip, "compensated": cancel}
    ),
    "asleep": Case(trip(nap("rest")), reply, "running", {"completed": skip, "compensated": cancel}),
    "paused": Case(
        FLIGHT, says("silent", "hotel/do"), "paused", {"completed": resume, "compensated": cancel}, first=pause
    ),
    "being undone, its participant silent": Case(
        FLIGHT,
        says("silent", "flight/undo", "hotel/do"),
        "compensating",
        {"compensated": resume, "2 compensated": cancel},
        first=cancel,
    ),
    "its undo in a backoff": Case(
        FLIGHT,
        says("failed", "flight/undo", "hotel/do"),
        "compensating",
        {"compensated": resume, "2 compensated": retry},
        first=cancel,
    ),
    "blocked: the undo is refused": Case(
        FLIGHT,
        says("refused", "flight/undo", "hotel/do"),
        "blocked",
        {"compensated": retry, "2 compensated": resume, "3 compensated": resolve, "4 compensated": skip},
    ),
    "blocked: the undo is refused for good": Case(
        FLIGHT,
        says("refused", "flight/undo", "hotel/do"),
        "blocked",
        {"compensated": resolve, "2 compensated": skip},
        mended=False,
    ),
    "blocked: the undo has used up its attempts": Case(
        FLIGHT,
        says("failed", "flight/undo", "hotel/do"),
        "blocked",
        {"compensated": retry, "2 compensated": resolve, "3 compensated": skip},
        after=60,
    ),
    "blocked past the pivot: refused": Case(
        pivotal(),
        says("refused", "car/do"),
        "blocked",
        {"completed": retry, "2 completed": resume, "3 completed": resolve, "4 completed": skip},
    ),
    "blocked past the pivot: refused for good": Case(
        pivotal(), says("refused", "car/do"), "blocked", {"completed": resolve, "2 completed": skip}, mended=False
    ),
    "blocked past the pivot: silent": Case(
        pivotal(),
        says("silent", "car/do"),
        "blocked",
        {"completed": retry, "2 completed": resolve, "3 completed": skip},
        after=90,
    ),
    "blocked at the pivot: silent": Case(
        pivotal(), says("silent", "hotel/do"), "blocked", {"completed": retry, "2 completed": resolve}, after=90
    ),
    "parked": Case(
        FLIGHT,
        says("silent", "flight/do"),
        "running",
        {"completed": resume, "2 completed": retry, "3 completed": resolve, "compensated": cancel},
        after=200,
        parks=True,
    ),
    "parked past the pivot, for good": Case(
        pivotal(),
        says("silent", "car/do"),
        "running",
        {"completed": resolve, "2 completed": skip},
        after=200,
        mended=False,
        parks=True,
    ),
    "its undo parked, for good": Case(
        FLIGHT,
        says("silent", "flight/undo", "hotel/do"),
        "compensating",
        {"compensated": resolve, "2 compensated": skip},
        first=cancel,
        after=200,
        mended=False,
        parks=True,
    ),
    "blocked past the pivot: no signal in time": Case(
        FEE, reply, "blocked", {"completed": resolve, "2 completed": skip}, after=40
    ),
    "settling: one of three failed, another is silent": Case(
        BESIDE, also(says("refused", "hotel/do"), says("silent", "flight/do")), "running", {"compensated": cancel}
    ),
    "blocked side by side: two undos are refused for good": Case(
        BESIDE,
        also(says("refused", "hotel/do"), says("refused", "flight/undo", "car/undo")),
        "blocked",
        {"compensated": both(resolve), "2 compensated": both(skip)},
        mended=False,
    ),
    "blocked past the pivot: one of two branches": Case(
        trip(booking("visa", Kind.PIVOT), Parallel(*(booking(name, Kind.RETRIABLE) for name in ("mail", "bill")))),
        says("refused", "mail/do"),
        "blocked",
        {"completed": retry, "2 completed": resolve, "3 completed": skip},
    ),
    "blocked: the items cannot be listed": Case(
        trip(booking("flight"), parcels(booking("pack"), of=["a/b"])),
        reply,
        "blocked",
        {"completed": skip, "compensated": cancel},
        mended=False,
    ),
    "waiting for a saga of its own that is silent": Case(
        trip(booking("flight"), stay("hotel")),
        says("silent", "ask/do"),
        "running",
        {"compensated": cancel, "2 compensated": on_child("hotel", cancel), "completed": on_child("hotel", resume)},
    ),
    "waiting for a saga of its own that is paused": Case(
        trip(booking("flight"), stay("hotel")),
        says("silent", "ask/do"),
        "running",
        {"compensated": cancel, "completed": on_child("hotel", resume)},
        first=on_child("hotel", pause),
    ),
    "its undo waits for a saga of its own that is blocked": Case(
        trip(booking("flight"), stay("hotel"), booking("car")),
        also(says("refused", "car/do"), says("refused", "ask/undo")),
        "compensating",
        {"compensated": on_child("hotel", resolve), "2 compensated": on_child("hotel", skip)},
        mended=False,
    ),
    "blocked: the author's guard raises": Case(
        trip(booking("flight"), raising("hotel")),
        reply,
        "blocked",
        {"completed": skip, "compensated": cancel},
        mended=False,
    ),
}
WAYS = [(name, ending) for name, case in CASES.items() for ending in case.ways]


async def brought_there(rig: Rig, case: Case) -> tuple[Engine, str, list[bool]]:
    mended: list[bool] = []
    await rig.agency(lambda command: reply(command) if mended else case.answer(command))
    engine = await rig.launch(sweeps=True)
    begin_at = datetime.fromtimestamp(EPOCH // SECOND + 3_000, UTC) if case.later else None
    saga_id = (await engine.start(case.saga, Trip(), begin_at=begin_at)).saga_id
    await rig.elapse(case.after / 2)
    if case.first is not None:
        await case.first(engine, saga_id)
    await rig.elapse(case.after / 2)
    return engine, saga_id, mended


@pytest.mark.parametrize(("name", "ending"), WAYS)
def test_there_is_a_way_out(name: str, ending: str) -> None:
    case = CASES[name]

    @virtual
    async def happen() -> None:
        rig = Rig(case.saga, limits=Limits(circuit_after=3 if case.parks else 0))
        engine, saga_id, mended = await brought_there(rig, case)
        assert rig.scripted.status(saga_id) == case.shown
        if case.mended:
            mended.append(True)
        await case.ways[ending](engine, saga_id)
        await rig.elapse(120)
        assert rig.scripted.status(saga_id) == ending.rpartition(" ")[2]

    happen()


def test_the_cases_show_every_status_that_is_not_an_end() -> None:
    assert {case.shown for case in CASES.values()} - {"completed"} == {
        "pending",
        "running",
        "paused",
        "compensating",
        "blocked",
    }


# ----------------------------------------------------------------------------------------- compensation that goes wrong


@virtual
async def test_an_undo_that_fails_a_hundred_times_is_done_once_in_the_end() -> None:
    patient = Retry.exponential(attempts=200, initial=timedelta(seconds=1), cap=timedelta(seconds=30))
    saga = trip(booking("flight", undo_retry=patient), booking("hotel"))
    outcomes: Counter[tuple[str, str]] = Counter()

    def agency(command: Message) -> Message:
        name = f"{command.step}/{command.direction}"
        outcome = "refused" if name == "hotel/do" else "ok"
        if name == "flight/undo" and outcomes[name, "failed"] < 100:
            outcome = "failed"
        outcomes[name, outcome] += 1
        return reply(command, outcome)

    rig = Rig(saga)
    await rig.agency(agency)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(saga, Trip())).saga_id
    await rig.elapse(4_000)
    assert rig.scripted.status(saga_id) == "compensated"
    assert outcomes["flight/undo", "failed"] == 100
    assert outcomes["flight/undo", "ok"] == 1


@virtual
async def test_a_cancel_while_a_step_is_outstanding_undoes_it_too() -> None:
    rig = Rig(FLIGHT)
    undone: list[str] = []

    def agency(command: Message) -> Message | None:
        if command.direction == "undo":
            undone.append(command.step)
        return None if (command.step, command.direction) == ("hotel", "do") else reply(command)

    await rig.agency(agency)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(FLIGHT, Trip())).saga_id
    await rig.elapse(1)
    await engine.cancel(saga_id, actor="ada")
    await rig.elapse(10)
    assert (rig.scripted.status(saga_id), undone) == ("compensated", ["hotel", "flight"])


# ----------------------------------------------------------------------------------------------------- definitions


CHOICES = list(product(Kind, (True, False)))
"""Kind of a step, and whether it can be undone."""


@cache
def step_of(number: int, kind: Kind, undoable: bool) -> Step[Any, Any]:
    make: Any = (booking, errand)[number % 2]
    made: Any = make(f"s{number}", Kind.COMPENSATABLE if undoable else Kind.PIVOT)
    type(made).kind = kind
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize("length", range(1, 6))
def test_a_definition_is_accepted_exactly_when_nothing_can_be_left_half_done(length: int) -> None:
    accepted = 0
    for drawn in product(CHOICES, repeat=length):
        kinds = [kind for kind, _ in drawn]
        pivot = kinds.index(Kind.PIVOT) if Kind.PIVOT in kinds else length
        sound = all(kind is Kind.COMPENSATABLE and undoable for kind, undoable in drawn[:pivot])
        sound = sound and all(kind is Kind.RETRIABLE for kind in kinds[pivot + 1 :])
        steps = [step_of(number, *each) for number, each in enumerate(drawn)]
        if sound:
            accepted += len(trip(*steps).plans) == length
        else:
            with pytest.raises(DefinitionError, match=r"step 's\d'"):
                trip(*steps)
    assert accepted == 1 + sum(2 ** (length - pivot) for pivot in range(length))
