"""Group commit: who shares a transaction shares neither failures nor fate, and nobody waits for ever."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from unwind.errors import RejectedError, UnavailableError
from unwind.ports import Committed, Query, SagaRow, Unit
from unwind.stores.sqlite import SQLiteStore
from unwind.stores.sqlite.lanes import GROUP, Job, Lane, Work
from unwind.testing.store_examples import BEGINNING, REVISION, StoreClock, append, log_of, row, unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sagas.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = await SQLiteStore.open(path, now=StoreClock())
    yield store
    await store.close()


class Held:
    """A lane that is busy until released, so that what comes meanwhile makes one group."""

    def __init__(self, lane: Lane) -> None:
        self._go = threading.Event()
        started = threading.Event()

        def work(database: sqlite3.Connection) -> None:
            started.set()
            assert self._go.wait(30)

        self._busy = asyncio.ensure_future(_do(lane, work))
        self._started = started

    async def __aenter__(self) -> None:
        await asyncio.to_thread(self._started.wait, 30)

    async def __aexit__(self, *_: object) -> None:
        # What was called has to reach the queue first.
        await asyncio.sleep(0)
        self._go.set()
        await self._busy


async def _do(lane: Lane, work: Work[Any]) -> Any:
    return await lane.run(Job(work, work))


async def _together(store: SQLiteStore, *calls: Awaitable[Any]) -> list[Any]:
    async with Held(store._writer):
        waiting = asyncio.gather(*calls, return_exceptions=True)
    return list(await waiting)


def _transactions(statements: list[str]) -> int:
    return sum(statement.startswith("commit") for statement in statements)


async def test_calls_that_wait_together_are_one_transaction(store: SQLiteStore) -> None:
    statements: list[str] = []
    await _do(store._writer, lambda database: database.set_trace_callback(statements.append))
    statements.clear()
    answers = await _together(store, *(store.commit([unit(f"saga {n}", whole=True)]) for n in range(20)))
    assert [answer.won for answer in answers] == [{f"saga {n}"} for n in range(20)]
    assert _transactions(statements) == 2, "one of the job that held the lane, one of all the others"


async def test_a_failure_stays_with_its_call(store: SQLiteStore) -> None:
    await store.commit([unit("taken"), unit("lost")])
    answers = await _together(
        store,
        store.commit([unit("before", whole=True)]),
        store.commit([Unit(append("poison"), None, (append("taken"),))]),
        store.commit([unit("lost", whole=True), unit("beside")]),
        store.claim(10, 1_000, [REVISION]),
        store.commit([Unit(append("orphan"), row("orphan", None))]),
        store.lease(["lost/pay/do"], 10),
        store.commit([unit("before", 2)]),
    )
    won = [answer.won if isinstance(answer, Committed) else type(answer).__name__ for answer in answers]
    expected = [{"before"}, "RejectedError", {"beside"}, "Claimed", "RejectedError", "NoneType", {"before"}]
    assert won == expected
    assert answers[3].tokens == {"before": BEGINNING + 1_000}
    assert (await store.load({"lost": 1})).streams["lost"].leases == {"lost/pay/do": BEGINNING + 10}
    stored = sorted((entry.stream, entry.version) for entry in await log_of(store))
    assert stored == sorted(
        [("taken", 1), ("lost", 1), ("before", 1), ("order of before", 1), ("beside", 1), ("before", 2)]
    )


async def test_reads_do_not_wait_for_the_writer(store: SQLiteStore) -> None:
    await store.commit([unit("s", whole=True)])
    async with Held(store._writer):
        assert (await store.load({"s": 0})).streams.keys() == {"s"}
        assert len(await store.find(Query())) == 1
        assert len((await store.tail("c", 10)).entries) == 2


async def test_a_caller_that_gives_up_disturbs_nobody(store: SQLiteStore) -> None:
    async with Held(store._writer):
        calls = [asyncio.ensure_future(store.commit([unit(f"saga {n}")])) for n in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
    assert [(await calls[n]).won for n in (0, 2)] == [{"saga 0"}, {"saga 2"}]
    assert calls[1].cancelled()


async def test_a_full_disk_is_reported_and_survived(store: SQLiteStore) -> None:
    await store.commit([unit("s")])
    await _do(store._writer, lambda database: database.execute("pragma max_page_count = 1").fetchone())
    big = Unit(append("big", 1, b"x" * 1_000_000))
    answers = await _together(store, store.commit([big]), store.commit([big]))
    assert [(type(answer), "full" in str(answer)) for answer in answers] == [(UnavailableError, True)] * 2
    assert len(await log_of(store)) == 1
    await _do(store._writer, lambda database: database.execute("pragma max_page_count = 1000000").fetchone())
    assert (await store.commit([big])).won == {"big"}


async def test_a_lock_of_another_program_makes_the_store_unavailable_not_wrong(path: Path, store: SQLiteStore) -> None:
    await _do(store._writer, lambda database: database.execute("pragma busy_timeout = 1").fetchone())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(UnavailableError, match="database is locked"):
        await store.commit([unit("s")])
    other.execute("commit")
    other.close()
    assert (await store.commit([unit("s")])).won == {"s"}


@pytest.mark.parametrize("lane", ["_writer", "_reader"])
async def test_the_death_of_a_thread_is_never_silent(
    store: SQLiteStore, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    report = reported.get_loop().call_soon_threadsafe
    monkeypatch.setattr(threading, "excepthook", lambda args: report(reported.set_result, args.exc_value))

    def die(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    calls = [_do(getattr(store, lane), die), *(_do(getattr(store, lane), lambda _: 1) for _ in range(3))]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {UnavailableError}
    assert isinstance(await reported, ZeroDivisionError)
    with pytest.raises(UnavailableError, match="has died; restart the process"):
        await (store.commit([unit("s")]) if lane == "_writer" else store.load({"s": 0}))


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, 10**30, -(2**64), 1.5])
async def test_numbers_that_do_not_fit_are_refused(store: SQLiteStore, number: int) -> None:
    await store.commit([unit("s", whole=True)])
    late = SagaRow("s", REVISION, "order", "running", number, "", BEGINNING, BEGINNING)
    with pytest.raises(RejectedError):
        await store.commit([Unit(append("s", 2), late)])
    assert [each.wake_at for each in await store.find(Query())] == [BEGINNING]
    assert len(await log_of(store)) == 2


async def test_closing_finishes_what_waits_however_much(store: SQLiteStore) -> None:
    async with Held(store._writer):
        commits = [asyncio.ensure_future(store.commit([unit(f"saga {n}")])) for n in range(2 * GROUP + 3)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store._writer.close())
    await closing
    assert [(await commit).won for commit in commits] == [{f"saga {n}"} for n in range(2 * GROUP + 3)]


async def test_a_batch_of_any_size_is_written(store: SQLiteStore) -> None:
    for number, size in enumerate((1, 2, 3, 64, 65, 2_048, 20_000)):
        names = {f"{number}.{n}" for n in range(size)}
        assert (await store.commit([unit(name) for name in names])).won == names
        assert (await store.load(dict.fromkeys(names, 0))).streams.keys() == names
