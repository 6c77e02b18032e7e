"""The `check` command: whether a deploy of some definitions would strand a saga that lives in the database."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from unwind.cli.api import WRONG, clean, fail
from unwind.cli.definitions import FORM, find_definitions
from unwind.errors import UnwindError
from unwind.settings import read_settings

if TYPE_CHECKING:
    from unwind.core.saga import Saga
    from unwind.runtime.check import Group, Known, Report, Unknown
    from unwind.runtime.rehearsal import Finding

STRANDS = 1
"""Exit code; what is wrong with the call, or the database, is 2."""


def check(
    places: Annotated[
        list[str],
        typer.Argument(metavar=f"{FORM}...", help="A Saga, a list or tuple of them, or a function that returns such."),
    ],
    *,
    definitions_only: Annotated[
        bool, typer.Option("--definitions-only", help="Ask no database: rehearse each definition from its start.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings as seriously as errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say whether a deploy of these definitions, and no others, would strand a saga that lives in the database.

    The definition of each must be among them; and from where it stands it is rehearsed to its end, and undone from
    every point of the way. Nothing is written and nothing is sent. DATABASE_URL says which database.

    Exits with 0 when none would be stranded, 1 when one would, 2 when the call makes no sense or the database cannot
    be read: the message says why.
    """
    try:
        with redirect_stdout(sys.stderr):  # what authors print is no part of the report
            sagas = find_definitions(places)
            report = asyncio.run(_report(sagas, definitions_only=definitions_only))
    except (UnwindError, ModuleNotFoundError) as error:
        fail(WRONG, " ".join(_reason(error).split()))
    if as_json:
        typer.echo(msgspec.json.encode({"good": report.good} | msgspec.to_builtins(report)).decode())
    else:
        for line in _lines(report):
            typer.echo(clean(line))
    if not report.good or (strict and report.warnings):
        raise typer.Exit(STRANDS)


async def _report(sagas: "Sequence[Saga[Any]]", *, definitions_only: bool) -> "Report":
    from unwind.runtime.check import check as compare
    from unwind.runtime.check import check_definitions

    if definitions_only:
        return check_definitions(sagas)
    from unwind.bootstrap import open_to_read

    async with open_to_read(read_settings(os.environ)) as store:
        return await compare(store, sagas)


def _reason(error: Exception) -> str:
    from unwind.cli.terminal import EXTRAS

    if not isinstance(error, ModuleNotFoundError):
        return str(error)
    extra = EXTRAS.get((error.name or "").partition(".")[0], "")
    return f"{error}; install unwind[{extra}]" if extra else str(error)


# ------------------------------------------------------------------------------------------------------------ as text


def _lines(report: "Report") -> Iterator[str]:
    for known in report.definitions:
        yield from _of_known(known)
    for unknown in report.unknown:
        yield from _of_unknown(unknown)
    for refused in report.refuses:
        yield (
            f"{refused}: REFUSES TO START: sagas were begun with another definition of this version; "
            "give the changed one the next version"
        )
    warned = f"; {_many(report.warnings, 'warning')}" if report.warnings else ""
    if report.good:
        yield f"No saga would be stranded{warned}."
    elif report.strands:
        yield f"A deploy of these definitions would strand {_many(report.strands, 'saga')}{warned}."
    else:
        yield f"A process with these definitions would not start{warned}."


def _of_known(known: "Known") -> Iterator[str]:
    yield f"{known.revision}: {_many(known.sagas, 'live saga')}"
    for group in known.groups:
        yield f"  {_headline(group)}: {_went(group)}"
        for finding in group.findings:
            yield f"    {_of_finding(finding)}"
    if known.not_rehearsed:
        yield f"  warning: {_many(known.not_rehearsed, 'saga')} of still other shapes were not rehearsed"
    if known.unreadable:
        yield f"  ERROR: this program does not understand the log of {_many(known.unreadable, 'saga')}, such as"
    for reason in known.reasons:
        yield f"    {reason}"


def _headline(group: "Group") -> str:
    return f"{group.sagas} {group.state} ({_named(group.sagas, group.examples)})" if group.sagas else group.state


def _went(group: "Group") -> str:
    end = "comes to its end" if group.completes else "DOES NOT COME TO ITS END"
    return f"{end}; turned round {_many(group.turns, 'time')} on the way" if group.turns else end


def _of_finding(finding: "Finding") -> str:
    label = "ERROR" if finding.severity == "error" else "warning"
    way = "going forward at" if finding.way == "forward" else "turned round at"
    more = f" (and {_many(finding.times - 1, 'time')} more)" if finding.times > 1 else ""
    step = f" {finding.step}," if finding.step else ""
    return f"{label}:{step} {way} {finding.at}{more}: {finding.reason}"


def _of_unknown(unknown: "Unknown") -> Iterator[str]:
    named = _named(unknown.sagas, unknown.examples)
    yield f"{unknown.revision}: STRANDS {_many(unknown.sagas, 'live saga')} ({named}): none of the definitions given"
    if unknown.given is None:
        yield "  keep this version beside the others until its sagas have ended"
        return
    yield f"  {unknown.given} is given in its place: it was changed without a new version"
    for difference in unknown.differences:
        yield f"    {difference}"
    if not unknown.differences:
        yield "    what has changed does not show in its sagas: a policy, a later step, or the type of the context"


def _named(count: int, examples: Sequence[str]) -> str:
    return ", ".join(examples) + (", …" if count > len(examples) else "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
