"""Logging of a process: structlog for us, the same form for what libraries log."""

import logging
import sys

import structlog

from unwind.runtime.logs import FIRST, configure_structlog, level_of, writers
from unwind.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Log to stderr from now on, as the settings say."""
    level = level_of(settings)
    configure_structlog(settings, level, for_good=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *writers(settings)],
            foreign_pre_chain=FIRST,
        )
    )
    # Libraries tell about their own doings at INFO; an operator asked for ours.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # It warns of each request that is not HTTP: anybody could fill the disk with that.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
