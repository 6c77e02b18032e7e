"""The database that settings name, as migrations see it: which dialect, which version, up and down."""

from contextlib import closing
from pathlib import Path

from unwind.settings import Database
from unwind.stores.migrations.revisions import POSTGRES, SQLITE, Way
from unwind.stores.migrations.sqlite import read_version
from unwind.stores.sqlite.connections import blamed_on, connect_reader, connect_writer
from unwind.stores.sqlite.guard import LINKED


def schema_of(database: Database) -> Path:
    """The folder with the migrations of its dialect."""
    return SQLITE if isinstance(database, Path) else POSTGRES


async def version_of(database: Database) -> int:
    """The version that it has; 0: none. Raises what `migrate` does."""
    if isinstance(database, Path):
        return _version_of_file(database)
    # Late: with a file nobody needs the driver of PostgreSQL.
    from unwind.stores.migrations.postgres import version_at  # noqa: PLC0415

    return await version_at(database.url.reveal)


async def migrate(database: Database, way: Way, target: int) -> None:
    """Bring it up, or down, to a version; a file is made if need be.

    Raises SettingsError when it cannot be used, belongs to another program or to a newer version of this one, or a
    migration fails, which then has left nothing; UnavailableError when the server does not answer.
    """
    if isinstance(database, Path):
        connect_writer(database, LINKED, way, target).close()
        return
    from unwind.stores.migrations.postgres import migrate_postgres  # noqa: PLC0415

    await migrate_postgres(database.url.reveal, way, target)


def _version_of_file(path: Path) -> int:
    # One that is not there must not be made by looking.
    if not path.exists():
        return 0
    with closing(connect_reader(path)) as reader, blamed_on(path):
        return read_version(reader)
