"""The schema of an SQLite file, which migrates itself at start: Alembic is loaded only if there is something to do."""

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from unwind.errors import SettingsError
from unwind.stores.migrations.revisions import SQLITE, TABLE, Way, newest, not_newer, revisions, understood

APPLICATION = 0x756E7764
"""Marks files as ours (`PRAGMA application_id`): "unwd"."""


def migrate_sqlite(
    database: sqlite3.Connection, way: Way = "up", target: int | None = None, folder: Path = SQLITE
) -> None:
    """Bring a file up, or down, to a version, by default the newest.

    Raises SettingsError when it belongs to another program, or to a newer version of this one, or a migration fails,
    which then has left nothing.
    """
    target = newest(folder) if target is None else target
    if noted_version(database, folder) == target:
        return
    # Late: this takes longer than everything else at a start.
    from unwind.stores.migrations.sqlite_steps import migrate_by_steps  # noqa: PLC0415

    migrate_by_steps(database, way, target, folder)


def read_version(database: sqlite3.Connection, folder: Path = SQLITE) -> int:
    """The version that a file has; 0: none. Raises SettingsError when it is newer, or not ours."""
    noted = noted_version(database, folder)
    if noted is not None:
        return noted
    # Version 0.1.0 kept it here.
    [version] = database.execute("pragma user_version").fetchone()
    return not_newer(version, newest(folder))


def noted_version(database: sqlite3.Connection, folder: Path) -> int | None:
    """The version in Alembic's table; None: there is no such table."""
    application, version, tables, has_table = database.execute(
        "select application_id, user_version, (select count(*) from sqlite_schema),"
        "       exists (select 1 from sqlite_schema where name = ?)"
        "  from pragma_application_id, pragma_user_version",
        [TABLE],
    ).fetchone()
    if application != APPLICATION and (application or version or tables):
        raise SettingsError("it is a database of another program; name another file")
    if not has_table:
        return None
    kept = database.execute(f"select version_num from {TABLE}")  # noqa: S608 - a constant
    return understood([each for [each] in kept], newest(folder))


def copy_newest(database: sqlite3.Connection) -> None:
    """Give an empty database in memory the newest schema, in microseconds: a simulator makes thousands."""
    _template().backup(database)


@cache
def _template() -> sqlite3.Connection:
    template = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    for revision in revisions(SQLITE):
        for statement in statements(revision.file("up").read_text("utf-8")):
            template.execute(statement)
    return template


def statements(text: str) -> Iterator[str]:
    """The statements of a file one by one, since `executescript` would commit first."""
    statement = ""
    for part in re.split(r"(?<=;)\n", text):
        statement += part + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
