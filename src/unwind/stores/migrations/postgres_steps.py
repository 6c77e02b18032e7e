"""Alembic on a PostgreSQL database, through asyncpg."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from msgspec import Struct
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from unwind.errors import SettingsError
from unwind.stores.migrations.postgres import read_version
from unwind.stores.migrations.revisions import Revision, Way
from unwind.stores.migrations.steps import driver_errors, migrate
from unwind.stores.postgres.connections import LOST

LOCK = 0x756E7764
"""The number on which all who migrate a database wait for one another: "unwd"."""
PATIENCE = 86_400.0
"""Seconds that a migration may take, and wait for another: what connections usually allow is for every day's work."""


async def migrate_by_steps(database: asyncpg.Connection, way: Way, target: int, folder: Path) -> None:
    """Bring a database up, or down, to a version; the connection is closed. Raises what `steps.migrate` does."""

    async def given() -> asyncpg.Connection:
        return database

    # A pooler in transaction mode keeps no statements from one transaction to the next, and other clients' beside ours.
    arguments = {
        "async_creator_fn": given,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"unwind_{uuid4()}",
    }
    engine = create_async_engine("postgresql+asyncpg://", connect_args=arguments, poolclass=NullPool)
    with driver_errors():
        async with engine.connect() as connection:
            await connection.run_sync(migrate, _Postgres(folder), way, target)


class _Postgres(Struct, frozen=True):
    folder: Path

    def lock(self, connection: Connection) -> None:
        # Through SQLAlchemy, which begins the transaction only now.
        connection.exec_driver_sql("set local statement_timeout = 0")
        _execute(connection, f"set local lock_timeout = 0; select pg_advisory_xact_lock({LOCK})")

    def version(self, connection: Connection) -> int:
        version: int = _await(connection, lambda database: read_version(database, self.folder))
        return version

    def run(self, connection: Connection, revision: Revision, way: Way) -> None:
        file = revision.file(way)
        text = file.read_text("utf-8")
        try:
            _execute(connection, text)
        except LOST:
            raise
        except asyncpg.PostgresError as error:
            raise SettingsError(f"{file.name}: {error}; nothing of it was kept") from error


def _execute(connection: Connection, text: str) -> None:
    # Without arguments asyncpg sends all of it at once, functions and triggers and all. It stumbles over the answer to
    # a text without any statement, such as a migration that was only just created.
    _await(connection, lambda database: database.execute(f"select;\n{text}", timeout=PATIENCE))


def _await(connection: Connection, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    driver: Any = connection.connection
    return driver.run_async(work)
