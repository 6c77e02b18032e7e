"""The `doctor` command: everything examined, one thing beside the other, and nothing changed."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from unwind.cli.api import WRONG, fail
from unwind.cli.definitions import FORM, find_definitions
from unwind.cli.doctor.buses import examine_bus, examine_cache
from unwind.cli.doctor.databases import examine_database, examine_participant
from unwind.cli.doctor.environment import examine_settings
from unwind.cli.doctor.findings import Finding, exit_code, failed, of_error, tell
from unwind.cli.doctor.living import examine_access, examine_living
from unwind.cli.doctor.traces import examine_traces
from unwind.cli.terminal import EXTRAS
from unwind.core.saga import Saga
from unwind.errors import DefinitionError, SettingsError, UnwindError
from unwind.settings import Database, Settings
from unwind.stores.opened_keys import open_keys

Participants = Callable[[Mapping[str, str], Settings], Mapping[str, tuple[Database, str]]]
"""The database of each participant and the variable that names it. Raises SettingsError."""


def _none(_: Mapping[str, str], __: Settings) -> Mapping[str, tuple[Database, str]]:
    return {}


def doctor(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar=f"{FORM}...", help="The definitions that are served, as `check` has them."),
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings as seriously as failures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Examine settings, database, schema, bus, cache, clocks and live sagas, and say what to do where one is not right.

    Nothing is made, migrated or written. Exits with 0 when nothing has failed, 1 when something has, 2 when the call
    makes no sense.
    """
    try:
        with redirect_stdout(sys.stderr):  # what authors print is no finding
            definitions = find_definitions(places) if places else None
    except DefinitionError as error:
        fail(WRONG, " ".join(str(error).split()))
    examine_and_tell("unwind", os.environ, definitions, strict=strict, as_json=as_json)


def examine_and_tell(
    program: str,
    environment: Mapping[str, str],
    definitions: Sequence[Saga[Any]] | None,
    participants: Participants = _none,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    """Examine, print what was found, and end the program: with 1 where something failed."""
    with redirect_stdout(sys.stderr):  # what is logged on the way is no finding
        findings = asyncio.run(_examine(program, environment, definitions, participants))
    tell(findings, as_json=as_json)
    raise typer.Exit(exit_code(findings, strict=strict))


async def _examine(
    program: str, environment: Mapping[str, str], definitions: Sequence[Saga[Any]] | None, participants: Participants
) -> list[Finding]:
    settings, found = examine_settings(environment)
    if settings is None:
        return found
    try:
        databases = participants(environment, settings)
    except SettingsError as error:
        databases = {}
        found.append(of_error("settings", error))
    examined = await asyncio.gather(
        _needing("store", _of_store(program, settings, definitions)),
        _needing("bus", examine_bus(settings)),
        _needing("cache", examine_cache(settings)),
        _needing("traces", examine_traces(settings, environment)),
        *(
            _needing(f"{service} database", examine_participant(service, *where))
            for service, where in databases.items()
        ),
    )
    return [*found, *(each for several in examined for each in several)]


async def _of_store(program: str, settings: Settings, definitions: Sequence[Saga[Any]] | None) -> list[Finding]:
    usable, found = await examine_database(settings, program)
    if not usable:
        return found
    from unwind.bootstrap import open_to_read

    try:
        async with open_to_read(settings) as store:
            found += await examine_living(store, definitions, lambda: time.time_ns() // 1_000)
        async with open_keys(settings.database, only_read=True) as keys:
            found.append(await examine_access(settings, keys))
    except UnwindError as error:
        found.append(of_error("store", error))
    return found


async def _needing(check: str, examining: Any) -> list[Finding]:
    """What is found; or which package is missing for it, or why the system does not let us look."""
    try:
        found: list[Finding] = await examining
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return [failed(check, f"it needs a package that is not installed: {error.name}", f"install unwind[{extra}]")]
    except OSError as error:
        return [failed(check, f"it cannot be looked at: {error}", "correct the setting, or what this user may do")]
    return found
