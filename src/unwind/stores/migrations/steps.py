"""Carries migrations out with Alembic: each in a transaction of its own, whoever else migrates at the same time.

The chain of revisions is made from the numbered SQL files; Alembic keeps the table that says where a database stands.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from alembic.runtime.migration import MigrationContext, MigrationStep, StampStep
from alembic.script import Script
from alembic.script.revision import RevisionMap
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from unwind.stores.migrations.revisions import Revision, Way, id_of, revisions


class Dialect(Protocol):
    """What is done differently by each database."""

    @property
    def folder(self) -> Path:
        """Where its SQL files are."""
        ...

    def lock(self, connection: Connection) -> None:
        """Wait, in the transaction just begun, until nobody else migrates; held until the transaction ends."""
        ...

    def version(self, connection: Connection) -> int:
        """The version that the database has. Raises SettingsError when it is newer, or not ours."""
        ...

    def run(self, connection: Connection, revision: Revision, way: Way) -> None:
        """Execute the revision's file, in the transaction. Raises SettingsError naming the file when it fails."""
        ...


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the driver's own errors, not SQLAlchemy's around them."""
    try:
        yield
    except DBAPIError as error:
        raise error.driver_exception from error


def migrate(connection: Connection, dialect: Dialect, way: Way, target: int) -> None:
    """Bring a database up, or down, to a version; one that is there already, or beyond, is left alone.

    Raises SettingsError when it belongs to another program, or to a newer version of this one, or a file's SQL fails,
    which then has left nothing.
    """
    chain = RevisionMap(lambda: [_script(dialect, revision) for revision in revisions(dialect.folder)])
    while _advance(connection, dialect, chain, way, target):
        pass


def _advance(connection: Connection, dialect: Dialect, chain: RevisionMap, way: Way, target: int) -> bool:
    """Take one step; False: there was none to take."""
    with connection.begin():
        dialect.lock(connection)
        # Under the lock: another process may just have moved it.
        version = dialect.version(connection)
        context = MigrationContext.configure(connection, opts={"fn": lambda *_: [step]})
        step: MigrationStep
        if version and not context.get_current_heads():
            # From before there was Alembic: only the note is missing.
            step = StampStep(None, id_of(version), is_upgrade=True, branch_move=True, revision_map=chain)
        elif way == "up" and version < target:
            step = MigrationStep.upgrade_from_script(chain, _numbered(chain, version + 1))
        elif way == "down" and version > target:
            step = MigrationStep.downgrade_from_script(chain, _numbered(chain, version))
        else:
            return False
        context.run_migrations(connection=connection)
        return True


def _numbered(chain: RevisionMap, number: int) -> Script:
    return cast("Script", chain.get_revision(id_of(number)))


def _script(dialect: Dialect, revision: Revision) -> Script:
    """What Alembic would import from a file of Python."""

    def upgrade(connection: Connection) -> None:
        dialect.run(connection, revision, "up")

    def downgrade(connection: Connection) -> None:
        dialect.run(connection, revision, "down")

    module = ModuleType(revision.name)
    before = id_of(revision.number - 1) if revision.number > 1 else None
    vars(module).update(down_revision=before, upgrade=upgrade, downgrade=downgrade)
    return Script(module, revision.id, revision.file("up"))
