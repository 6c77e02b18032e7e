"""The dashboard over many live sagas: how long its lists take, how large pages are, how often one is told of news.

`python -m benchmarks.dashboard SAGAS` is the process that is asked: it fills its store, then begins
some sagas a second.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from tests.servers.process import ServerProcess

from benchmarks.fleet import ROOT, migrate
from benchmarks.measure import fresh_database
from unwind import ActionCall, ActionStep, Attribute, Kind, Saga, SignalStep
from unwind.bootstrap import open_worker
from unwind.cli import Served, Settings, serve

READERS = 4
"""Connections that each ask for the next page when the last was answered."""
EACH = 50
"""Pages that each of them asks for."""
AT_A_TIME = 500
LISTENED = 10.0
"""Seconds for which news are counted."""
PATHS = (
    "/",
    "/sagas",
    "/sagas?status=running",
    "/sagas?status=running&status=blocked&definition=waiting",
    "/sagas?attribute=customer&value=customer-7",
    "/sagas?text=customer-7",
    "/api/v1/sagas",
    "/api/v1/sagas?status=running",
    "/api/v1/sagas/count?status=running",
)


class Case(Struct, frozen=True):
    """The context."""

    customer: str
    total: int


class Prepare(ActionStep[Case, None]):
    """Costs nothing."""

    name = "prepare"
    kind = Kind.PIVOT

    async def run(self, case: Case, call: ActionCall) -> None:
        """Done."""


class Approve(SignalStep[Case, None]):
    """Waits for somebody who does not come."""

    name = "approve"
    timeout = timedelta(days=7)


FOUND_BY: Mapping[str, Attribute[Case, Any]] = {
    "customer": Attribute(str, lambda case: case.customer),
    "total": Attribute(int, lambda case: case.total, amount=True),
}
WAITING = Saga("waiting", context=Case, steps=[Approve()], attributes=FOUND_BY)
BRIEF = Saga("brief", context=Case, steps=[Prepare()], attributes=FOUND_BY)


@asynccontextmanager
async def filled(settings: Settings, *, sagas: int) -> AsyncIterator[Served]:
    """The application, once there are so many live sagas; meanwhile others come and go."""
    from unwind.dashboard import Dashboard  # noqa: PLC0415 - the parent process needs neither
    from unwind.http import About, create_app  # noqa: PLC0415

    async with open_worker(settings, [WAITING, BRIEF]) as worker:
        for begin in range(0, sagas, AT_A_TIME):
            numbers = range(begin, min(sagas, begin + AT_A_TIME))
            await asyncio.gather(*(worker.engine.start(WAITING, Case(f"customer-{n % 100}", n)) for n in numbers))
        dashboard = Dashboard("Benchmark")
        app = create_app(
            About("Benchmark", "1", "Many sagas."),
            *(worker.engine, worker.queries, worker.checks),
            bulk=worker.bulk,
            keys=worker.keys,
            pages=[dashboard.router],
        )

        async def come_and_go() -> None:
            while True:
                await worker.engine.execute(BRIEF, Case("customer-0", 1))
                await asyncio.sleep(0.05)

        coming = asyncio.create_task(come_and_go())
        try:
            yield Served(app, worker.service.failed, on_stop=dashboard.stop)
        finally:
            coming.cancel()


class Asked(ServerProcess):
    """The process that is asked."""

    READY = b"is ready"

    def __init__(self, folder: Path, sagas: int, database: str) -> None:
        super().__init__(folder)
        self._sagas = sagas
        self._database = database

    def command(self) -> list[str | Path]:
        return [sys.executable, "-m", "benchmarks.dashboard", str(self._sagas)]

    def environment(self) -> dict[str, str]:
        ours = {"DATABASE_URL": self._database, "SERVER_PORT": str(self.port), "UNWIND_LOG_LEVEL": "warning"}
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **ours}


def look(url: str, sagas: int) -> list[dict[str, Any]]:
    """Each case on SQLite and on the PostgreSQL at `url`."""
    rows: list[dict[str, Any]] = []
    for kind in ("sqlite", "postgres"):
        with TemporaryDirectory(prefix="unwind-pages-", ignore_cleanup_errors=True) as name:
            database = f"sqlite:///{name}/unwind.db"
            if kind == "postgres":
                database = asyncio.run(fresh_database("pages", url))
                migrate(database)
            asked = Asked(Path(name) / kind, sagas, database)
            try:
                asked.start()
                rows.append(asyncio.run(_measure(kind, f"http://127.0.0.1:{asked.port}")))
            finally:
                asked.stop()
    return rows


async def _measure(kind: str, url: str) -> dict[str, Any]:
    pages = {}
    for path in PATHS:
        spent, size = await _read(url, path)
        quantiles = statistics.quantiles(spent, n=20)
        pages[path] = {"p50_ms": statistics.median(spent), "p95_ms": quantiles[-1], "bytes": size}
    return {"case": kind, "pages": pages, "news_per_second": await _news(url) / LISTENED}


async def _read(url: str, path: str) -> tuple[Sequence[float], int]:
    """Milliseconds that each answer took, and the bytes of one."""
    spent: list[float] = []
    sizes: list[int] = []

    async def reader() -> None:
        stream, writer = await _connected(url)
        for _ in range(EACH):
            began = time.perf_counter()
            sizes.append(await _get(stream, writer, path))
            spent.append((time.perf_counter() - began) * 1e3)
        writer.close()

    await asyncio.gather(*(reader() for _ in range(READERS)))
    return spent, max(sizes)


async def _news(url: str) -> int:
    """How often an open list is told that there is something new."""
    stream, writer = await _connected(url)
    writer.write(b"GET /live/sagas HTTP/1.1\r\nHost: localhost\r\n\r\n")
    told = 0
    try:
        async with asyncio.timeout(LISTENED):
            while line := await stream.readline():
                told += line.startswith(b"event: news")
    except TimeoutError:
        writer.close()
    return told


async def _connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    """The bytes of an answer, head and body, as they came over the wire."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise AssertionError(head.decode())
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return len(head) + length


if __name__ == "__main__":
    serve("pages", os.environ, partial(filled, sagas=int(sys.argv[1])))
