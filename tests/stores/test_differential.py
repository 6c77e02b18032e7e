"""Random operations: SQLite answers as the memory store does."""

from pathlib import Path

import pytest

from unwind.stores.memory import MemoryStore
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.differential import EFFECTS, Walk
from unwind.testing.store_examples import StoreClock


@pytest.mark.parametrize("seed", range(8))
async def test_sqlite_answers_as_the_oracle(seed: int, tmp_path: Path) -> None:
    clock = StoreClock()
    in_file = seed % 2 == 0
    store = await SQLiteStore.open(tmp_path / "x.db", now=clock) if in_file else SQLiteStore.in_memory(now=clock)
    walk = Walk(MemoryStore(clock), store, clock, seed)
    await walk.run(300)
    await store.close()
    assert walk.effects.keys() == EFFECTS


async def test_a_store_that_forgets_one_kind_of_write_is_found_out() -> None:
    class Forgetful(MemoryStore):
        async def move(self, moves: object) -> None:
            """Nothing is moved."""

    clock = StoreClock()
    with pytest.raises(AssertionError, match="seed 1, operation"):
        await Walk(MemoryStore(clock), Forgetful(clock), clock, 1).run(300)
