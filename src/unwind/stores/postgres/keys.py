"""API keys on a PostgreSQL server, over the connections of the store that uses it."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from unwind.access import ApiKey, Fresh, Kept, Scope
from unwind.stores.statements import read_statements
from unwind.stores.text import storable

SQL = read_statements(Path(__file__).with_name("keys.sql"))
Ask = Callable[..., Coroutine[Any, Any, list[Any]]]
"""The rows of a statement with parameters. Raises UnavailableError, RejectedError."""


class PostgresKeys:
    """Implements `unwind.access.KeyStore`."""

    def __init__(self, write: Ask, read: Ask, now: Callable[[], int | None]) -> None:
        """The connections are the store's: it closes them. `now` replaces the server's clock where it says a time."""
        self._write = write
        self._read = read
        self._now = now

    async def keys(self) -> Kept:
        rows = await self._read(SQL["keys"], self._now())
        return Kept(rows[0][0], tuple(ApiKey(*row[1:]) for row in rows if row["id"] is not None))

    async def add(self, fresh: Fresh, name: str, scope: Scope, *, lasts: int | None = None, parent: str = "") -> ApiKey:
        # Once: if the answer is lost nobody has seen the token, and another key is made.
        asked = [self._now(), fresh.id, name, scope, fresh.digest, lasts, parent]
        [row] = await self._write(SQL["add"], *asked, attempts=1)
        return ApiKey(*row)

    async def revoke(self, key_id: str) -> bool:
        # What cannot be stored is not there.
        return bool(key_id) and storable(key_id) and bool(await self._write(SQL["revoke"], self._now(), key_id))
