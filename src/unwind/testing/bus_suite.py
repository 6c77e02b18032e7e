"""What every bus must do: inherit `BusSuite` in a test module, give it a `bus`, and pytest runs it.

    class TestMyBus(BusSuite):
        @pytest.fixture
        async def bus(self) -> AsyncIterator[Bus]: ...

Topics are fresh for each test, so a server may be shared. Needs pytest and pytest-asyncio with asyncio_mode=auto.
"""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
from msgspec import Raw
from msgspec.structs import replace

from unwind.errors import UnavailableError
from unwind.ports import DEAD, Bus, Delivery, Message, Subscription

END = "end"


def message(number: object, payload: bytes = b"{}") -> Message:
    """A message that only its id tells apart."""
    return Message(id=str(number), name="test.message", payload=Raw(payload))


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """The ids of all messages, in order."""
    return [message.id for delivery in deliveries for message in delivery.messages]


async def publish_each(bus: Bus, topic: str, numbers: Sequence[object]) -> None:
    """Each message as a publication of its own."""
    for number in numbers:
        await bus.publish(topic, [message(number)])


async def read_to_end(subscription: Subscription) -> list[str]:
    """Fetch and acknowledge up to the message `END`; the ids before it."""
    seen: list[str] = []
    while END not in seen:
        deliveries = await subscription.fetch(16)
        await subscription.ack(deliveries)
        seen += ids(deliveries)
    return seen[: seen.index(END)]


async def read_shared(subscriptions: Sequence[Subscription]) -> list[list[str]]:
    """Fetch and acknowledge with all members of one group until one of them meets `END`; the ids each has read."""
    seen: list[list[str]] = [[] for _ in subscriptions]
    over = asyncio.Event()

    async def read(subscription: Subscription, into: list[str]) -> None:
        while True:
            deliveries = await subscription.fetch(1)
            await subscription.ack(deliveries)
            into += [key for key in ids(deliveries) if key != END]
            if END in ids(deliveries):
                over.set()

    readers = [asyncio.create_task(read(*pair)) for pair in zip(subscriptions, seen, strict=True)]
    await over.wait()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return seen


