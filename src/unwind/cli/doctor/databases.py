"""Examines databases: the engine's, with its schema and its server's promises; and those of participants."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

from unwind.cli.doctor.findings import Finding, failed, of_error, ok, warning
from unwind.errors import UnwindError
from unwind.settings import Database, Server, Settings, name_of
from unwind.stores.migrations.databases import schema_of, version_of
from unwind.stores.migrations.revisions import newest
from unwind.stores.sqlite.connections import connect_reader
from unwind.stores.sqlite.guard import LINKED, Version, bears_several_writers

if TYPE_CHECKING:
    import asyncpg

SCARCE = 1024**3
LAST = 64 * 1024**2
"""Bytes that are free on a disk: below the first it is time to make room, below the last writing is about to fail."""
_OLDEST = 140_000
"""PostgreSQL 14, the oldest that its makers still mend."""


async def examine_database(settings: Settings, program: str) -> tuple[bool, list[Finding]]:
    """Whether the store can be looked into, and what was found."""
    database = settings.database
    if isinstance(database, Path):
        found = [*_of_file(database), _of_disk("disk", database), _of_sqlite(LINKED)]
        if not database.exists():
            return False, found
    else:
        found = await _of_server(database, settings.variables["database"])
    if any(each.verdict == "failed" and each.check == "store" for each in found):
        return False, found
    schema = await _of_schema(database, program)
    return schema.verdict == "ok", [*found, schema]


async def _of_schema(database: Database, program: str) -> Finding:
    try:
        version, needed = await version_of(database), newest(schema_of(database))
    except UnwindError as error:
        return of_error("migrations", error)
    if version == needed:
        return ok("migrations", f"schema {version}, the newest")
    missing = f"schema {version} of {needed}" if version else "there are no tables yet"
    return failed("migrations", missing, f"run: {program} migrate up")


# --------------------------------------------------------------------------------------------------------- SQLite files


def _of_file(path: Path) -> Iterator[Finding]:
    folder = next(each for each in path.absolute().parents if each.exists())
    if not path.exists():
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            advice = "let this user write there, or name another file in DATABASE_URL"
            yield failed("store", f"{path} is not there, and {folder} may not be written to", advice)
        else:
            yield ok("store", f"{path} is not there yet", "nothing need be done: the first start makes it")
        return
    try:
        with closing(connect_reader(path)) as reader:
            reader.execute("select 1 from sqlite_schema").fetchone()
    except (UnwindError, sqlite3.Error) as error:
        yield failed("store", f"{path} cannot be read: {error}", "name the right file, or give this user access to it")
        return
    if not os.access(path, os.W_OK) or not os.access(folder, os.W_OK | os.X_OK):
        yield failed("store", f"{path} may not be written to", "give this user access to the file and its folder")
    else:
        yield ok("store", str(path))


def _of_disk(check: str, path: Path) -> Finding:
    folder = next(each for each in path.absolute().parents if each.exists())
    return of_free_space(check, folder, shutil.disk_usage(folder).free)


def of_free_space(check: str, folder: Path, free: int) -> Finding:
    """Whether so many free bytes will do."""
    told = f"{free / 1024**2:,.0f} MiB free in {folder}"
    if free < LAST:
        return failed(check, told, "make room: what cannot be written is not accepted, and nothing goes on")
    return warning(check, told, "make room in time") if free < SCARCE else ok(check, told)


def _of_sqlite(version: Version) -> Finding:
    told = f"SQLite {'.'.join(map(str, version))}"
    if bears_several_writers(version):
        return ok("sqlite", told)
    text = f"{told}: several processes that write one file could damage it, so only one is let in"
    return ok("sqlite", text, "nothing need be done for one process; for several, use SQLite 3.51.3 or newer")


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


async def _of_server(server: Server, variable: str) -> list[Finding]:
    try:
        async with _connected(server) as connection:
            return [finding async for finding in _of_connection(connection, server.place)]
    except UnwindError as error:
        return [_of_unreached("store", error, variable)]


@asynccontextmanager
async def _connected(server: Server) -> "AsyncIterator[asyncpg.Connection]":
    """Raises UnwindError when it cannot be reached or asked."""
    from unwind.stores.postgres.connections import connect, translated

    connection = await connect(server.url.reveal, {"application_name": "unwind doctor"})
    try:
        with translated():
            yield connection
    finally:
        connection.terminate()


def _of_unreached(check: str, error: UnwindError, variable: str) -> Finding:
    told = of_error(check, error)
    return failed(check, told.found, f"{told.advice} ({variable})")


async def _of_connection(connection: "asyncpg.Connection", place: str) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(_ABOUT)
    if row["replica"] or row["only_read"] == "on":
        why = "is a replica" if row["replica"] else "lets nobody write"
        yield failed("store", f"PostgreSQL at {place} {why}", "name the primary server")
    else:
        yield ok("store", f"PostgreSQL at {place}")
    if int(row["number"]) < _OLDEST:
        yield failed("postgres", f"PostgreSQL {row['version']} is too old", "use 14 or newer")
    risky = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if row[name] == "off"]
    if risky:
        text = (
            f"{', '.join(risky)} {'is' if len(risky) == 1 else 'are'} off: a crash of the server loses accepted sagas"
        )
        yield failed("postgres", text, "turn it on for this database (postgresql.conf, or alter database … set)")
    elif int(row["number"]) >= _OLDEST:
        yield ok("postgres", f"PostgreSQL {row['version']}, commits are durable")
    missing = await connection.fetch(_RIGHTS)
    if missing:
        tables = ", ".join(f"{each['right'].lower()} on {each['name']}" for each in missing)
        yield failed("rights", f"this user lacks {tables}", "as the owner of the tables, grant it to this user")


_ABOUT = """
select current_setting('server_version') as version, current_setting('server_version_num') as number,
       current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('transaction_read_only') as only_read, pg_is_in_recovery() as replica
"""
_RIGHTS = """
select name, "right"
  from (values ('commits', 'SELECT,INSERT'), ('sagas', 'SELECT,INSERT,UPDATE'), ('snapshots', 'SELECT,INSERT,UPDATE'),
               ('attributes', 'SELECT,INSERT'), ('leases', 'SELECT,INSERT,UPDATE,DELETE'),
               ('cursors', 'SELECT,INSERT,UPDATE'), ('definitions', 'SELECT,INSERT')) as needed (name, rights),
       unnest(string_to_array(rights, ',')) as "right"
 where case when to_regclass(name) is not null then not has_table_privilege(name, "right") end
"""


# --------------------------------------------------------------------------------------------------------- participants


async def examine_participant(service: str, database: Database, variable: str) -> list[Finding]:
    """The books of one service; nothing is made there."""
    check = f"{service} database"
    if isinstance(database, Path):
        [found] = _of_file(database)
        disk = _of_disk(f"{service} disk", database)
        told = Finding(check, found.verdict, found.found, found.advice.replace("DATABASE_URL", variable))
        return [told, *([] if disk.verdict == "ok" else [disk])]
    try:
        async with _connected(database) as connection:
            made = await connection.fetchval("select to_regclass('barrier') is not null")
            replica = await connection.fetchval("select pg_is_in_recovery()")
    except UnwindError as error:
        return [_of_unreached(check, error, variable)]
    if replica:
        return [failed(check, f"PostgreSQL at {database.place} is a replica", f"name the primary server in {variable}")]
    if made:
        return [ok(check, f"PostgreSQL at {database.place}")]
    return [ok(check, f"{name_of(database)} has no tables yet", "nothing need be done: the first start makes them")]
