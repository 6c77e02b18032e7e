"""The `migrate` command: which schema the database has, up, down, and a new migration."""

import asyncio
import os
from typing import Annotated, Any

import msgspec
import typer

from unwind.cli.terminal import complain, said_yes
from unwind.errors import SettingsError
from unwind.settings import Database, name_of, read_settings
from unwind.stores.migrations.revisions import Way

BEHIND, UNWANTED = 1, 1
"""Exit codes."""

migrate = typer.Typer(
    name="migrate",
    no_args_is_help=True,
    help="Show or change the version of the database's schema. DATABASE_URL says which database.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
To = Annotated[int | None, typer.Option("--to", min=0, metavar="N", help="The version to come to.")]


@migrate.command()
def status(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show which version the database has.

    Exits with 0 when it is the newest, 1 when it is behind (or the server does not answer), 2 when the database cannot
    be used: the message says why.
    """
    from unwind.stores.migrations.databases import schema_of, version_of
    from unwind.stores.migrations.revisions import revisions

    program = _program(context)
    with complain(program):
        database = _database()
        version = asyncio.run(version_of(database))
    known = revisions(schema_of(database))
    behind = version < len(known)
    if as_json:
        told = [{"id": each.id, "name": each.name, "applied": each.number <= version} for each in known]
        _print({"database": name_of(database), "schema": version, "newest": len(known), "migrations": told})
    else:
        typer.echo(
            f"{name_of(database)}: schema {version} of {len(known)}"
            + (f", behind; run: {program} migrate up" if behind else ", the newest")
        )
        for revision in known:
            state = "applied" if revision.number <= version else "to come"
            typer.echo(f"  {revision.id}  {revision.name:<40}  {state}")
    if behind:
        raise typer.Exit(BEHIND)


@migrate.command()
def up(context: typer.Context, to: To = None, *, as_json: AsJson = False) -> None:
    """Bring the database to the newest version, each migration in a transaction of its own.

    Who migrates the same database at the same time waits. Exits with 0 when it is there, 1 when the server does not
    answer, 2 when it cannot be done: the message says why, and what failed has left nothing.
    """
    from unwind.stores.migrations.databases import schema_of, version_of
    from unwind.stores.migrations.revisions import newest

    with complain(_program(context)):
        database = _database()
        known = newest(schema_of(database))
        target = known if to is None else to
        if target > known:
            raise SettingsError(f"--to: this program knows schema {known} and none above it")
        version = asyncio.run(version_of(database))
        if target < version:
            raise SettingsError(f"--to: the database has schema {version}; to go back to {target}, use down")
        _move(database, "up", version, target, as_json=as_json)


@migrate.command()
def down(
    context: typer.Context,
    to: To = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: what is lost is lost.")] = False,
    *,
    as_json: AsJson = False,
) -> None:
    """Take the database back by one version, or to --to; 0 removes everything.

    WHAT THE NEWER TABLES HOLD IS LOST, therefore it asks first. Stop all workers before. Exits like `up`.
    """
    from unwind.stores.migrations.databases import version_of

    with complain(_program(context)):
        database = _database()
        version = asyncio.run(version_of(database))
        target = max(version - 1, 0) if to is None else to
        if target > version:
            raise SettingsError(f"--to: the database has schema {version}; to come to {target}, use up")
    if target < version and not yes:
        typer.echo(f"{name_of(database)}: back from schema {version} to {target}, and what it held is lost.", err=True)
        if not said_yes("Go on? (--yes does not ask)"):
            raise typer.Exit(UNWANTED)
    with complain(_program(context)):
        _move(database, "down", version, target, as_json=as_json)


@migrate.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A few words, such as add_priorities.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Begin a migration of Unwind itself: the next pair of SQL files for each dialect, in a checkout of its sources."""
    from unwind.stores.migrations.create import create as write

    with complain(_program(context)):
        files = [os.path.relpath(file) for file in write(name)]
    if as_json:
        _print({"files": files})
        return
    for file in files:
        typer.echo(file)


def _move(database: Database, way: Way, version: int, target: int, *, as_json: bool) -> None:
    from unwind.stores.migrations.databases import migrate

    if version != target:
        asyncio.run(migrate(database, way, target))
    if as_json:
        _print({"database": name_of(database), "from": version, "to": target})
    elif version == target:
        typer.echo(f"{name_of(database)}: schema {version} already")
    else:
        typer.echo(f"{name_of(database)}: schema {version} → {target}")


def _print(told: dict[str, Any]) -> None:
    typer.echo(msgspec.json.encode(told).decode())


def _database() -> Database:
    return read_settings(os.environ).database


def _program(context: typer.Context) -> str:
    return context.find_root().info_name or "unwind"
