"""The `sagas` commands: what the HTTP API tells of sagas, and every act that it offers, from a terminal."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from unwind.cli.api import DEFAULT_URL, WRONG, call, clean, fail, understood
from unwind.cli.bulk import bulk
from unwind.cli.completion import saga_ids
from unwind.cli.filters import Attributes, Definition, StartedFrom, StartedTo, Status, Text, query_of
from unwind.cli.lines import Lines
from unwind.cli.paths import AsJson, Url, path, segment
from unwind.cli.shown import ATTEMPTS, attempts, counts, fields, table, tell
from unwind.cli.watch import watch

MOST = 10_000
"""Sagas that `--all` lists at most."""
_PAGE = 200

sagas = typer.Typer(
    name="sagas",
    cls=Lines,
    no_args_is_help=True,
    help="Look at sagas and steer them, over the HTTP API. UNWIND_URL says where it is.",
)
SagaId = Annotated[str, typer.Argument(metavar="ID", help="The saga's id.", autocompletion=saga_ids)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the saga's history.")]
Expect = Annotated[
    int | None, typer.Option("--expect", metavar="VERSION", help="Act only on this version of the saga.")
]
StepName = Annotated[str, typer.Option("--step", help="Which step; else whatever needs a person.")]


# -------------------------------------------------------------------------------------------------------------- looking


@sagas.command("list")
def list_sagas(
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_PAGE, help="Sagas on a page.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="Where the page before ended.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help=f"All pages, up to {MOST} sagas; --json: a document each.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List sagas, newest first."""
    query = query_of(status, definition, started_from, started_to, attribute, text=text) | {
        "limit": _PAGE if every else limit
    }
    rows: list[Any] = []
    while True:
        answer = call("GET", url, "/sagas", query=query | {"cursor": cursor or None})
        with understood():
            rows += answer.body["sagas"]
            cursor = answer.body["next_cursor"] or ""
        if as_json:
            typer.echo(answer.text)
        if not (every and cursor and len(rows) < MOST):
            break
    if not as_json:
        with understood():
            told = ("saga_id", "definition", "definition_version", "status", "started_at", "ended_at")
            table(rows, *told, *(["parked"] if any(row.get("parked") for row in rows) else []))
        if cursor:
            typer.echo(f"There are more: --cursor {clean(cursor)}", err=True)


