"""What commands have in common: how they fail, and which version they are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
import typer.core

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


class Program(typer.core.TyperGroup):
    """The commands of a program: a value that none of them takes is told of in words for people."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix(_CHECKER)
            raise


_CHECKER = "Value error, "
"""What checks values says so before each reason; nobody who types a command knows of it."""


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


def said_yes(question: str) -> bool:
    """Asked on stderr, all of it: stdout is for the answer. Where nobody is there to say so, it is a no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    said = sys.stdin.readline()
    if not said.endswith("\n"):
        sys.stderr.write("\n")
    return said.strip().lower() in {"y", "yes"}
