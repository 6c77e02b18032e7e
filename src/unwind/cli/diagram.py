"""The `diagram` command: a definition as a picture, to be put into a document."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from unwind.cli.api import WRONG, fail
from unwind.cli.definitions import FORM, find_definitions
from unwind.errors import DefinitionError

if TYPE_CHECKING:
    from unwind.core.saga import Saga


class Format(StrEnum):
    """How it is drawn."""

    MERMAID = "mermaid"
    SVG = "svg"


Drawn = Annotated[Format, typer.Option("--format", help="mermaid, as Markdown takes it; or svg, a picture.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: a list of name, version and the picture as text.")]


def diagram(
    places: Annotated[
        list[str],
        typer.Argument(metavar=f"{FORM}...", help="A Saga, a list or tuple of them, or a function that returns such."),
    ],
    *,
    form: Drawn = Format.MERMAID,
    as_json: AsJson = False,
) -> None:
    """Draw definitions: steps, kinds, timeouts and retries, and the way back, in which undos come in reverse.

    Exits with 0; with 2 when there is no such definition, or several are to be one SVG.
    """
    try:
        with redirect_stdout(sys.stderr):  # what authors print is no part of the picture
            sagas = find_definitions(places)
    except DefinitionError as error:
        fail(WRONG, " ".join(str(error).split()))
    draw(sagas, form, as_json=as_json)


def draw(sagas: "Sequence[Saga[Any]]", form: Format, *, as_json: bool) -> None:
    """Print the pictures."""
    from unwind.runtime.drawing import graph_of
    from unwind.runtime.mermaid import mermaid

    if form is Format.SVG and len(sagas) != 1 and not as_json:
        fail(WRONG, f"these are {len(sagas)} definitions, and an SVG shows one: name one, or give --json")
    drawn = [graph_of(saga).file if form is Format.SVG else mermaid(saga) for saga in sagas]
    if as_json:
        told = [
            {"definition": saga.name, "version": saga.version, "format": form, "drawing": picture}
            for saga, picture in zip(sagas, drawn, strict=True)
        ]
        typer.echo(msgspec.json.encode({"diagrams": told}).decode())
        return
    typer.echo("\n".join(drawn), nl=False)
