"""What one case costs: wall time, CPU of this process, peak memory, bytes on disk, latency alone."""

import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
from msgspec import Struct

from unwind.runtime.tuning import tune_process

Kind = Literal["sqlite", "postgres", "memory"]
ROUNDS = 3
ALONE = 100


class Figures(Struct):
    """One case, measured. Rates per second, times in milliseconds unless they say microseconds."""

    name: str
    sagas: int
    per_second: list[float]
    cpu_us: float
    """CPU of the whole process (Python, and the database's code in it) per saga, in microseconds."""
    main_thread_us: float
    """CPU of the thread that runs the Python of the engine, per saga, in microseconds."""
    p50_ms: float
    p99_ms: float
    disk_bytes: int
    """Per saga, log and index after a checkpoint; 0 where there is no disk."""
    peak_mib: float
    commits: float
    """Per saga."""


async def measure(  # noqa: PLR0917 - what there is to measure
    name: str,
    sagas: int,
    run: Callable[[int], Awaitable[None]],
    one: Callable[[], Awaitable[None]],
    commits: Callable[[], int],
    size: Callable[[], Awaitable[int]] | None = None,
    *,
    tuned: bool = True,
) -> Figures:
    """Warm up, run `ROUNDS` rounds of `sagas`, then `ALONE` one after the other."""
    await run(min(sagas, 1_000))
    if tuned:
        tune_process()  # the ceiling too: what is compared are two programs in the same interpreter
    rates = []
    cpu, thread, committed = time.process_time(), time.thread_time(), commits()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await run(sagas)
        rates.append(sagas / (time.perf_counter() - began))
    total = ROUNDS * sagas
    cpu, thread, committed = time.process_time() - cpu, time.thread_time() - thread, commits() - committed
    alone = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await one()
        alone.append((time.perf_counter() - began) * 1e3)
    alone.sort()
    return Figures(
        name,
        sagas,
        [round(rate, 1) for rate in rates],
        round(cpu / total * 1e6, 1),
        round(thread / total * 1e6, 1),
        round(alone[len(alone) // 2], 3),
        round(alone[int(len(alone) * 0.99)], 3),
        0 if size is None else await size() // (total + min(sagas, 1_000) + ALONE),
        round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024), 1
        ),
        round(committed / total, 4),
    )


def file_size(path: Path) -> int:
    """Bytes of a database file with what belongs to it."""
    return sum(each.stat().st_size for each in path.parent.glob(path.name + "*"))


async def fresh_database(name: str, url: str = "") -> str:
    """A new database of this name on the server at a URL, by default what `BENCH_DATABASE_URL` names; its URL."""
    url = url or os.environ["BENCH_DATABASE_URL"]
    connection = await asyncpg.connect(url)
    await connection.execute(f'drop database if exists "{name}" with (force)')
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def database_size(connection: asyncpg.Connection) -> int:
    """Bytes of a connection's database."""
    await connection.execute("checkpoint")
    return int(await connection.fetchval("select pg_database_size(current_database())"))


def report(figures: Figures) -> None:
    """One line of JSON for the parent process."""
    sys.stdout.write(json.dumps({field: getattr(figures, field) for field in figures.__struct_fields__}) + "\n")
