"""What goes wrong with a server: connections that break, servers that restart or only read, data that is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.eventually import eventually
from tests.servers.postgres import running

from unwind.errors import RejectedError, UnavailableError, UnwindError
from unwind.ports import Query, Unit
from unwind.stores.migrations.postgres import migrate_postgres
from unwind.stores.postgres.batch import Batch
from unwind.stores.postgres.store import SETTINGS, PostgresStore, write
from unwind.testing.store_examples import REVISION, append, row, stored, unit

pytestmark = pytest.mark.integration
OURS = "from pg_stat_activity where application_name = 'unwind' and datname = current_database()"
WAITS = f"select count(*) {OURS} and wait_event_type = 'Lock'"
KILL = f"select count(pg_terminate_backend(pid)) {OURS}"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(store_url)
    yield store
    await store.close()


@pytest.fixture
async def other(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(store_url)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(store_url)
    yield connection
    await connection.close()


async def until_it_waits(watcher: asyncpg.Connection) -> None:
    async def waits() -> bool | None:
        return await watcher.fetchval(WAITS) > 0 or None

    await eventually(waits, 10)


async def hanging_commit(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection
) -> "asyncio.Task[object]":
    """One that waits for another writer's transaction."""
    await write(other, Batch([unit("s")]), None)
    commit = asyncio.create_task(store.commit([unit("s"), unit("beside")]))
    await until_it_waits(watcher)
    return commit


# -------------------------------------------------------------------------------------------------- broken connections


async def test_a_commit_whose_connection_breaks_is_not_sent_again(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    transaction = other.transaction()
    await transaction.start()
    commit = await hanging_commit(store, other, watcher)
    await watcher.fetchval(KILL)
    with pytest.raises(UnavailableError, match=r"^the database cannot answer: .*; a write may be stored or not$"):
        await commit
    await transaction.rollback()
    assert await stored(store) == []
    assert (await store.commit([unit("s")])).won == {"s"}


async def test_a_commit_that_hangs_is_given_up(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwind.stores.postgres.connections.ANSWER", 1.0)
    async with other.transaction():
        with pytest.raises(UnavailableError, match="no answer in time"):
            await (await hanging_commit(store, other, watcher))
    assert (await store.commit([unit("beside")])).won == {"beside"}


async def test_the_server_gives_up_before_we_do(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "lock_timeout", "300ms")
    async with other.transaction():
        with pytest.raises(UnavailableError, match="lock timeout"):
            await (await hanging_commit(store, other, watcher))
    assert (await store.commit([unit("beside")])).won == {"beside"}


async def test_a_commit_that_is_cancelled_leaves_nothing_behind(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    transaction = other.transaction()
    await transaction.start()
    commit = await hanging_commit(store, other, watcher)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await transaction.rollback()
    assert (await store.commit([unit("t")])).won == {"t"}


async def test_questions_are_asked_again_when_the_connections_are_found_broken(
    store: PostgresStore, watcher: asyncpg.Connection
) -> None:
    await store.commit([unit("s", whole=True)])
    for _ in range(3):
        await asyncio.gather(*(store.load({"s": 0}) for _ in range(4)))
        assert await watcher.fetchval(KILL) > 0
        loaded, rows = await asyncio.gather(store.load({"s": 0}), store.find(Query()))
        assert (list(loaded.streams), len(rows)) == (["s"], 1)
        await watcher.fetchval(KILL)
        await store.lease(["s/pay/do"], 10)
        await watcher.fetchval(KILL)
        await store.advance("c", (await store.tail("c", 1)).cursor)


async def test_it_outlives_its_server_and_loses_nothing_that_was_answered(open_folder: Path) -> None:
    with running(open_folder, durable=True) as server:
        await migrate_postgres(server.url())
        store = await PostgresStore.open(server.url())
        acknowledged: list[str] = []
        for life in range(2):
            before = len(acknowledged)
            working = asyncio.create_task(write_until_it_fails(store, life, acknowledged))

            async def enough(least: int = before + 20) -> bool | None:
                return len(acknowledged) >= least or None

            await eventually(enough, 30)
            server.stop_immediately()
            with pytest.raises(UnavailableError):
                await working
            with pytest.raises(UnavailableError, match=r"cannot be reached|cannot answer"):
                await store.load({})
            server.start()
        streams = {stream for stream, _ in await stored(store)}
        assert set(acknowledged) <= streams
        assert {f"order of {name}" for name in acknowledged} <= streams
        await store.close()


async def write_until_it_fails(store: PostgresStore, life: int, acknowledged: list[str]) -> None:
    for number in range(100_000):
        name = f"{life}.{number}"
        await store.commit([unit(name, whole=True)])
        acknowledged.append(name)


async def test_a_server_that_only_reads_is_waited_for_on_new_connections(
    store: PostgresStore, watcher: asyncpg.Connection
) -> None:
    await store.commit([unit("s")])
    name = await watcher.fetchval("select quote_ident(current_database())")
    await watcher.execute(f"alter database {name} set default_transaction_read_only = on")
    await watcher.fetchval(KILL)
    with pytest.raises(UnavailableError):
        await store.commit([unit("t")])
    with pytest.raises(UnavailableError, match="read-only transaction"):
        await store.commit([unit("t")])
    assert list((await store.load({"s": 0})).streams) == ["s"]
    # Reading works there: it may be all of the old server that is left. None of these connections is kept.
    await watcher.execute(f"alter database {name} set default_transaction_read_only = off")
    assert (await store.commit([unit("t")])).won == {"t"}


async def test_a_password_that_changes_is_waited_for(open_folder: Path) -> None:
    with running(open_folder, password="right") as server:
        await migrate_postgres(server.url())
        store = await PostgresStore.open(server.url())
        connection = await asyncpg.connect(server.url())
        await connection.execute("alter role postgres password 'another'")
        await connection.fetchval(KILL)
        with pytest.raises(UnavailableError, match="refuses user postgres: check the user and the password"):
            await store.load({})
        await connection.execute("alter role postgres password 'right'")
        assert (await store.load({})).streams == {}
        await connection.close()
        await store.close()


# ---------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *(
            (code, UnavailableError)
            for code in ("40001", "40P01", "55P03", "57014", "53100", "53200", "25006", "42501")
        ),
        *((code, RejectedError) for code in ("22003", "22P05", "23514", "23505", "21000", "54000")),
    ],
)
async def test_whose_fault_an_error_is(
    store: PostgresStore, other: asyncpg.Connection, code: str, expected: type[UnwindError]
) -> None:
    await other.execute(
        "create function fail() returns trigger language plpgsql as "
        f"$$ begin raise exception 'on purpose' using errcode = '{code}'; end $$; "
        "create trigger fail before insert on snapshots for each row execute function fail()"
    )
    for _ in range(2):
        with pytest.raises(expected, match="on purpose"):
            await store.commit([unit("s", whole=True), unit("beside")])
    assert await stored(store) == []
    assert (await store.commit([unit("beside")])).won == {"beside"}


