"""The engine on one store: real events, compare-and-set, saga rows, snapshots, the action pool.

`recorded`: each saga is started under an idempotency key, and each of its steps writes to the order's own stream too.
`uncounted`: nothing is counted for the metrics, to see what counting costs.
"""

import asyncio
import os
import random
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import msgspec
import structlog
from uuid_utils import uuid7

from benchmarks.measure import Kind, database_size, file_size, fresh_database, measure, report
from benchmarks.workload import ORDER, Workload, saga
from unwind.buses.memory import MemoryBus
from unwind.ports import Store
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.unit import Decided
from unwind.stores.memory import MemoryStore
from unwind.stores.migrations.postgres import migrate_postgres
from unwind.stores.postgres.store import PostgresStore
from unwind.stores.sqlite import SQLiteStore


async def open_store(kind: Kind, path: Path) -> tuple[Store, str]:
    """A fresh store, and its database's URL where it has one."""
    if kind == "postgres":
        url = await fresh_database("engine")
        await migrate_postgres(url)
        return await PostgresStore.open(url), url
    return await SQLiteStore.open(path) if kind == "sqlite" else MemoryStore(lambda: time.time_ns() // 1_000), ""


class Uncounted(Telemetry):
    """Sees nothing."""

    def saw(self, settled: Sequence[Decided]) -> None:
        """Look away."""


async def main(kind: Kind, workload: Workload, sagas: int, in_flight: int, words: Collection[str] = ()) -> None:
    """Measure it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        path = Path(folder) / "engine.db"
        store, url = await open_store(kind, path)
        clock, recorded = SystemClock(), "recorded" in words
        definition = saga(workload, recorded=recorded)
        engine = Engine(
            store,
            MemoryBus(clock),
            [definition],
            clock=clock,
            worker="bench",
            new_id=lambda: str(uuid7()),
            jitter=random.random,
            telemetry=Uncounted() if "uncounted" in words else None,
        )
        service = Service(engine, Sweeper(engine, store, clock))
        await service.start()
        ended = {"A": "completed", "B": "compensated"}[workload]

        async def one() -> None:
            if recorded:
                # What a web front does with an Idempotency-Key header.
                key = str(uuid7())
                saga_id, order = str(uuid5(NAMESPACE_URL, key)), msgspec.structs.replace(ORDER, id=key)
                digest = sha256(msgspec.json.encode(order)).hexdigest()
                state = await engine.execute(definition, order, saga_id=saga_id, request_hash=digest)
            else:
                state = await engine.execute(definition, ORDER)
            if state.status != ended:
                raise AssertionError(f"saga {state.saga_id} is {state.status}")

        async def run(count: int) -> None:
            left = iter(range(count))

            async def client() -> None:
                for _ in left:
                    await one()

            await asyncio.gather(*(client() for _ in range(min(in_flight, count))))

        name = f"{kind} {workload}{'+' if recorded else ''}"
        size = disk(kind, path, url)
        figures = await measure(name, sagas, run, one, lambda: engine.telemetry.batches, size)
        await service.stop()
        await store.close()
        report(figures)


def disk(kind: Kind, path: Path, url: str) -> Callable[[], Awaitable[int]]:
    """How to tell the bytes on disk; there are none in memory."""

    async def size() -> int:
        if kind == "postgres":
            connection = await asyncpg.connect(url)
            try:
                return await database_size(connection)
            finally:
                await connection.close()
        if kind == "sqlite":
            with closing(sqlite3.connect(path)) as database:
                database.execute("pragma wal_checkpoint(truncate)").fetchall()
        return file_size(path)

    return size


if __name__ == "__main__":
    import uvloop

    words = sys.argv[1:]
    uvloop.run(main(words[0], words[1], int(words[2]), int(words[3]), words[4:]))  # type: ignore[arg-type]
