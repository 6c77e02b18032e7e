"""The misbehaving bus: each fault does what it says, is counted, and comes again with the same seed."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unwind.buses.memory import MemoryBus
from unwind.errors import UnavailableError
from unwind.ports import Bus
from unwind.testing.bus_suite import BusSuite, ids, message, publish_each
from unwind.testing.faults import Faults, FaultyBus
from unwind.testing.manual_clock import ManualClock

SPREAD = 1_000
ACK_WAIT = 1_000_000


def faulty(faults: Faults, seed: int = 0) -> tuple[FaultyBus, ManualClock]:
    clock = ManualClock()
    return FaultyBus(MemoryBus(clock, ack_wait=ACK_WAIT), Random(seed), clock, faults), clock


async def settled(clock: ManualClock) -> None:
    """Let everything late arrive."""
    await asyncio.sleep(0)
    clock.advance(SPREAD)
    for _ in range(3):
        await asyncio.sleep(0)


class TestHealedFaultyBus(BusSuite):
    clock: ManualClock

    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        bus, self.clock = faulty(Faults(1, 1, 1, 1, 1))
        bus.faults = Faults()
        yield bus
        await bus.close()

    async def let_ack_wait_pass(self) -> None:
        await asyncio.sleep(0)
        self.clock.advance(ACK_WAIT)


async def test_a_lost_message_never_arrives() -> None:
    bus, clock = faulty(Faults(lose=1))
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", range(3))
    await settled(clock)
    bus.faults = Faults()
    await bus.publish("topic", [message("after")])
    assert ids(await subscription.fetch(10)) == ["after"]
    assert bus.injected == {"lost": 3}


async def test_a_duplicated_message_arrives_twice() -> None:
    bus, clock = faulty(Faults(duplicate=1, spread=SPREAD))
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message(1), message(2)])
    assert ids(await subscription.fetch(10)) == ["1", "2"]
    await settled(clock)
    assert sorted(ids(await subscription.fetch(10))) == ["1", "2"]
    assert bus.injected == {"duplicated": 2}


async def test_a_delayed_message_arrives_by_the_clock() -> None:
    bus, clock = faulty(Faults(delay=1, spread=SPREAD))
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("late")])
    bus.faults = Faults()
    await bus.publish("topic", [message("prompt")])
    assert ids(await subscription.fetch(10)) == ["prompt"]
    await settled(clock)
    assert ids(await subscription.fetch(10)) == ["late"]
    assert bus.injected == {"delayed": 1}


async def test_a_reordered_message_is_overtaken_by_the_next_publication() -> None:
    bus, clock = faulty(Faults(reorder=1, spread=SPREAD))
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("first")])
    bus.faults = Faults()
    await bus.publish("topic", [message("second")])
    assert ids(await subscription.fetch(10)) == ["second", "first"]
    await settled(clock)
    await bus.publish("topic", [message("third")])
    assert ids(await subscription.fetch(10)) == ["third"]
    assert bus.injected == {"reordered": 1}


async def test_a_reordered_message_that_nothing_overtakes_arrives_all_the_same() -> None:
    bus, clock = faulty(Faults(reorder=1, spread=SPREAD))
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("alone")])
    await settled(clock)
    assert ids(await subscription.fetch(10)) == ["alone"]


async def test_a_refused_publication_may_have_been_handed_over() -> None:
    bus, _ = faulty(Faults(refuse=1))
    subscription = await bus.subscribe("topic", "group")
    for number in range(100):
        with pytest.raises(UnavailableError):
            await bus.publish("topic", [message(number)])
    bus.faults = Faults()
    await bus.publish("topic", [message("end")])
    arrived = ids(await subscription.fetch(200))
    assert 30 < len(arrived) < 70
    assert bus.injected == {"refused": 100}


async def test_what_is_late_when_the_bus_closes_is_lost() -> None:
    bus, clock = faulty(Faults(delay=1, spread=SPREAD))
    await bus.publish("topic", [message("late")])
    await asyncio.sleep(0)
    await bus.close()
    assert clock.sleeping == 0


async def test_a_late_message_that_finds_the_queue_full_is_counted_as_lost() -> None:
    clock = ManualClock()
    bus = FaultyBus(MemoryBus(clock, capacity=1), Random(0), clock, Faults(duplicate=1, spread=SPREAD))
    await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("fills it")])
    await settled(clock)
    assert bus.injected == {"duplicated": 1, "lost": 1}


@given(seed=st.integers(0, 2**32), rates=st.tuples(*[st.floats(0, 0.5)] * 4))
def test_the_same_seed_gives_the_same_faults(seed: int, rates: tuple[float, float, float, float]) -> None:
    async def run() -> tuple[list[str], dict[str, int]]:
        bus, clock = faulty(Faults(*rates, spread=SPREAD), seed)
        subscription = await bus.subscribe("topic", "group")
        for number in range(0, 30, 3):
            await bus.publish("topic", [message(number + offset) for offset in range(3)])
        await settled(clock)
        bus.faults = Faults()
        await bus.publish("topic", [message("end")])
        return ids(await subscription.fetch(100)), dict(bus.injected)

    arrived, injected = asyncio.run(run())
    assert (arrived, injected) == asyncio.run(run())
    assert len(arrived) - 1 == 30 + injected.get("duplicated", 0) - injected.get("lost", 0)
