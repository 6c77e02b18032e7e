"""Which sagas a command is about: the options that list, count and bulk acts have in common."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from unwind.cli.api import WRONG, fail
from unwind.cli.completion import definitions, statuses

Status = Annotated[list[str] | None, typer.Option("--status", help="Only these; repeat it.", autocompletion=statuses)]
Definition = Annotated[
    str | None, typer.Option("--definition", help="Only sagas of this definition.", autocompletion=definitions)
]
StartedFrom = Annotated[str | None, typer.Option("--from", help="Started at this instant or later (RFC 3339).")]
StartedTo = Annotated[str | None, typer.Option("--to", help="Started before this instant (RFC 3339).")]
Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="NAME=VALUE", help="Only sagas that have this value; repeat it."),
]

Text = Annotated[
    str | None, typer.Option("--text", help="Only sagas whose id, correlation id or an attribute begins with this.")
]


def pairs(attributes: Sequence[str] | None) -> dict[str, str]:
    """Names and values as somebody typed them. Ends the program where that makes no sense."""
    found: dict[str, str] = {}
    for text in attributes or ():
        name, given, value = text.partition("=")
        if not (name and given):
            fail(WRONG, f"--attribute {text!r}: give a name and a value, e.g. --attribute customer_id=customer-1")
        if name in found:
            fail(WRONG, f"--attribute {name!r}: give it once, a saga has one value of it")
        found[name] = value
    return found


def query_of(
    status: Sequence[str] | None,
    definition: str | None,
    started_from: str | None,
    started_to: str | None,
    attributes: Sequence[str] | None,
    *,
    text: str | None,
) -> dict[str, Any]:
    """The conditions as a query string has them; what is not asked for is left out."""
    given = filter_of(status, definition, started_from, started_to, attributes, text=text)
    statuses = given.pop("status", ())
    named = {f"attribute.{name}": value for name, value in given.pop("attributes", {}).items()}
    return given | named | ({"status": ",".join(statuses)} if statuses else {})


def filter_of(
    status: Sequence[str] | None,
    definition: str | None,
    started_from: str | None,
    started_to: str | None,
    attributes: Sequence[str] | None,
    *,
    text: str | None,
) -> dict[str, Any]:
    """The conditions as a body has them; what is not asked for is left out.

    Ends the program for a condition that is empty: most likely a variable was, and without it more would be meant.
    """
    statuses = [each for listed in status or () for each in listed.split(",")]
    options = {"--definition": definition, "--from": started_from, "--to": started_to, "--text": text}
    for option, value in [*options.items(), *(("--status", each) for each in statuses)]:
        if value is not None and not value.strip():
            fail(WRONG, f"{option} is empty: say what it should be, or leave it out")
    given = {
        "status": statuses or None,
        "definition": definition,
        "started_from": started_from,
        "started_to": started_to,
        "attributes": pairs(attributes) or None,
        "text": text,
    }
    return {name: value for name, value in given.items() if value is not None}
