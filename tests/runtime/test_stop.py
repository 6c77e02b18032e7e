"""A graceful stop: what is in hand is finished, what waits is refused, what is left goes on elsewhere."""

import asyncio

import pytest
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Deed, Rig, at_once, reply, virtual

from unwind.core.events import StepDone
from unwind.core.steps import ActionCall
from unwind.errors import UnavailableError
from unwind.ports import REPLIES

TRIP = trip()


@virtual
async def test_the_batch_in_hand_is_finished_and_what_waits_is_refused() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batches_in_flight=1)
    rig.scripted.gate.clear()
    in_hand = asyncio.create_task(engine.start(TRIP, Trip()))
    await rig.until(lambda: rig.scripted.calls["commit"] == 1)
    waiting = asyncio.create_task(engine.start(TRIP, Trip()))
    await rig.until(lambda: engine.loop.backlog == 1)
    stopping = asyncio.create_task(rig.stop(engine))
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting
    with pytest.raises(UnavailableError, match="stopping"):
        await engine.start(TRIP, Trip())
    rig.scripted.gate.set()
    assert (await in_hand).created
    await stopping
    assert len(rig.scripted.units) == 1
    assert rig.trace[-1][0] == "publish"


@virtual
async def test_what_is_left_is_picked_up_by_another_engine() -> None:
    rig = Rig(TRIP)
    first = await rig.launch("w1", sweeps=True)
    started = [await first.start(TRIP, Trip()) for _ in range(5)]
    await rig.stop(first)
    await rig.agency(lambda command: reply(command) if rig.clock.monotonic() > 1_000_000 else None)
    second = await rig.launch("w2", sweeps=True)
    for each in started:
        assert (await second.ended(each.saga_id)).status == "completed"


@virtual
async def test_replies_that_were_not_decided_go_to_another_engine_at_once() -> None:
    rig = Rig(TRIP)
    first = await rig.launch("w1", batches_in_flight=1)
    second = await rig.launch("w2")
    saga_id = (await first.start(TRIP, Trip())).saga_id
    [command] = rig.bus.published[0][1]
    await rig.stop(second)
    rig.scripted.gate.clear()
    blocker = asyncio.create_task(first.start(TRIP, Trip()))
    await rig.until(lambda: rig.scripted.calls["commit"] == 2)
    await rig.bus.publish(REPLIES, [reply(command)])
    await rig.until(lambda: first.loop.backlog == 1)
    stopping = asyncio.create_task(rig.stop(first))
    rig.scripted.gate.set()
    await stopping
    assert (await blocker).created
    third = await rig.launch("w3")
    await rig.until(lambda: any(isinstance(event, StepDone) for event in rig.scripted.events(saga_id)), 1)
    assert third.telemetry.units == 1


@virtual
async def test_actions_have_their_grace_and_their_outcome_is_recorded() -> None:
    release = asyncio.Event()

    async def slow(call: ActionCall) -> None:
        await release.wait()

    saga = trip(Deed("a", slow), booking("b"))
    rig = Rig(saga)
    engine = await rig.launch()
    saga_id = (await engine.start(saga, Trip())).saga_id
    await rig.until(lambda: engine.loop._pool._jobs)
    stopping = asyncio.create_task(rig.stop(engine, grace=5))
    await rig.elapse(4)
    assert not stopping.done()
    release.set()
    await stopping
    assert rig.clock.monotonic() < 5_000_000
    assert any(isinstance(event, StepDone) for event in rig.scripted.events(saga_id))


@virtual
async def test_a_stop_waits_no_longer_than_the_grace_and_another_takes_over() -> None:
    runs: list[str] = []

    async def endless(call: ActionCall) -> None:
        runs.append(call.effect_id)
        if len(runs) == 1:
            await asyncio.Event().wait()

    saga = trip(Deed("a", endless))
    rig = Rig(saga)
    first = await rig.launch("w1", sweeps=True)
    saga_id = (await first.start(saga, Trip())).saga_id
    await rig.until(lambda: runs)
    await rig.stop(first, grace=2)
    assert 2_000_000 <= rig.clock.monotonic() <= 2_100_000
    second = await rig.launch("w2", sweeps=True)
    assert (await second.ended(saga_id)).status == "completed"
    assert runs == [f"{saga_id}/a/do"] * 2


@virtual
async def test_a_stopping_engine_begins_no_action() -> None:
    ran: list[str] = []
    release = asyncio.Event()

    async def slow(call: ActionCall) -> None:
        await release.wait()

    async def noted(call: ActionCall) -> None:
        ran.append(call.effect_id)

    saga = trip(Deed("a", slow), Deed("b", noted))
    rig = Rig(saga)
    engine = await rig.launch()
    saga_id = (await engine.start(saga, Trip())).saga_id
    await rig.until(lambda: engine.loop._pool._jobs)
    stopping = asyncio.create_task(rig.stop(engine))
    await rig.elapse(1)
    release.set()
    await stopping
    assert len(rig.scripted.events(saga_id)) == 4
    assert ran == []


@virtual
async def test_a_stop_ends_although_the_store_is_down() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    await engine.start(TRIP, Trip())
    rig.scripted.down = True
    waiting = asyncio.create_task(engine.start(TRIP, Trip()))
    await rig.elapse(1)
    await rig.stop(engine)
    assert rig.clock.monotonic() < 6_000_000
    with pytest.raises(UnavailableError, match="stop"):
        await waiting


@virtual
async def test_a_stop_may_come_twice_or_before_anything_ran() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    await engine.start(TRIP, Trip())
    await asyncio.gather(rig.stop(engine), engine.stop(1))
    await engine.stop(1)
    idle = rig.engine("w2")
    await idle.stop(1)
    with pytest.raises(UnavailableError, match="stopping"):
        await idle.start(TRIP, Trip())
    await idle.run()
    assert rig.clock.monotonic() == 0


@virtual
async def test_nobody_waits_in_vain_for_an_engine_that_has_ended() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    waiting = asyncio.create_task(engine.ended(saga_id))
    await rig.elapse(0.1)
    rig.scripted.gate.clear()
    call = asyncio.create_task(engine.pause(saga_id, actor="ann"))
    await rig.until(lambda: rig.scripted.calls["commit"] == 2)
    await rig.kill(engine)
    for task in (waiting, call):
        with pytest.raises(UnavailableError, match="has stopped"):
            await task
    with pytest.raises(UnavailableError, match="goes on elsewhere"):
        await engine.ended(saga_id)
    with pytest.raises(UnavailableError, match="stopping"):
        await engine.cancel(saga_id, actor="ann")


@virtual
async def test_the_work_in_the_pool_is_not_lost_on_the_way_to_the_log() -> None:
    saga = trip(*(Deed(name, at_once) for name in "abcd"))
    rig = Rig(saga)
    first = await rig.launch("w1", sweeps=True)
    starts = [asyncio.create_task(first.start(saga, Trip())) for _ in range(50)]
    started = await asyncio.gather(*starts)
    await rig.stop(first)
    second = await rig.launch("w2", sweeps=True)
    for each in started:
        assert (await second.ended(each.saga_id)).status == "completed"
        steps = [event.step for event in rig.scripted.events(each.saga_id) if isinstance(event, StepDone)]
        assert steps == ["a", "b", "c", "d"]
