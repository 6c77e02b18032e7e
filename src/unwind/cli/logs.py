"""Logging: structlog for us, the same form for what libraries log."""

import logging
import sys
from contextlib import suppress
from typing import Any

import structlog

from unwind.settings import Settings


class _Stderr:
    """On a full disk, or when nobody reads any more, lines are lost and the work goes on."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure_logs(settings: Settings) -> None:
    """Log to stderr from now on, as the settings say."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Values of local variables stay out of tracebacks: orders and keys are among them.
    without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[Any] = (
        [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
        if (settings.log_format or ("console" if sys.stderr.isatty() else "json")) == "json"
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        [*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last], foreign_pre_chain=shared
        )
    )
    # Libraries tell about their own doings at INFO; an operator asked for ours.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # It warns of each request that is not HTTP: anybody could fill the disk with that.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
