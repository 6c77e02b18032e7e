"""The status cache on a real server: never older than what was told, and of no importance to anybody when it fails."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.valkey import Valkey

from unwind.edge.edge import Edge
from unwind.edge.gate import FAILURES, Gate
from unwind.edge.status_cache import FINAL, LIVE, RAISED, RedisStatusCache
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import Status
from unwind.redis_client import RedisClient
from unwind.runtime.clock import SystemClock

pytestmark = pytest.mark.integration

KEY = "unwind:status:1:"


@pytest.fixture
def cache(redis: RedisClient) -> RedisStatusCache:
    return RedisStatusCache(redis, Gate(SystemClock()))


@pytest.fixture
async def edge(server: Valkey) -> AsyncIterator[Edge]:
    """On a server that the test may treat badly."""
    edge = await Edge.open(server.address, "", SystemClock())
    yield edge
    await edge.close()


def status(version: int, saga_id: str = "saga", *, ended: bool = False) -> Status:
    return Status(saga_id, version, b"body %d" % version, ended)


async def test_what_was_put_is_there(cache: RedisStatusCache) -> None:
    assert await cache.get("saga") is None
    await cache.put([status(1), status(7, "other")])
    assert await cache.get("saga") == (1, b"body 1")
    assert await cache.get("other") == (7, b"body 7")
    assert await cache.get("third") is None


async def test_what_is_old_is_forgotten_and_not_taken_again(cache: RedisStatusCache) -> None:
    await cache.put([status(3)])
    await cache.raise_to({"saga": 4})
    assert await cache.get("saga") is None
    await cache.put([status(3)])
    assert await cache.get("saga") is None
    await cache.put([status(4)])
    assert await cache.get("saga") == (4, b"body 4")


async def test_what_is_known_already_stays(cache: RedisStatusCache) -> None:
    await cache.put([status(4)])
    await cache.raise_to({"saga": 3})
    await cache.raise_to({"saga": 4})
    await cache.put([status(3)])
    assert await cache.get("saga") == (4, b"body 4")


async def test_versions_are_numbers(cache: RedisStatusCache) -> None:
    await cache.put([status(9)])
    await cache.raise_to({"saga": 10})
    await cache.put([status(9)])
    assert await cache.get("saga") is None
    await cache.put([status(1_000_000)])
    assert await cache.get("saga") == (1_000_000, b"body 1000000")


async def test_one_batch_for_many(cache: RedisStatusCache) -> None:
    await cache.put([status(1, f"saga-{number}") for number in range(500)])
    await cache.raise_to({f"saga-{number}": 2 for number in range(0, 500, 2)})
    kept = [number for number in range(500) if await cache.get(f"saga-{number}")]
    assert kept == list(range(1, 500, 2))


async def test_nothing_stays_for_ever(cache: RedisStatusCache, redis: RedisClient) -> None:
    await cache.put([status(1, "live"), status(1, "ended", ended=True)])
    await cache.raise_to({"raised": 2})
    left = {name: await redis.call("PTTL", KEY + name) for name in ("live", "ended", "raised")}
    for name, most in (("live", LIVE), ("ended", FINAL), ("raised", RAISED)):
        assert most - 2_000 < left[name] <= most
    assert LIVE < RAISED


@pytest.mark.parametrize("seed", range(5))
async def test_in_any_order_of_events_nothing_is_served_that_is_older_than_what_was_told(
    cache: RedisStatusCache, seed: int
) -> None:
    """Readers keep what they read from the store for any time before they put it; commits go on meanwhile."""
    chance = random.Random(seed)
    stored = told = 1
    in_hand: list[Status] = []
    served = 0
    for _ in range(400):
        match chance.choice(["read", "put", "put", "commit", "tell", "get", "get"]):
            case "read":
                in_hand.append(status(stored))
            case "put" if in_hand:
                await cache.put([in_hand.pop(chance.randrange(len(in_hand)))])
            case "commit":
                stored += chance.randrange(3)
            case "tell":
                told = stored
                await cache.raise_to({"saga": told})
            case "get":
                found = await cache.get("saga")
                if found is not None:
                    served += 1
                    assert told <= found[0] <= stored
                    assert found[1] == b"body %d" % found[0]
            case _:
                continue
    assert served > 10


# -------------------------------------------------------------------------------------------------- when Redis is wrong


@pytest.mark.parametrize(
    "command",
    [
        ("RPUSH", "x"),
        ("HSET", "field", "x"),
        ("SET", b"\xff\x00\x01"),
        ("SET", ""),
        ("SET", "0000000000000001"),
        ("SET", "000000000000000xbody"),
        ("SET", "-000000000000001body"),
        ("SET", b"\xb2" * 16 + b"body"),
    ],
)
async def test_what_is_not_ours_counts_as_not_there_and_is_replaced(
    cache: RedisStatusCache, redis: RedisClient, command: tuple[str, ...]
) -> None:
    name, *arguments = command
    await redis.call(name, KEY + "saga", *arguments)
    assert await cache.get("saga") is None
    await cache.put([status(2)])
    assert await cache.get("saga") == (2, b"body 2")
    await redis.call("DEL", KEY + "saga")
    await redis.call(name, KEY + "saga", *arguments)
    await cache.raise_to({"saga": 3})
    await cache.put([status(2)])
    assert await cache.get("saga") is None


async def test_a_flushed_redis_knows_nothing_and_goes_on(cache: RedisStatusCache, redis: RedisClient) -> None:
    await cache.put([status(1)])
    await redis.call("FLUSHALL")
    await redis.call("SCRIPT", "FLUSH")
    assert await cache.get("saga") is None
    await cache.put([status(2)])
    assert await cache.get("saga") == (2, b"body 2")


async def test_a_dead_redis_costs_readers_nothing_and_is_used_again_when_it_is_back(edge: Edge, server: Valkey) -> None:
    cache = edge.statuses
    await cache.put([status(1)])
    server.kill()
    began = monotonic()
    assert [await cache.get("saga") for _ in range(200)] == [None] * 200
    assert monotonic() - began < 1
    for writing in (cache.put([status(2)]), cache.raise_to({"saga": 2}), edge.ping()):
        with pytest.raises(UnavailableError, match=server.address):
            await writing
    server.start()
    await cache.put([status(2)])

    async def served() -> tuple[int, bytes] | None:
        return await cache.get("saga")

    assert await eventually(served, within=20) == (2, b"body 2")
    await edge.ping()


async def test_a_slow_redis_costs_a_few_readers_a_moment_and_is_used_again(edge: Edge, server: Valkey) -> None:
    cache = edge.statuses
    await cache.put([status(1)])
    assert await cache.get("saga") == (1, b"body 1")
    valkey.ask(server.address, "CLIENT PAUSE 3000 ALL")
    began = monotonic()
    assert [await cache.get("saga") for _ in range(200)] == [None] * 200
    assert 0.05 * FAILURES <= monotonic() - began < 1
    assert await asyncio.gather(*(cache.get("saga") for _ in range(50))) == [None] * 50

    async def served() -> tuple[int, bytes] | None:
        return await cache.get("saga")

    assert await eventually(served, within=20) == (1, b"body 1")


# -------------------------------------------------------------------------------------------------------------- opening


async def test_a_redis_that_is_not_there_is_not_waited_for(server: Valkey) -> None:
    server.kill()
    edge = await Edge.open(server.address, "", SystemClock())
    assert await edge.statuses.get("saga") is None
    await edge.close()


async def test_a_wrong_password_is_the_operators_to_mend(tmp_path: Path) -> None:
    with valkey.running(tmp_path, password="right-secret") as server:
        for password in ("", "wrong-secret"):
            with pytest.raises(SettingsError, match="REDIS_PASSWORD") as caught:
                await Edge.open(server.address, password, SystemClock())
            assert "secret" not in str(caught.value)
        edge = await Edge.open(server.address, "right-secret", SystemClock())
        await edge.statuses.put([status(1)])
        assert await edge.statuses.get("saga") == (1, b"body 1")
        await edge.close()
