"""The log on a server: read without a gap beside open transactions, never changed, shown to people event by event."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import asyncpg
import pytest

from unwind.ports import LogEntry, Unit
from unwind.stores.postgres.batch import Batch
from unwind.stores.postgres.store import PostgresStore, write
from unwind.testing.store_examples import append, log_of, unit

pytestmark = pytest.mark.integration
Connect = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(store_url)
    yield store
    await store.close()


@pytest.fixture
async def connect(store_url: str) -> AsyncIterator[Connect]:
    made: list[asyncpg.Connection] = []

    async def one_more() -> asyncpg.Connection:
        made.append(await asyncpg.connect(store_url))
        return made[-1]

    yield one_more
    for each in made:
        await each.close()


def names(entries: list[LogEntry]) -> list[str]:
    return [entry.stream for entry in entries]


async def test_a_reader_never_passes_an_open_transaction(store: PostgresStore, connect: Connect) -> None:
    await store.commit([unit("before")])
    slow = await connect()
    transaction = slow.transaction()
    await transaction.start()
    await write(slow, Batch([unit("slow")]), None)
    for number in range(5):
        await store.commit([unit(f"quick {number}")])
    assert names(await log_of(store, "c")) == ["before"]
    await transaction.commit()
    assert names(await log_of(store, "c")) == ["slow", *(f"quick {number}" for number in range(5))]
    assert names(await log_of(store, "another")) == ["before", "slow", *(f"quick {number}" for number in range(5))]


async def test_nor_one_that_has_not_written_its_events_yet(store: PostgresStore, connect: Connect) -> None:
    slow = await connect()
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("insert into cursors values ('its own work', '')")
    await store.commit([unit("quick")])
    assert await log_of(store, "c") == []
    await write(slow, Batch([unit("slow")]), None)
    await transaction.commit()
    assert names(await log_of(store, "c")) == ["slow", "quick"]


async def test_what_is_rolled_back_was_never_there(store: PostgresStore, connect: Connect) -> None:
    slow = await connect()
    transaction = slow.transaction()
    await transaction.start()
    await write(slow, Batch([unit("never")]), None)
    await store.commit([unit("quick")])
    await transaction.rollback()
    assert names(await log_of(store, "c")) == ["quick"]


async def test_many_transactions_that_end_in_any_order_are_read_once_each(
    store: PostgresStore, connect: Connect
) -> None:
    random, seen, written = Random(3), list[str](), list[str]()
    connections = [await connect() for _ in range(6)]

    async def writer(number: int) -> None:
        for turn in range(25):
            async with connections[number].transaction():
                for part in range(random.randint(1, 3)):
                    name = f"{number}.{turn}.{part}"
                    written.append(name)
                    await write(connections[number], Batch([unit(name)]), None)

    writing = asyncio.gather(*(writer(number) for number in range(6)))
    ended = False
    while not ended:
        # Looked at first: what is committed by now must be among what is read below.
        ended = writing.done()
        while entries := (tail := await store.tail("c", random.randint(1, 9))).entries:
            seen += names(list(entries))
            await store.advance("c", tail.cursor)
    await writing
    assert sorted(seen) == sorted(written)
    assert sorted(seen) != seen


FAR = 9_000_000_000
"""A number that no transaction of a fresh cluster has."""


async def restored(connection: asyncpg.Connection, *streams: str, first: int = FAR) -> None:
    """Rows as a dump from a cluster with higher transaction numbers leaves them."""
    for number, stream in enumerate(streams, first):
        await connection.execute(
            "insert into commits (stream_id, version, category, count, events, recorded_at, tx)"
            " values ($1, 1, 'saga', 1, '[]', 0, $2::text::xid8)",
            stream,
            str(number),
        )


async def read_on(store: PostgresStore, limit: int = 100) -> list[str]:
    """What a consumer gets until there is nothing, moving on as it does."""
    seen: list[str] = []
    while entries := (tail := await store.tail("c", limit)).entries:
        seen += names(list(entries))
        await store.advance("c", tail.cursor)
    return seen


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_after_a_restore_into_another_cluster_nothing_is_missed_nor_read_again(
    store: PostgresStore, connect: Connect, limit: int
) -> None:
    connection = await connect()
    await restored(connection, "old 1", "old 2", "old 3", "old 4")
    [second] = await connection.fetch("select tx::text, position from commits where stream_id = 'old 2'")
    await store.advance("c", f"{second['tx']}/{second['position']}")  # as it was dumped
    await store.commit([unit("new 1")])
    await store.commit([unit("new 2")])
    assert await read_on(store, limit) == ["old 3", "old 4", "new 1", "new 2"]
    await store.commit([unit("new 3")])
    assert await read_on(store, limit) == ["new 3"]
    assert await read_on(store, limit) == []


async def test_who_had_read_all_before_the_restore_goes_on_with_what_is_new(
    store: PostgresStore, connect: Connect
) -> None:
    connection = await connect()
    await restored(connection, "old 1", "old 2")
    [last] = await connection.fetch("select tx::text, position from commits where stream_id = 'old 2'")
    await store.advance("c", f"{last['tx']}/{last['position']}")
    assert await read_on(store) == []
    await store.commit([unit("new")])
    assert await read_on(store) == ["new"]


async def test_a_reader_of_everything_reads_what_was_restored_too(store: PostgresStore, connect: Connect) -> None:
    await restored(await connect(), "old 1", "old 2")
    await store.commit([unit("new")])
    assert set(await read_on(store)) == {"old 1", "old 2", "new"}


async def test_a_second_restore_is_noticed_as_the_first_was(store: PostgresStore, connect: Connect) -> None:
    connection = await connect()
    await restored(connection, "old 1")
    await store.commit([unit("middle")])
    assert set(await read_on(store)) == {"old 1", "middle"}
    await restored(connection, "restored again", first=2 * FAR)
    [last] = await connection.fetch("select tx::text, position from commits where stream_id = 'restored again'")
    await store.advance("c", f"{last['tx']}/{last['position']}/1")
    await store.commit([unit("new")])
    assert await read_on(store) == ["new"]


@pytest.mark.parametrize("change", ["update commits set version = 2", "delete from commits", "truncate commits"])
async def test_the_log_cannot_be_changed(store: PostgresStore, connect: Connect, change: str) -> None:
    await store.commit([unit("s")])
    before = await log_of(store)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await (await connect()).execute(change)
    assert await log_of(store, "again") == before


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (
            b'[{"type":"a/1","n":1},{"type":"b/2"}]',
            [(3, "a/1", '{"n": 1, "type": "a/1"}'), (4, "b/2", '{"type": "b/2"}')],
        ),
        (b"[]", []),
        (rb'[{"type":"a/1","text":"a\u0000b"}]', [(3, None, r'"[{\"type\":\"a/1\",\"text\":\"a\\\\u0000b\"}]"')]),
        (b"\xff\xfe", [(3, None, r'"\\377\\376"')]),
        (b'{"type":"no list"}', [(3, "no list", '{"type": "no list"}')]),
    ],
)
async def test_people_see_one_row_per_event_whatever_is_in_it(
    store: PostgresStore, connect: Connect, data: bytes, shown: list[tuple[int, str | None, str]]
) -> None:
    await store.commit([Unit(append("s", 3, data, count=2)), Unit(append("t", 1, b'[{"type":"c/1"}]'))])
    rows = await (await connect()).fetch(
        "select version, type, event::text from events where stream_id = 's' order by 1"
    )
    assert [tuple(row) for row in rows] == shown
    [[name, kind, recorded]] = await (await connect()).fetch(
        "select category, type, recorded = to_timestamp((select max(recorded_at) from commits) / 1000000.0) from events"
        " where stream_id = 't'"
    )
    assert (name, kind, recorded) == ("saga", "c/1", True)
