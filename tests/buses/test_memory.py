"""The in-process bus: the laws of all buses, and its bounds."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from unwind.buses.memory import MemoryBus
from unwind.errors import UnavailableError
from unwind.queues import OperatedBus
from unwind.testing.bus_suite import BusSuite, ids, message, publish_each
from unwind.testing.manual_clock import ManualClock
from unwind.testing.operated_suite import OperatedSuite

ACK_WAIT = 1_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def bus(clock: ManualClock) -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(clock, ack_wait=ACK_WAIT, capacity=10, backlog=3)
    yield bus
    await bus.close()


class TestMemoryBus(BusSuite, OperatedSuite):
    clock: ManualClock

    @pytest.fixture
    async def bus(self) -> AsyncIterator[OperatedBus]:
        self.clock = ManualClock()
        bus = MemoryBus(self.clock, ack_wait=ACK_WAIT)
        yield bus
        await bus.close()

    async def let_ack_wait_pass(self) -> None:
        await asyncio.sleep(0)  # what watches over the deliveries sets its alarm
        self.clock.advance(ACK_WAIT)


async def test_what_was_published_before_there_was_a_group_goes_to_the_first_one_newest_kept(bus: MemoryBus) -> None:
    await publish_each(bus, "topic", range(5))
    first, second = await bus.subscribe("topic", "first"), await bus.subscribe("topic", "second")
    await bus.publish("topic", [message("new")])
    assert ids(await first.fetch(10)) == ["2", "3", "4", "new"]
    assert ids(await second.fetch(10)) == ["new"]


async def test_a_full_group_refuses_for_all_groups_and_takes_again_when_acknowledged(bus: MemoryBus) -> None:
    slow, quick = await bus.subscribe("topic", "slow"), await bus.subscribe("topic", "quick")
    await publish_each(bus, "topic", range(10))
    await quick.ack(await quick.fetch(10))
    deliveries = await slow.fetch(10)
    with pytest.raises(UnavailableError, match="'slow' of topic 'topic' has 10 messages"):
        await bus.publish("topic", [message("too much")])
    await slow.ack(deliveries[:1])
    await bus.publish("topic", [message("fits")])
    assert ids(await slow.fetch(10)) == ids(await quick.fetch(10)) == ["fits"]


async def test_an_empty_group_takes_a_publication_larger_than_its_bound(bus: MemoryBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message(number) for number in range(11)])
    assert len(ids(await subscription.fetch(1))) == 11


async def test_publishing_nothing_delivers_nothing(bus: MemoryBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [])
    await bus.publish("topic", [message("something")])
    assert ids(await subscription.fetch(10)) == ["something"]


async def test_overdue_deliveries_come_before_new_ones_in_their_old_order(bus: MemoryBus, clock: ManualClock) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", range(3))
    held = await subscription.fetch(3)
    await subscription.ack(held[1:2])
    await bus.publish("topic", [message("new")])
    await asyncio.sleep(0)
    clock.advance(ACK_WAIT)
    await asyncio.sleep(0)
    assert ids(await subscription.fetch(10)) == ["0", "2", "new"]


async def test_a_delivery_is_overdue_by_its_own_hand_out_only(bus: MemoryBus, clock: ManualClock) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", ["early", "late"])
    await subscription.fetch(1)
    await asyncio.sleep(0)
    clock.advance(ACK_WAIT // 2)
    await subscription.fetch(1)
    clock.advance(ACK_WAIT // 2)
    assert ids(await subscription.fetch(10)) == ["early"]
    await asyncio.sleep(0)
    clock.advance(ACK_WAIT // 2)
    assert ids(await subscription.fetch(10)) == ["late"]


async def test_nacked_deliveries_do_not_hold_up_those_behind_them(bus: MemoryBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", ["bad", "good"])
    await subscription.nack(await subscription.fetch(1))
    assert ids(await subscription.fetch(10)) == ["good", "bad"]


async def test_a_late_acknowledgement_counts_for_whoever_holds_it_now(bus: MemoryBus, clock: ManualClock) -> None:
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("once")])
    first = await subscription.fetch(1)
    await asyncio.sleep(0)
    clock.advance(ACK_WAIT)
    await subscription.fetch(1)
    await subscription.ack(first)
    await asyncio.sleep(0)
    clock.advance(2 * ACK_WAIT)
    await bus.publish("topic", [message("next")])
    assert ids(await subscription.fetch(10)) == ["next"]


async def test_nothing_watches_over_deliveries_that_are_all_acknowledged(bus: MemoryBus, clock: ManualClock) -> None:
    subscription = await bus.subscribe("topic", "group")
    for number in range(5):
        await bus.publish("topic", [message(number)])
        await subscription.ack(await subscription.fetch(1))
    await asyncio.sleep(0)
    assert clock.sleeping <= 1
    clock.advance(ACK_WAIT)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert clock.sleeping == 0


async def test_a_wake_up_meant_for_a_cancelled_fetch_is_passed_on(bus: MemoryBus) -> None:
    one, other = await bus.subscribe("topic", "group"), await bus.subscribe("topic", "group")
    cancelled, waiting = asyncio.create_task(one.fetch(1)), asyncio.create_task(other.fetch(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bus.publish("topic", [message("for whoever lives")])
    cancelled.cancel()
    assert ids(await waiting) == ["for whoever lives"]
    assert cancelled.cancelled()


async def test_what_another_member_leaves_unfetched_wakes_the_next(bus: MemoryBus) -> None:
    one, other = await bus.subscribe("topic", "group"), await bus.subscribe("topic", "group")
    fetches = [asyncio.create_task(one.fetch(1)), asyncio.create_task(other.fetch(1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await publish_each(bus, "topic", range(2))
    assert sorted(ids([*await fetches[0], *await fetches[1]])) == ["0", "1"]


async def test_closing_the_bus_ends_a_waiting_fetch(bus: MemoryBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    fetching = asyncio.create_task(subscription.fetch(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(UnavailableError):
        await fetching
