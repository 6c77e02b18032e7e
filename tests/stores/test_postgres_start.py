"""A saga started in the caller's own transaction: there exactly when the caller's rows are, and driven at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import random
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from tests.core.trips import Trip, booking, diary, note, trip
from tests.eventually import eventually
from tests.runtime.rig import Deed, at_once
from uuid_utils import uuid7

from unwind.adopt.starting import start
from unwind.buses.memory import MemoryBus
from unwind.core.attributes import Attribute
from unwind.core.codec import SAGA_EVENTS
from unwind.errors import DefinitionError, IdempotencyError, InputError, RejectedError, UnavailableError
from unwind.ports import Query
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine, Started
from unwind.runtime.keys import id_of_key
from unwind.runtime.publisher import Publisher
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.postgres.store import PostgresStore
from unwind.testing.store_examples import stored

pytestmark = pytest.mark.integration
QUICK = trip(
    *(Deed(name, at_once) for name in "abcd"), on_started=lambda context: [note(f"{context.traveller} leaves")]
)
SLOW = trip(diary("hotel"), booking("flight"))
TRIP = Trip("ada")
INSERT = "insert into orders values (1)"
Door = Callable[[], AbstractAsyncContextManager[Any]]
"""A way to open a transaction: committed at the end, rolled back when something is raised."""


@pytest.fixture
async def other(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(store_url)
    await connection.execute("create table orders (id int)")
    yield connection
    await connection.close()


@pytest.fixture
async def store(store_url: str, other: asyncpg.Connection) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(store_url)
    yield store
    await store.close()


@pytest.fixture
async def sqlalchemy(store_url: str) -> AsyncIterator[AsyncEngine]:
    url = urlsplit(store_url)._replace(scheme="postgresql+asyncpg", query="").geturl()
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["asyncpg", "asyncpg pool", "AsyncConnection", "AsyncSession"])
async def door(request: pytest.FixtureRequest, store_url: str, sqlalchemy: AsyncEngine) -> AsyncIterator[Door]:
    pool = await asyncpg.create_pool(store_url, min_size=1, max_size=2)

    @asynccontextmanager
    async def pooled() -> AsyncIterator[Any]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def alone() -> AsyncIterator[Any]:
        connection = await asyncpg.connect(store_url)
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def session() -> AsyncIterator[Any]:
        async with AsyncSession(sqlalchemy) as opened, opened.begin():
            yield opened

    doors: dict[str, Door] = {
        "asyncpg": alone,
        "asyncpg pool": pooled,
        "AsyncConnection": sqlalchemy.begin,
        "AsyncSession": session,
    }
    yield doors[request.param]
    await pool.close()


async def insert(conn: Any) -> None:
    await conn.execute(INSERT if isinstance(conn, asyncpg.Connection) else text(INSERT))


async def orders(other: asyncpg.Connection) -> int:
    return int(await other.fetchval("select count(*) from orders"))


@asynccontextmanager
async def working(store: PostgresStore) -> AsyncIterator[Engine]:
    clock = SystemClock()
    bus = MemoryBus(clock)
    engine = Engine(store, bus, [QUICK], clock=clock, worker="w1", new_id=lambda: str(uuid7()), jitter=random)
    service = Service(engine, Sweeper(engine, store, clock), Publisher(store, bus, clock, engine.limits))
    await service.start()
    yield engine
    await service.stop()


# ---------------------------------------------------------------------------------------------------- all or nothing


async def test_it_begins_when_the_transaction_is_committed(
    store: PostgresStore, other: asyncpg.Connection, door: Door
) -> None:
    async with working(store) as engine:
        async with door() as conn:
            started = await start(QUICK, TRIP, key="k", conn=conn)
            await insert(conn)
            # Nobody else can see it, however often it is looked for.
            assert await store.find(Query()) == []
        assert started.created
        async with asyncio.timeout(5):
            state = await engine.ended(started.saga_id)
        assert state.status == "completed"
        assert await orders(other) == 1
    assert {stream for stream, _ in await stored(store)} == {started.saga_id, "diary-1"}


async def test_it_was_never_there_when_the_transaction_is_rolled_back(
    store: PostgresStore, other: asyncpg.Connection, door: Door
) -> None:
    async def fails_at_last() -> None:
        async with door() as conn:
            await insert(conn)
            await start(QUICK, TRIP, key="k", conn=conn)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails_at_last()
    assert (await stored(store), await store.find(Query()), await orders(other)) == ([], [], 0)
    async with door() as conn:
        assert (await start(QUICK, TRIP, key="k", conn=conn)).created


async def test_what_is_written_is_the_acceptance_and_nothing_of_the_first_step(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    """That belongs to whoever is woken: a command must be sent, an action needs somebody to run it."""
    for saga, expected in ((QUICK, ["SagaStarted", "DomainRecorded"]), (SLOW, ["SagaStarted"])):
        async with other.transaction():
            started = await start(saga, TRIP, key=saga.hash, conn=other, correlation_id="c", traceparent="t")
        [(version, data)] = (await store.load({started.saga_id: 0})).streams[started.saga_id].commits
        assert [type(event).__name__ for event in SAGA_EVENTS.decode(data)] == expected
        [row] = await store.find(Query((started.saga_id,)))
        now = (await store.load({})).now
        assert (version, row.status, row.revision, row.correlation_id) == (1, "running", saga.revision, "c")
        assert row.wake_at is not None
        assert now - 5_000_000 < row.wake_at <= now
        assert started.state.version == len(expected)
        assert (bytes(started.state.context), started.state.traceparent) == (b'{"traveller":"ada","codes":[]}', "t")


async def test_it_can_be_found_by_its_attributes_and_begins_at_its_time(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    saga = trip(
        booking("flight"),
        attributes={"traveller": Attribute(str, lambda context: context.traveller)},
        deadline=timedelta(minutes=1),
    )
    query = Query(attributes=(("traveller", "ada"),))
    begin_at = datetime(2900, 1, 1, tzinfo=UTC)
    async with other.transaction():
        started = await start(saga, TRIP, key="k", conn=other, begin_at=begin_at)
        assert await store.find(query) == []
    [row] = await store.find(query)
    due = int(begin_at.timestamp()) * 1_000_000
    assert (row.id, row.status, row.wake_at) == (started.saga_id, "pending", due)
    assert started.state.deadline == due + 60_000_000
    async with other.transaction():
        with pytest.raises(InputError, match="give an instant with its time zone"):
            await start(saga, TRIP, key="l", conn=other, begin_at=datetime(2900, 1, 1))  # noqa: DTZ001


async def test_an_attribute_that_goes_wrong_leaves_the_transaction_as_it_was(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    saga = trip(booking("flight"), attributes={"part": Attribute(str, lambda context: context.codes[0])})
    async with other.transaction():
        with pytest.raises(DefinitionError, match="attribute 'part' raised IndexError"):
            await start(saga, TRIP, key="k", conn=other)
        await insert(other)
    assert (await orders(other), await stored(store)) == (1, [])


# --------------------------------------------------------------------------------------------------------------- keys


async def test_the_same_key_is_the_same_saga(store: PostgresStore, other: asyncpg.Connection, door: Door) -> None:
    answers: list[Started] = []
    for _ in range(2):
        async with door() as conn:
            answers += [await start(QUICK, TRIP, key="k", conn=conn) for _ in range(2)]
    assert [answer.created for answer in answers] == [True, False, False, False]
    assert {answer.saga_id for answer in answers} == {id_of_key("start trip", "k")}
    assert len(await store.find(Query())) == 1


async def test_the_same_key_with_another_request_is_refused_and_harms_nothing(
    store: PostgresStore, other: asyncpg.Connection, door: Door
) -> None:
    async with door() as conn:
        await start(QUICK, TRIP, key="k", conn=conn)
    async with door() as conn:
        with pytest.raises(IdempotencyError, match="this key was used for a different request"):
            await start(QUICK, Trip("bob"), key="k", conn=conn)
        assert not (await start(QUICK, TRIP, key="k", conn=conn)).created
        await insert(conn)
    assert await orders(other) == 1


async def test_what_a_request_is_can_be_told(store: PostgresStore, other: asyncpg.Connection) -> None:
    async with other.transaction():
        first = await start(QUICK, Trip("ada", ("made up 1",)), key="k", conn=other, request=b"ada")
        again = await start(QUICK, Trip("ada", ("made up 2",)), key="k", conn=other, request=b"ada")
        with pytest.raises(IdempotencyError):
            await start(QUICK, Trip("ada", ("made up 1",)), key="k", conn=other, request=b"bob")
    assert (first.created, again.created, again.state.context) == (True, False, first.state.context)


@pytest.mark.parametrize(("ends", "created"), [("commit", False), ("rollback", True)])
async def test_a_key_in_use_is_waited_for(
    store: PostgresStore, store_url: str, other: asyncpg.Connection, ends: str, created: bool
) -> None:
    quick = await asyncpg.connect(store_url)
    watcher = await asyncpg.connect(store_url)
    transaction = other.transaction()
    await transaction.start()
    assert (await start(QUICK, TRIP, key="k", conn=other)).created

    async def second() -> Started:
        async with quick.transaction():
            return await start(QUICK, TRIP, key="k", conn=quick)

    async def waits() -> bool | None:
        asked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        return await watcher.fetchval(asked) > 0 or None

    waiting = asyncio.create_task(second())
    await eventually(waits, 10)
    await getattr(transaction, ends)()
    assert (await waiting).created is created
    assert len(await store.find(Query())) == 1
    for each in (quick, watcher):
        await each.close()


async def test_where_the_transaction_cannot_see_who_was_first_it_is_to_be_repeated(
    store: PostgresStore, store_url: str, other: asyncpg.Connection
) -> None:
    strict = await asyncpg.connect(store_url)
    async with strict.transaction(isolation="repeatable_read"):
        await strict.fetchval("select count(*) from orders")
        async with other.transaction():
            await start(QUICK, TRIP, key="k", conn=other)
        with pytest.raises(UnavailableError, match="could not serialize access"):
            await start(QUICK, TRIP, key="k", conn=strict)
    async with strict.transaction(isolation="repeatable_read"):
        assert not (await start(QUICK, TRIP, key="k", conn=strict)).created
    await strict.close()


def test_ids_of_keys_never_change() -> None:
    """They stand in databases."""
    assert id_of_key("POST /api/v1/orders", "k") == "622c5345-9640-50f5-91aa-1e81ff938ab2"


# ----------------------------------------------------------------------------------------------------------- bad input


def raising(context: Trip) -> list[Any]:
    raise KeyError(context.traveller)


async def test_whatever_is_refused_leaves_the_transaction_as_it_was(
    store: PostgresStore, other: asyncpg.Connection, door: Door
) -> None:
    cases: list[tuple[type[Exception], Any, Trip, str]] = [
        (InputError, QUICK, Trip("x" * 300_000), "too large"),
        (InputError, QUICK, Trip("\ud800"), "half a pair"),
        (InputError, QUICK, TRIP, ""),
        (InputError, QUICK, TRIP, "a\0b"),
        (DefinitionError, trip(booking("flight"), on_started=raising), TRIP, "raises"),
        # The diary has its first entry already.
        (RejectedError, QUICK, TRIP, "second"),
    ]
    async with door() as conn:
        await start(QUICK, TRIP, key="first", conn=conn)
        for expected, saga, context, key in cases:
            with pytest.raises(expected):
                await start(saga, context, key=key, conn=conn)
        await insert(conn)
    assert await orders(other) == 1
    assert len(await store.find(Query())) == 1


async def test_without_a_transaction_nothing_is_started(
    store: PostgresStore, other: asyncpg.Connection, sqlalchemy: AsyncEngine
) -> None:
    with pytest.raises(RuntimeError, match="start needs an open transaction"):
        await start(QUICK, TRIP, key="k", conn=other)
    async with sqlalchemy.execution_options(isolation_level="AUTOCOMMIT").connect() as conn:
        with pytest.raises(RuntimeError, match="start needs an open transaction"):
            await start(QUICK, TRIP, key="k", conn=conn)
    with pytest.raises(TypeError, match="give an asyncpg connection, an AsyncConnection or an AsyncSession"):
        await start(QUICK, TRIP, key="k", conn="postgres://")
    assert await stored(store) == []


async def test_a_broken_connection_is_told_in_our_words(
    store: PostgresStore, store_url: str, other: asyncpg.Connection
) -> None:
    broken = await asyncpg.connect(store_url)
    transaction = broken.transaction()
    await transaction.start()
    await other.fetchval("select pg_terminate_backend($1)", broken.get_server_pid())
    with pytest.raises(UnavailableError, match="the database cannot answer"):
        await start(QUICK, TRIP, key="k", conn=broken)
    broken.terminate()
    assert await stored(store) == []
