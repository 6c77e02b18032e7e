"""The `circuits` command: which participants answer, as one process sees it, from a terminal."""

import typer

from unwind.cli.api import DEFAULT_URL, call, clean, understood
from unwind.cli.lines import Lines
from unwind.cli.paths import AsJson, Url
from unwind.cli.shown import table

circuits = typer.Typer(name="circuits", cls=Lines, invoke_without_command=True)


@circuits.callback()
def list_circuits(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Which participants answer, who does not and since when, over the HTTP API. UNWIND_URL says where it is."""
    answer = call("GET", url, "/circuits")
    if as_json:
        typer.echo(answer.text)
        return
    with understood():
        table(answer.body["circuits"], "service", "state", "since", "answered_at", "parked", "next_probe_at")
        if not answer.body["hears_answers"]:
            typer.echo(f"{clean(answer.body['worker'])} leaves answers to the workers: ask their /metrics", err=True)
