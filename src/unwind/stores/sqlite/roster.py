"""Who works on an SQLite file, on the lanes of the store that has it open."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from unwind.roster import FORGOTTEN, Entry, Roll, StoreAbout
from unwind.stores.migrations.revisions import SQLITE, newest
from unwind.stores.sqlite.lanes import Job, Lane
from unwind.stores.statements import read_statements

SQL = read_statements(Path(__file__).with_name("roster.sql"))


class SQLiteRoster:
    """Implements `unwind.roster.Roster`."""

    def __init__(self, writer: Lane, reader: Lane, now: Callable[[], int]) -> None:
        """The lanes are the store's: it closes them."""
        self._writer = writer
        self._reader = reader
        self._now = now

    async def announce(self, worker: str, told: str) -> None:
        def work(database: sqlite3.Connection) -> None:
            now = self._now()
            database.execute(SQL["forget"], {"before": now - FORGOTTEN})
            database.execute(SQL["announce"], {"id": worker, "now": now, "told": told})

        await self._writer.run(Job(work, work))

    async def withdraw(self, worker: str) -> None:
        def work(database: sqlite3.Connection) -> None:
            database.execute(SQL["withdraw"], {"id": worker})

        await self._writer.run(Job(work, work))

    async def roll(self) -> Roll:
        def work(database: sqlite3.Connection) -> Roll:
            return Roll(self._now(), tuple(Entry(*row) for row in database.execute(SQL["roll"])))

        roll: Roll = await self._reader.run(Job(work, work))
        return roll

    async def about(self) -> StoreAbout:
        # A file is brought to that schema when it is opened.
        return StoreAbout("SQLite", sqlite3.sqlite_version, newest(SQLITE))
