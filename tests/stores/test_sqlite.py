"""The SQLite store keeps the promises of the port: in a file with its threads, and in memory without any."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from unwind.ports import Store
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.store_examples import StoreClock
from unwind.testing.store_suite import StoreSuite


class TestSQLiteStore(StoreSuite):
    @pytest.fixture
    async def store(self, clock: StoreClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = await SQLiteStore.open(tmp_path / "sagas.db", now=clock)
        yield store
        await store.close()


class TestSQLiteStoreInMemory(StoreSuite):
    @pytest.fixture
    async def store(self, clock: StoreClock) -> AsyncIterator[Store]:
        store = SQLiteStore.in_memory(now=clock)
        yield store
        await store.close()
