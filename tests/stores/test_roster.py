"""Every store keeps the roster alike: in a dict, in an SQLite file and in memory, on a PostgreSQL server."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unwind.errors import UnavailableError
from unwind.roster import Roster
from unwind.stores.memory_roster import MemoryRoster
from unwind.stores.migrations.revisions import POSTGRES, SQLITE, newest
from unwind.stores.postgres.store import PostgresStore
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.roster_suite import RosterSuite
from unwind.testing.store_examples import StoreClock


class TestMemoryRoster(RosterSuite):
    @pytest.fixture
    def roster(self, clock: StoreClock) -> Roster:
        return MemoryRoster(clock)


class TestSQLiteRoster(RosterSuite):
    @pytest.fixture
    async def roster(self, clock: StoreClock, tmp_path: Path) -> AsyncIterator[Roster]:
        store = await SQLiteStore.open(tmp_path / "sagas.db", now=clock)
        yield store.roster
        await store.close()


class TestSQLiteRosterInMemory(RosterSuite):
    @pytest.fixture
    async def roster(self, clock: StoreClock) -> AsyncIterator[Roster]:
        store = SQLiteStore.in_memory(now=clock)
        yield store.roster
        await store.close()


@pytest.mark.integration
class TestPostgresRoster(RosterSuite):
    @pytest.fixture
    async def roster(self, clock: StoreClock, store_url: str) -> AsyncIterator[Roster]:
        store = await PostgresStore.open(store_url, now=clock)
        yield store.roster
        await store.close()


async def test_a_file_says_which_sqlite_and_which_schema(tmp_path: Path) -> None:
    store = await SQLiteStore.open(tmp_path / "sagas.db")
    about = await store.roster.about()
    assert (about.kind, about.version, about.schema) == ("SQLite", sqlite3.sqlite_version, newest(SQLITE))
    await store.close()
    with pytest.raises(UnavailableError):
        await store.roster.announce("w", "{}")


@pytest.mark.integration
async def test_a_server_says_its_version_and_which_schema(store_url: str) -> None:
    store = await PostgresStore.open(store_url)
    about = await store.roster.about()
    assert (about.kind, about.schema) == ("PostgreSQL", newest(POSTGRES))
    assert about.version[0].isdigit()
    await store.close()
