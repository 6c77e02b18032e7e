"""The ceiling: asyncio tasks over a group-commit journal on SQLite, with nothing else of an engine.

Every step's result is durable before the next step begins; one writer thread commits whatever waits, up to 2 000 rows
at a time (WAL, `synchronous=FULL`). There is no compare-and-set, no index, no saga row, no read, no recovery.
"""

import asyncio
import os
import sqlite3
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.measure import file_size, measure, report
from benchmarks.workload import ORDER, Result, Workload

ROWS = 2_000
Row = tuple[bytes, int, int, bytes]
_encode = msgspec.msgpack.Encoder().encode


class Journal:
    """Rows wait until the writer is free; one insert and one commit for all that wait; then their tasks go on."""

    def __init__(self, path: Path) -> None:
        """Create the table."""
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=4000", "cache_size=-65536"):
            self.database.execute(f"pragma {pragma}")
        self.database.execute(
            "create table journal (id integer primary key, saga blob not null, seq int not null, "
            "kind int not null, body blob not null)"
        )
        self.thread = ThreadPoolExecutor(1)
        self.waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self.some = asyncio.Event()
        self.commits = 0

    def append(self, saga: bytes, seq: int, kind: int, body: bytes) -> asyncio.Future[None]:
        """Resolved when the row is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(((saga, seq, kind, body), future))
        self.some.set()
        return future

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self.waiting:
                self.some.clear()
                await self.some.wait()
                continue
            batch, self.waiting = self.waiting[:ROWS], self.waiting[ROWS:]
            await loop.run_in_executor(self.thread, self._write, [row for row, _ in batch])
            self.commits += 1
            for _, future in batch:
                future.set_result(None)

    def _write(self, rows: list[Row]) -> None:
        self.database.execute("begin immediate")
        self.database.executemany("insert into journal(saga, seq, kind, body) values (?, ?, ?, ?)", rows)
        self.database.execute("commit")


STEPS = ("reserve_inventory", "process_payment", "create_shipment", "complete_order")


async def step(name: str, *, refused: bool) -> Result | None:
    """A trivial step."""
    return None if refused else Result(name, ORDER.id)


async def one_saga(journal: Journal, workload: Workload) -> None:
    """One saga: five rows for A, six for B."""
    saga = uuid.UUID(bytes=os.urandom(16)).bytes
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


async def main(workload: Workload, sagas: int, in_flight: int) -> None:
    """Measure it."""
    with TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        path = Path(folder) / "ceiling.db"
        journal = Journal(path)
        writer = asyncio.create_task(journal.run())

        async def run(count: int) -> None:
            left = iter(range(count))

            async def client() -> None:
                for _ in left:
                    await one_saga(journal, workload)

            await asyncio.gather(*(client() for _ in range(min(in_flight, count))))

        def size() -> int:
            journal.database.execute("pragma wal_checkpoint(truncate)").fetchall()
            return file_size(path)

        report(
            await measure(
                f"ceiling {workload}", sagas, run, lambda: one_saga(journal, workload), lambda: journal.commits, size
            )
        )
        writer.cancel()
        journal.thread.shutdown()
        journal.database.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))  # type: ignore[arg-type]
