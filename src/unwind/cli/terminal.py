"""What commands have in common: how they fail, and which version they are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from unwind.errors import SettingsError, UnwindError

BAD_SETTINGS = 2
FAILED = 1
EXTRAS = {
    "asyncpg": "postgres",
    "sqlalchemy": "postgres",
    "nats": "nats",
    "redis": "redis",
    "opentelemetry": "tracing",
}
"""Packages that only some settings need → the extra that brings them."""


@contextmanager
def complain(program: str) -> Iterator[None]:
    """Turn an error of ours into one line on stderr, and exit: 2 for settings that make no sense, 1 for the rest.

    Likewise a package that is missing because the extra that brings it was not installed.
    """
    try:
        yield
    except UnwindError as error:
        sys.stderr.write(f"{program}: {' '.join(str(error).split())}\n")
        raise SystemExit(BAD_SETTINGS if isinstance(error, SettingsError) else FAILED) from error
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.stderr.write(
            f"{program}: the settings ask for {extra}, which needs more packages: install unwind[{extra}]\n"
        )
        raise SystemExit(BAD_SETTINGS) from error


def version_of(distribution: str) -> str:
    """The installed version; of sources that are not installed, `0+source`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+source"
