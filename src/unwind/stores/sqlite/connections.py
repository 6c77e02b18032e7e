"""Opens a database file: a connection that writes, one that only reads; what durability and speed ask for."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from unwind.errors import SettingsError
from unwind.stores.sqlite.guard import Version, hold_file
from unwind.stores.sqlite.migrations import migrate

OLDEST: Version = (3, 37, 0)
"""The first with STRICT tables."""
BUSY_TIMEOUT = 10.0
"""Seconds to wait for a lock of another process."""

# The checkpoint runs in the commit that passes the mark, every 4000 pages (16 MB) instead of 1000: busy pages are
# written again and again, so rarer checkpoints copy less, and each costs two fsyncs. A larger WAL only lengthens the
# start after a crash. The cache holds the right edge of every index of a busy database.
WRITER = (
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma wal_autocheckpoint = 4000",
    "pragma cache_size = -65536",
    "pragma temp_store = memory",
)
READER = ("pragma query_only = on", "pragma cache_size = -16384", "pragma temp_store = memory")


class Writer(sqlite3.Connection):
    """A connection that holds its file's lock."""

    lock: FileIO

    def close(self) -> None:
        """Leave fresh statistics to the next start, close the file, give the lock back."""
        # Statistics are a nicety; a file that cannot take them is closed all the same.
        with suppress(sqlite3.Error):
            self.execute("pragma analysis_limit = 400")
            self.execute("pragma optimize")
        super().close()
        self.lock.close()


def connect_writer(path: Path, version: Version) -> Writer:
    """The writing connection to a file, made if need be, readable by its owner only, with the newest schema.

    Raises SettingsError when the file cannot be used, or must not be since another process writes it.
    """
    with blamed_on(path), ExitStack() as opened:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        lock = opened.enter_context(hold_file(path, version))
        writer = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, factory=Writer
        )
        opened.callback(sqlite3.Connection.close, writer)
        writer.lock = lock
        _prepare(writer, WRITER)
        opened.pop_all()
        return writer


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint. Raises SettingsError when the file cannot be used."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with blamed_on(path):
        reader = sqlite3.connect(uri, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True)
        for pragma in READER:
            reader.execute(pragma)
        return reader


def connect_memory() -> sqlite3.Connection:
    """A private database in memory. Raises SettingsError when SQLite is too old."""
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _prepare(database, ())
    return database


def _prepare(database: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    if sqlite3.sqlite_version_info < OLDEST:
        raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")
    for pragma in pragmas:
        database.execute(pragma)
    migrate(database)


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Raise whatever makes the file unusable as a SettingsError that names it."""
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{path} cannot be used as a database: {error.strerror}") from error
    except (sqlite3.Error, SettingsError) as error:
        raise SettingsError(f"{path} cannot be used as a database: {error}") from error
