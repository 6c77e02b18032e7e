"""Rate limits: the bucket's arithmetic by a clock that the test moves, and the shared bucket on a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.valkey import Valkey

from unwind.edge.edge import Edge
from unwind.edge.gate import Gate
from unwind.edge.local_limiter import LocalLimiter
from unwind.edge.shared_limiter import SharedLimiter
from unwind.ports import Allowance, Rate, RateLimiter
from unwind.redis_client import RedisClient
from unwind.runtime.clock import SystemClock
from unwind.testing.manual_clock import ManualClock

SECOND = 1_000_000
KEY = "unwind:rate:read:ada"
SLOW = Rate(per_second=1, burst=3)
"""So slow that the time which a test takes is nothing to it."""


async def count(limiter: RateLimiter, calls: int, client: str = "ada", kind: str = "read") -> int:
    """How many of so many calls are allowed."""
    return sum([(await limiter.take(client, kind)).allowed for _ in range(calls)])


# ------------------------------------------------------------------------------------------------------- in one process


async def test_a_burst_then_as_many_as_time_brings() -> None:
    clock = ManualClock(5)
    limiter = LocalLimiter(Rate(per_second=10, burst=4), clock)
    assert await count(limiter, 100) == 4
    clock.advance(SECOND // 10 - 1)
    assert await count(limiter, 100) == 0
    clock.advance(1)
    assert await count(limiter, 100) == 1
    clock.advance(3 * SECOND // 10)
    assert await count(limiter, 100) == 3
    clock.advance(3_600 * SECOND)
    assert await count(limiter, 100) == 4


async def test_it_tells_what_is_left_and_how_long_to_wait() -> None:
    clock = ManualClock()
    limiter = LocalLimiter(Rate(per_second=2, burst=2), clock)
    half = SECOND // 2
    assert await limiter.take("ada", "read") == Allowance(True, 1, 0, half)
    assert await limiter.take("ada", "read") == Allowance(True, 0, 0, SECOND)
    assert await limiter.take("ada", "read") == Allowance(False, 0, half, SECOND)
    clock.advance(half // 2)
    assert await limiter.take("ada", "read") == Allowance(False, 0, half // 2, SECOND - half // 2)
    clock.advance(half // 2)
    assert await limiter.take("ada", "read") == Allowance(True, 0, 0, SECOND)


async def test_refused_calls_cost_nothing() -> None:
    clock = ManualClock()
    limiter = LocalLimiter(SLOW, clock)
    assert await count(limiter, 1_000) == 3
    clock.advance(SECOND)
    assert await count(limiter, 1_000) == 1


async def test_clients_and_kinds_have_buckets_of_their_own() -> None:
    limiter = LocalLimiter(SLOW, ManualClock())
    assert await count(limiter, 10) == 3
    assert await count(limiter, 10, "grace") == 3
    assert await count(limiter, 10, kind="write") == 3
    assert await count(limiter, 10) == 0


async def test_buckets_are_bounded_and_the_busy_ones_stay() -> None:
    limiter = LocalLimiter(SLOW, ManualClock(), clients=5)
    assert await count(limiter, 10) == 3
    for number in range(100):
        await limiter.take(f"passer-by {number}", "read")
        assert await count(limiter, 1) == 0
    assert len(limiter._even) == 5


# --------------------------------------------------------------------------------------------------------------- shared


@pytest.fixture
def shared(redis: RedisClient) -> SharedLimiter:
    clock = SystemClock()
    return SharedLimiter(SLOW, redis, Gate(clock), clock)


async def pass_time(redis: RedisClient, seconds: int) -> None:
    """As if so much time had passed: the instant in the bucket lies so much earlier."""
    left = int(await redis.call("PTTL", KEY))
    await redis.call("DECRBY", KEY, seconds * SECOND)
    await redis.call("PEXPIRE", KEY, max(1, left - seconds * 1_000))


@pytest.mark.integration
async def test_the_shared_bucket_counts_as_the_local_one(shared: SharedLimiter, redis: RedisClient) -> None:
    taken = [await shared.take("ada", "read") for _ in range(4)]
    assert [allowance.allowed for allowance in taken] == [True, True, True, False]
    assert [allowance.remaining for allowance in taken] == [2, 1, 0, 0]
    assert 0 < taken[3].wait <= SECOND
    assert 2 * SECOND < taken[3].reset <= 3 * SECOND
    assert 0 < await redis.call("PTTL", KEY) <= 3_000
    await pass_time(redis, 2)
    assert await count(shared, 10) == 2
    await pass_time(redis, 1)
    assert await count(shared, 10) == 1
    assert await count(shared, 10, "grace") == 3
    assert await count(shared, 10, kind="write") == 3


@pytest.mark.integration
async def test_replicas_share_one_bucket_even_at_the_same_moment(redis_address: str) -> None:
    clock = SystemClock()
    edges = [await Edge.open(redis_address, "", clock) for _ in range(3)]
    await asyncio.gather(*(edge.ping() for edge in edges))
    rate = Rate(per_second=1, burst=20)
    counts = await asyncio.gather(*(count(edge.limiter(rate), 15) for edge in edges))
    assert sum(counts) == 20
    for edge in edges:
        await edge.close()


@pytest.mark.integration
@pytest.mark.parametrize(
    "command", [("SET", "nonsense"), ("SET", ""), ("SET", "9" * 30), ("SET", "-5"), ("SET", "nan"), ("RPUSH", "x")]
)
async def test_what_is_not_ours_is_replaced(
    shared: SharedLimiter, redis: RedisClient, command: tuple[str, str]
) -> None:
    name, argument = command
    await redis.call(name, KEY, argument)
    assert await count(shared, 10) == 3
    assert 0 < await redis.call("PTTL", KEY) <= 3_000


@pytest.mark.integration
async def test_a_flush_forgives(shared: SharedLimiter, redis: RedisClient) -> None:
    assert await count(shared, 10) == 3
    await redis.call("FLUSHALL")
    await redis.call("SCRIPT", "FLUSH")
    assert await count(shared, 10) == 3


@pytest.fixture
async def edge(server: Valkey) -> AsyncIterator[Edge]:
    edge = await Edge.open(server.address, "", SystemClock())
    yield edge
    await edge.close()


@pytest.mark.integration
async def test_without_redis_each_replica_limits_for_itself(edge: Edge, server: Valkey) -> None:
    limiter = edge.limiter(Rate(per_second=1, burst=20))
    assert await count(limiter, 40) == 20
    server.kill()
    assert 20 <= await count(limiter, 100) <= 25
    server.start()

    async def shared_again() -> bool | None:
        await limiter.take("grace", "read")
        return True if valkey.ask(server.address, "EXISTS unwind:rate:read:grace").startswith(b":1") else None

    assert await eventually(shared_again, within=20)


@pytest.mark.integration
async def test_a_slow_redis_holds_up_a_few_calls_for_a_moment(edge: Edge, server: Valkey) -> None:
    limiter = edge.limiter(Rate(per_second=1, burst=20))
    valkey.ask(server.address, "CLIENT PAUSE 60000 ALL")
    async with asyncio.timeout(5):
        assert 20 <= await count(limiter, 500) <= 26
    server.kill()
