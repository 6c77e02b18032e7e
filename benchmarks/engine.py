"""The engine on one store: real events, compare-and-set, saga rows, snapshots, the action pool."""

import asyncio
import os
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import structlog
from uuid_utils import uuid7

from benchmarks.measure import file_size, measure, report
from benchmarks.workload import ORDER, Workload, saga
from unwind.buses.memory import MemoryBus
from unwind.ports import Store
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.memory import MemoryStore
from unwind.stores.sqlite import SQLiteStore

Kind = Literal["sqlite", "memory"]


async def open_store(kind: Kind, path: Path) -> Store:
    """A fresh store."""
    return await SQLiteStore.open(path) if kind == "sqlite" else MemoryStore(lambda: time.time_ns() // 1_000)


async def main(kind: Kind, workload: Workload, sagas: int, in_flight: int) -> None:
    """Measure it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        path = Path(folder) / "engine.db"
        store = await open_store(kind, path)
        clock = SystemClock()
        definition = saga(workload)
        engine = Engine(
            store,
            MemoryBus(clock),
            [definition],
            clock=clock,
            worker="bench",
            new_id=lambda: str(uuid7()),
            jitter=random.random,
        )
        service = Service(engine, Sweeper(engine, store, clock))
        await service.start()
        ended = {"A": "completed", "B": "compensated"}[workload]

        async def one() -> None:
            state = await engine.execute(definition, ORDER)
            if state.status != ended:
                raise AssertionError(f"saga {state.saga_id} is {state.status}")

        async def run(count: int) -> None:
            left = iter(range(count))

            async def client() -> None:
                for _ in left:
                    await one()

            await asyncio.gather(*(client() for _ in range(min(in_flight, count))))

        figures = await measure(f"{kind} {workload}", sagas, run, one, lambda: engine.telemetry.work["batches"])
        await service.stop()
        await store.close()
        written = (measured := figures.sagas) * 3 + min(measured, 1_000) + 100
        figures.disk_bytes = file_size(path) // written if kind == "sqlite" else 0
        report(figures)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))  # type: ignore[arg-type]
