"""A server as a child process: started on a free port, awaited until it answers, killed on demand, always ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

PATIENCE = 30.0
"""Seconds a server has to start or to stop."""
BETWEEN = 0.02
"""Seconds between two looks at a server that starts."""


class NoServerError(Exception):
    """The server is not installed, or does not start."""


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def on_path(name: str, package: str) -> Path:
    """A program of the machine's own, where the wheel has none for this platform."""
    found = shutil.which(name)
    if found is None:
        raise NoServerError(f"{name} is neither in the package {package} nor on PATH; run `make test-int` for a set-up")
    return Path(found)


def skip_or_fail(error: NoServerError) -> None:
    """Without its server a test is skipped on a developer's machine that cannot have it, and fails in CI."""
    if os.environ.get("CI"):
        raise error
    pytest.skip(str(error))


class ServerProcess:
    """One child process. Subclasses say how it is started and when it answers."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """`folder` holds its data and its log; it is made if need be. Port 0: any free one, kept over restarts."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """What to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Of the process."""
        return os.environ

    def user(self) -> str | None:
        """Under which name; None: our own."""
        return None

    def ready(self) -> bool:
        """Whether it answers."""
        return listens(self.port)

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise NoServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers. Raises NoServerError with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=dict(self.environment()),
                user=self.user(),
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2_000:]
                self.kill()
                raise NoServerError(f"{type(self).__name__} does not start on port {self.port}:\n{tail}")
            time.sleep(BETWEEN)

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it is gone."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def stop(self) -> None:
        """In good order."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does it."""
        self.end(signal.SIGKILL)


def package_folder(name: str) -> Path:
    """Where an installed package's files are. Raises NoServerError when it is not installed."""
    for place in sys.path:
        if (Path(place) / name).is_dir():
            return Path(place) / name
    raise NoServerError(f"the package {name} is not installed")
