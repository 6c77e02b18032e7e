"""Who works on a PostgreSQL server, over the connections of the store that uses it."""

from collections.abc import Callable
from pathlib import Path

from unwind.roster import FORGOTTEN, Entry, Roll, StoreAbout
from unwind.stores.postgres.keys import Ask
from unwind.stores.statements import read_statements

SQL = read_statements(Path(__file__).with_name("roster.sql"))


class PostgresRoster:
    """Implements `unwind.roster.Roster`."""

    def __init__(self, write: Ask, read: Ask, now: Callable[[], int | None]) -> None:
        """The connections are the store's: it closes them. `now` replaces the server's clock where it says a time."""
        self._write = write
        self._read = read
        self._now = now

    async def announce(self, worker: str, told: str) -> None:
        await self._write(SQL["announce"], self._now(), worker, told, FORGOTTEN)

    async def withdraw(self, worker: str) -> None:
        await self._write(SQL["withdraw"], worker)

    async def roll(self) -> Roll:
        rows = await self._read(SQL["roll"], self._now())
        return Roll(rows[0]["now"], tuple(Entry(*row[1:]) for row in rows if row["id"] is not None))

    async def about(self) -> StoreAbout:
        [row] = await self._read(SQL["about"])
        return StoreAbout("PostgreSQL", row["version"], row["schema"])
