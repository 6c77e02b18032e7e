"""A server as a child process: started on a free port, awaited until it says so, killed on demand, always ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from subprocess import Popen
from typing import IO, ClassVar, NamedTuple

import pytest

PATIENCE = 30.0
"""Seconds a server has to start or to stop."""
BETWEEN = 0.02
"""Seconds between two looks at a server that starts."""
PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a client that tries again cannot take a dead server's port."""

_chance = SystemRandom()


class Owner(NamedTuple):
    """As whom a process runs, by number and without any further group; None: as ourselves."""

    user: int | None = None
    group: int | None = None

    def run(self, words: Sequence[str | Path], output: int | IO[bytes], environment: Mapping[str, str]) -> Popen[bytes]:
        """Start a program, in a session of its own: a signal of the terminal is meant for us."""
        return Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=dict(environment),
            user=self.user,
            group=self.group,
            extra_groups=None if self.group is None else [],
            start_new_session=True,
        )


OURSELVES = Owner()


class NoServerError(Exception):
    """The server does not start."""


class NotInstalledError(NoServerError):
    """There is no such server on this machine."""


@contextmanager
def or_skipped() -> Iterator[None]:
    """A test whose server is not to be had is skipped, in CI it fails. A server that does not start always fails it."""
    try:
        yield
    except NotInstalledError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    while True:
        port = _chance.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def on_path(name: str, package: str) -> Path:
    """A program of the machine's own, where the wheel has none for this platform. Raises NotInstalledError."""
    found = shutil.which(name)
    if found is None:
        raise NotInstalledError(f"{name} is neither in the package {package}, which `make test` installs, nor on PATH")
    return Path(found)


def package_folder(name: str) -> Path:
    """Where an installed package's files are, without importing it. Raises NotInstalledError."""
    for place in sys.path:
        if (Path(place) / name).is_dir():
            return (Path(place) / name).resolve()
    raise NotInstalledError(f"the package {name} is not installed")


class ServerProcess:
    """One child process. Subclasses say how it is started, and what it logs when it can be reached."""

    READY: ClassVar[bytes]
    """What it logs then. A connection would not tell: somebody else's server may have the port."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """`folder` holds its data and its log; it is made if need be. Port 0: any free one, kept over restarts."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.log = self.folder / "server.log"
        self._may_move = not port
        self._process: Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """What to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Of the process."""
        return os.environ

    def owner(self) -> Owner:
        """As whom it runs."""
        return OURSELVES

    def move(self) -> None:
        """To another port, since somebody took the one that was free."""
        self.port = free_port()

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise NoServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it can be reached. Raises NoServerError with the end of its log."""
        deadline = time.monotonic() + PATIENCE
        while not self._started(deadline):
            # Of a server that was just killed, children may still hold its port or its memory.
            if self._may_move:
                self.move()
        self._may_move = False

    def _started(self, deadline: float) -> bool:
        """Start once. False: something that it needs was in use."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = process = self.owner().run(self.command(), log, self.environment())
        while self.READY not in (said := self.log.read_bytes()[begin:]):
            if process.poll() is None and time.monotonic() < deadline:
                _wait(process, BETWEEN)
                continue
            self.kill()
            said = self.log.read_bytes()[begin:]
            if b"in use" in said and time.monotonic() < deadline:
                return False
            tail = said[-2_000:].decode(errors="replace")
            raise NoServerError(f"{type(self).__name__} does not start on port {self.port}:\n{tail}")
        return True

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it is gone; one that does not go is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        if not _wait(process, PATIENCE):
            process.kill()
            process.wait()

    def stop(self) -> None:
        """In good order."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does it."""
        self.end(signal.SIGKILL)


def _wait(process: Popen[bytes], seconds: float) -> bool:
    """Whether it ended within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
