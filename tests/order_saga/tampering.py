"""Books that are tampered with: copies of what was written properly, without the guards that a database has."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from tests.order_saga.services import execute, server

from unwind.settings import Database, Server

Event = dict[str, Any]
Mend = Callable[[list[Event]], list[Event]]
Statement = str | tuple[Any, ...]
"""With the values of its places, `$1` and so on."""
Tamper = Callable[["Books"], None]

_GUARDS = """
select format('alter table %s drop constraint %I cascade', conrelid::regclass, conname)
  from pg_constraint where contype in ('c', 'f', 'p', 'u') and conrelid <> 0 and connamespace = 'public'::regnamespace
 union all
select format('drop trigger %I on %s', tgname, tgrelid::regclass) from pg_trigger where not tgisinternal
 union all
select format('alter table %I alter column %I drop identity', table_name, column_name)
  from information_schema.columns where is_identity = 'YES' and table_schema = 'public'
"""


class Books(Mapping[str, Database]):
    """The databases of one test: those of the whole module, and a copy of each that it changes."""

    def __init__(self, untouched: Mapping[str, Database], folder: Path) -> None:
        self._current = dict(untouched)
        self._folder = folder
        self._copies: dict[str, Database] = {}

    def __getitem__(self, name: str) -> Database:
        return self._current[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)

    def changed(self, name: str) -> Database:
        """A database that may be changed, without its guards."""
        if name not in self._copies:
            self._copies[name] = self._current[name] = self._copy(self._current[name])
        return self._copies[name]

    def drop(self) -> None:
        """Let go of the copies."""
        for copy in self._copies.values():
            if isinstance(copy, Server):
                asyncio.run(execute(_admin(copy), f"drop database {_name(copy)} with (force)"))

    def _copy(self, original: Database) -> Database:
        if isinstance(original, Path):
            return Path(shutil.copy(original, self._folder / original.name))
        copy = server(urlsplit(original.url.reveal)._replace(path=f"/copy_{uuid4().hex}").geturl())
        asyncio.run(execute(_admin(copy), f"create database {_name(copy)} template {_name(original)}"))
        asyncio.run(_unguard(copy))
        return copy


def _admin(database: Server) -> Server:
    return server(urlsplit(database.url.reveal)._replace(path="/postgres").geturl())


def _name(database: Server) -> str:
    return urlsplit(database.url.reveal).path.removeprefix("/")


async def _unguard(database: Database) -> None:
    while guards := await execute(database, _GUARDS):
        await execute(database, guards[0][0])


def run(database: Database, *statements: Statement) -> list[tuple[Any, ...]]:
    """Run statements, each of which must change or find something; the rows of the last."""
    told = [(each,) if isinstance(each, str) else each for each in statements]
    return asyncio.run(_run_there(database, told)) if isinstance(database, Server) else _run_here(database, told)


def _run_here(path: Path, statements: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("pragma ignore_check_constraints = on")
        for (name,) in file.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            file.execute(f'drop trigger "{name}"')
        for statement, *values in statements:
            changed = file.execute(statement, {str(number): value for number, value in enumerate(values, 1)})
            rows = changed.fetchall()
            assert changed.rowcount or rows, f"nothing changed: {statement}"
    return rows


async def _run_there(database: Server, statements: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    connection = await asyncpg.connect(database.url.reveal)
    try:
        for statement, *values in statements:
            prepared = await connection.prepare(statement)
            rows = [tuple(row) for row in await prepared.fetch(*values)]
            assert not prepared.get_statusmsg().endswith(" 0"), f"nothing changed: {statement}"
    finally:
        await connection.close()
    return rows


# ----------------------------------------------------------------------------------------------------- what is planted


def sql(book: str, *statements: Statement) -> Tamper:
    """Change a book's tables."""

    def tamper(books: Books) -> None:
        run(books.changed(book), *statements)

    return tamper


def both(*tampers: Tamper) -> Tamper:
    """One after the other."""

    def tamper(books: Books) -> None:
        for each in tampers:
            each(books)

    return tamper


def log(stream: str, change: Mend) -> Tamper:
    """Rewrite a stream as one commit with other events."""

    def tamper(books: Books) -> None:
        database = books.changed("engine")
        rows = run(database, ("select events from commits where stream_id = $1 order by version", stream))
        changed = change([event for (data,) in rows for event in json.loads(data)])
        if len(rows) > 1:
            run(database, ("delete from commits where stream_id = $1 and version > 1", stream))
        rewritten = "update commits set events = $1, count = $2 where stream_id = $3"
        run(database, (rewritten, json.dumps(changed).encode(), len(changed), stream))

    return tamper


def doubled(table: str, where: str) -> tuple[Statement, ...]:
    """Statements that write rows of a table a second time, which no key forbids any more."""
    return (
        f"create table bare as select * from {table}",
        f"drop table {table}",
        f"alter table bare rename to {table}",
        f"insert into {table} select * from {table} where {where}",
    )


def without(name: str, step: str = "", key: str = "step") -> Mend:
    """Leave an event out."""

    def change(events: list[Event]) -> list[Event]:
        kept = [event for event in events if event["type"] != name or (step and event.get(key) != step)]
        assert len(kept) < len(events)
        return kept

    return change


def altered(name: str, **fields: object) -> Mend:
    """Other fields in the first event of a name."""

    def change(events: list[Event]) -> list[Event]:
        number = next(place for place, event in enumerate(events) if event["type"] == name)
        return [*events[:number], events[number] | fields, *events[number + 1 :]]

    return change


def inserted(before: str, *new: Event) -> Mend:
    """More events before the first of a name."""

    def change(events: list[Event]) -> list[Event]:
        number = next(place for place, event in enumerate(events) if event["type"] == before)
        return [*events[:number], *new, *events[number:]]

    return change


def appended(*new: Event) -> Mend:
    """More events at the end."""
    return lambda events: [*events, *new]


def undos_swapped(events: list[Event]) -> list[Event]:
    """The second undo goes first, as if compensation ran forward."""
    first = next(place for place, event in enumerate(events) if event["type"] == "undo_started/1")
    return [*events[:first], *events[first + 2 : first + 4], *events[first : first + 2], *events[first + 4 :]]
