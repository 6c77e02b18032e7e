"""The bus on NATS JetStream against a real server: the laws of all buses, and what is particular to this one."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import nats
import pytest
from msgspec import Raw
from msgspec.structs import replace
from nats.aio.client import Client
from tests.eventually import eventually

from unwind.buses.nats import NatsBus, subscription
from unwind.buses.nats.streams import consumer_of, place_of
from unwind.errors import SettingsError
from unwind.ports import COMMANDS, DEAD, EVENTS, Bus, Message, Subscription
from unwind.queues import DeadLetter, OperatedBus
from unwind.runtime.clock import SystemClock
from unwind.testing.bus_suite import END, BusSuite, ids, message, publish_each, read_to_end
from unwind.testing.operated_suite import OperatedSuite, letters, queues

pytestmark = pytest.mark.integration

SECOND = 1_000_000


class TestNatsBus(BusSuite, OperatedSuite):
    @pytest.fixture
    async def bus(self, nats_url: str) -> AsyncIterator[OperatedBus]:
        bus = await NatsBus.open(nats_url, SystemClock(), ack_wait=SECOND)
        yield bus
        await bus.close()


class TestNatsCommands(TestNatsBus):
    """Commands and replies are queues: kept for their one group, and gone when it has acknowledged them."""

    @pytest.fixture
    def topic(self) -> str:
        return f"{COMMANDS}{uuid4().hex}"

    async def test_each_publication_goes_to_every_group(self, bus: Bus, topic: str) -> None:
        await bus.subscribe(topic, "the service")
        with pytest.raises(SettingsError, match="not unique on workqueue"):
            await bus.subscribe(topic, "somebody else")

    async def test_what_comes_before_its_service_waits_for_it(self, bus: Bus, topic: str) -> None:
        await publish_each(bus, topic, ["early", END])
        assert await read_to_end(await bus.subscribe(topic, "the service")) == ["early"]


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[NatsBus]:
    """With time enough: whatever comes again does so for another reason."""
    bus = await NatsBus.open(nats_url, SystemClock(), ack_wait=60 * SECOND)
    yield bus
    await bus.close()


@pytest.fixture
async def raw(nats_url: str) -> AsyncIterator[Client]:
    """Somebody who knows nothing of Unwind."""
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
def topic() -> str:
    return f"suite.{uuid4().hex}"


async def api(raw: Client, call: str, body: object = None) -> Any:
    answer = await raw.request(f"$JS.API.{call}", b"" if body is None else json.dumps(body).encode(), timeout=5)
    return json.loads(answer.data)


async def consumer(raw: Client, topic: str, group: str) -> Any:
    place = place_of(topic)
    return await api(raw, f"CONSUMER.INFO.{place.stream}.{consumer_of(place, group)}")


class Letter(NamedTuple):
    """A dead letter as JetStream has stored it."""

    data: bytes
    headers: Mapping[str, str]


async def last_letter(raw: Client, topic: str) -> Letter:
    """The newest dead letter of a topic, which is written beside the deliveries that follow it."""
    subject = place_of(DEAD + topic).subject

    async def stored() -> Letter | None:
        answer = await api(raw, "STREAM.MSG.GET.unwind-dead", {"last_by_subj": subject})
        if "error" in answer:
            return None
        found = answer["message"]
        lines = b64decode(found.get("hdrs", "")).decode().split("\r\n")[1:]
        return Letter(b64decode(found.get("data", "")), dict(line.split(": ", 1) for line in lines if ": " in line))

    return await eventually(stored, within=10)


async def nobody_gets_it(fetching: "asyncio.Task[Any]", within: float) -> None:
    done, _ = await asyncio.wait({fetching}, timeout=within)
    assert not done


# ------------------------------------------------------------------------------------------------------- what is handed


async def test_a_publication_of_3_mb_is_split_and_arrives_in_order(bus: NatsBus, topic: str) -> None:
    subscription = await bus.subscribe(topic, "group")
    await bus.publish(topic, [message(number, b'"%s"' % (b"x" * 100_000)) for number in range(30)])
    seen: list[str] = []
    sizes = []
    while len(seen) < 30:
        for delivery in await subscription.fetch(1):
            seen += ids([delivery])
            sizes.append(len(delivery.messages))
    assert seen == [str(number) for number in range(30)]
    assert 3 <= len(sizes) <= 6


async def test_a_message_that_no_server_takes_does_not_hold_up_others(bus: NatsBus, topic: str) -> None:
    subscription = await bus.subscribe(topic, "group")
    await bus.publish(topic, [message("too large", b'"%s"' % (b"x" * 1_100_000)), message("fits")])
    await bus.publish(topic, [message("after")])
    assert ids([*await subscription.fetch(1), *await subscription.fetch(1)]) == ["fits", "after"]


@pytest.mark.parametrize("name", ["in ventory", "*", ">", "a..b", "trailing.", "Ä\u2603%20", "$JS"])
async def test_any_name_makes_a_topic_of_its_own(bus: NatsBus, topic: str, name: str) -> None:
    here, there = f"{topic}.{name}", f"{topic}.other"
    subscriptions = [await bus.subscribe(each, f"a group.* {name}") for each in (here, there)]
    for each in (here, there):
        await publish_each(bus, each, [each, END])
    assert [await read_to_end(each) for each in subscriptions] == [[here], [there]]


async def test_publishing_nothing_delivers_nothing(bus: NatsBus, topic: str) -> None:
    subscription = await bus.subscribe(topic, "group")
    await bus.publish(topic, [])
    await bus.publish(topic, [message("something")])
    assert ids(await subscription.fetch(10)) == ["something"]
    await subscription.ack([])
    await subscription.nack([])


async def test_acknowledged_commands_are_removed_from_the_server(bus: NatsBus, raw: Client) -> None:
    topic = f"{COMMANDS}{uuid4().hex}"
    subscription = await bus.subscribe(topic, "group")
    await publish_each(bus, topic, [*range(10), END])
    await read_to_end(subscription)

    async def left() -> bool | None:
        subjects = {"subjects_filter": place_of(topic).subject}
        return True if not (await api(raw, "STREAM.INFO.unwind-commands", subjects))["state"].get("subjects") else None

    await eventually(left, within=10)


# ------------------------------------------------------------------------------------------------------- who handles it


async def test_a_delivery_tells_how_much_waited_behind_it(bus: NatsBus) -> None:
    topic = f"{COMMANDS}{uuid4().hex}"
    await publish_each(bus, topic, ["a", "b", "c", "d"])
    subscription = await bus.subscribe(topic, "the service")
    seen: list[int | None] = []
    while len(seen) < 4:
        seen += [delivery.behind for delivery in await subscription.fetch(10)]
    assert seen == [3, 2, 1, 0]
    await subscription.close()


async def test_what_one_member_nacks_another_gets_within_a_moment(bus: NatsBus, topic: str) -> None:
    one = await bus.subscribe(topic, "group")
    await bus.publish(topic, [message("again")])
    deliveries = await one.fetch(1)
    other = await bus.subscribe(topic, "group")
    fetching = asyncio.create_task(other.fetch(1))
    await one.nack(deliveries)
    [again] = await fetching
    assert (ids([again]), again.redelivered) == (["again"], 1)


async def test_what_is_nacked_for_ever_does_not_keep_others_waiting(bus: NatsBus, topic: str) -> None:
    subscription = await bus.subscribe(topic, "group")
    await publish_each(bus, topic, ["bad", "good"])
    seen: list[str] = []
    while "good" not in seen:
        deliveries = await subscription.fetch(1)
        seen += ids(deliveries)
        await subscription.nack(deliveries)
    assert len(seen) < 10


async def test_a_member_that_leaves_gives_back_what_it_had_fetched_ahead(bus: NatsBus, topic: str) -> None:
    leaving, staying = await bus.subscribe(topic, "group"), await bus.subscribe(topic, "group")
    fetching = asyncio.create_task(leaving.fetch(8))
    await publish_each(bus, topic, range(8))
    held = len(await fetching)

    async def has_all() -> bool | None:
        return True if held + len(leaving._ready) == 8 else None

    await eventually(has_all, within=10)
    await leaving.close()
    await bus.ping()  # the server has read what was given back
    await bus.publish(topic, [message(END)])
    assert sorted(await read_to_end(staying)) == [str(number) for number in range(8)]


@pytest.fixture
async def impatient(nats_url: str) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.open(nats_url, SystemClock(), ack_wait=SECOND // 2)
    yield bus
    await bus.close()


async def test_what_is_handled_for_long_is_not_given_to_others_until_the_handler_comes_back_for_more(
    impatient: NatsBus, topic: str
) -> None:
    slow, other = await impatient.subscribe(topic, "group"), await impatient.subscribe(topic, "group")
    await impatient.publish(topic, [message("long")])
    held = await slow.fetch(1)
    fetching = asyncio.create_task(other.fetch(1))
    await nobody_gets_it(fetching, within=2)  # four times ack_wait
    more = asyncio.create_task(slow.fetch(1))
    done, _ = await asyncio.wait({fetching, more}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    [again] = done.pop().result()
    assert (ids([again]), again.redelivered) == (ids(held), 1)
    more.cancel()
    fetching.cancel()


async def test_what_waits_behind_a_slow_handler_is_not_given_to_others_either(impatient: NatsBus, topic: str) -> None:
    slow, other = await impatient.subscribe(topic, "group"), await impatient.subscribe(topic, "group")
    fetching = asyncio.create_task(slow.fetch(4))
    await publish_each(impatient, topic, ["first", "second"])
    seen = ids(await fetching)
    looking = asyncio.create_task(other.fetch(1))
    await nobody_gets_it(looking, within=2)
    while len(seen) < 2:
        seen += ids(await slow.fetch(4))
    assert seen == ["first", "second"]
    looking.cancel()


# --------------------------------------------------------------------------------------------------------------- poison


@pytest.mark.parametrize("body", [b"\xff\x00 no batch", b"", b"{}", b'{"unwind":99,"messages":[]}'])
async def test_what_cannot_be_read_is_set_aside_with_a_reason_and_blocks_nobody(
    bus: NatsBus, raw: Client, topic: str, body: bytes
) -> None:
    subscription = await bus.subscribe(topic, "group")
    fetching = asyncio.create_task(subscription.fetch(1))
    await raw.request(place_of(topic).subject, body, timeout=5)  # JetStream says that it has it
    await bus.publish(topic, [message("sound")])
    await subscription.ack(await fetching)
    # As a service does: it goes on asking, and what JetStream stored behind the sound one comes too.
    asking = asyncio.create_task(subscription.fetch(1))
    letter = await last_letter(raw, topic)
    asking.cancel()
    assert letter.data == body
    assert "envelope" in letter.headers["Unwind-Reason"]
    assert letter.headers["Unwind-Source"].startswith("unwind-suite/")

    async def nothing_pends() -> bool | None:
        return True if (await consumer(raw, topic, "group"))["num_ack_pending"] == 0 else None

    await eventually(nothing_pends, within=10)


async def test_what_is_handed_out_for_ever_is_set_aside(
    bus: NatsBus, raw: Client, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "DELIVERIES", 4)
    member = await bus.subscribe(topic, "group")
    await bus.publish(topic, [message("deadly")])
    counts = []
    for _ in range(4):
        [delivery] = await member.fetch(1)
        counts.append(delivery.redelivered)
        await member.nack([delivery])
    assert counts == [0, 1, 2, 3]
    waiting = asyncio.create_task(member.fetch(10))
    await nobody_gets_it(waiting, within=1)
    letter = await last_letter(raw, topic)
    assert letter.headers["Unwind-Reason"] == "handed out 4 times and never acknowledged"
    await bus.publish(topic, [message("sound")])
    assert ids(await waiting) == ["sound"]


async def test_what_was_set_aside_as_it_came_goes_back_as_it_came(
    bus: NatsBus, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a domain event, with the headers that make it one, and although JetStream has had it just now."""
    monkeypatch.setattr(subscription, "DELIVERIES", 1)
    refusal = replace(message("refusal"), outcome="refused", reason="the participant's own words")
    event = replace(message(f"order-{topic}/1", b'{"total":7}'), correlation_id="c", name="order.placed")
    for where, sent in ((topic, refusal), (f"{EVENTS}{topic}", event)):
        member = await bus.subscribe(where, "group")
        await bus.publish(where, [sent])
        await member.nack(await member.fetch(1))
        waiting = asyncio.create_task(member.fetch(1))

        async def dead(where: str = where) -> DeadLetter | None:
            return next(iter(await letters(bus, where)), None)

        letter = await eventually(dead, within=10)
        assert letter.reason == "handed out 1 times and never acknowledged"
        assert letter.messages == (sent,)
        assert list(await bus.redrive([letter.id])) == [letter.id]
        [delivery] = await waiting
        assert delivery.messages == (sent,)
        await member.ack([delivery])


