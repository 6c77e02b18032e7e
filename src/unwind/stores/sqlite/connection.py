"""Opens the writing connection of an SQLite file: WAL, durable commits, and no second writer where that is unsafe.

SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint and commit at once. There, the writer holds a lock
on a file beside the database as long as it lives; whoever only reads opens the file read-only and needs none.
"""

import fcntl
import sqlite3
from io import FileIO
from pathlib import Path

from unwind.errors import UnavailableError

SAFE_WITH_SEVERAL_WRITERS = (3, 51, 3)
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another connection's lock."""


class Writer(sqlite3.Connection):
    """A connection that owns its file's lock."""

    lock: FileIO | None = None

    def close(self) -> None:
        """Close the file, then give the lock back."""
        super().close()
        if self.lock is not None:
            self.lock.close()


def open_writer(path: Path) -> Writer:
    """The writing connection of a file, made if it is not there; transactions are begun by hand.

    It may be used by any thread, but by one at a time. Raises UnavailableError when another writer has the file.
    """
    lock = _lock(path) if sqlite3.sqlite_version_info < SAFE_WITH_SEVERAL_WRITERS else None
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, factory=Writer
    )
    connection.lock = lock
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _lock(path: Path) -> FileIO:
    lock = FileIO(f"{path}-lock", "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise UnavailableError(
            f"another process writes {path}, and SQLite {sqlite3.sqlite_version} cannot bear two writers; "
            "stop that process, or use SQLite 3.51.3 or newer"
        ) from error
    return lock
