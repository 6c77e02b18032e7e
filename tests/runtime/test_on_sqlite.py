"""The same engine on the real store: a file, threads, and time that passes by itself."""

import asyncio
from pathlib import Path
from random import random

import pytest
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Deed, Rig, at_once, refusing, virtual
from uuid_utils import uuid7

from unwind.buses.memory import MemoryBus
from unwind.core.codec import fold
from unwind.errors import RejectedError
from unwind.ports import Query
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.publisher import Publisher
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.sqlite.store import SQLiteStore

QUICK = trip(*(Deed(name, at_once) for name in "abcd"))


def worker(store: SQLiteStore, name: str) -> tuple[Engine, Service]:
    clock = SystemClock()
    bus = MemoryBus(clock)
    engine = Engine(store, bus, [QUICK], clock=clock, worker=name, new_id=lambda: str(uuid7()), jitter=random)
    return engine, Service(engine, Sweeper(engine, store, clock), Publisher(store, bus, clock, engine.limits))


async def test_sagas_end_on_a_file_and_are_there_after_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "sagas.db"
    store = await SQLiteStore.open(path)
    engine, service = worker(store, "w1")
    await service.start()
    started = await asyncio.gather(*(engine.start(QUICK, Trip()) for _ in range(50)))
    ended = await asyncio.gather(*(engine.ended(each.saga_id) for each in started))
    assert {state.status for state in ended} == {"completed"}
    await service.stop()
    await store.close()
    store = await SQLiteStore.open(path)
    rows = await store.find(Query(limit=100))
    assert {row.id: row.status for row in rows} == {each.saga_id: "completed" for each in started}
    stored = (await store.load({each.saga_id: 0 for each in started}, snapshots=False)).streams
    assert {saga_id: fold(stream.commits) for saga_id, stream in stored.items()} == {
        state.saga_id: state for state in ended
    }
    await store.close()


async def test_two_workers_on_one_file_write_one_log(tmp_path: Path) -> None:
    store = await SQLiteStore.open(tmp_path / "sagas.db")
    workers = [worker(store, name) for name in ("w1", "w2")]
    for _, service in workers:
        await service.start()
    ids = [f"saga-{number}" for number in range(20)]
    starts = [engine.start(QUICK, Trip(), saga_id=saga_id) for saga_id in ids for engine, _ in workers]
    created = [each.created for each in await asyncio.gather(*starts)]
    assert sum(created) == 20
    for engine, _ in workers:
        states = await asyncio.gather(*(engine.ended(saga_id) for saga_id in ids))
        assert {state.status for state in states} == {"completed"}
    for _, service in workers:
        await service.stop()
    await store.close()


@virtual
async def test_undoing_racing_and_waking_work_on_sql_in_virtual_time() -> None:
    saga = trip(booking("flight"), booking("hotel"))
    epoch = Rig(saga)
    store = SQLiteStore.in_memory(now=epoch.now)
    rig = Rig(saga, store=store)
    await rig.agency(refusing("hotel"))
    engines = [await rig.launch(name, sweeps=True) for name in ("w1", "w2")]
    started = [await engines[number % 2].start(saga, Trip()) for number in range(20)]
    for each in started:
        assert (await engines[0].ended(each.saga_id)).status == "compensated"
    with pytest.raises(RejectedError):
        await engines[0].start(saga, Trip(), saga_id="nul\0")
    assert len(await store.find(Query(limit=100))) == 20
