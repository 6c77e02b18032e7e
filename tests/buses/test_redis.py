"""The bus on Redis Streams against a real server: the laws of all buses, and what goes wrong with a server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.valkey import Valkey

from unwind.buses.envelope import encode_batch
from unwind.buses.redis import RedisBus
from unwind.buses.redis_group import DEAD_TOPICS, DELIVERIES, STREAM
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import DEAD
from unwind.queues import OperatedBus
from unwind.redis_client import RedisClient
from unwind.runtime.clock import SystemClock
from unwind.testing.bus_suite import BusSuite, ids, message, publish_each
from unwind.testing.operated_suite import OperatedSuite, letters, queues

pytestmark = pytest.mark.integration

SECOND = 1_000_000


class TestRedisBus(BusSuite, OperatedSuite):
    @pytest.fixture
    async def bus(self, redis_address: str) -> AsyncIterator[OperatedBus]:
        bus = await RedisBus.open(redis_address, "", SystemClock(), ack_wait=SECOND)
        yield bus
        await bus.close()


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_address)
    yield client
    await client.close()


@pytest.fixture
async def bus(redis_address: str) -> AsyncIterator[RedisBus]:
    """With time enough: whatever comes again does so for another reason."""
    bus = await RedisBus.open(redis_address, "", SystemClock(), ack_wait=60 * SECOND)
    yield bus
    await bus.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with valkey.running(tmp_path) as server:
        yield server


@pytest.fixture
async def own(server: Valkey) -> AsyncIterator[RedisBus]:
    """A bus on a server that the test may treat badly."""
    bus = await RedisBus.open(server.address, "", SystemClock(), ack_wait=60 * SECOND)
    yield bus
    await bus.close()


async def length(redis: RedisClient, topic: str) -> int:
    return int(await redis.call("XLEN", STREAM + topic))


# --------------------------------------------------------------------------------------------------- what is left over


async def test_a_dead_consumers_messages_are_taken_over_and_say_so(redis_address: str, redis: RedisClient) -> None:
    bus = await RedisBus.open(redis_address, "", SystemClock(), ack_wait=SECOND // 5)
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("held")])
    await redis.call("XREADGROUP", "GROUP", "group", "dead", "STREAMS", STREAM + "topic", ">")
    [delivery] = await subscription.fetch(1)
    assert (ids([delivery]), delivery.redelivered) == (["held"], 1)
    await bus.close()


async def test_what_one_member_nacks_another_gets_within_a_moment(bus: RedisBus) -> None:
    one, other = await bus.subscribe("topic", "group"), await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("again")])
    deliveries = await one.fetch(1)
    fetching = asyncio.create_task(other.fetch(1))
    await one.nack(deliveries)
    [again] = await fetching
    assert (ids([again]), again.redelivered) == (["again"], 1)


async def test_what_is_nacked_for_ever_does_not_keep_others_waiting(bus: RedisBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", ["bad", "good"])
    seen: list[str] = []
    while "good" not in seen:
        deliveries = await subscription.fetch(1)
        seen += ids(deliveries)
        await subscription.nack(deliveries)
    assert len(seen) < 10


async def test_what_every_group_has_acknowledged_is_removed_and_nothing_else(bus: RedisBus, redis: RedisClient) -> None:
    quick, slow = await bus.subscribe("topic", "quick"), await bus.subscribe("topic", "slow")
    await publish_each(bus, "topic", range(10))
    await quick.ack(await quick.fetch(10))
    held = [*await slow.fetch(4), *await slow.fetch(6)]
    assert len(held) == 10
    await slow.ack(held[:7])
    waiting = asyncio.create_task(quick.fetch(1))

    async def left(count: int) -> bool | None:
        return True if await length(redis, "topic") == count else None

    await eventually(lambda: left(3), within=20)
    await slow.ack(held[7:])
    await eventually(lambda: left(1), within=20)
    await bus.publish("topic", [message("end")])
    assert ids(await waiting) == ["end"]


async def test_a_topic_nobody_reads_keeps_its_newest_within_a_bound(redis_address: str, redis: RedisClient) -> None:
    bus = await RedisBus.open(redis_address, "", SystemClock(), length=200)
    await publish_each(bus, "topic", range(1_000))
    assert 200 <= await length(redis, "topic") <= 300
    subscription = await bus.subscribe("topic", "group")
    deliveries = await subscription.fetch(1_000)
    assert ids(deliveries)[-1] == "999"
    await bus.close()


async def test_a_closed_subscription_leaves_no_trace(bus: RedisBus, redis: RedisClient) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", range(3))
    await subscription.fetch(1)
    await subscription.close()
    await subscription.close()
    [group] = await redis.call("XINFO", "CONSUMERS", STREAM + "topic", "group")
    assert dict(zip(group[::2], group[1::2], strict=True))[b"name"] == b"nobody"


async def test_publishing_nothing_delivers_nothing(bus: RedisBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [])
    await bus.publish("topic", [message("something")])
    assert ids(await subscription.fetch(10)) == ["something"]
    await subscription.ack([])
    await subscription.nack([])


# --------------------------------------------------------------------------------------------------------------- poison


async def dead(redis: RedisClient) -> list[dict[bytes, bytes]]:
    letters = await redis.call("XRANGE", STREAM + DEAD + "topic", "-", "+")
    return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in letters]


@pytest.mark.parametrize("fields", [("data", b"\xff\x00 no batch"), ("other", "field"), ("data", "")])
async def test_what_cannot_be_read_is_set_aside_with_a_reason_and_blocks_nobody(
    bus: RedisBus, redis: RedisClient, fields: tuple[str, str | bytes]
) -> None:
    subscription = await bus.subscribe("topic", "group")
    await redis.call("XADD", STREAM + "topic", "*", *fields)
    await bus.publish("topic", [message("sound")])
    assert ids(await subscription.fetch(10)) == ["sound"]
    [letter] = await dead(redis)
    assert letter[b"group"] == b"group"
    assert letter[b"reason"]
    assert letter[b"data"] == (fields[1] if fields[1] and fields[0] == "data" else b"")
    held, *_ = await redis.call("XPENDING", STREAM + "topic", "group")
    assert held == 1


async def test_what_is_handed_out_for_ever_is_set_aside(bus: RedisBus, redis: RedisClient) -> None:
    subscription = await bus.subscribe("topic", "group")
    await bus.publish("topic", [message("deadly")])
    counts = []
    for _ in range(DELIVERIES):
        [delivery] = await subscription.fetch(1)
        counts.append(delivery.redelivered)
        await subscription.nack([delivery])
    assert counts == list(range(DELIVERIES))
    await bus.publish("topic", [message("sound")])
    assert ids(await subscription.fetch(10)) == ["sound"]
    waiting = asyncio.create_task(subscription.fetch(10))

    async def set_aside() -> list[dict[bytes, bytes]] | None:
        return await dead(redis) or None

    [letter] = await eventually(set_aside, within=20)
    assert not waiting.done()
    assert letter[b"reason"] == b"handed out 50 times and never acknowledged"
    letters = await bus.subscribe(DEAD + "topic", "post office")
    assert ids(await letters.fetch(1)) == ["deadly"]


async def test_a_dead_letter_that_cannot_be_read_either_is_dropped(bus: RedisBus, redis: RedisClient) -> None:
    letters = await bus.subscribe(DEAD + "topic", "post office")
    await redis.call("XADD", STREAM + DEAD + "topic", "*", "data", "no batch")
    await bus.publish(DEAD + "topic", [message("readable")])
    assert ids(await letters.fetch(10)) == ["readable"]
    assert await redis.call("KEYS", "*dead.dead*") == []


# ----------------------------------------------------------------------------------------------------------- the server


async def test_after_a_flush_everybody_goes_on(own: RedisBus, server: Valkey) -> None:
    subscription = await own.subscribe("topic", "group")
    await own.publish("topic", [message("before")])
    held = await subscription.fetch(1)
    waiting = asyncio.create_task(subscription.fetch(1))
    server.flush()
    await own.publish("topic", [message("after")])
    assert ids(await waiting) == ["after"]
    await subscription.ack(held)
    server.flush()
    with pytest.raises(UnavailableError, match="NOGROUP"):
        await subscription.nack(held)
    await own.publish("topic", [message("again")])
    assert ids(await subscription.fetch(1)) == ["again"]


async def test_a_flush_every_few_messages_loses_only_what_it_flushes(own: RedisBus, server: Valkey) -> None:
    subscription = await own.subscribe("topic", "group")
    seen: set[str] = set()
    for number in range(40):
        if number % 8 == 4:
            server.flush()
        await own.publish("topic", [message(number)])
        deliveries = await subscription.fetch(10)
        seen.update(ids(deliveries))
        await subscription.ack(deliveries)
    assert seen == {str(number) for number in range(40)}


async def test_a_killed_server_is_waited_for_and_the_new_one_furnished(own: RedisBus, server: Valkey) -> None:
    subscription = await own.subscribe("topic", "group")
    waiting = asyncio.create_task(subscription.fetch(1))
    for round_ in range(3):
        server.kill()
        began = monotonic()
        with pytest.raises(UnavailableError, match=server.address):
            await own.publish("topic", [message("lost")])
        assert monotonic() - began < 1
        with pytest.raises(UnavailableError):
            await own.ping()
        assert not waiting.done()
        server.start()
        await own.publish("topic", [message(round_)])
        deliveries = await waiting
        assert ids(deliveries) == [str(round_)]
        await subscription.ack(deliveries)
        await own.ping()
        waiting = asyncio.create_task(subscription.fetch(1))
    waiting.cancel()


async def test_a_server_that_hangs_fails_a_call_within_a_second_and_nothing_is_lost(
    own: RedisBus, server: Valkey
) -> None:
    subscription = await own.subscribe("topic", "group")
    valkey.ask(server.address, "CLIENT PAUSE 2500 ALL")
    began = monotonic()
    with pytest.raises(UnavailableError, match=r"has not answered within 0.9 s"):
        await own.publish("topic", [message("late")])
    assert monotonic() - began < 1.5

    async def published() -> bool | None:
        try:
            await own.publish("topic", [message("end")])
        except UnavailableError:
            return None
        return True

    await eventually(published, within=20)
    seen: list[str] = []
    while "end" not in seen:
        seen += ids(await subscription.fetch(10))


async def test_a_server_without_memory_refuses_and_takes_again_when_there_is_room(
    own: RedisBus, server: Valkey
) -> None:
    subscription = await own.subscribe("topic", "group")
    valkey.ask(server.address, "CONFIG SET maxmemory 1")
    with pytest.raises(UnavailableError, match="maxmemory"):
        await own.publish("topic", [message("too much")])
    valkey.ask(server.address, "CONFIG SET maxmemory 0")
    await own.publish("topic", [message("fits")])
    assert ids(await subscription.fetch(10)) == ["fits"]


async def test_closing_without_a_server_is_quiet(own: RedisBus, server: Valkey) -> None:
    subscription = await own.subscribe("topic", "group")
    fetching = asyncio.create_task(subscription.fetch(1))
    await asyncio.sleep(0)
    server.kill()
    await subscription.close()
    with pytest.raises(UnavailableError):
        await fetching
    with pytest.raises(UnavailableError):
        await own.subscribe("topic", "group")


# -------------------------------------------------------------------------------------------------------------- opening


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Valkey]:
    with valkey.running(tmp_path, password="right-secret") as server:
        yield server


@pytest.mark.parametrize(
    ("password", "said"), [("", "asks for a password; set it"), ("wrong-secret", "refuses it: .*password")]
)
async def test_a_wrong_password_is_the_operators_to_mend(guarded: Valkey, password: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"REDIS_PASSWORD: Redis at {guarded.address} {said}") as caught:
        await RedisBus.open(guarded.address, password, SystemClock())
    assert "secret" not in str(caught.value)


async def test_the_right_password_opens_and_another_database_is_another_bus(guarded: Valkey) -> None:
    here = await RedisBus.open(guarded.address, "right-secret", SystemClock())
    there = await RedisBus.open(f"redis://default@{guarded.address}/3", "right-secret", SystemClock())
    subscriptions = [await bus.subscribe("topic", "group") for bus in (here, there)]
    await here.publish("topic", [message("here")])
    await there.publish("topic", [message("there")])
    assert [ids(await subscription.fetch(10)) for subscription in subscriptions] == [["here"], ["there"]]
    await here.close()
    await there.close()


async def test_a_user_without_rights_is_told_so(guarded: Valkey) -> None:
    valkey.ask(guarded.address, "ACL SETUSER small on >small-secret +ping", "right-secret")
    with pytest.raises(SettingsError, match="forbids this user") as caught:
        await RedisBus.open(f"redis://small@{guarded.address}", "small-secret", SystemClock())
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_not_there_can_be_waited_for(server: Valkey) -> None:
    server.kill()
    with pytest.raises(UnavailableError, match=server.address):
        await RedisBus.open(server.address, "", SystemClock())


async def test_a_stream_of_another_shape_is_the_operators_to_mend(bus: RedisBus, redis: RedisClient) -> None:
    await redis.call("SET", STREAM + "topic", "text")
    with pytest.raises(SettingsError, match=r"REDIS_ADDR: unwind:bus:topic at .* is no stream"):
        await bus.subscribe("topic", "group")
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        await bus.publish("topic", [message(1)])


# ----------------------------------------------------------------------------------------------- what operators look at


async def test_what_was_set_aside_as_it_came_goes_back_as_it_came(bus: RedisBus, redis: RedisClient) -> None:
    refusal = replace(message("refusal"), outcome="refused", reason="the participant's own words")
    data = encode_batch([refusal])
    subscription = await bus.subscribe("topic", "group")
    await redis.call("SADD", DEAD_TOPICS, "topic")
    for body in (data, b"\xff no batch"):
        await redis.call("XADD", STREAM + DEAD + "topic", "*", "data", body, "reason", "handed out too often")
    whole, odd = await letters(bus, "topic")
    assert (whole.reason, whole.messages) == ("handed out too often", (refusal,))
    assert (odd.messages, odd.data) == ((), b"\xff no batch")
    assert list(await bus.redrive([whole.id])) == [whole.id]
    [delivery] = await subscription.fetch(1)
    assert delivery.messages == (refusal,)


async def test_the_oldest_of_what_waits_and_of_what_is_held_has_its_time(bus: RedisBus) -> None:
    subscription = await bus.subscribe("topic", "group")
    await publish_each(bus, "topic", range(3))
    [waits] = await queues(bus, "topic")
    await subscription.fetch(2)
    [held] = await queues(bus, "topic")
    assert (waits.waiting, waits.held, held.waiting, held.held) == (3, 0, 1, 2)
    assert waits.oldest_at == held.oldest_at
    assert (waits.oldest_at or 0) > 1_700_000_000_000_000


async def test_of_a_flushed_server_nothing_is_told_before_somebody_joins(bus: RedisBus, redis: RedisClient) -> None:
    await bus.subscribe("topic", "group")
    await redis.call("FLUSHALL")
    await bus.subscribe("topic", "other")
    assert [queue.group for queue in await queues(bus, "topic")][-1] == "other"


async def test_a_set_of_topics_that_is_none_is_told(bus: RedisBus, redis: RedisClient) -> None:
    await redis.call("SADD", DEAD_TOPICS, b"\xff")
    with pytest.raises(UnavailableError, match="something else writes there"):
        await bus.dead_letters(1)
