"""The `dead-letters` commands: what could never be handled, put back or thrown away, over the HTTP API."""

from typing import Annotated, Any

import msgspec
import typer

from unwind.cli.api import DEFAULT_URL, REFUSED, WRONG, call, clean, fail, understood
from unwind.cli.lines import Lines
from unwind.cli.paths import AsJson, Url
from unwind.cli.shown import table, tell

dead_letters = typer.Typer(
    name="dead-letters",
    cls=Lines,
    no_args_is_help=True,
    help="What no participant could ever handle: shown, put back, thrown away. UNWIND_URL says where the API is.",
)
Ids = Annotated[list[str] | None, typer.Argument(metavar="LETTER", help="Ids, as `list` shows them.")]
Every = Annotated[bool, typer.Option("--all", help="All that there are when it begins.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the server's log.")]
_AT_ONCE = 100


@dead_letters.command("list")
def list_letters(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")] = 20,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this letter.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the oldest first."""
    answer = call("GET", url, "/dead-letters", query={"limit": limit, "after": after})
    tell(answer, _listed, as_json=as_json)


@dead_letters.command()
def redrive(
    ids: Ids = None, *, every: Every = False, reason: Reason = "", url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Put letters back where they came from."""
    _act("redrive", ids, url, every=every, reason=reason, as_json=as_json)


@dead_letters.command()
def discard(
    ids: Ids = None, *, every: Every = False, reason: Reason = "", url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Throw letters away for good."""
    _act("discard", ids, url, every=every, reason=reason, as_json=as_json)


def _act(what: str, ids: list[str] | None, url: str, *, every: bool, reason: str, as_json: bool) -> None:
    if bool(ids) == every:
        fail(WRONG, "which letters? Give their ids, as `unwind dead-letters list` shows them; or --all")
    chosen = _all(url) if every else list(ids or ())
    missing = False
    for first in range(0, len(chosen), _AT_ONCE):
        body = msgspec.json.encode({"ids": chosen[first : first + _AT_ONCE], "reason": reason})
        answer = call("POST", url, f"/dead-letters/{what}", body=body)
        tell(answer, _told(what), as_json=as_json)
        with understood():
            missing = missing or bool(answer.body["missing"])
    if not chosen:
        typer.echo("there are no dead letters", err=True)
    if missing and not every:  # of all there were, one that is gone is somebody else's doing, and as it should be
        raise typer.Exit(REFUSED)


def _all(url: str) -> list[str]:
    """Those that are there now: what dies again meanwhile is left."""
    found: list[str] = []
    after: str | None = None
    with understood():
        while True:
            body = call("GET", url, "/dead-letters", query={"limit": _AT_ONCE, "after": after}).body
            found += [letter["id"] for letter in body["dead_letters"]]
            after = body["next"]
            if after is None:
                return found


def _listed(body: dict[str, Any]) -> None:
    rows = []
    for letter in body["dead_letters"]:
        first = letter["messages"][0] if letter["messages"] else {"name": "cannot be read", "id": ""}
        more = len(letter["messages"]) - 1
        named = {"message": first["name"] + (f" and {more} more" if more > 0 else ""), "effect": first["id"]}
        rows.append({**letter, **named})
    table(rows, "id", "set_aside_at", "topic", "message", "effect", "reason")
    typer.echo(f"{body['total']} in all", err=True)
    if body["next"] is not None:
        typer.echo(f"further: --after {clean(body['next'])}", err=True)


def _told(what: str) -> Any:
    done = {"redrive": "put back", "discard": "thrown away"}[what]

    def told(body: dict[str, Any]) -> None:
        for letter in body["done"]:
            typer.echo(clean(f"{letter}: {done}"))
        for letter in body["missing"]:
            typer.echo(clean(f"{letter}: not there"), err=True)

    return told
