"""The `sagas watch` command: one saga until it ends, or whatever is live, as it changes."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text as Styled

from unwind.cli.api import (
    DEFAULT_URL,
    SILENT,
    WAIT,
    WRONG,
    Answer,
    NoAnswerError,
    ask,
    clean,
    client,
    fail,
    shown,
    understood,
)
from unwind.cli.completion import saga_ids
from unwind.cli.filters import Attributes, Definition, StartedFrom, StartedTo, Status, Text, query_of
from unwind.cli.paths import AsJson, Url, path
from unwind.cli.shown import ATTEMPTS, attempts, drawn

COMPENSATED, UNENDED, INTERRUPTED = 4, 5, 130
"""Exit codes beside those of every call: it was undone; it has not ended in time; Ctrl-C."""
EVERY = 0.5
"""Seconds between two looks."""
LONGEST = 10.0
"""Seconds between two looks at a server that does not answer."""
MOST = 100
"""Sagas of a list that are watched: the newest."""
ENDS = {"completed": 0, "compensated": COMPENSATED}
_LIVE = "pending,running,compensating,paused"
_PERSON = "blocked"
_TO_SECONDS = len("2030-01-01T09:00:00")

Row = dict[str, Any]
Show = Callable[[RenderableType], None]


def watch(
    saga_id: Annotated[
        str, typer.Argument(metavar="ID", help="The saga's id; without one, what is live.", autocompletion=saga_ids)
    ] = "",
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Watch for so many seconds.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Watch a saga until it has ended; or, without an id, those that are live, the ones that need a person first.

    Where nobody looks on, and with --json, each change is a line of JSON. A server that goes away is asked again until
    it is back. Exits with 0 when the saga is completed, 4 when it is undone, 5 when it has not ended within --timeout,
    130 on Ctrl-C; with 1, 2 or, where nobody ever answered, 3 like all calls.
    """
    query = query_of(status, definition, started_from, started_to, attribute, text=text)
    if saga_id and query:
        fail(WRONG, "an id says which saga; give it, or conditions")
    until = None if timeout is None else time.monotonic() + timeout
    try:
        with client() as http, _screen(as_json=as_json) as show:
            asking = _Asking(http, url, until)
            code = _until_ended(asking, saga_id, show) if saga_id else _listed(asking, query, show)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


# ------------------------------------------------------------------------------------------------------------ watching


class _TimeIsUpError(Exception):
    """Nobody wants to look any longer."""


class _Asking:
    """Asks until it is answered; says when it is not, and when it is again."""

    def __init__(self, http: httpx.Client, url: str, until: float | None) -> None:
        """`until` is on the monotonic clock, in seconds; None: for ever."""
        self._http = http
        self._url = url
        self._until = until
        self._away = False
        self._met = False
        """Somebody has answered once, be it with a no."""

    def __call__(self, path: str, query: dict[str, Any] | None = None) -> Answer:
        """Raises _TimeIsUpError; what asking again would not change ends the program."""
        pause = WAIT
        while True:
            try:
                answer = ask(self._http, "GET", self._url, path, query=query)
            except NoAnswerError as error:
                self._met = self._met or error.code != SILENT
                if error.wait is None or not self._met:
                    fail(error.code, str(error))
                if not self._away:
                    _say(f"{error}\n  asking again until there is an answer")
                self._away = True
                self.wait(max(error.wait, pause))
                pause = min(2 * pause, LONGEST)
                continue
            if self._away:
                _say(f"{shown(self._url)} answers again")
            self._away, self._met = False, True
            return answer

    def wait(self, seconds: float = EVERY) -> None:
        """Let so much time pass, or what is left. Raises _TimeIsUpError."""
        left = seconds if self._until is None else self._until - time.monotonic()
        if left <= 0:
            raise _TimeIsUpError
        time.sleep(min(seconds, left))


def _until_ended(asking: _Asking, saga_id: str, show: Show | None) -> int:
    """How it ended, as an exit code."""
    seen, status = None, "unknown"
    try:
        while True:
            answer = asking(path(saga_id))
            with understood():
                status, version = answer.body["status"], answer.body["version"]
                if version != seen:
                    _tell_saga(answer, asking, saga_id, show)
                    seen = version
                if status in ENDS:
                    return ENDS[status]
            asking.wait()
    except _TimeIsUpError:
        _say(f"{saga_id} has not ended in time: {status}")
        return UNENDED


def _tell_saga(answer: Answer, asking: _Asking, saga_id: str, show: Show | None) -> None:
    if show is None:
        _line(answer.text)
        return
    body, history = answer.body, asking(path(saga_id, "history")).body["history"]
    head = f"{body['saga_id']}  {body['definition']}  {body['status']}"
    reason = f"blocked at {body['blocked']['step']}: {body['blocked']['reason']}" if body["blocked"] else ""
    table = drawn(_briefly(attempts(history), "started_at", "completed_at"), *ATTEMPTS)
    show(Group(*(Styled(clean(line)) for line in (head, reason) if line), table))


def _listed(asking: _Asking, query: Row, show: Show | None) -> int:
    """Until somebody has seen enough."""
    # Few need a person, and they may be older than all the others that fit on a page.
    queries = [query] if "status" in query else [query | {"status": each} for each in (_PERSON, _LIVE)]
    seen: dict[str, Row] = {}
    try:
        while True:
            pages = [asking("/sagas", each | {"limit": MOST}).body for each in queries]
            with understood():
                now = {row["saga_id"]: row for page in pages for row in page["sagas"]}
                more = any(page["next_cursor"] for page in pages)
                if show is not None:
                    show(_drawn_list(list(now.values()), more=more))
                else:
                    for change in _changes(seen, now, more=more):
                        _line(msgspec.json.encode(change).decode())
            seen = now
            asking.wait()
    except _TimeIsUpError:
        return 0


def _changes(seen: dict[str, Row], now: dict[str, Row], *, more: bool) -> Iterator[Row]:
    """Rows that are new or have changed, with the status before; those that are gone, without one now.

    Where there are more sagas than are watched, one that is gone may only have made room for others: it is not told.
    """
    for saga_id, row in now.items():
        if row != seen.get(saga_id):
            yield row | {"was": seen[saga_id]["status"] if saga_id in seen else None}
    for saga_id in () if more else seen.keys() - now.keys():
        yield seen[saga_id] | {"status": None, "was": seen[saga_id]["status"]}


def _drawn_list(rows: list[Row], *, more: bool) -> RenderableType:
    by_status: dict[str, int] = {}
    for row in rows:
        by_status[row["status"]] = by_status.get(row["status"], 0) + 1
    told = ", ".join(f"{count} {status}" for status, count in by_status.items()) or "none"
    head = Styled(clean(told + (", and more that are older" if more else "")))
    brief = _briefly(rows, "started_at", "updated_at")
    return Group(head, drawn(brief, "saga_id", "definition", "status", "started_at", "updated_at"))


def _briefly(rows: list[Row], *instants: str) -> list[Row]:
    """Instants to the second, by the clock that is UTC: a table has to fit."""
    return [row | {name: row[name] and row[name][:_TO_SECONDS] for name in instants} for row in rows]


# -------------------------------------------------------------------------------------------------------------- telling


@contextmanager
def _screen(*, as_json: bool) -> Iterator[Show | None]:
    """Where to show what is watched; None: nobody looks on, and it is told line by line."""
    console = Console(highlight=False, markup=False, emoji=False)
    if as_json or not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda what: live.update(what, refresh=True)


def _line(text: str) -> None:
    typer.echo(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    typer.echo("\n".join(f"unwind: {clean(line)}" for line in text.splitlines()), err=True)
