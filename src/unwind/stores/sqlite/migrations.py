"""Brings a database file to a version of the schema: numbered SQL files, up or down, all in one transaction."""

import re
import sqlite3
from pathlib import Path

from unwind.errors import SettingsError

APPLICATION = 0x756E7764
"""Marks files as ours (`PRAGMA application_id`): "unwd"."""
SCHEMA = Path(__file__).with_name("schema")


def newest() -> int:
    """The version of the schema that this program knows."""
    return len(list(SCHEMA.glob("*.up.sql")))


def migrate(database: sqlite3.Connection, version: int | None = None) -> None:
    """Bring the schema to a version, by default the newest.

    Raises SettingsError when the file belongs to another program, or to a newer version of this one.
    """
    target = newest() if version is None else version
    if _current(database) == target:
        return
    database.execute("begin immediate")
    try:
        # Again: another process may have been first.
        current = _current(database)
        for number in range(current + 1, target + 1):
            _apply(database, number, "up")
        for number in range(current, target, -1):
            _apply(database, number, "down")
        database.execute(f"pragma application_id = {APPLICATION}")
        database.execute(f"pragma user_version = {target}")
        database.execute("commit")
    finally:
        if database.in_transaction:
            database.execute("rollback")


def _current(database: sqlite3.Connection) -> int:
    version, application, tables = database.execute(
        "select user_version, application_id, (select count(*) from sqlite_schema)"
        "  from pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION and (application or version or tables):
        raise SettingsError("it is a database of another program; name another file")
    if version > newest():
        raise SettingsError(
            f"it has schema {version} and this program knows {newest()}: a newer version wrote it, run that one"
        )
    return int(version)


def _apply(database: sqlite3.Connection, number: int, direction: str) -> None:
    [file] = SCHEMA.glob(f"{number:03}_*.{direction}.sql")
    # Statement by statement, since `executescript` would commit first.
    statement = ""
    for part in re.split(r"(?<=;)\n", file.read_text("utf-8")):
        statement += part + "\n"
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""