async def test_what_nobody_can_read_is_shown_as_it_is(bus: NatsBus, raw: Client, topic: str) -> None:
    member = await bus.subscribe(topic, "group")
    await raw.publish(place_of(topic).subject, b"\xff no batch")
    await raw.flush()
    await bus.publish(topic, [message("sound")])
    assert ids(await member.fetch(1)) == ["sound"]

    async def dead() -> DeadLetter | None:
        return next(iter(await letters(bus, topic)), None)

    letter = await eventually(dead, within=10)
    assert (letter.messages, letter.data, letter.size) == ((), b"\xff no batch", 10)


async def test_the_oldest_of_what_waits_and_of_what_is_held_has_its_time(bus: NatsBus, topic: str) -> None:
    member = await bus.subscribe(topic, "group")
    await publish_each(bus, topic, range(3))
    await member.fetch(1)
    [held] = await queues(bus, topic)
    assert held.oldest_at is not None
    assert held.oldest_at > 1_700_000_000_000_000


async def test_what_a_participant_sets_aside_carries_its_reason_in_a_header(
    bus: NatsBus, raw: Client, topic: str
) -> None:
    await bus.publish(DEAD + topic, [replace(message("bad"), reason="no handler \u2603\nfor it")])
    letter = await last_letter(raw, topic)
    assert letter.headers["Unwind-Reason"] == "no handler \u2603 for it"


