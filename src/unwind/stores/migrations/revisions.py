"""The versions of a schema: pairs of SQL files in its dialect's folder, `NNN_name.up.sql` and `NNN_name.down.sql`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from unwind.errors import SettingsError

Way = Literal["up", "down"]
STORES = Path(__file__).parents[1]
SQLITE = STORES / "sqlite" / "schema"
POSTGRES = STORES / "postgres" / "schema"
DIALECTS = (SQLITE, POSTGRES)
TABLE = "alembic_version"
"""Has one row: the id of the version that the database has; none where everything was taken down."""


class Revision(Struct, frozen=True):
    """One version, and how to come to it from the one before."""

    number: int
    name: str
    folder: Path

    @property
    def id(self) -> str:
        """As it stands in the database."""
        return id_of(self.number)

    def file(self, way: Way) -> Path:
        """The SQL that leads to this version, or back from it."""
        return self.folder / f"{self.id}_{self.name}.{way}.sql"


def id_of(number: int) -> str:
    """How a version is called in the database and in the names of files."""
    return f"{number:03}"


def revisions(folder: Path) -> Sequence[Revision]:
    """The versions that this program knows, the oldest first."""
    found = (file.name.removesuffix(".up.sql").partition("_") for file in sorted(folder.glob("*.up.sql")))
    return [Revision(int(number), name, folder) for number, _, name in found]


def newest(folder: Path) -> int:
    """The version that this program needs."""
    return len(list(folder.glob("*.up.sql")))


def understood(kept: Sequence[str], known: int) -> int:
    """The version told by the rows of the table; 0: none.

    Raises SettingsError when another program, or a newer version of this one, wrote them.
    """
    if len(kept) > 1 or not all(re.fullmatch(r"[0-9]{3}", each) for each in kept):
        raise SettingsError(
            f"its table {TABLE} says {', '.join(kept)!r:.80}, which is no version of Unwind: it is a database of "
            "another program; name another database"
        )
    return not_newer(int(kept[0]) if kept else 0, known)


def not_newer(version: int, known: int) -> int:
    """The version, if this program knows it. Raises SettingsError when not."""
    if version > known:
        raise SettingsError(
            f"it has schema {version} and this program knows {known}: a newer version wrote it, run that one"
        )
    return version
