"""The group of the `sagas` commands: what goes wrong in one of them ends in a line on stderr, never in a traceback."""

import errno
import sys
from io import TextIOWrapper
from typing import Any

import typer.core

from unwind.cli.api import REFUSED, WRONG, fail


class Lines(typer.core.TyperGroup):
    """A group of commands that talk with the API."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for argument in args:
            if not _is_text(argument):
                fail(WRONG, f"{argument!r} is no text: it holds bytes that are not in the encoding of this terminal")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if isinstance(sys.stdout, TextIOWrapper):
            # A terminal that cannot show a name shows how it is written: the answer is worth more than the letter.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read has enough: that is no failure to speak of
            fail(REFUSED, f"the answer came and cannot be written: {error.strerror}")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