# -------------------------------------------------------------------------------------------------------- domain events

PAID = Message(
    id="order-1/7",
    name="order.paid/1",
    payload=Raw(b'{ "type":"order.paid/1", "amount": 100.00 }'),
    correlation_id="cart 9",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


async def events(bus: NatsBus) -> tuple[str, Subscription]:
    topic = f"{EVENTS}{uuid4().hex}"
    return topic, await bus.subscribe(topic, "mailer")


async def test_a_domain_event_is_a_cloud_event_to_anybody(bus: NatsBus, raw: Client) -> None:
    topic, _ = await events(bus)
    listening = await raw.subscribe(place_of(topic).subject)
    await raw.flush()
    await bus.publish(topic, [PAID, replace(PAID, id="order-1/8")])
    first, second = await listening.next_msg(), await listening.next_msg()
    assert first.data == bytes(PAID.payload)
    assert first.headers == {
        "Nats-Msg-Id": topic.removeprefix(EVENTS) + "/order-1/7",
        "ce-specversion": "1.0",
        "ce-id": "order-1/7",
        "ce-source": "/" + topic.removeprefix(EVENTS),
        "ce-type": "order.paid/1",
        "ce-subject": "order-1",
        "ce-datacontenttype": "application/json",
        "ce-correlationid": "cart%209",
        "traceparent": PAID.traceparent,
    }
    assert (second.headers or {})["ce-id"] == "order-1/8"


async def test_domain_events_travel_singly_and_come_back_as_they_were(bus: NatsBus) -> None:
    topic, mailer = await events(bus)
    sent = [replace(PAID, id=f"ström {number}/{number}", name='"quoted" 100 %') for number in range(3)]
    await bus.publish(topic, sent)
    deliveries = [*await mailer.fetch(1), *await mailer.fetch(1), *await mailer.fetch(1)]
    assert [delivery.messages for delivery in deliveries] == [(event,) for event in sent]


async def test_a_domain_event_that_is_published_twice_is_stored_once(bus: NatsBus) -> None:
    topic, mailer = await events(bus)
    for _ in range(2):
        await bus.publish(topic, [PAID])
    await bus.publish(topic, [replace(PAID, id=END)])
    assert await read_to_end(mailer) == [PAID.id]


async def test_domain_events_that_nobody_waits_for_are_not_kept(bus: NatsBus, raw: Client) -> None:
    topic = f"{EVENTS}{uuid4().hex}"
    await bus.publish(topic, [PAID])
    subjects = {"subjects_filter": place_of(topic).subject}
    assert not (await api(raw, "STREAM.INFO.unwind-events", subjects))["state"].get("subjects")
