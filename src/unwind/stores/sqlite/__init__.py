"""The embedded store: one SQLite file, one writer thread, group commit."""

from unwind.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
