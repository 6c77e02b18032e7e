"""Where a database file may be: its directory is made, and whatever is wrong with the place is told."""

import os
from pathlib import Path

from unwind.errors import SettingsError


def prepare_file(path: Path) -> None:
    """Make its directory. Raises SettingsError when no file can be there."""
    directory = path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{directory} cannot be used as a directory: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise SettingsError(f"{directory} may not be written to")
    if path.is_dir():
        raise SettingsError(f"{path} is a directory; name a file")
