"""What every bus that operators can look into must do: inherit `OperatedSuite` beside `BusSuite`, pytest runs both."""

import pytest
from msgspec import Raw
from msgspec.structs import replace

from unwind.errors import UnavailableError
from unwind.ports import COMMANDS, DEAD, Message
from unwind.queues import DeadLetter, OperatedBus, Queue
from unwind.testing.bus_suite import END, ids, message, publish_each, read_to_end

NEVER = ("", "0", "-1", "x", "1e9", "99999999999999999999999", "0-0/topic", "1-1/", "\0", "é")
"""No letter has such an id."""


async def letters(bus: OperatedBus, topic: str, limit: int = 3) -> list[DeadLetter]:
    """All of a topic, read page by page."""
    found: list[DeadLetter] = []
    after = ""
    while True:
        page = await bus.dead_letters(limit, after)
        assert len(page.letters) <= limit
        found += page.letters
        if page.next is None:
            assert page.total >= len(found)
            return [letter for letter in found if letter.topic == topic]
        after = page.next


async def queues(bus: OperatedBus, topic: str) -> list[Queue]:
    """Those of a topic."""
    return [queue for queue in await bus.queues() if queue.topic == topic]


class OperatedSuite:
    """Laws of `unwind.queues.OperatedBus`."""

    @pytest.fixture
    def service(self, topic: str) -> str:
        """The topic of a service that nobody has used."""
        return f"{COMMANDS}{topic}"

    @pytest.fixture
    async def dead(self, bus: OperatedBus, service: str) -> list[DeadLetter]:
        """Four letters of that service."""
        for number in range(4):
            await bus.publish(DEAD + service, [replace(message(number, b'{"n":1}'), reason=f"reason {number}")])
        return await letters(bus, service)

    async def test_what_was_set_aside_is_listed_oldest_first(
        self, bus: OperatedBus, service: str, dead: list[DeadLetter]
    ) -> None:
        assert [letter.reason for letter in dead] == [f"reason {number}" for number in range(4)]
        assert [[each.id for each in letter.messages] for letter in dead] == [["0"], ["1"], ["2"], ["3"]]
        assert len({letter.id for letter in dead}) == 4
        assert all(letter.at > 0 and letter.size > 0 and not letter.data for letter in dead)
        assert bytes(dead[0].messages[0].payload) == b'{"n":1}'
        assert await letters(bus, service, 1) == dead == await letters(bus, service, 1_000)
        assert list(await bus.find_dead([dead[2].id, dead[0].id, dead[2].id])) == [dead[2], dead[0]]

    async def test_what_is_redriven_comes_to_whom_it_was_for_and_is_no_more_dead(
        self, bus: OperatedBus, service: str, dead: list[DeadLetter]
    ) -> None:
        subscription = await bus.subscribe(service, "the service")
        chosen = [dead[2].id, dead[0].id]
        assert list(await bus.redrive(chosen)) == chosen
        assert await letters(bus, service) == [dead[1], dead[3]]
        seen: list[Message] = []
        while len(seen) < 2:
            seen += [each for delivery in await subscription.fetch(2) for each in delivery.messages]
        assert seen == [message(2, b'{"n":1}'), message(0, b'{"n":1}')]
        assert list(await bus.redrive(chosen)) == []

    async def test_what_is_discarded_is_gone(self, bus: OperatedBus, service: str, dead: list[DeadLetter]) -> None:
        assert list(await bus.discard([dead[1].id, *NEVER, dead[3].id, dead[1].id])) == [dead[1].id, dead[3].id]
        assert await letters(bus, service) == [dead[0], dead[2]]
        assert list(await bus.discard([dead[1].id])) == []

    async def test_what_is_not_there_is_not_found(self, bus: OperatedBus) -> None:
        assert list(await bus.find_dead(NEVER)) == []
        assert list(await bus.redrive(NEVER)) == []

    @pytest.mark.parametrize("name", ["in ventory", "склад", "a..b", "/", "👩‍👧", "*"])
    async def test_a_letter_knows_its_topic_whatever_the_name(self, bus: OperatedBus, topic: str, name: str) -> None:
        strange = f"{COMMANDS}{topic}.{name}"
        sent = Message(
            id="saga/step/undo",
            name="service.command",
            payload=Raw('{"text":"é <b>"}'.encode()),
            saga_id="saga",
            step="step",
            direction="undo",
            reason="ни <b>one</b> \N{SNOWMAN}",
        )
        await bus.publish(DEAD + strange, [sent])
        [letter] = await letters(bus, strange)
        assert letter.messages == (sent,)
        assert letter.reason == sent.reason
        subscription = await bus.subscribe(strange, "the service")
        assert list(await bus.redrive([letter.id])) == [letter.id]
        [delivery] = await subscription.fetch(1)
        assert delivery.messages == (replace(sent, reason=""),)

    async def test_a_queue_tells_what_waits_and_what_is_held(self, bus: OperatedBus, service: str) -> None:
        subscription = await bus.subscribe(service, "the service")
        assert await queues(bus, service) == [Queue(service, "the service", 0, 0)]
        await publish_each(bus, service, range(3))
        fetched = await subscription.fetch(1)
        [queue] = await queues(bus, service)
        assert queue.group == "the service"
        assert (queue.waiting or 0) + queue.held == 3
        assert queue.held >= len(fetched)
        assert queue.oldest_at is None or queue.oldest_at > 0
        await subscription.ack(fetched)
        await publish_each(bus, service, [END])
        assert await read_to_end(subscription) == [each for each in ("0", "1", "2") if each not in ids(fetched)]

    async def test_dead_letters_are_no_queue(self, bus: OperatedBus, service: str) -> None:
        await bus.subscribe(DEAD + service, "people")
        assert await queues(bus, DEAD + service) == []

    async def test_a_closed_bus_cannot_be_looked_into(self, bus: OperatedBus) -> None:
        await bus.close()
        for call in (bus.queues(), bus.dead_letters(1), bus.find_dead(["1"]), bus.redrive(["1"]), bus.discard(["1"])):
            with pytest.raises(UnavailableError):
                await call
