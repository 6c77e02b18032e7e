"""What the commands that talk with the API have in common: where it is, how it is answered, paths in it."""

from typing import Annotated
from urllib.parse import quote

import typer

from unwind.cli.api import WRONG, fail

Url = Annotated[str, typer.Option("--url", help="Where the API is.", envvar="UNWIND_URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer to the letter.")]


def path(name: str, what: str = "", *, of: str = "") -> str:
    """The path of a saga, or of a run (`of="bulk"`), or of something about it."""
    where = "/sagas/" + (f"{of}/" if of else "") + segment("run" if of else "saga", name)
    return where + (f"/{what}" if what else "")


def segment(what: str, name: str) -> str:
    """A name within a path. Ends the program where it would make another path of it."""
    if name in {"", ".", ".."}:
        fail(WRONG, f"{name!r} names no {what}")
    return quote(name, safe="")
