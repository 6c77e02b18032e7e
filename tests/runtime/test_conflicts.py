"""Two engines on one store, and commits of which nobody knows: one log, one outcome, nothing believed."""

import asyncio
from itertools import pairwise
from random import Random
from typing import get_args

import pytest
from tests.core.trips import Trip, trip
from tests.runtime.rig import Fault, Rig, refusing, tell, virtual

from unwind.buses.memory import MemoryBus
from unwind.core.events import CompensationStarted, SagaCompensated, SagaCompleted, SagaStarted, StepStarted
from unwind.errors import StateError
from unwind.ports import COMMANDS
from unwind.testing.faults import Faults, FaultyBus

TRIP = trip()


@virtual
async def test_the_loser_of_a_race_reloads_and_decides_again() -> None:
    rig = Rig(TRIP)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    saga_id = (await first.start(TRIP, Trip())).saga_id
    await second.pause(saga_id, actor="bob")  # now both know it, and the first one's knowledge is stale
    tell(first, saga_id, "flight")
    await rig.until(lambda: first.telemetry.work["conflicts"] == 1)
    await rig.until(lambda: len(rig.scripted.events(saga_id)) == 4)
    await second.cancel(saga_id, actor="bob")
    assert second.telemetry.work["conflicts"] == 1
    assert rig.scripted.status(saga_id) == "compensating"


@virtual
async def test_a_stale_cache_never_gives_a_wrong_answer() -> None:
    rig = Rig(TRIP)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    saga_id = (await first.start(TRIP, Trip())).saga_id
    await first.pause(saga_id, actor="ann")
    await second.resume(saga_id, actor="bob")
    # The first one believes it is paused already: there seems to be nothing to do.
    assert (await first.pause(saga_id, actor="ann")).paused
    assert rig.scripted.status(saga_id) == "paused"


@virtual
async def test_an_answer_that_a_stale_cache_does_not_expect_counts_all_the_same() -> None:
    rig = Rig(TRIP)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    saga_id = (await first.start(TRIP, Trip())).saga_id
    tell(second, saga_id, "flight")
    await rig.until(lambda: f"{saga_id}/hotel/do" in rig.bus.sent(COMMANDS + "agency"))
    tell(first, saga_id, "hotel")
    await rig.until(lambda: f"{saga_id}/car/do" in rig.bus.sent(COMMANDS + "agency"))


@pytest.mark.parametrize("seed", range(6))
def test_a_cancel_races_the_completion_and_there_is_one_outcome(seed: int) -> None:
    @virtual
    async def race() -> None:
        rig = Rig(TRIP)
        await rig.agency()
        engines = [await rig.launch("w1", sweeps=True), await rig.launch("w2", sweeps=True)]
        chance = Random(seed)

        async def cancel(saga_id: str) -> bool:
            await rig.elapse(chance.random() / 100)
            try:
                await chance.choice(engines).cancel(saga_id, actor="ann")
            except StateError as refused:
                return refused.status != "completed"
            return True

        started = [await chance.choice(engines).start(TRIP, Trip()) for _ in range(20)]
        cancelled = await asyncio.gather(*(cancel(each.saga_id) for each in started))
        for each, undone in zip(started, cancelled, strict=True):
            state = await chance.choice(engines).ended(each.saga_id)
            events = rig.scripted.events(each.saga_id)
            assert state.status == ("compensated" if undone else "completed")
            assert len(events) == state.version
            assert sum(isinstance(event, (SagaCompleted, SagaCompensated)) for event in events) == 1
            assert sum(isinstance(event, CompensationStarted) for event in events) == undone

    race()


@virtual
async def test_two_engines_on_a_bus_that_loses_and_repeats_bring_every_saga_to_one_end() -> None:
    rig = Rig(TRIP)
    faults = Faults(lose=0.2, duplicate=0.3, delay=0.2, reorder=0.2)
    rig.bus.bus = FaultyBus(MemoryBus(rig.clock), Random(1), rig.clock, faults)
    await rig.agency(refusing("car"))
    engines = [await rig.launch("w1", sweeps=True), await rig.launch("w2", sweeps=True)]
    started = [await engines[number % 2].start(TRIP, Trip()) for number in range(20)]
    for each in started:
        assert (await engines[0].ended(each.saga_id)).status == "compensated"
        events = rig.scripted.events(each.saga_id)
        assert [event.step for event in events if isinstance(event, StepStarted)] == ["flight", "hotel", "car"]


# ---------------------------------------------------------------------------------------- commits that are not known of


@pytest.mark.parametrize("fault", get_args(Fault))
@pytest.mark.parametrize("which", range(4))
def test_a_commit_reported_as_failed_is_decided_anew(fault: Fault, which: int) -> None:
    @virtual
    async def run() -> None:
        rig = Rig(TRIP)
        await rig.agency()
        engine = await rig.launch(sweeps=True)
        rig.scripted.faults.extend([None] * which + [fault])
        started = await engine.start(TRIP, Trip())
        assert (await engine.ended(started.saga_id)).status == "completed"
        events = rig.scripted.events(started.saga_id)
        assert sum(isinstance(event, SagaStarted) for event in events) == 1
        assert [event.step for event in events if isinstance(event, StepStarted)] == ["flight", "hotel", "car"]
        assert engine.telemetry.work["store_unavailable"] == 1

    run()


@virtual
async def test_nothing_is_believed_of_a_commit_reported_as_failed() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    rig.scripted.faults.append("lost")
    rig.trace.clear()
    tell(engine, saga_id, "flight")
    await rig.until(lambda: ("committed", (saga_id,)) in rig.trace)
    assert [what[0] for what in rig.trace[:4]] == ["commit", "load", "commit", "committed"]


@virtual
async def test_the_pause_after_a_failing_store_grows_and_starts_anew() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batches_in_flight=1, call_timeout=100_000_000)
    times: list[int] = []

    async def pauses(failures: int) -> list[float]:
        times.clear()
        rig.scripted.faults.extend(["lost"] * failures)
        starting = asyncio.create_task(engine.start(TRIP, Trip()))
        while not starting.done():
            seen = rig.scripted.calls["commit"]
            await rig.until(lambda seen=seen: starting.done() or rig.scripted.calls["commit"] > seen)  # type: ignore[misc]
            times.append(rig.clock.monotonic())
        return [round((later - sooner) / 1e6, 1) for sooner, later in pairwise(times[:-1])]

    assert await pauses(7) == [0.1, 0.2, 0.5, 1.0, 2.0, 2.0]  # half of it, as jitter says
    assert await pauses(2) == [0.1]
