"""A worker's parts under one lifecycle, and its sweeper."""

import asyncio
from typing import Any

import pytest
from tests.core.trips import Trip, trip
from tests.runtime.rig import Rig, virtual

from unwind.errors import DefinitionError, UnavailableError
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND
from unwind.runtime.publisher import Publisher
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper

TRIP = trip()


class Part:
    """A participant that does as it is told."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.said: list[str] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        self.said.append("started")
        if self.fails == "start":
            raise UnavailableError("scripted")

    async def wait(self) -> None:
        await asyncio.shield(self.ended)

    async def stop(self) -> None:
        self.said.append("stopped")
        if self.fails == "stop":
            raise UnavailableError("scripted")


def service(rig: Rig, *parts: Part) -> tuple[Service, Engine]:
    engine = rig.engine("w1")
    publisher = Publisher(rig.store, rig.bus, rig.clock, engine.limits)
    return Service(engine, Sweeper(engine, rig.store, rig.clock), publisher, parts), engine


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@virtual
async def test_all_parts_run_and_end_together() -> None:
    rig = Rig(TRIP)
    part = Part()
    worker, engine = service(rig, part)
    await worker.start()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    await rig.elapse(10)
    assert engine.telemetry.work["wake_ups"] == 1
    await worker.stop()
    assert part.said == ["started", "stopped"]
    assert others() == set()
    assert not worker.failed.done()
    assert rig.scripted.status(saga_id) == "running"


@virtual
async def test_a_part_that_fails_is_told() -> None:
    for spoil in ("commit", "claim", "tail"):
        rig = Rig(TRIP)
        worker, engine = service(rig)
        await worker.start()

        async def broken(*args: object, spoil: str = spoil) -> None:
            raise ZeroDivisionError(spoil)

        setattr(rig.scripted, spoil, broken)
        starting = asyncio.create_task(engine.start(TRIP, Trip()))
        error = await worker.failed
        while isinstance(error, BaseExceptionGroup):
            [error] = error.exceptions
        assert error.args == (spoil,)
        await worker.stop()
        if spoil == "commit":
            with pytest.raises(UnavailableError, match="has stopped"):
                await starting
        else:
            assert (await starting).created
        assert others() == set()


@virtual
async def test_a_participant_that_ends_by_itself_is_told_and_the_others_are_stopped() -> None:
    rig = Rig(TRIP)
    broken, sound = Part(fails="stop"), Part()
    worker, _ = service(rig, broken, sound)
    await worker.start()
    broken.ended.set_exception(ZeroDivisionError())
    assert isinstance(await worker.failed, ZeroDivisionError)
    await worker.stop()
    assert sound.said == ["started", "stopped"]


@virtual
async def test_a_start_that_fails_leaves_nothing_running() -> None:
    rig = Rig(TRIP)
    await rig.scripted.register([("trip", 1, "other")])
    early, late = Part(), Part(fails="start")
    worker, _ = service(rig, early)
    with pytest.raises(DefinitionError):
        await worker.start()
    assert early.said == []
    await worker.stop()
    rig = Rig(TRIP)
    worker, _ = service(rig, early, late)
    early.said.clear()
    with pytest.raises(UnavailableError):
        await worker.start()
    assert early.said == ["started", "stopped"]
    assert others() == set()
    await worker.stop()


# -------------------------------------------------------------------------------------------------------------- sweeper


@virtual
async def test_a_sweep_takes_no_more_than_its_limit_longest_due_first() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(claim=4)
    started = []
    for _ in range(10):
        started.append((await engine.start(TRIP, Trip())).saga_id)
        await rig.elapse(0.1)
    await rig.elapse(10)
    idle = rig.engine("w2", claim=4)
    sweeper = Sweeper(idle, rig.store, rig.clock)
    swept = []
    for _ in range(4):
        before = {saga_id: rig.scripted.wake_at(saga_id) for saga_id in started}
        swept.append(await sweeper.sweep())
        changed = [saga_id for saga_id in started if rig.scripted.wake_at(saga_id) != before[saga_id]]
        assert changed == started[sum(swept[:-1]) : sum(swept)]
    assert swept == [4, 4, 2, 0]
    assert idle.loop.backlog == 10
    assert idle.telemetry.work["wake_ups"] == 10


@virtual
async def test_a_full_loop_is_left_alone_by_the_sweeper() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(inbox=2, batches_in_flight=1, batch=1)
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    await rig.elapse(10)
    rig.scripted.gate.clear()
    calls = [asyncio.create_task(engine.start(TRIP, Trip()))]
    await rig.until(lambda: rig.scripted.calls["commit"] == 2)
    calls += [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(2)]
    await rig.until(lambda: engine.loop.backlog == 2)
    sweeper = Sweeper(engine, rig.store, rig.clock)
    assert await sweeper.sweep() == 0
    assert rig.scripted.calls["claim"] == 0
    rig.scripted.gate.set()
    await asyncio.gather(*calls)
    assert await sweeper.sweep() == 1
    await rig.until(lambda: engine.telemetry.work["resent"] == 1)
    assert rig.scripted.wake_at(saga_id) > rig.now()  # type: ignore[operator]


@virtual
async def test_a_sweeper_outlives_a_store_that_is_down() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    rig.scripted.down = True
    await rig.elapse(20)
    assert engine.telemetry.work["wake_ups"] == 0
    rig.scripted.down = False
    await rig.until(lambda: engine.telemetry.work["wake_ups"] == 1, 1)
    assert rig.scripted.wake_at(saga_id) > rig.now() - SECOND  # type: ignore[operator]


@virtual
async def test_an_engine_claims_only_what_it_knows() -> None:
    other = trip(version=2)
    rig = Rig(TRIP)
    engine = await rig.launch("w1", TRIP, other)
    await engine.start(TRIP, Trip())
    await engine.start(other, Trip())
    await rig.elapse(10)
    assert await Sweeper(rig.engine("w2", other), rig.store, rig.clock).sweep() == 1
    assert await Sweeper(rig.engine("w3", TRIP), rig.store, rig.clock).sweep() == 1
