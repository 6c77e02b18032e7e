"""Keeps a second writing process away from a file where this SQLite would not survive it.

The WAL-reset bug: up to 3.51.2 two connections that write and checkpoint one WAL file at the same time can corrupt it.
3.51.3 mended it, and so did 3.50.7 and 3.44.6 for their lines. Readers never checkpoint and are harmless.
"""

import fcntl
import sqlite3
from io import FileIO
from pathlib import Path

from unwind.errors import SettingsError

Version = tuple[int, int, int]
LINKED: Version = sqlite3.sqlite_version_info[:3]
"""The SQLite of this interpreter."""
MENDED: tuple[tuple[Version, Version], ...] = (
    ((3, 44, 6), (3, 45, 0)),
    ((3, 50, 7), (3, 51, 0)),
    ((3, 51, 3), (4, 0, 0)),
)
"""From (inclusive), to (exclusive)."""


class HeldError(SettingsError):
    """Another process writes the file."""


def bears_several_writers(version: Version) -> bool:
    """Whether this SQLite is free of the WAL-reset bug."""
    return any(first <= version < end for first, end in MENDED)


def hold_file(path: Path, version: Version = LINKED) -> FileIO:
    """The lock of a file that is going to be written; it lasts until closed, or until the process dies in any way.

    A mended SQLite shares the lock with its like, any other holds it alone. Raises HeldError when it is held.
    """
    lock = FileIO(f"{path}.lock", "a")
    shared = bears_several_writers(version)
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise HeldError(
            f"another process writes {path}, and before SQLite 3.51.3 two writers can corrupt a file "
            f"(this one is {'.'.join(map(str, version))}): stop that process, or run both on SQLite 3.51.3 or newer"
        ) from error
    return lock