class BusSuite:
    """Laws of the port `Bus`."""

    @pytest.fixture
    def bus(self) -> Bus:
        """The bus under test, with an `ack_wait` that `let_ack_wait_pass` knows; closed afterwards."""
        raise NotImplementedError

    @pytest.fixture
    def topic(self) -> str:
        """A topic that nobody has used."""
        return f"suite.{uuid4().hex}"

    async def let_ack_wait_pass(self) -> None:
        """Return at once where real time passes: the next fetch waits for it. Otherwise move the clock."""

    async def test_each_publication_goes_to_one_member_of_a_group(self, bus: Bus, topic: str) -> None:
        members = [await bus.subscribe(topic, "group") for _ in range(2)]
        await publish_each(bus, topic, [*range(50), END])
        first, second = await read_shared(members)
        assert sorted(map(int, first + second)) == list(range(50))
        assert first
        assert second

    async def test_each_publication_goes_to_every_group(self, bus: Bus, topic: str) -> None:
        subscriptions = [await bus.subscribe(topic, group) for group in ("a", "b", "c")]
        await publish_each(bus, topic, [*range(20), END])
        expected = [str(number) for number in range(20)]
        for subscription in subscriptions:
            assert await read_to_end(subscription) == expected

    async def test_topics_do_not_mix(self, bus: Bus, topic: str) -> None:
        here, there = await bus.subscribe(topic, "group"), await bus.subscribe(f"{topic}.other", "group")
        await publish_each(bus, topic, ["here", END])
        await publish_each(bus, f"{topic}.other", ["there", END])
        assert await read_to_end(here) == ["here"]
        assert await read_to_end(there) == ["there"]

    async def test_a_single_consumer_reads_in_the_order_of_publication(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await publish_each(bus, topic, [*range(200), END])
        assert await read_to_end(subscription) == [str(number) for number in range(200)]

    async def test_a_fetch_waits_for_what_comes_later(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        fetching = asyncio.create_task(subscription.fetch(1))
        await asyncio.sleep(0)
        assert not fetching.done()
        await bus.publish(topic, [message("late")])
        assert ids(await fetching) == ["late"]

    async def test_a_cancelled_fetch_loses_nothing(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        fetching = asyncio.create_task(subscription.fetch(1))
        await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        await bus.publish(topic, [message("kept")])
        assert ids(await subscription.fetch(1)) == ["kept"]

    async def test_a_fetch_brings_at_most_its_limit(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await publish_each(bus, topic, range(10))
        seen: list[str] = []
        while len(seen) < 10:
            deliveries = await subscription.fetch(3)
            assert 1 <= len(deliveries) <= 3
            seen += ids(deliveries)
        assert seen == [str(number) for number in range(10)]

    async def test_what_is_not_acknowledged_comes_again_and_says_so(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await bus.publish(topic, [message("again")])
        [first] = await subscription.fetch(1)
        await self.let_ack_wait_pass()
        [second] = await subscription.fetch(1)
        assert ids([first, second]) == ["again", "again"]
        assert (first.redelivered, second.redelivered) == (0, 1)

    async def test_what_is_acknowledged_does_not_come_again(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await publish_each(bus, topic, ["acknowledged", "left"])
        fetched: list[Delivery] = []
        while len(fetched) < 2:
            fetched += await subscription.fetch(2)
        await subscription.ack(fetched[:1])
        await self.let_ack_wait_pass()
        assert ids(await subscription.fetch(2)) == ["left"]

    async def test_what_is_nacked_comes_again_without_waiting(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await bus.publish(topic, [message("again")])
        deliveries = await subscription.fetch(1)
        await subscription.nack(deliveries)
        [again] = await subscription.fetch(1)
        assert ids([again]) == ["again"]
        assert again.redelivered == 1

    async def test_what_a_closed_subscription_holds_goes_to_another_member(self, bus: Bus, topic: str) -> None:
        leaving = await bus.subscribe(topic, "group")
        await publish_each(bus, topic, range(3))
        held: list[str] = []
        while len(held) < 3:
            held += ids(await leaving.fetch(3))
        await leaving.close()
        staying = await bus.subscribe(topic, "group")
        await bus.publish(topic, [message(END)])
        assert sorted(await read_to_end(staying)) == ["0", "1", "2"]

    async def test_a_group_keeps_what_comes_while_it_has_no_member(self, bus: Bus, topic: str) -> None:
        await (await bus.subscribe(topic, "group")).close()
        await publish_each(bus, topic, ["kept", END])
        assert await read_to_end(await bus.subscribe(topic, "group")) == ["kept"]

    async def test_a_publication_stays_one_delivery(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await bus.publish(topic, [message(number) for number in range(5)])
        await bus.publish(topic, [message("alone")])
        deliveries = list(await subscription.fetch(1))
        deliveries += await subscription.fetch(1)
        assert [len(delivery.messages) for delivery in deliveries] == [5, 1]

    async def test_a_large_publication_arrives_whole(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        await bus.publish(topic, [message(number, b'{"filling":"%s"}' % (b"x" * 64)) for number in range(1_000)])
        [delivery] = await subscription.fetch(1)
        assert ids([delivery]) == [str(number) for number in range(1_000)]

    async def test_every_field_and_every_byte_of_a_message_survives(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        sent = Message(
            id="saga/step/undo",
            name="service.command",
            payload=Raw('{ "price" : 100.00, "big":12345678901234567890, "text":"é\\u0000\\ud83d\\ude00" }'.encode()),
            saga_id="saga",
            step="step",
            direction="undo",
            attempt=7,
            outcome="refused",
            reason="none left \N{SNOWMAN}\n",
            correlation_id="correlation",
            causation_id="cause",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        await bus.publish(topic, [sent])
        [delivery] = await subscription.fetch(1)
        assert delivery.messages == (sent,)
        assert bytes(delivery.messages[0].payload) == bytes(sent.payload)

    async def test_what_is_set_aside_waits_with_its_reason_for_whoever_comes(self, bus: Bus, topic: str) -> None:
        letters = [replace(message(number, b'"poison"'), reason=f"reason {number}") for number in range(3)]
        await bus.publish(DEAD + topic, letters)
        subscription = await bus.subscribe(DEAD + topic, "people")
        seen: list[Message] = []
        while len(seen) < 3:
            seen += [letter for delivery in await subscription.fetch(3) for letter in delivery.messages]
        assert seen == letters

    async def test_a_closed_subscription_fetches_no_more(self, bus: Bus, topic: str) -> None:
        subscription = await bus.subscribe(topic, "group")
        fetching = asyncio.create_task(subscription.fetch(1))
        await asyncio.sleep(0)
        await subscription.close()
        with pytest.raises(UnavailableError):
            await fetching
        with pytest.raises(UnavailableError):
            await subscription.fetch(1)

    async def test_a_closed_bus_says_that_it_is_unavailable(self, bus: Bus, topic: str) -> None:
        await bus.close()
        with pytest.raises(UnavailableError):
            await bus.publish(topic, [message(1)])
        with pytest.raises(UnavailableError):
            await bus.subscribe(topic, "group")
