"""`order-saga` in processes of its own, on free ports and files of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Condition, Thread
from typing import IO

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


class Program(subprocess.Popen[str]):
    """A process whose log is read as it comes: a pipe that nobody reads is full one day, and holds up its writer."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path | None = None) -> None:
        super().__init__(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory
        )
        log, self.stderr = self.stderr, None  # the thread's alone
        assert log is not None
        self._lines: list[str] = []
        self._all_read = False
        self._news = Condition()
        self._reader = Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    def _read(self, log: IO[str]) -> None:
        with log:
            for line in log:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._all_read = True
            self._news.notify_all()

    def told(self, what: str, times: int = 1) -> list[str]:
        """The first lines of its log that say this, as soon as there are so many."""
        with self._news:
            while len(found := [line for line in self._lines if what in line]) < times:
                assert not self._all_read, f"it ended without saying {what!r}"
                self._news.wait()
        return found[:times]

    def communicate(self, given: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what else it printed, and its whole log."""
        output, _ = super().communicate(given, timeout)
        self._reader.join()
        return output, "".join(self._lines)


class Server:
    """A process that is ready; `http` asks it, if it listens."""

    def __init__(self, process: Program, announced: str) -> None:
        self.process = process
        self.announced = announced
        self.url = announced.partition(" at ")[2].partition(" ")[0]
        self.http = httpx.Client(base_url=self.url)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; its exit code and its whole log."""
        self.http.close()
        self.process.send_signal(number)
        _, errors = self.process.communicate()
        return self.process.returncode, errors


Start = Callable[..., Server]


@contextmanager
def begun(directory: Path, *command: str, **settings: str) -> Iterator[Program]:
    """A process of `order-saga`, perhaps not ready yet; killed at the end if it still runs."""
    environment = clean(**{"UNWIND_DATA_DIR": str(directory / "data"), **settings})
    with Program([*COMMAND, *command], environment, directory) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def ready(process: Program) -> Iterator[Server]:
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
