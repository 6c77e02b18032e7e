"""The SQL scripts that make a participant's tables: a hash of each that was run tells of changes."""

from collections.abc import Sequence
from hashlib import sha256

from unwind.errors import SettingsError


def marks_of(scripts: Sequence[str]) -> list[str]:
    """The hash of each script."""
    return [sha256(script.encode()).hexdigest() for script in scripts]


def check_known(ran: int, known: int) -> None:
    """Raises SettingsError where more scripts were run than the program has."""
    if ran > known:
        raise SettingsError(f"it has schema {ran}, this program knows {known}; start the program that last used it")


def check_unchanged(ran: Sequence[str], marks: Sequence[str]) -> None:
    """Raises SettingsError where the hash of what was run is another than that of the program's script."""
    for number, (there, here) in enumerate(zip(ran, marks, strict=False), 1):
        if there != here:
            raise SettingsError(
                f"script {number} of the tables was changed after it was run here; leave it as it was and add a "
                "further script instead (and give each participant a database of its own)"
            )
