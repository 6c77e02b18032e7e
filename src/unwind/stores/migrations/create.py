"""Begins a new migration: the next numbered pair of SQL files, for every dialect."""

import re
from collections.abc import Sequence
from pathlib import Path

from unwind.errors import SettingsError
from unwind.stores.migrations.revisions import DIALECTS, Revision, newest

SOURCES = Path(__file__).parents[4]
TEXTS = {
    "up": "-- What it changes, and why. It runs in one transaction: no begin, no commit.\n",
    "down": "-- Back to what was before. What is lost by it.\n",
}


def create(name: str, sources: Path = SOURCES, folders: Sequence[Path] = DIALECTS) -> Sequence[Path]:
    """Write the files for a migration of that name, and say which.

    Raises SettingsError when the name is no good, the dialects have come apart, or these are no sources to write to.
    """
    if not (sources / "pyproject.toml").is_file() or not all(folder.is_relative_to(sources) for folder in folders):
        raise SettingsError("migrations are written in a checkout of the sources, and this is an installed package")
    slug = re.sub(r"[\s-]+", "_", name.strip().lower())
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,50}", slug):
        raise SettingsError(f"NAME: {name!r:.60} is no name for a migration; use a few words such as add_priorities")
    last = {newest(folder) for folder in folders}
    if len(last) > 1:
        raise SettingsError(f"the dialects have {' and '.join(map(str, sorted(last)))} migrations; even them out first")
    written = []
    for folder in folders:
        revision = Revision(last.copy().pop() + 1, slug, folder)
        for way, text in TEXTS.items():
            file = revision.file("up" if way == "up" else "down")
            file.write_text(text, "utf-8")
            written.append(file)
    return written
