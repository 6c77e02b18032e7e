"""The `workers` command: which processes work on the sagas of a store, from a terminal."""

import typer

from unwind.cli.api import DEFAULT_URL, call, understood
from unwind.cli.lines import Lines
from unwind.cli.paths import AsJson, Url
from unwind.cli.shown import table

workers = typer.Typer(name="workers", cls=Lines, invoke_without_command=True)


@workers.callback()
def list_workers(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Which processes work on sagas, and which are lost, over the HTTP API. UNWIND_URL says where it is."""
    answer = call("GET", url, "/workers")
    if as_json:
        typer.echo(answer.text)
        return
    with understood():
        rows = [{**each, "state": "lost" if each["lost"] else "there"} for each in answer.body["workers"]]
        table(rows, "id", "role", "state", "seen_at", "since", "version", "decisions", "swept_seconds_before")
