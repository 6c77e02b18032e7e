"""API keys in an SQLite file, on the lanes of the store that has it open."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from unwind.access import ApiKey, Fresh, Kept, Scope
from unwind.stores.sqlite.lanes import Job, Lane
from unwind.stores.statements import read_statements
from unwind.stores.text import storable

SQL = read_statements(Path(__file__).with_name("keys.sql"))


class SQLiteKeys:
    """Implements `unwind.access.KeyStore`."""

    def __init__(self, writer: Lane, reader: Lane, now: Callable[[], int]) -> None:
        """The lanes are the store's: it closes them."""
        self._writer = writer
        self._reader = reader
        self._now = now

    async def keys(self) -> Kept:
        def work(database: sqlite3.Connection) -> Kept:
            now = self._now()
            return Kept(now, tuple(ApiKey(*row) for row in database.execute(SQL["keys"], {"now": now})))

        kept: Kept = await self._reader.run(Job(work, work))
        return kept

    async def add(self, fresh: Fresh, name: str, scope: Scope, *, lasts: int | None = None, parent: str = "") -> ApiKey:
        def work(database: sqlite3.Connection) -> ApiKey:
            now = self._now()
            if parent:
                database.execute(SQL["forget"], {"now": now})
            ends = None if lasts is None else now + lasts
            key = ApiKey(fresh.id, name, scope, fresh.digest, now, ends, None, parent)
            row = {"id": key.id, "name": name, "scope": scope, "digest": key.digest}
            database.execute(SQL["add"], row | {"now": now, "expires_at": ends, "parent": parent})
            return key

        key: ApiKey = await self._writer.run(Job(work, work))
        return key

    async def revoke(self, key_id: str) -> bool:
        if not key_id or not storable(key_id):
            return False  # what cannot be stored is not there

        def work(database: sqlite3.Connection) -> bool:
            return database.execute(SQL["revoke"], {"id": key_id, "now": self._now()}).rowcount > 0

        found: bool = await self._writer.run(Job(work, work))
        return found
