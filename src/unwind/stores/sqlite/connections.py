"""Opens a database file: a connection that writes, one that only reads; what durability and speed ask for."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

from unwind.errors import SettingsError
from unwind.stores.migrations.revisions import SQLITE, Way, newest
from unwind.stores.migrations.sqlite import copy_newest, migrate_sqlite, read_version
from unwind.stores.sqlite.guard import HeldError, Version, hold_file

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


def connect_writer(path: Path, version: Version, way: Way = "up", schema: int | None = None) -> Writer:
    """The writing connection to a file, made if need be, readable by its owner only.

    Its schema is brought up, or down, to the version `schema`, by default the newest.

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
        _refuse_old_sqlite()
        for pragma in WRITER:
            writer.execute(pragma)
        migrate_sqlite(writer, way, schema)
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


def connect_to_read(path: Path) -> sqlite3.Connection:
    """The same for a file that nobody opens to write first: it must be there, with the newest schema."""
    if not path.exists():
        raise SettingsError(f"there is no database {path}; name the file that is in use")
    with ExitStack() as opened:
        reader = connect_reader(path)
        opened.callback(reader.close)
        with blamed_on(path):
            version, needed = read_version(reader), newest(SQLITE)
        if version < needed:
            raise SettingsError(f"{path} has schema {version} and this program needs {needed}; run: unwind migrate up")
        opened.pop_all()
        return reader


def connect_memory() -> sqlite3.Connection:
    """A private database in memory. Raises SettingsError when SQLite is too old."""
    _refuse_old_sqlite()
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    copy_newest(database)
    return database


def _refuse_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST:
        raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed")


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Raise whatever makes the file unusable as a SettingsError that names it."""
    try:
        yield
    except HeldError:
        raise  # it names the file, and can be used once the other process has ended
    except OSError as error:
        raise SettingsError(f"{path} cannot be used as a database: {error.strerror}") from error
    except (sqlite3.Error, SettingsError) as error:
        raise SettingsError(f"{path} cannot be used as a database: {error}") from error
