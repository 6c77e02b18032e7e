"""The `sagas bulk` commands: one act on many sagas, shown and asked about before, followed until it has ended."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from unwind.cli.api import DEFAULT_URL, REFUSED, Answer, call, clean, fail, understood
from unwind.cli.filters import Attributes, Definition, StartedFrom, StartedTo, Status, Text, filter_of
from unwind.cli.lines import Lines
from unwind.cli.paths import AsJson, Url, path
from unwind.cli.shown import amounts, counts, table, tell
from unwind.cli.terminal import said_yes

LOOK = 0.5
"""Seconds between two looks at a run."""

bulk = typer.Typer(
    name="bulk",
    cls=Lines,
    no_args_is_help=True,
    help="Cancel, resume or retry many sagas: shows what it would apply to, and asks.",
)
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the history of each.")]
Every = Annotated[bool, typer.Option("--all", help="Every saga; needed where no condition is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it would apply to.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Begin it, and do not wait for its end.")]
PerSecond = Annotated[int, typer.Option("--per-second", min=1, max=1_000, help="At most so many acts a second.")]
Expect = Annotated[
    int | None, typer.Option("--expect", metavar="COUNT", help="Only if it would apply to so many sagas.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@bulk.command()
def cancel(
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    every: Every = False,
    reason: Reason = "",
    per_second: PerSecond = 10,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Undo many sagas; not those whose point of no return is begun."""
    which = filter_of(status, definition, started_from, started_to, attribute, text=text)
    _act("cancel", which, _rest(every, reason, per_second, expect), url, dry_run, yes, no_wait, as_json)


@bulk.command()
def resume(
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    every: Every = False,
    reason: Reason = "",
    per_second: PerSecond = 10,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Drive many sagas on: end pauses and backoffs, try what is blocked."""
    which = filter_of(status, definition, started_from, started_to, attribute, text=text)
    _act("resume", which, _rest(every, reason, per_second, expect), url, dry_run, yes, no_wait, as_json)


@bulk.command()
def retry(
    *,
    status: Status = None,
    definition: Definition = None,
    started_from: StartedFrom = None,
    started_to: StartedTo = None,
    attribute: Attributes = None,
    text: Text = None,
    every: Every = False,
    reason: Reason = "",
    per_second: PerSecond = 10,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Try anew what is blocked or waits for its next attempt, in many sagas."""
    which = filter_of(status, definition, started_from, started_to, attribute, text=text)
    _act("retry", which, _rest(every, reason, per_second, expect), url, dry_run, yes, no_wait, as_json)


@bulk.command()
def show(run_id: RunId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show how far a run has come; only the process that took it knows."""
    tell(call("GET", url, path(run_id, of="bulk")), _told, as_json=as_json)


@bulk.command()
def stop(run_id: RunId, *, reason: Reason = "", url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """End a run before its next act; what it has done stays done."""
    body = msgspec.json.encode({"reason": reason})
    tell(call("POST", url, path(run_id, "stop", of="bulk"), body=body), _told, as_json=as_json)


# --------------------------------------------------------------------------------------------------------------- acting


def _rest(every: bool, reason: str, per_second: int, expect: int | None) -> dict[str, Any]:
    return {"all": every, "reason": reason, "limit_per_second": per_second, "expected_count": expect}


def _act(  # noqa: PLR0917 - the options of three commands
    action: str,
    which: dict[str, Any],
    rest: dict[str, Any],
    url: str,
    dry_run: bool,
    yes: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    body = {"action": action, "filter": which, **rest}
    if dry_run or not yes:
        preview = _asked(url, {**body, "dry_run": True})
        if dry_run:
            tell(preview, _previewed, as_json=as_json)
            return
        with understood():
            body["expected_count"] = _confirmed(preview.body, body["expected_count"])
            if preview.body["applies_to"] == 0:
                tell(preview, _nothing, as_json=as_json)
                return
    begun = _asked(url, body)
    with understood():
        run_id = str(begun.body["id"])
    typer.echo(clean(f"Run {run_id} has begun; unwind sagas bulk stop {run_id} ends it"), err=True)
    if no_wait:
        tell(begun, _told, as_json=as_json)
        return
    _follow(url, run_id, as_json=as_json)


def _asked(url: str, body: dict[str, Any]) -> Answer:
    return call("POST", url, "/sagas/bulk", body=msgspec.json.encode(body))


def _confirmed(preview: dict[str, Any], expected: int | None) -> int:
    """How many sagas somebody has said yes to. Ends the program where nobody has."""
    _previewed(preview, err=True)
    count = int(preview["applies_to"])
    if count and not said_yes(f"{str(preview['action']).capitalize()} {count} sagas?"):
        fail(REFUSED, "nothing was done; --yes acts without asking")
    return count if expected is None else expected


def _follow(url: str, run_id: str, *, as_json: bool) -> None:
    """Wait for the end of a run; ends the program with 1 where not every saga was acted on."""
    try:
        while True:
            answer = call("GET", url, path(run_id, of="bulk"))
            with understood():
                if answer.body["state"] != "running":
                    break
            time.sleep(LOOK)
    except KeyboardInterrupt:
        fail(REFUSED, f"the run goes on: unwind sagas bulk show {run_id}, or stop {run_id}")
    tell(answer, _told, as_json=as_json)
    with understood():
        if answer.body["state"] != "done" or answer.body["refused"]:
            raise SystemExit(REFUSED)


def _previewed(body: dict[str, Any], *, err: bool = False) -> None:
    typer.echo("The filter fits:", err=err)
    counts(body["matched"], err=err)
    typer.echo(clean(f"{body['action']} would be tried on {body['applies_to']} of them"), err=err)
    amounts(body["amounts"], err=err)


def _nothing(_: dict[str, Any]) -> None:
    typer.echo("There is nothing to do.")


def _told(body: dict[str, Any]) -> None:
    figures: Sequence[str] = [f"{body[name]} {name}" for name in ("applied", "refused", "left")]
    typer.echo(clean(f"{body['action']} of {body['total']} sagas is {body['state']}: {', '.join(figures)}"))
    if body["note"]:
        typer.echo(clean(body["note"]))
    if body["refusals"]:
        table(body["refusals"], "saga_id", "reason")
