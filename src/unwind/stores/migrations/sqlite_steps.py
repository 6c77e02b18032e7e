"""Alembic on the store's own connection to an SQLite file."""

import sqlite3
from pathlib import Path

from msgspec import Struct
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from unwind.errors import SettingsError
from unwind.stores.migrations.revisions import Revision, Way
from unwind.stores.migrations.sqlite import APPLICATION, read_version, statements
from unwind.stores.migrations.steps import driver_errors, migrate


def migrate_by_steps(database: sqlite3.Connection, way: Way, target: int, folder: Path) -> None:
    """Bring a file up, or down, to a version. Raises what `migrate_sqlite` does."""
    # The pool hands out this one connection, and never closes it.
    engine = create_engine("sqlite://", creator=lambda: database, poolclass=StaticPool)
    with driver_errors(), engine.connect() as connection:
        migrate(connection, _SQLite(folder), way, target)


class _SQLite(Struct, frozen=True):
    folder: Path

    def lock(self, connection: Connection) -> None:
        connection.exec_driver_sql("begin immediate")

    def version(self, connection: Connection) -> int:
        return read_version(_driver(connection), self.folder)

    def run(self, connection: Connection, revision: Revision, way: Way) -> None:
        database, file = _driver(connection), revision.file(way)
        try:
            for statement in statements(file.read_text("utf-8")):
                database.execute(statement)
        except sqlite3.Error as error:
            raise SettingsError(f"{file.name}: {error}; nothing of it was kept") from error
        database.execute(f"pragma application_id = {APPLICATION}")
        # Version 0.1.0 looks only here, and must not write to what it does not know.
        database.execute(f"pragma user_version = {revision.number if way == 'up' else revision.number - 1}")


def _driver(connection: Connection) -> sqlite3.Connection:
    database = connection.connection.driver_connection
    assert isinstance(database, sqlite3.Connection)  # noqa: S101 - for the type checker
    return database
