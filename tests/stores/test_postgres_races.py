"""Several who write at once: wake-ups that are claimed, moved and brought forward together; batches that overlap."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest
from tests.eventually import eventually

from unwind.errors import RejectedError
from unwind.ports import Committed, Move, Query, Unit
from unwind.stores.postgres.batch import Batch, to_json
from unwind.stores.postgres.store import SQL, PostgresStore, write
from unwind.testing.store_examples import REVISION, StoreClock, append, log_of, row, stored, unit

pytestmark = pytest.mark.integration
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
def clock() -> StoreClock:
    return StoreClock()


@pytest.fixture
async def store(store_url: str, clock: StoreClock) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(store_url, now=clock)
    yield store
    await store.close()


@pytest.fixture
async def other(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Another process's connection."""
    connection = await asyncpg.connect(store_url)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(store_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(store_url)
    yield connection
    await connection.close()


async def somebody_waits(watcher: asyncpg.Connection) -> None:
    async def waits() -> bool | None:
        return await watcher.fetchval(WAITING) > 0 or None

    await eventually(waits, 10)


async def wake_up(store: PostgresStore) -> int | None:
    [found] = await store.find(Query(("s",)))
    return found.wake_at


# ------------------------------------------------------------------------------------------------------------ wake-ups


@pytest.mark.parametrize(("asked", "expected"), [(40, 40), (90, 60)])
async def test_a_move_leaves_a_saga_alone_whose_commit_is_on_its_way(
    store: PostgresStore, other: asyncpg.Connection, asked: int, expected: int
) -> None:
    """Its events cannot be seen yet. Also where they need no earlier wake-up: the token stands, the decision is old."""
    await store.commit([Unit(append("s"), row("s", 60))])
    async with other.transaction():
        await write(other, Batch([Unit(append("s", 2), wake_at=asked)]), None)
        await store.move([Move("s", 60, 500, 1)])
    assert await wake_up(store) == expected


async def test_a_commit_waits_for_a_move_and_brings_forward_what_it_has_moved(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection
) -> None:
    await store.commit([Unit(append("s"), row("s", 60))])
    async with other.transaction():
        await other.execute(SQL["move"], to_json([Move("s", 60, 500, 1)]))
        committing = asyncio.create_task(store.commit([Unit(append("s", 2), wake_at=90)]))
        await somebody_waits(watcher)
    assert (await committing).won == {"s"}
    assert await wake_up(store) == 90


@pytest.mark.parametrize("road", ["write", "write_winners"])
async def test_a_commit_waits_for_a_claim_and_brings_forward_what_it_has_pushed(
    store: PostgresStore, other: asyncpg.Connection, watcher: asyncpg.Connection, road: str
) -> None:
    """Compared with the row as it was when the commit began, there would be nothing to bring forward."""
    await store.commit([Unit(append("s"), row("s", 60)), unit("lost")])
    units = [Unit(append("s", 2), wake_at=90), unit("lost" if road == "write_winners" else "new")]
    async with other.transaction():
        [(_, ids)] = await other.fetch(SQL["claim"], 70, [REVISION], 1, 1_000)
        assert ids == ["s"]
        committing = asyncio.create_task(store.commit(units))
        await somebody_waits(watcher)
    assert "s" in (await committing).won
    assert await wake_up(store) == 90


async def test_a_claim_passes_over_what_is_being_written(
    store: PostgresStore, clock: StoreClock, other: asyncpg.Connection
) -> None:
    await store.commit([Unit(append(name), row(name, 60)) for name in ("a", "s")])
    async with other.transaction():
        await write(other, Batch([Unit(append("s", 2), wake_at=90)]), None)
        assert list((await store.claim(10, 1_000, [REVISION])).tokens) == ["a"]
    assert list((await store.claim(10, 1_000, [REVISION])).tokens) == ["s"]


async def test_no_wake_up_is_ever_later_than_the_newest_decision_asked_for(store: PostgresStore) -> None:
    """Commits and moves of many sagas, truly at once: whoever comes second knows of the first."""
    names = [f"saga {n:02}" for n in range(40)]
    await store.commit([Unit(append(name), row(name, 100)) for name in names])
    random, outcomes = Random(5), Counter[str]()
    for version in range(2, 60):
        rows = {each.id: each.wake_at for each in await store.find(Query(limit=100))}
        asked = {name: random.choice((50, 100, 150)) for name in names}
        moves = [Move(name, rows[name] or 0, 10_000 + version, version - 1) for name in names]
        units = [Unit(append(name, version), wake_at=asked[name]) for name in names]
        random.shuffle(moves)
        await asyncio.gather(
            store.commit(units[:20]), store.move(moves[:20]), store.move(moves[20:]), store.commit(units[20:])
        )
        for each in await store.find(Query(limit=100)):
            assert each.wake_at is not None
            assert each.wake_at <= max(asked[each.id], rows[each.id] or 0), (version, each.id)
            outcomes["moved" if each.wake_at == asked[each.id] != rows[each.id] else "left"] += 1
            assert each.wake_at != 10_000 + version, (version, each.id)
        tokens = {each.id: each.wake_at or 0 for each in await store.find(Query(limit=100))}
        await store.move([Move(name, tokens[name], random.choice((100, 200)), version) for name in names])
    assert min(outcomes["moved"], outcomes["left"]) > 0, outcomes


# ------------------------------------------------------------------------------------------------------------- batches


async def test_overlapping_batches_of_many_writers_neither_deadlock_nor_tear_a_unit(
    store_url: str, store: PostgresStore, watcher: asyncpg.Connection
) -> None:
    names = [f"saga {n:02}" for n in range(60)]
    versions = Counter[str]()
    won = Counter[tuple[str, int]]()
    lost = 0
    stores = [store, *[await PostgresStore.open(store_url) for _ in range(2)]]

    async def writer(number: int) -> None:
        nonlocal lost
        random = Random(number)
        for _ in range(25):
            taken = random.sample(names, 30)
            units = [unit(name, versions[name] + 1, whole=True) for name in taken]
            answer = await stores[number % 3].commit(units)
            lost += len(units) - len(answer.won)
            for each in units:
                if each.head.stream in answer.won:
                    won[each.head.stream, each.head.version] += 1
                    versions[each.head.stream] = max(versions[each.head.stream], each.head.version)

    async def sweeper() -> None:
        while not writing.done():
            claimed = await store.claim(20, 5, [REVISION])
            await store.move([Move(name, token, 9, 0) for name, token in claimed.tokens.items()])
            await asyncio.sleep(0)

    writing = asyncio.gather(*(writer(number) for number in range(6)))
    await asyncio.gather(writing, sweeper(), sweeper())
    assert set(won.values()) == {1}
    assert lost > 0
    assert await stored(store) == sorted([*won, *((f"order of {name}", version) for name, version in won)])
    assert await watcher.fetchval("select deadlocks from pg_stat_database where datname = current_database()") == 0
    for each in stores[1:]:
        await each.close()


async def test_batches_that_write_into_the_same_other_streams_do_not_wait_for_one_another(store_url: str) -> None:
    """They clash, and one of the two is refused; in opposite orders they would lock one another out."""
    stores = [await PostgresStore.open(store_url) for _ in range(2)]
    for version in range(1, 11):
        shared = [append(f"shared {number:03}", version, category="shared") for number in range(200)]
        batches = [
            [Unit(append(f"{side}{number:03}", version), None, (other,)) for number, other in enumerate(streams)]
            for side, streams in (("a", shared), ("b", shared[::-1]))
        ]
        answers = await asyncio.gather(
            *(each.commit(batch) for each, batch in zip(stores, batches, strict=True)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {Committed, RejectedError}, answers
    assert len(await log_of(stores[0])) == 10 * 400
    for each in stores:
        await each.close()
