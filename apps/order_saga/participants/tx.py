"""What handlers write with: one transaction of SQLite or of PostgreSQL, in SQL that both understand.

A statement is about many rows at once. They stand in it as a table called `given`, with a column for each keyword:

    await tx.fetch("insert into pets select name, age from given", name=["Rex", "Tom"], age=[3, 4])
"""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, Protocol

import msgspec

Column = Sequence[str] | Sequence[int]


class PostgresConnection(Protocol):
    """What is used here of an `asyncpg.Connection`; a service on SQLite need not have asyncpg."""

    async def fetch(self, query: str, *args: Column) -> Sequence[Any]:
        """The rows that the query returns."""
        ...


Handle = Connection | PostgresConnection
"""What the participant's store hands to a handler."""


class Tx:
    """The transaction behind a handle. Its store begins and ends it."""

    def __init__(self, handle: Handle) -> None:
        """Costs nothing; each handler makes its own."""
        self._handle = handle

    async def fetch(self, statement: str, **given: Column) -> Sequence[Any]:
        """Run a statement on rows; what it returns. Columns are as long as one another, and of one type each.

        Nothing is run for no rows. Raises the database's own errors.
        """
        names, columns = ", ".join(given), list(given.values())
        if not columns[0]:
            return []
        if isinstance(self._handle, Connection):
            places = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(columns)))
            rows = msgspec.json.encode(list(zip(*columns, strict=True))).decode()
            table = f"with given ({names}) as (select {places} from json_each(?))\n"  # noqa: S608 - names are the code's
            return self._handle.execute(table + statement, (rows,)).fetchall()
        types = ("text" if isinstance(column[0], str) else "bigint" for column in columns)
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, 1))
        table = f"with given ({names}) as (select * from unnest({arrays}))\n"  # noqa: S608 - names are the code's
        return await self._handle.fetch(table + statement, *columns)
