"""The ceiling: asyncio tasks over a group-commit journal, with nothing else of an engine.

Every step's result is durable before the next step begins. SQLite: one writer thread commits whatever waits, up to
2 000 rows at a time (WAL, `synchronous=FULL`). PostgreSQL: two connections, each inserts up to 256 rows with one
statement. There is no compare-and-set, no saga row, no read, no recovery.

`plain`: on asyncio's own event loop, in an interpreter as it comes, as such a journal is written by whoever needs one.
Otherwise on the loop and with the settings that the engine has.
"""

import asyncio
import os
import sqlite3
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import asyncpg
import msgspec

from benchmarks.measure import Kind, database_size, file_size, fresh_database, measure, report
from benchmarks.workload import ORDER, Result, Workload

Row = tuple[uuid.UUID, int, int, bytes]
_encode = msgspec.msgpack.Encoder().encode


class Writer(Protocol):
    """Where rows become durable."""

    most: int
    """Rows per commit."""
    lanes: int
    """Commits at a time."""

    async def write(self, lane: int, rows: list[Row]) -> None:
        """Durable on return."""
        ...

    async def size(self) -> int:
        """Bytes on disk."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class SQLiteWriter:
    """A thread on a file."""

    most = 2_000
    lanes = 1

    def __init__(self, folder: str) -> None:
        """Create the table."""
        self.path = Path(folder) / "ceiling.db"
        self.database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=4000", "cache_size=-65536"):
            self.database.execute(f"pragma {pragma}")
        self.database.execute(
            "create table journal (id integer primary key, saga blob not null, seq int not null, "
            "kind int not null, body blob not null)"
        )
        self.thread = ThreadPoolExecutor(1)

    async def write(self, lane: int, rows: list[Row]) -> None:
        await asyncio.get_running_loop().run_in_executor(self.thread, self._write, rows)

    def _write(self, rows: list[Row]) -> None:
        self.database.execute("begin immediate")
        self.database.executemany(
            "insert into journal(saga, seq, kind, body) values (?, ?, ?, ?)",
            [(saga.bytes, seq, kind, body) for saga, seq, kind, body in rows],
        )
        self.database.execute("commit")

    async def size(self) -> int:
        self.database.execute("pragma wal_checkpoint(truncate)").fetchall()
        return file_size(self.path)

    async def close(self) -> None:
        self.thread.shutdown()
        self.database.close()


class PostgresWriter:
    """Two connections, one multi-row insert each."""

    most = 256
    lanes = 2

    def __init__(self, connections: list[asyncpg.Connection]) -> None:
        """Use `open`."""
        self.connections = connections

    @classmethod
    async def open(cls) -> "PostgresWriter":
        """On a fresh database."""
        url = await fresh_database("ceiling")
        connections = [await asyncpg.connect(url) for _ in range(cls.lanes)]
        await connections[0].execute(
            "create table journal (saga uuid not null, seq int2 not null, kind int2 not null, body bytea not null, "
            "primary key (saga, seq))"
        )
        return cls(connections)

    async def write(self, lane: int, rows: list[Row]) -> None:
        await self.connections[lane].execute(
            "insert into journal (saga, seq, kind, body) "
            "select * from unnest($1::uuid[], $2::int2[], $3::int2[], $4::bytea[])",
            *zip(*rows, strict=True),
        )

    async def size(self) -> int:
        return await database_size(self.connections[0])

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()


class Journal:
    """Rows wait until a lane is free; one insert and one commit for all that wait; then their tasks go on."""

    def __init__(self, writer: Writer) -> None:
        """Empty."""
        self.writer = writer
        self.waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self.some = asyncio.Event()
        self.commits = 0

    def append(self, saga: uuid.UUID, seq: int, kind: int, body: bytes) -> asyncio.Future[None]:
        """Resolved when the row is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(((saga, seq, kind, body), future))
        self.some.set()
        return future

    async def run(self, lane: int) -> None:
        """Write until cancelled."""
        most = self.writer.most
        while True:
            if not self.waiting:
                self.some.clear()
                await self.some.wait()
                continue
            batch, self.waiting = self.waiting[:most], self.waiting[most:]
            await self.writer.write(lane, [row for row, _ in batch])
            self.commits += 1
            for _, future in batch:
                future.set_result(None)


STEPS = ("reserve_inventory", "process_payment", "create_shipment", "complete_order")


async def step(name: str, *, refused: bool) -> Result | None:
    """A trivial step."""
    return None if refused else Result(name, ORDER.id)


async def one_saga(journal: Journal, workload: Workload) -> None:
    """One saga: five rows for A, six for B."""
    saga = uuid.UUID(bytes=os.urandom(16))
    await journal.append(saga, 0, 0, _encode(ORDER))
    done = 0
    for seq, name in enumerate(STEPS, 1):
        result = await step(name, refused=workload == "B" and name == "create_shipment")
        await journal.append(saga, seq, 1, _encode(result))
        if result is None:
            break
        done += 1
    else:
        return
    for seq in range(done):
        await journal.append(saga, done + 2 + seq, 2, _encode(await step("undo", refused=False)))


async def main(kind: Kind, workload: Workload, sagas: int, in_flight: int, *, plain: bool = False) -> None:
    """Measure it."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        writer: Writer = SQLiteWriter(folder) if kind == "sqlite" else await PostgresWriter.open()
        journal = Journal(writer)
        tasks = [asyncio.create_task(journal.run(lane)) for lane in range(writer.lanes)]

        async def run(count: int) -> None:
            left = iter(range(count))

            async def client() -> None:
                for _ in left:
                    await one_saga(journal, workload)

            await asyncio.gather(*(client() for _ in range(min(in_flight, count))))

        report(
            await measure(
                f"{'plain' if plain else 'ceiling'} {kind} {workload}",
                sagas,
                run,
                lambda: one_saga(journal, workload),
                lambda: journal.commits,
                writer.size,
                tuned=not plain,
            )
        )
        for task in tasks:
            task.cancel()
        await writer.close()


if __name__ == "__main__":
    import uvloop

    words, plain = sys.argv[1:], "plain" in sys.argv
    work = main(words[0], words[1], int(words[2]), int(words[3]), plain=plain)  # type: ignore[arg-type]
    asyncio.run(work) if plain else uvloop.run(work)
