"""The PostgreSQL store keeps the promises of the port: directly, and behind a pooler in transaction mode."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest
from tests.servers.postgres import Postgres, running
from tests.stores.pooler import pooler

from unwind.errors import UnavailableError
from unwind.ports import Query, Store
from unwind.stores.migrations.postgres import migrate_postgres
from unwind.stores.postgres.store import PostgresStore
from unwind.testing.store_examples import REVISION, StoreClock, log_of, unit
from unwind.testing.store_suite import StoreSuite

pytestmark = pytest.mark.integration


class TestPostgresStore(StoreSuite):
    @pytest.fixture
    async def store(self, clock: StoreClock, store_url: str) -> AsyncIterator[Store]:
        store = await PostgresStore.open(store_url, now=clock)
        yield store
        await store.close()


@pytest.fixture(scope="module")
def trusting_server() -> Iterator[Postgres]:
    """One that the pooler can reach: it knows no passwords."""
    temporary = TemporaryDirectory(prefix="unwind-test-", ignore_cleanup_errors=True)
    with temporary as folder, running(Path(folder)) as server:
        yield server


@pytest.fixture
async def direct_url(trusting_server: Postgres, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    connection = await asyncpg.connect(trusting_server.url())
    await connection.execute("create database behind")
    await migrate_postgres(trusting_server.url("behind"))
    yield trusting_server.url("behind")
    await connection.execute("drop database behind with (force)")
    await connection.close()


class TestPostgresStoreBehindAPooler(StoreSuite):
    """Neither settings, nor prepared statements, nor anything else is left on a connection when a statement is over."""

    @pytest.fixture
    async def store(self, clock: StoreClock, direct_url: str) -> AsyncIterator[Store]:
        async with pooler(direct_url) as (between, url):
            store = await PostgresStore.open(url, now=clock)
            yield store
            await store.close()
            assert between.transactions > 0
            assert between.refused > 0


async def test_migrations_and_the_noticed_pooler(direct_url: str) -> None:
    async with pooler(direct_url) as (between, url):
        await migrate_postgres(url, "down", 0)
        await migrate_postgres(url)
        # Told, it does not even try to reach the server itself.
        before = between.refused
        store = await PostgresStore.open(f"{url}&pooled=true")
        await store.commit([unit("s", whole=True)])
        assert between.refused == before
        await store.close()


async def test_a_store_that_is_opened_to_read_reads_and_is_refused_to_write(store_url: str) -> None:
    store = await PostgresStore.open(store_url)
    await store.commit([unit("s", whole=True)])
    reader = await PostgresStore.open(store_url, only_read=True)
    assert [row.id for row in await reader.find(Query(live_on=REVISION))] == ["s"]
    assert (await reader.register([("a", 1, "x")], note=False)).others == {REVISION: 1}
    assert (await reader.load({"s": 0})).streams == (await store.load({"s": 0})).streams
    for write in (reader.commit([unit("u")]), reader.register([("a", 1, "x")]), reader.claim(1, 1, [REVISION])):
        with pytest.raises(UnavailableError, match="read-only transaction"):
            await write
    await reader.close()
    await store.close()


async def test_without_a_clock_of_its_own_it_lives_by_the_databases(store_url: str) -> None:
    store = await PostgresStore.open(store_url)
    connection = await asyncpg.connect(store_url)

    async def clock() -> int:
        now = await connection.fetchval("select (extract(epoch from clock_timestamp()) * 1000000)::int8")
        return int(now)

    times = [await clock(), (await store.load({})).now, (await store.commit([unit("s", whole=True)])).now]
    times += [await clock(), (await store.claim(1, 1_000, [REVISION])).now, await clock()]
    assert times == sorted(set(times))
    [first, _] = await log_of(store)
    assert first.recorded_at == times[2]
    assert [row.wake_at for row in await store.find(Query())] == [times[4] + 1_000]
    await store.lease(["s/pay/do"], 60_000_000)
    assert times[5] < (await store.load({"s": 1})).streams["s"].leases["s/pay/do"] - 60_000_000 < await clock()
    await connection.close()
    await store.close()
