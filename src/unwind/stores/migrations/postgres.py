"""The schema of a PostgreSQL database: which version it has, and whether that will do; moved only when told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from unwind.errors import SettingsError, UnavailableError
from unwind.stores.migrations.revisions import POSTGRES, TABLE, Way, newest, understood
from unwind.stores.postgres.connections import LOST, connect, place_of


async def check_postgres(connection: asyncpg.Connection, folder: Path = POSTGRES) -> None:
    """Raise SettingsError when the database does not have the schema that this program needs, saying what to do."""
    version, needed = await read_version(connection, folder), newest(folder)
    if version < needed:
        what = f"it has schema {version} and this program needs {needed}" if version else "it has no tables yet"
        raise SettingsError(f"{what}; run: unwind migrate up")


async def read_version(connection: asyncpg.Connection, folder: Path = POSTGRES) -> int:
    """The version that a database has; 0: none. Raises SettingsError when it is newer, or not ours."""
    # Asked first, since a failed query would end the transaction around it.
    if await connection.fetchval("select to_regclass($1)::text", TABLE) is None:
        return 0
    kept = await connection.fetch(f"select version_num from {TABLE}")  # noqa: S608 - a constant
    return understood([version for [version] in kept], newest(folder))


async def version_at(url: str) -> int:
    """The version of the database at a URL; 0: none. Raises what `migrate_postgres` does."""
    async with _connected(url) as connection:
        return await read_version(connection)


async def migrate_postgres(url: str, way: Way = "up", target: int | None = None, folder: Path = POSTGRES) -> None:
    """Bring the database at a URL up, or down, to a version, by default the newest.

    Raises SettingsError when the database cannot be used so, belongs to another program or to a newer version of this
    one, or a migration fails, which then has left nothing; UnavailableError when the server does not answer.
    """
    # Late: a worker only checks.
    from unwind.stores.migrations.postgres_steps import migrate_by_steps  # noqa: PLC0415

    async with _connected(url) as connection:
        await migrate_by_steps(connection, way, newest(folder) if target is None else target, folder)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    place = place_of(url)
    connection = await connect(url, {"application_name": "unwind migrate"})
    try:
        yield connection
    except SettingsError as error:
        raise SettingsError(f"{place}: {error}") from error
    except LOST as error:
        raise UnavailableError(f"PostgreSQL at {place} does not answer: {error or 'no answer in time'}") from error
    except asyncpg.PostgresError as error:
        raise SettingsError(f"{place} refuses: {error}") from error
    finally:
        connection.terminate()
