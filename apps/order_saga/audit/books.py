"""A database as it was at one moment: read, never written. SQLite files here, PostgreSQL in a module of its own.

Both take the same statements: values stand as `$1`; many names go as one JSON object, of which `json_each` makes rows.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from unwind.cli import Database

Rows = Sequence[tuple[Any, ...]]

_NEEDS_WRITING = (
    "SQLite needs to write files beside it, even to read: run this as the user whom the application runs as, or with "
    "copies of the file and of the one ending in -wal, in a directory of your own"
)
_HINTS = {
    "SQLITE_CANTOPEN": _NEEDS_WRITING,
    "SQLITE_READONLY": _NEEDS_WRITING,
    "SQLITE_NOTADB": "name the SQLite file that the application writes",
    "SQLITE_CORRUPT": "restore it from a backup",
    "SQLITE_BUSY": "try again when it is less busy",
    "SQLITE_ERROR": "is this the file of {role}?",
}


class AuditError(Exception):
    """The databases cannot be audited; says which and what to do."""


class Book(Protocol):
    """One database. Everything it answers is of the same moment, until `renew`."""

    async def fetch(self, statement: str, *values: str) -> Rows:
        """The rows of a question. Raises AuditError."""
        ...

    async def renew(self) -> None:
        """From now on answer as the database is now. Raises AuditError."""
        ...


@asynccontextmanager
async def open_book(role: str, database: Database) -> AsyncIterator[Book]:
    """Open a database; `role` says in messages what it is. Raises AuditError."""
    if isinstance(database, Path):
        with closing(_File(role, database)) as file:
            yield file
    else:
        # Late: files are audited without asyncpg.
        from order_saga.audit.postgres import open_postgres  # noqa: PLC0415

        async with open_postgres(role, database.url.reveal, database.place) as book:
            yield book


def names(of: Iterable[str]) -> str:
    """Names as one value, for `in (select key from json_each($1))`."""
    return msgspec.json.encode(dict.fromkeys(of, 0)).decode()


async def pages(book: Book, statement: str) -> AsyncIterator[Rows]:
    """A long answer in parts. The statement has `> $1` on its first column, is ordered by it, and has a limit."""
    last = ""
    while rows := await book.fetch(statement, last):
        yield rows
        last = rows[-1][0]


class _File:
    """An SQLite file, in one read transaction."""

    def __init__(self, role: str, path: Path) -> None:
        self._role = role
        self._path = path
        try:
            there = path.is_file()
        except OSError as error:
            raise AuditError(f"{role}: {path} cannot be read: {error.strerror}; {_NEEDS_WRITING}") from error
        if not there:
            variable = f"{role.upper()}_DATABASE_URL" if " " not in role else "DATABASE_URL"
            raise AuditError(
                f"{role}: {path} does not exist; name the database in {variable}, or start the application once"
            )
        with self._blamed():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._begin()

    async def fetch(self, statement: str, *values: str) -> Rows:
        named = {str(number): value for number, value in enumerate(values, 1)}
        with self._blamed():
            return self._connection.execute(statement, named).fetchall()

    async def renew(self) -> None:
        with self._blamed():
            self._connection.execute("commit")
            self._begin()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _begin(self) -> None:
        self._connection.execute("begin")
        self._connection.execute("select count(*) from sqlite_schema").fetchone()

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            hints = (hint for prefix, hint in _HINTS.items() if name.startswith(prefix))
            hint = next(hints, "is it in order?").format(role=self._role)
            raise AuditError(f"{self._role}: {self._path}: {error}; {hint}") from error
