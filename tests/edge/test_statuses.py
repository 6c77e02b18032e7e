"""Engines and readers in several processes' parts, on one store and one real Redis: what a client gets to see."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace
from tests.core.trips import Trip, trip
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.valkey import Valkey

from unwind.buses.memory import MemoryBus
from unwind.core.codec import SAGA_EVENTS, fold
from unwind.core.events import SagaStarted
from unwind.edge.edge import Edge
from unwind.errors import NotFoundError, UnavailableError
from unwind.ports import Committed, Status, Unit
from unwind.runtime import statuses as statuses_module
from unwind.runtime.announced import AnnouncedStore
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.queries import SagaView, view
from unwind.runtime.statuses import PUT_WITHIN, CachedQueries, Statuses
from unwind.stores.memory import MemoryStore

pytestmark = pytest.mark.integration

SAGA = trip()
CLOCK = SystemClock()


class Store(MemoryStore):
    """Shared by all replicas; a commit may be done and yet reported as failed."""

    def __init__(self) -> None:
        super().__init__(CLOCK.monotonic)
        self.lies = 0

    async def commit(self, units: Sequence[Unit]) -> Committed:
        committed = await super().commit(units)
        if self.lies:
            self.lies -= 1
            raise UnavailableError("done, but the answer was lost")
        return committed


class Replica:
    """One process: an engine, and a reader of statuses."""

    def __init__(self, store: Store, edge: Edge) -> None:
        self.work: Counter[str] = Counter()
        self.edge = edge
        self.statuses = Statuses(edge.statuses, CLOCK, self.work)
        self.queries = CachedQueries(store, self.statuses, CLOCK, self.work)
        announced = AnnouncedStore(store, self.statuses.committed)
        bus = MemoryBus(CLOCK)
        self.engine = Engine(
            announced, bus, [SAGA], clock=CLOCK, worker="w", new_id=lambda: str(uuid4()), jitter=lambda: 0.5
        )

    async def begin(self) -> str:
        return (await self.engine.start(SAGA, Trip())).saga_id

    async def show(self, saga_id: str) -> SagaView:
        return await self.queries.show(saga_id)

    async def cancel(self, saga_id: str) -> None:
        await self.engine.cancel(saga_id, actor="tester")

    async def told(self) -> None:
        """Until the cache has been told everything."""

        async def nothing_left() -> bool | None:
            return True if not self.statuses._untold and not self.statuses._found else None

        await eventually(nothing_left, within=10)


@asynccontextmanager
async def running(store: Store, address: str) -> AsyncIterator[Replica]:
    edge = await Edge.open(address, "", CLOCK)
    replica = Replica(store, edge)
    await replica.engine.open()
    working = asyncio.create_task(replica.engine.run())
    await replica.statuses.start()
    yield replica
    await replica.engine.stop()
    await working
    await replica.statuses.stop()
    await edge.close()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def one(store: Store, server: Valkey) -> AsyncIterator[Replica]:
    async with running(store, server.address) as replica:
        yield replica


@pytest.fixture
async def other(store: Store, server: Valkey) -> AsyncIterator[Replica]:
    async with running(store, server.address) as replica:
        yield replica


def seen(view: SagaView) -> tuple[str, int]:
    return view.status, view.version


async def test_what_one_has_read_the_other_gets_without_the_store(one: Replica, other: Replica) -> None:
    saga_id = await one.begin()
    await one.told()
    first = await one.show(saga_id)
    await one.told()
    assert await other.show(saga_id) == first
    assert (other.work["status_hits"], other.work["status_misses"]) == (1, 0)
    assert (one.work["status_hits"], one.work["status_misses"]) == (0, 1)


async def test_whoever_acts_sees_it_done_in_the_next_answer(one: Replica, other: Replica) -> None:
    for _ in range(30):
        saga_id = await one.begin()
        await asyncio.gather(*(replica.show(saga_id) for replica in (one, other) for _ in range(3)))
        await one.cancel(saga_id)
        assert (await one.show(saga_id)).status != "running"


async def test_once_the_cache_is_told_nobody_sees_what_was_before(one: Replica, other: Replica) -> None:
    for _ in range(30):
        saga_id = await one.begin()
        await other.show(saga_id)
        await asyncio.gather(one.told(), other.told())
        assert (await other.show(saga_id)).status == "running"
        await one.cancel(saga_id)
        await one.told()
        assert (await other.show(saga_id)).status != "running"
    assert other.work["status_hits"] >= 30


async def test_what_was_read_before_a_commit_is_not_put_over_it(one: Replica, other: Replica) -> None:
    """The race: read the store; a commit and its news pass by; then put what was read."""
    saga_id = await one.begin()
    await one.told()
    old = await other.queries.__class__.__base__.show(other.queries, saga_id)  # type: ignore[union-attr]
    await one.cancel(saga_id)
    await one.told()
    other.statuses.found(old, CLOCK.monotonic())
    await other.told()
    assert await other.statuses.find(saga_id) is None
    assert await one.statuses.find(saga_id) is None
    assert (await other.show(saga_id)).version > old.version


async def test_an_answer_that_was_long_on_its_way_is_not_put(one: Replica) -> None:
    saga_id = await one.begin()
    await one.told()
    view = await one.show(saga_id)
    await one.told()
    await one.edge._client.call("FLUSHALL")
    one.statuses.found(view, CLOCK.monotonic() - PUT_WITHIN - 1)
    await one.told()
    assert await one.statuses.find(saga_id) is None


async def test_a_commit_of_unknown_outcome_is_told_too(store: Store, one: Replica, other: Replica) -> None:
    saga_id = await one.begin()
    await other.show(saga_id)
    await asyncio.gather(one.told(), other.told())
    store.lies = 1
    await one.cancel(saga_id)
    await one.told()
    assert (await other.show(saga_id)).status != "running"


async def test_a_saga_that_is_not_there_is_not_found_however_often(one: Replica) -> None:
    for _ in range(3):
        with pytest.raises(NotFoundError):
            await one.show("nobody")
    await one.told()


# --------------------------------------------------------------------------------------------- when Redis is not itself


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"saga_id":"other"}', b"[" * 100_000, b"null", b'{"saga_id":1}']
)
async def test_what_is_not_understood_is_answered_by_the_store(one: Replica, body: bytes) -> None:
    saga_id = await one.begin()
    await one.told()
    await one.edge.statuses.put([Status(saga_id, 999, body, ended=False)])
    assert seen(await one.show(saga_id)) == ("running", 2)


async def test_an_answer_about_another_saga_or_version_is_not_believed(one: Replica) -> None:
    saga_id, another = await one.begin(), await one.begin()
    view = await one.show(another)
    await one.told()
    body = encode(view)
    await one.edge.statuses.put([Status(saga_id, view.version, body, ended=False)])
    assert (await one.show(saga_id)).saga_id == saga_id
    await one.edge.statuses.put([Status(another, view.version + 5, body, ended=False)])
    assert await one.statuses.find(another) is None


async def test_without_redis_everything_is_right(one: Replica, other: Replica, server: Valkey) -> None:
    saga_id = await one.begin()
    await other.show(saga_id)
    server.kill()
    for _ in range(50):
        another = await one.begin()
        assert (await other.show(another)).status == "running"
        await one.cancel(another)
        assert (await other.show(another)).status != "running"
    await one.cancel(saga_id)
    assert (await other.show(saga_id)).status != "running"
    server.start()
    await one.told()

    async def hit() -> bool | None:
        await other.show(saga_id)
        return True if other.work["status_hits"] else None

    await eventually(hit, within=20)


async def test_a_flush_at_any_moment_costs_only_reads(one: Replica, other: Replica, server: Valkey) -> None:
    for round_ in range(20):
        saga_id = await one.begin()
        await asyncio.gather(other.show(saga_id), asyncio.to_thread(server.flush), one.show(saga_id))
        await other.told()
        await one.cancel(saga_id)
        if round_ % 2:
            server.flush()
        await asyncio.gather(one.told(), other.told())
        assert (await one.show(saga_id)).status != "running"
        assert (await other.show(saga_id)).status != "running"


async def test_a_redis_that_hangs_delays_no_commit(one: Replica, server: Valkey) -> None:
    valkey.ask(server.address, "CLIENT PAUSE 60000 ALL")
    async with asyncio.timeout(10):  # sixty seconds, if anything waited for it
        for _ in range(100):
            saga_id = await one.begin()
            await one.show(saga_id)
            await one.cancel(saga_id)
            assert (await one.show(saga_id)).status != "running"
    server.kill()


async def test_news_that_cannot_be_told_is_bounded(
    one: Replica, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses_module, "UNTOLD", 10)
    server.kill()
    for _ in range(25):
        await one.begin()
    assert len(one.statuses._untold) <= 10
    assert one.work["status_news_dropped"] >= 15


async def test_stopping_tells_what_is_left(store: Store, server: Valkey, other: Replica) -> None:
    async with running(store, server.address) as leaving:
        saga_id = await leaving.begin()
        await other.show(saga_id)
        await other.told()
        assert (await other.show(saga_id)).status == "running"
        await leaving.cancel(saga_id)
    assert (await other.show(saga_id)).status != "running"


async def test_the_doing_of_a_step_is_never_kept_as_final_for_it_may_be_unwound(store: Store) -> None:
    class Kept:
        """Remembers what it was given."""

        def __init__(self) -> None:
            self.put_in: list[Status] = []

        async def get(self, saga_id: str) -> None:
            return None

        async def put(self, statuses: Sequence[Status]) -> None:
            self.put_in += statuses

        async def raise_to(self, versions: Mapping[str, int]) -> None:
            return None

    kept = Kept()
    statuses = Statuses(kept, CLOCK, Counter())
    await statuses.start()
    ended = replace(
        fold([(1, SAGA_EVENTS.encode([SagaStarted(1, "s", "trip", 1, "h", Raw(b"{}"))]))]), status="completed"
    )
    for state in (ended, replace(ended, saga_id="child", parent="s/hotel")):
        statuses.found(view(state), CLOCK.monotonic())

    async def both() -> bool | None:
        return True if len(kept.put_in) == 2 else None

    await eventually(both, within=10)
    await statuses.stop()
    assert {status.saga_id: status.ended for status in kept.put_in} == {"s": True, "child": False}