async def test_an_id_that_no_index_takes_is_refused(store: PostgresStore) -> None:
    # Not compressible: what counts is its length as stored.
    name = "".join(chr(0x4E00 + (number * 7_919) % 20_000) for number in range(3_000))
    with pytest.raises(RejectedError, match="index row"):
        await store.commit([unit(name)])
    with pytest.raises(RejectedError):
        await store.commit([Unit(append("s", 2**40))])
    assert await stored(store) == []


async def test_a_row_that_is_no_orphan_is_still_refused_when_written_by_hand(other: asyncpg.Connection) -> None:
    values = "1, 1, null, 'a', 'r', 'd'"
    with pytest.raises(asyncpg.CheckViolationError, match="no_orphan"):
        await other.execute(f"insert into sagas values (null, {values}, 'running', '')")
    with pytest.raises(asyncpg.CheckViolationError, match="no_orphan"):
        await other.execute(f"insert into sagas values (5, {values}, 'paused', '')")


async def test_a_role_that_may_only_insert_and_select_can_do_all_the_work(
    store_url: str, other: asyncpg.Connection
) -> None:
    name = f"worker_{urlsplit(store_url).path.strip('/')}"
    await other.execute(
        f"create role {name} login password 'of a worker'; grant select on alembic_version to {name}; "
        f"grant select, insert on commits, definitions to {name}; "
        f"grant select, insert, update, delete on sagas, snapshots, leases, cursors to {name}"
    )
    parts = urlsplit(store_url)
    url = parts._replace(netloc=f"{name}:of%20a%20worker@{parts.netloc.rpartition('@')[2]}").geturl()
    store = await PostgresStore.open(url)
    await store.register([("a", 1, "x")])
    await store.commit([Unit(append("s"), row("s", 60))])
    [(saga, token)] = (await store.claim(1, 1_000, [REVISION])).tokens.items()
    assert saga == "s"
    assert token > 60
    await store.close()
    await other.execute(f"drop owned by {name}; drop role {name}")
