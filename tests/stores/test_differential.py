"""Random operations: SQLite and PostgreSQL answer as the memory store does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from unwind.census import Living, Paces, Tally
from unwind.ports import Claimed, Committed, Move, Query, SagaRow, Unit
from unwind.stores.memory import MemoryStore
from unwind.stores.postgres.store import PostgresStore
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.differential import EFFECTS, Walk
from unwind.testing.store_examples import StoreClock


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.integration) for seed in range(4, 8))]
)
async def test_sqlite_answers_as_the_oracle(seed: int, tmp_path: Path) -> None:
    clock = StoreClock()
    in_file = seed % 2 == 0
    store = await SQLiteStore.open(tmp_path / "x.db", now=clock) if in_file else SQLiteStore.in_memory(now=clock)
    walk = Walk(MemoryStore(clock), store, clock, seed)
    await walk.run(300)
    await store.close()
    assert walk.effects.keys() == EFFECTS


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(4))
async def test_postgres_answers_as_the_oracle(seed: int, store_url: str) -> None:
    clock = StoreClock()
    store = await PostgresStore.open(store_url, now=clock)
    walk = Walk(MemoryStore(clock), store, clock, seed)
    await walk.run(300)
    await store.close()
    assert walk.effects.keys() == EFFECTS


class Untouched(MemoryStore):
    """Moves nothing."""

    async def move(self, moves: Sequence[Move]) -> None:
        self._refuse_when_closed()


class Unpushed(MemoryStore):
    """Claims without a push."""

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        rows = dict(self._rows)
        claimed = await super().claim(limit, push, revisions)
        self._rows = rows
        return claimed


class Unleased(MemoryStore):
    """Leases end at once."""

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        await super().lease(effect_ids, 0)


class Stuck(MemoryStore):
    """The cursor stays where it is."""

    async def advance(self, consumer: str, cursor: str) -> None:
        self._refuse_when_closed()


class Late(MemoryStore):
    """Leaves the wake-up where it is when a unit brings no row."""

    async def commit(self, units: Sequence[Unit]) -> Committed:
        return await super().commit([replace(unit, wake_at=None) for unit in units])


class Torn(MemoryStore):
    """Loses what goes with a unit of a batch whose last unit met a conflict."""

    async def commit(self, units: Sequence[Unit]) -> Committed:
        lost = units[-1].head.version in self._streams.get(units[-1].head.stream, ())
        return await super().commit([replace(unit, others=()) for unit in units] if lost else units)


class Sinking(MemoryStore):
    """Takes the snapshot that comes last for the newest."""

    async def commit(self, units: Sequence[Unit]) -> Committed:
        committed = await super().commit(units)
        self._snapshots |= {each.head.stream: each.snapshot for each in units if each.snapshot is not None}
        return committed


class Renaming(MemoryStore):
    """A later attribute takes the place of the first."""

    async def commit(self, units: Sequence[Unit]) -> Committed:
        committed = await super().commit(units)
        for unit in units:
            if unit.row is not None and unit.head.stream in committed.won:
                self._attributes.setdefault(unit.row.id, {}).update(unit.attributes)
        return committed


class Lax(MemoryStore):
    """Any of the attributes that are asked for will do."""

    async def find(self, query: Query) -> Sequence[SagaRow]:
        return await super().find(replace(query, attributes=query.attributes[:1]))


class Halved(MemoryStore):
    """Counts a page."""

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        ids = tuple(row.id for row in await self.find(query)) or ("none",)
        return await super().tally(replace(query, ids=ids), amounts)


class Rounding(MemoryStore):
    """Adds up as a float does."""

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        found = await super().tally(query, amounts)
        return [each if each.amount is None else replace(each, amount=int(float(each.amount))) for each in found]


class Youthful(MemoryStore):
    """Takes the last change for the first."""

    async def living(self, revisions: Sequence[str]) -> Living:
        living = await super().living(revisions)
        last = max((row.updated_at for row in self._rows.values()), default=0)
        return replace(living, standings=tuple(replace(each, updated_at=last) for each in living.standings))


class Endless(MemoryStore):
    """Counts what began, and nothing that ended."""

    async def paces(self, since: int, stretch: int) -> Paces:
        found = await super().paces(since, stretch)
        return replace(found, paces=tuple(each for each in found.paces if each.what == "started"))


class Early(MemoryStore):
    """Tells what ended first."""

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        return (await super().ended(definition, 1_000))[::-1][:limit]


WRITING = (Untouched, Unpushed, Unleased, Stuck, Late, Torn, Sinking, Renaming)
READING = (Lax, Halved, Rounding, Youthful, Endless, Early)


@pytest.mark.parametrize("broken", [*WRITING, *READING])
async def test_a_store_with_one_fault_is_found_out(broken: type[MemoryStore]) -> None:
    clock = StoreClock()
    with pytest.raises(AssertionError, match="seed 1, operation"):
        await Walk(MemoryStore(clock), broken(clock), clock, 1).run(300)
