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
