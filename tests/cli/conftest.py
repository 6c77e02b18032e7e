"""`order-saga` in processes of its own, on free ports and files of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-c", "from order_saga.main import app; app()"]


def clean(**settings: str) -> dict[str, str]:
    """This process's environment without settings, and with these."""
    ours = ("OTEL_", "UNWIND_", "SERVER_", "DATABASE_", "NATS_", "REDIS_", "INVENTORY_", "PAYMENT_", "SHIPMENT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `order-saga` to its end."""
    return subprocess.run([*COMMAND, *arguments], env=clean(**settings), capture_output=True, text=True, check=False)


def told(process: subprocess.Popen[str], what: str, times: int = 1) -> list[str]:
    """The lines of its log that say this, as soon as there are so many."""
    assert process.stderr is not None
    found: list[str] = []
    while len(found) < times:
        line = process.stderr.readline()
        assert line, f"it ended without saying {what!r}"
        if what in line:
            found.append(line)
    return found


class Server:
    """A process that is ready; `http` asks it, if it listens."""

    def __init__(self, process: subprocess.Popen[str], announced: str) -> None:
        self.process = process
        self.announced = announced
        self.url = announced.partition(" at ")[2].partition(" ")[0]
        self.http = httpx.Client(base_url=self.url)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; its exit code and what it wrote to stderr."""
        self.http.close()
        self.process.send_signal(number)
        _, errors = self.process.communicate()
        return self.process.returncode, errors


Start = Callable[..., Server]


@contextmanager
def begun(directory: Path, *command: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `order-saga`, perhaps not ready yet; killed at the end if it still runs."""
    environment = clean(**{"UNWIND_DATA_DIR": str(directory / "data"), **settings})
    process = subprocess.Popen(
        [*COMMAND, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ready(process: subprocess.Popen[str]) -> Iterator[Server]:
    """The same, as soon as it is ready."""
    assert process.stdout is not None
    announced = process.stdout.readline()
    if not announced:
        pytest.fail(f"did not start: {process.communicate()[1]}")
    server = Server(process, announced)
    try:
        yield server
    finally:
        server.http.close()


@contextmanager
def serving(directory: Path, *command: str, **settings: str) -> Iterator[Server]:
    """A process that is ready, by default one that does everything; killed at the end if it still runs."""
    given = {"SERVER_PORT": "0", **settings}
    with begun(directory, *(command or ("serve",)), **given) as process, ready(process) as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process on this test's files."""
    with ExitStack() as stack:
        yield lambda *command, **settings: stack.enter_context(serving(tmp_path, *command, **settings))
