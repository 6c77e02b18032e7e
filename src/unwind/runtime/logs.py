"""The form of our log: lines on stderr, in which tracebacks are without the values of local variables.

Orders and keys are among those, and structlog would show them, on stdout, wherever nobody has configured it.
"""

import logging
import sys
from contextlib import suppress
from typing import Any

import structlog

from unwind.settings import Settings

FIRST: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""What each line is given before it is written."""


class _Stderr:
    """On a full disk, or when nobody reads any more, lines are lost and the work goes on."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def level_of(settings: Settings) -> int:
    """The least level that is wanted."""
    return logging.getLevelNamesMapping()[settings.log_level.upper()]


def writers(settings: Settings) -> list[Any]:
    """The processors that make text of a line."""
    if (settings.log_format or ("console" if sys.stderr.isatty() else "json")) == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def configure_structlog(settings: Settings, level: int, *, for_good: bool) -> None:
    """Log to stderr from now on. `for_good`: nobody configures structlog again, which makes each line cheaper."""
    structlog.configure(
        [*FIRST, *writers(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=for_good,
    )


def configure_unless_done(settings: Settings) -> None:
    """For a program that has not configured structlog: warnings and errors, since the output is the program's own."""
    if not structlog.is_configured():
        configure_structlog(settings, max(level_of(settings), logging.WARNING), for_good=False)
