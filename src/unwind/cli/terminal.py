"""What commands have in common: how they fail, and which version they are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from unwind.errors import SettingsError, UnwindError

BAD_SETTINGS = 2
FAILED = 1


@contextmanager
def complain(program: str) -> Iterator[None]:
    """Turn an error of ours into one line on stderr, and exit: 2 for settings that make no sense, 1 for the rest."""
    try:
        yield
    except UnwindError as error:
        sys.stderr.write(f"{program}: {' '.join(str(error).split())}\n")
        raise SystemExit(BAD_SETTINGS if isinstance(error, SettingsError) else FAILED) from error


def version_of(distribution: str) -> str:
    """The installed version; of sources that are not installed, `0+source`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+source"
