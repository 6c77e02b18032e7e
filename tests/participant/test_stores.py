"""The databases of participants: the laws of all of them, and what is special to an SQLite file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from unwind.errors import SettingsError, UnavailableError
from unwind.ports import ParticipantStore, ParticipantTransaction
from unwind.stores.memory_barrier import MemoryParticipantStore
from unwind.stores.sqlite.barrier import SQLiteParticipantStore
from unwind.stores.sqlite.guard import hold_file
from unwind.testing.barrier_suite import BarrierSuite, Desk

LEDGER = "CREATE TABLE ledger (entry TEXT NOT NULL)"


class TestMemoryParticipantStore(BarrierSuite[list[str]]):
    @pytest.fixture
    def store(self) -> ParticipantStore[list[str]]:
        return MemoryParticipantStore([], lambda: 0, clone=list)

    def write(self, tx: list[str], entry: str) -> None:
        tx.append(entry)

    async def ledger(self, store: ParticipantStore[list[str]]) -> list[str]:
        assert isinstance(store, MemoryParticipantStore)
        return list(store.state)


class TestSQLiteParticipantStore(BarrierSuite[sqlite3.Connection]):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ParticipantStore[sqlite3.Connection]]:
        store = await SQLiteParticipantStore.open(tmp_path / "file.db", LEDGER)
        yield store
        await store.close()

    def write(self, tx: sqlite3.Connection, entry: str) -> None:
        tx.execute("INSERT INTO ledger VALUES (?)", (entry,))

    async def ledger(self, store: ParticipantStore[sqlite3.Connection]) -> list[str]:
        assert isinstance(store, SQLiteParticipantStore)
        return await store.read(lambda tx: [entry for (entry,) in tx.execute("SELECT entry FROM ledger")])

    async def test_answers_and_effects_outlive_the_process(self, store: SQLiteParticipantStore, tmp_path: Path) -> None:
        [first] = await Desk(self, store).give(("do", "ok"))
        await store.close()
        reopened = await SQLiteParticipantStore.open(tmp_path / "file.db", [LEDGER])
        again = Desk(self, reopened)
        assert await again.give(("do", "ok")) == [first]
        assert await again.effects() == ["do"]
        await reopened.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteParticipantStore]:
    store = await SQLiteParticipantStore.open(tmp_path / "file.db", LEDGER)
    yield store
    await store.close()


async def test_a_closed_memory_store_is_unavailable() -> None:
    store = MemoryParticipantStore([""], lambda: 0)
    await store.close()

    async def nothing(tx: ParticipantTransaction[list[str]]) -> None:
        return None

    with pytest.raises(UnavailableError):
        await store.transact(nothing)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "commit()", "rollback()", "executescript()"])
async def test_a_handler_cannot_end_the_transaction(store: SQLiteParticipantStore, end: str) -> None:
    async def meddle(tx: ParticipantTransaction[sqlite3.Connection]) -> None:
        await tx.savepoint()
        tx.handle.execute("INSERT INTO ledger VALUES ('torn')")
        match end:
            case "commit()":
                tx.handle.commit()
            case "rollback()":
                tx.handle.rollback()
            case "executescript()":
                tx.handle.executescript("SELECT 1")
            case _:
                tx.handle.execute(end)

    for _ in range(2):  # the second time, the statement is prepared already
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            await store.transact(meddle)
    assert await store.read(lambda tx: tx.execute("SELECT * FROM ledger").fetchall()) == []


async def test_a_reader_cannot_write(store: SQLiteParticipantStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store.read(lambda tx: tx.execute("INSERT INTO ledger VALUES ('sneaked in')"))
    assert await store.read(lambda tx: tx.execute("SELECT * FROM ledger").fetchall()) == []


async def test_a_handler_that_waits_inside_the_transaction_is_refused(store: SQLiteParticipantStore) -> None:
    async def wait(tx: ParticipantTransaction[sqlite3.Connection]) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="prepare"):
        await store.transact(wait)


async def test_each_script_of_the_schema_runs_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    first = "CREATE TABLE stock (product TEXT); INSERT INTO stock VALUES ('widget');"
    await (await SQLiteParticipantStore.open(path, first)).close()
    store = await SQLiteParticipantStore.open(path, [first, "ALTER TABLE stock ADD COLUMN level INTEGER DEFAULT 7"])
    assert await store.read(lambda tx: tx.execute("SELECT * FROM stock").fetchall()) == [("widget", 7)]
    await store.close()


async def test_a_script_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    with pytest.raises(SettingsError, match=r"file\.db.*script 1 of the tables: near \"nonsense\".*nothing of it"):
        await SQLiteParticipantStore.open(path, "CREATE TABLE stock (product TEXT); CREATE nonsense")
    store = await SQLiteParticipantStore.open(path, "CREATE TABLE stock (product TEXT)")
    assert await store.read(lambda tx: tx.execute("SELECT * FROM stock").fetchall()) == []
    await store.close()


@pytest.mark.parametrize("changed", ["CREATE TABLE ledger (entry TEXT, more TEXT)", "CREATE nonsense"])
async def test_a_script_that_was_changed_after_it_was_run_is_refused(tmp_path: Path, changed: str) -> None:
    path = tmp_path / "file.db"
    await (await SQLiteParticipantStore.open(path, [LEDGER, "CREATE TABLE stock (product TEXT)"])).close()
    with pytest.raises(SettingsError, match=r"script 1 of the tables was changed .* add a further script"):
        await SQLiteParticipantStore.open(path, [changed, "CREATE TABLE stock (product TEXT)"])
    with pytest.raises(SettingsError, match=r"script 2 of the tables was changed"):
        await SQLiteParticipantStore.open(path, [LEDGER, changed, "CREATE TABLE more (x)"])
    await (await SQLiteParticipantStore.open(path, [LEDGER, "CREATE TABLE stock (product TEXT)"])).close()


async def test_a_file_from_before_scripts_were_hashed_takes_those_it_is_opened_with(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    await (await SQLiteParticipantStore.open(path, [LEDGER, "CREATE TABLE stock (product TEXT)"])).close()
    with closing(sqlite3.connect(path)) as before:
        before.execute("DROP TABLE barrier_scripts")
    with pytest.raises(SettingsError, match=r"schema 2.*knows 1"):
        await SQLiteParticipantStore.open(path, "CREATE TABLE other (x)")
    reworded = ["CREATE TABLE ledger (entry)", "CREATE TABLE stock (product)"]
    await (await SQLiteParticipantStore.open(path, [*reworded, "CREATE TABLE newer (x)"])).close()
    with pytest.raises(SettingsError, match=r"script 1 of the tables was changed"):
        await SQLiteParticipantStore.open(path, [LEDGER, reworded[1], "CREATE TABLE newer (x)"])


async def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    await (await SQLiteParticipantStore.open(path, [LEDGER, "CREATE TABLE newer (x)"])).close()
    with pytest.raises(SettingsError, match=r"schema 2.*knows 1"):
        await SQLiteParticipantStore.open(path, [LEDGER])


async def test_a_closed_file_is_unavailable_and_may_be_closed_again(store: SQLiteParticipantStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(UnavailableError):
        await store.read(lambda tx: tx.execute("SELECT 1"))


async def test_the_file_is_guarded_against_a_writer_that_would_corrupt_it_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    store = await SQLiteParticipantStore.open(path, LEDGER)
    with pytest.raises(SettingsError, match=r"3\.51\.3"):
        hold_file(path, (3, 40, 1))
    await store.close()
    hold_file(path, (3, 40, 1)).close()


async def test_commits_are_durable_and_constraints_between_tables_hold(store: SQLiteParticipantStore) -> None:
    async def pragma(name: str) -> object:
        return (await store.read(lambda tx: tx.execute(f"PRAGMA {name}").fetchone()))[0]

    assert await pragma("journal_mode") == "wal"
    assert await pragma("synchronous") == 2
    assert await pragma("foreign_keys") == 1


async def test_only_its_owner_may_read_the_file(store: SQLiteParticipantStore, tmp_path: Path) -> None:
    assert (tmp_path / "file.db").stat().st_mode & 0o777 == 0o600
