"""`order-saga serve` in a process of its own, on a free port and files of its own."""

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
    ours = ("UNWIND_", "SERVER_", "DATABASE_", "NATS_", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | settings


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `order-saga` to its end."""
    return subprocess.run([*COMMAND, *arguments], env=clean(**settings), capture_output=True, text=True, check=False)


class Server:
    """A server that is ready."""

    def __init__(self, process: subprocess.Popen[str], announced: str) -> None:
        self.process = process
        self.announced = announced
        self.url = announced.split()[4]
        self.http = httpx.Client(base_url=self.url)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to stop; its exit code and what it wrote to stderr."""
        self.http.close()
        self.process.send_signal(number)
        _, errors = self.process.communicate()
        return self.process.returncode, errors


Start = Callable[..., Server]


@contextmanager
def serving(directory: Path, **settings: str) -> Iterator[Server]:
    """A server on the files of a directory; killed at the end if it still runs."""
    environment = clean(**{"SERVER_PORT": "0", "UNWIND_DATA_DIR": str(directory / "data"), **settings})
    process = subprocess.Popen(
        [*COMMAND, "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory
    )
    with process:
        assert process.stdout is not None
        try:
            announced = process.stdout.readline()
            if not announced:
                pytest.fail(f"did not start: {process.communicate()[1]}")
            server = Server(process, announced)
            yield server
            server.http.close()
        finally:
            process.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server on this test's files."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(tmp_path, **settings))
