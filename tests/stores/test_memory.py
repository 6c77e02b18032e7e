"""The memory store keeps the promises of the port."""

from collections.abc import AsyncIterator

import pytest

from unwind.ports import Store
from unwind.stores.memory import MemoryStore
from unwind.testing.store_examples import StoreClock
from unwind.testing.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    async def store(self, clock: StoreClock) -> AsyncIterator[Store]:
        store = MemoryStore(clock)
        yield store
        await store.close()
