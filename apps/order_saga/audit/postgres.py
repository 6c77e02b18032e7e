"""A PostgreSQL database as it was at one moment: one transaction that only reads, and repeats what it has read."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from order_saga.audit.books import AuditError, Book, Rows

CONNECT = 10.0
ANSWER = 120.0
"""Seconds."""

_HINTS: dict[type[Exception], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "check user and password in its URL",
    asyncpg.InvalidCatalogNameError: "create it, or name another in its URL",
    asyncpg.UndefinedTableError: "is this the database of {role}, and is it migrated?",
    asyncpg.UndefinedColumnError: "is this the database of {role}, and is it migrated?",
    asyncpg.InsufficientPrivilegeError: "its user needs SELECT on all tables",
    OSError: "is the server up, and can it be reached from here?",
    TimeoutError: "is the server up, and can it be reached from here?",
}


@asynccontextmanager
async def open_postgres(role: str, url: str, place: str) -> AsyncIterator[Book]:
    """Connect; `place` is the URL as it may be shown. Raises AuditError."""
    with _blamed(role, place):
        # Without a cache of statements it works through a pooler of connections too.
        connection = await asyncpg.connect(url, timeout=CONNECT, command_timeout=ANSWER, statement_cache_size=0)
    try:
        book = _Server(connection, role, place)
        await book.begin()
        yield book
    finally:
        connection.terminate()


class _Server:
    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", role: str, place: str) -> None:
        self._connection = connection
        self._role = role
        self._place = place

    async def begin(self) -> None:
        """Take the moment: it is that of the first question."""
        with _blamed(self._role, self._place):
            await self._connection.execute("begin transaction isolation level repeatable read, read only")
            await self._connection.execute("select 1")

    async def fetch(self, statement: str, *values: str) -> Rows:
        with _blamed(self._role, self._place):
            return [tuple(row) for row in await self._connection.fetch(statement, *values)]

    async def renew(self) -> None:
        with _blamed(self._role, self._place):
            await self._connection.execute("commit")
        await self.begin()


@contextmanager
def _blamed(role: str, place: str) -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        hints = (hint for kind, hint in _HINTS.items() if isinstance(error, kind))
        hint = next(hints, "is it in order?").format(role=role)
        raise AuditError(f"{role}: PostgreSQL at {place}: {str(error) or 'no answer in time'}; {hint}") from error
