"""What the benchmarks on PostgreSQL need: a durable server; for the full road also NATS and the processes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.servers import nats, postgres
from tests.servers.process import Owner, ServerProcess

from benchmarks.measure import fresh_database
from benchmarks.road import SERVICES

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def database_server() -> Iterator[str]:
    """A PostgreSQL with fsync and synchronous_commit on; its URL. `BENCH_DATABASE_URL` names one to be used instead."""
    given = os.environ.get("BENCH_DATABASE_URL")
    if given:
        yield given
        return
    with (
        TemporaryDirectory(prefix="unwind-bench-", ignore_cleanup_errors=True) as folder,
        postgres.running(Path(folder) / "postgres", durable=True) as server,
    ):
        yield server.url()


class Role(ServerProcess):
    """One process of the road."""

    READY = b"is ready"

    def __init__(self, folder: Path, *words: str) -> None:
        """`words` as `benchmarks.road` takes them."""
        super().__init__(folder)
        self._words = words

    def command(self) -> list[str | Path]:
        return [sys.executable, "-m", "benchmarks.road", *self._words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def owner(self) -> Owner:
        return Owner()


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drive(url: str, workload: str, sagas: int, in_flight: int) -> dict[str, Any]:
    """The full road once: worker, three services and API as processes, NATS between them. Rate, and CPU per saga."""
    with TemporaryDirectory(prefix="unwind-road-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(nats.running(folder / "nats"))
        databases = {each: asyncio.run(fresh_database(f"road_{each}", url)) for each in ("unwind", *SERVICES)}
        migrate(databases["unwind"])
        roles = {"worker": Role(folder / "worker", "worker", databases["unwind"], server.url)}
        for service in SERVICES:
            roles[service] = Role(folder / service, "participant", service, databases[service], server.url)
        for role in roles.values():
            role.start()
            stack.callback(role.stop)
        words = ["api", databases["unwind"], server.url, workload, str(sagas), str(in_flight)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.road", *words], cwd=ROOT, check=True, capture_output=True, text=True
        )
        rate, cpu = map(float, done.stdout.split())
        total = 1_000 + sagas
        used = {"api": cpu} | {name: cpu_seconds(role.pid) for name, role in roles.items()}
        used["nats"] = cpu_seconds(server.pid)
        return {"per_second": rate, "cpu_us": {name: round(seconds / total * 1e6) for name, seconds in used.items()}}


def migrate(url: str) -> None:
    """Make the tables of the store."""
    subprocess.run(
        [sys.executable, "-c", "from unwind.cli.main import app; app()", "migrate", "up"],
        env={**os.environ, "DATABASE_URL": url},
        check=True,
        capture_output=True,
    )
