"""What a process says of the things it depends on: asked seldom, and by doing what the work does."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.core.trips import Trip, trip
from tests.runtime.rig import Rig, virtual

from unwind.errors import UnavailableError
from unwind.runtime.readiness import Remembered, StoreProbe

TRIP = trip()


class Scripted:
    """A dependency that counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.asked += 1
        await self.gate.wait()
        if self.down:
            raise UnavailableError("scripted")


@virtual
async def test_many_who_ask_within_a_second_are_given_one_answer() -> None:
    rig, dependency = Rig(TRIP), Scripted()
    check = Remembered(dependency, rig.clock)
    await asyncio.gather(*(check() for _ in range(10)))
    await check()
    assert dependency.asked == 1
    dependency.down = True
    await check()
    await rig.elapse(1)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="scripted"):
            await check()
    assert dependency.asked == 2
    dependency.down = False
    await rig.elapse(1)
    await check()
    assert dependency.asked == 3


@virtual
async def test_a_question_that_hangs_is_asked_once_and_heard_by_those_who_come_later() -> None:
    rig, dependency = Rig(TRIP), Scripted()
    dependency.gate.clear()
    check = Remembered(dependency, rig.clock)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(check(), 2)
    later = asyncio.create_task(check())
    await rig.elapse(1)
    dependency.gate.set()
    await later
    assert dependency.asked == 1


@virtual
async def test_what_a_question_brings_when_nobody_waits_any_more_is_not_lost_in_the_log_as_an_error() -> None:
    rig, dependency = Rig(TRIP), Scripted()
    dependency.gate.clear()
    dependency.down = True
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Remembered(dependency, rig.clock)(), 2)
    dependency.gate.set()
    await rig.elapse(1)  # `virtual` fails the test when an exception is left unheard of


@virtual
async def test_a_store_that_reads_and_cannot_commit_is_not_ready() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    await engine.start(TRIP, Trip())
    probe = StoreProbe(rig.store)
    await probe()

    async def full(effect_ids: Sequence[str], duration: int) -> None:
        raise UnavailableError("the disk is full")

    rig.scripted.lease = full  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="disk is full"):
        await probe()


@virtual
async def test_a_store_that_does_not_answer_is_not_ready() -> None:
    rig = Rig(TRIP)
    probe = StoreProbe(rig.store)
    await probe()

    async def away(*_: object, **__: object) -> None:
        raise UnavailableError("away")

    rig.scripted.load = away  # type: ignore[method-assign, assignment]
    with pytest.raises(UnavailableError, match="away"):
        await probe()
