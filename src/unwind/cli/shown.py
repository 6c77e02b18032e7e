"""How the API's answers look in a terminal: fields, tables, or the answer to the letter."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unwind.cli.api import Answer, clean, understood


def tell(answer: Answer, told: Callable[[Any], None], *, as_json: bool) -> None:
    """Show an answer, by `told` or to the letter."""
    if as_json:
        typer.echo(answer.text)
    else:
        with understood():
            told(answer.body)


def fields(body: dict[str, Any]) -> None:
    """Each field on a line; what is not there is left out."""
    for name, value in body.items():
        if isinstance(value, bool):
            typer.echo(clean(f"{name}: {'yes' if value else 'no'}"))
        elif value in ([], {}):
            typer.echo(clean(f"{name}: none"))
        elif isinstance(value, dict | list):
            text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
            for number, line in enumerate(text.splitlines()):
                typer.echo(clean(line if number else f"{name}: {line}"))
        elif value is not None:
            typer.echo(clean(f"{name}: {value}"))


def table(rows: list[dict[str, Any]], *columns: str) -> None:
    """As wide as it is where nobody looks: what is piped on is never cut."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=10_000)
    console.print(drawn(rows, *columns))


def drawn(rows: list[dict[str, Any]], *columns: str) -> Table:
    """The same, to be put somewhere."""
    shown = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*_cells(row, columns))
    return shown


ATTEMPTS = ("step_name", "direction", "attempt", "status", "started_at", "completed_at", "error")


def attempts(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attempts of a saga; those that a person answered for say so."""
    return [row | {"status": f"{row['status']} by hand"} if row.get("by_hand") else row for row in history]


def counts(body: dict[str, Any], *, err: bool = False) -> None:
    """How many there are, by status, and what they come to."""
    typer.echo(f"{body['count']} sagas", err=err)
    for status, count in body["by_status"].items():
        typer.echo(clean(f"  {status}: {count}"), err=err)
    amounts(body["amounts"], err=err)


def amounts(sums: list[dict[str, Any]], *, err: bool = False) -> None:
    """What the sagas of each definition come to."""
    for added in sums:
        typer.echo(clean(f"  {added['attribute']} of {added['definition']}, together: {added['sum']}"), err=err)


def _cells(row: dict[str, Any], columns: tuple[str, ...]) -> Iterator[Text]:
    for column in columns:
        value = row[column]
        yield Text("" if value is None else clean(value), overflow="fold")
