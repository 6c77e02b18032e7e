"""What the Tab key offers: statuses, and of what the API knows definitions and sagas; quickly or not at all."""

import os
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, get_args

import typer

from unwind.cli.api import DEFAULT_URL, NoAnswerError, ask, client
from unwind.core.state import ShownStatus

QUICK = 0.5
"""Seconds to connect, and as many to answer: who presses Tab does not wait for a server that is away."""
_MOST = 50
"""Sagas that are looked at: the newest."""


def statuses(incomplete: str) -> list[str]:
    """The statuses of sagas; after a comma, another one."""
    given, comma, last = incomplete.rpartition(",")
    return [f"{given}{comma}{each}" for each in get_args(ShownStatus) if each.startswith(last)]


def definitions(context: typer.Context, incomplete: str) -> list[str]:
    """Those of the newest sagas."""
    names = dict.fromkeys(str(row["definition"]) for row in _newest(context))
    return [name for name in names if name.startswith(incomplete)]


def saga_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The newest sagas, each with what it is."""
    return [
        (str(row["saga_id"]), f"{row['definition']}, {row['status']}")
        for row in _newest(context)
        if str(row["saga_id"]).startswith(incomplete)
    ]


def _newest(context: typer.Context) -> Iterator[dict[str, Any]]:
    """None where the API does not say so at once: nothing is told of it, since the line is still being typed."""
    url = context.params.get("url") or os.environ.get("UNWIND_URL") or DEFAULT_URL
    try:
        with redirect_stderr(StringIO()), client(QUICK) as http:
            answer = ask(http, "GET", url, "/sagas", query={"limit": _MOST})
    except (NoAnswerError, SystemExit):
        return
    rows = answer.body.get("sagas")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and {"saga_id", "definition", "status"} <= row.keys():
            yield row