@sagas.command()
def count(
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Count sagas, by status; and add up what their definition says is their amount."""
    query = query_of(status, definition, started_from, started_to, attribute, text=text)
    tell(call("GET", url, "/sagas/count", query=query), counts, as_json=as_json)


@sagas.command()
def show(
    saga_id: SagaId,
    at: Annotated[int | None, typer.Option("--at", metavar="VERSION", help="As it stood after this version.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a saga as it is now, or was."""
    tell(call("GET", url, path(saga_id), query={"at": at}), fields, as_json=as_json)


@sagas.command()
def history(saga_id: SagaId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show every attempt and every act, in order."""

    def told(body: Any) -> None:
        table(attempts(body["history"]), *ATTEMPTS)
        if acts := body["acts"]:
            typer.echo()
            referred = ["reference"] if any(act.get("reference") for act in acts) else []
            table([{"reference": None} | act for act in acts], "at", "act", "step", "actor", "reason", *referred)

    tell(call("GET", url, path(saga_id, "history")), told, as_json=as_json)


@sagas.command()
def plan(saga_id: SagaId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show what is left to do, and what a cancel would undo now."""

    def told(body: Any) -> None:
        turned = not body["cancel_possible"] and body["undo"]
        undone = "Still to be undone, in this order" if turned else "A cancel would undo, in this order"
        for title, steps in (("Left to do", body["ahead"]), (undone, body["undo"])):
            typer.echo(f"{title}:" if steps else f"{title}: nothing")
            for step in steps:
                sends = step["command"]["name"] if step["command"] else step["shape"] or "not known here"
                typer.echo(clean(f"  {step['step']}: {sends}, {step['progress']} {step['note']}".rstrip()))
        for note in (body["cancel_refused_because"] and f"No cancel: {body['cancel_refused_because']}.", body["note"]):
            if note:
                typer.echo(clean(note))

    tell(call("GET", url, path(saga_id, "plan")), told, as_json=as_json)


@sagas.command()
def explain(saga_id: SagaId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Say why a saga is where it is, and what may be done."""

    def told(body: Any) -> None:
        for sentence in (body["headline"], *body["sentences"]):
            typer.echo(clean(sentence))
        for may in body["may"]:
            if may["possible"]:
                typer.echo(clean(f"  {may['act']}: {may['consequence']}"))

    tell(call("GET", url, path(saga_id, "explain")), told, as_json=as_json)


# --------------------------------------------------------------------------------------------------------------- acting


@sagas.command()
def cancel(
    saga_id: SagaId, *, reason: Reason = "", expect: Expect = None, url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Undo what was done; not once the point of no return is begun."""
    _act(saga_id, "cancel", {"reason": reason, "expected_version": expect}, url, as_json=as_json)


@sagas.command()
def pause(
    saga_id: SagaId, *, reason: Reason = "", expect: Expect = None, url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Begin nothing new until it is resumed or cancelled."""
    _act(saga_id, "pause", {"reason": reason, "expected_version": expect}, url, as_json=as_json)


@sagas.command()
def resume(
    saga_id: SagaId, *, reason: Reason = "", expect: Expect = None, url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Drive it on now: end a pause or a backoff, try what is blocked."""
    _act(saga_id, "resume", {"reason": reason, "expected_version": expect}, url, as_json=as_json)


@sagas.command()
def retry(
    saga_id: SagaId,
    *,
    reason: Reason = "",
    step: StepName = "",
    command: Annotated[
        str | None, typer.Option("--command", metavar="JSON", help="Send this in place of the step's.")
    ] = None,
    command_file: Annotated[Path | None, typer.Option("--command-file", help="The same, from a file.")] = None,
    expect: Expect = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Try anew what is blocked or waits for its next attempt."""
    if command is not None and command_file is not None:
        fail(WRONG, "--command and --command-file are two commands: give one")
    body = {"reason": reason, "step": step, "expected_version": expect}
    given = _json("--command", command) if command_file is None else _json("--command-file", _read(command_file))
    _act(saga_id, "retry", body | ({} if given is None else {"command": given}), url, as_json=as_json)


@sagas.command()
def resolve(
    saga_id: SagaId,
    *,
    evidence: Annotated[str, typer.Option("--evidence", help="How it is known that it was done by hand.")],
    reference: Annotated[str, typer.Option("--reference", help="Where to find it: a ticket, a document.")] = "",
    step: StepName = "",
    reply: Annotated[
        str | None, typer.Option("--reply", metavar="JSON", help="What the participant would have said.")
    ] = None,
    expect: Expect = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Take what is blocked as done, or undone, by hand."""
    body = {"evidence": evidence, "reference": reference, "step": step, "expected_version": expect}
    given = _json("--reply", reply)
    _act(saga_id, "resolve", body | ({} if given is None else {"reply": given}), url, as_json=as_json)


@sagas.command()
def skip(
    saga_id: SagaId,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the saga's history.")],
    step: StepName = "",
    expect: Expect = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Leave out what is blocked or only waits."""
    _act(saga_id, "skip", {"reason": reason, "step": step, "expected_version": expect}, url, as_json=as_json)


@sagas.command()
def signal(
    saga_id: SagaId,
    name: Annotated[str, typer.Argument(metavar="STEP", help="The step that waits.")],
    says: Annotated[str, typer.Argument(metavar="JSON", help="What the signal says.")] = "null",
    *,
    key: Annotated[str, typer.Option("--key", help="Its Idempotency-Key: tells it from another one.")] = "",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Tell a saga what a step of it waits for."""
    _act(saga_id, f"signals/{segment('step', name)}", _json("what the signal says", says), url, key, as_json=as_json)


def _act(saga_id: str, what: str, body: Any, url: str, key: str = "", *, as_json: bool) -> None:
    answer = call("POST", url, path(saga_id, what), body=msgspec.json.encode(body), key=key)
    tell(answer, lambda body: typer.echo(clean(f"{body['message']} ({body['status']})")), as_json=as_json)


# ------------------------------------------------------------------------------------------------------ in and out


def _json(option: str, text: str | None) -> msgspec.Raw | None:
    """JSON as somebody typed it; None: not given. Ends the program where it is none, as an empty text is."""
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        fail(WRONG, f"{option} is not JSON: {error}")
    return msgspec.Raw(text.encode())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(WRONG, f"--command-file {path} cannot be read: {error}")


sagas.command()(watch)
sagas.add_typer(bulk)
