"""The `keys` commands: who may call the API, made, listed and revoked in the database itself."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from unwind.access import MOST_KEYS, ApiKey, KeyStore, Scope, check_name, id_in, make_key
from unwind.cli.api import clean
from unwind.cli.terminal import complain
from unwind.errors import InputError, NotFoundError, SettingsError
from unwind.runtime.instants import instant, instant_or_none
from unwind.settings import read_settings
from unwind.stores.opened_keys import open_keys

T = TypeVar("T")
DAY = 86_400_000_000

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help="Make, list and revoke the keys by which the API tells who calls. DATABASE_URL says which database.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", help="Whose it is; the actor of what is done with it.")],
    scope: Annotated[Scope, typer.Option("--scope", help="What it may do; each includes those before it.")],
    days: Annotated[int | None, typer.Option("--days", min=1, max=3_650, help="Let it expire after so many.")] = None,
    if_none: Annotated[bool, typer.Option("--if-none", help="Only if there has never been a key.")] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Write it there and do not show it; where there is one, make none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and show it: this once, since only its hash is kept.

    From the first key on nobody is answered without one. Exits with 0 when it is made (or need not be: --if-none,
    --file), 1 when the database does not answer, 2 when something has to be put right first: the message says what.
    """

    async def work(store: KeyStore) -> tuple[ApiKey, str] | None:
        count = sum(not key.parent for key in (await store.keys()).keys)
        if if_none and count:
            return None
        if count >= MOST_KEYS:
            raise SettingsError(f"there are {count} keys already, and no more are taken: use those, or fewer")
        fresh = make_key(token_bytes)
        return await store.add(fresh, name, scope, lasts=None if days is None else days * DAY), fresh.token

    with complain(_program(context)):
        try:
            check_name(name)
        except InputError as error:
            raise SettingsError(f"--name: {error}") from error
        made = None if file is not None and _is_written(file) else _on_database(work)
        if made is not None and file is not None:
            _write(file, made[1])
    if made is None:
        typer.echo("there is a key already: none was made", err=True)
        if as_json:
            typer.echo("null")
        return
    key, token = made
    if as_json:
        shown = _shown(key) if file is not None else {**_shown(key), "key": token}
        typer.echo(msgspec.json.encode(shown).decode())
        return
    if file is None:
        typer.echo(token)
    kept = "keep it now: it is not shown again" if file is None else f"it is in {file}"
    typer.echo(clean(f"{key.id} for {key.name}, scope {key.scope}; {kept}"), err=True)


@keys.command("list")
def list_keys(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the keys, also those that were revoked; not the keys themselves, which nobody has but their holders.

    Exits like `create`.
    """

    async def work(store: KeyStore) -> list[dict[str, Any]]:
        kept = await store.keys()
        return [{**_shown(key), "state": key.state(kept.now)} for key in kept.keys if not key.parent]

    with complain(_program(context)):
        rows = _on_database(work, only_read=True)
    if as_json:
        typer.echo(msgspec.json.encode({"keys": rows}).decode())
        return
    # Late: what is printed as JSON needs no tables.
    from unwind.cli.shown import table

    table(rows, "id", "name", "scope", "state", "created_at", "expires_at", "revoked_at")


@keys.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: the eight signs after `unwind_`.")],
    *,
    as_json: AsJson = False,
) -> None:
    """End a key, and the sessions that were opened with it; processes that run notice within two seconds.

    Exits with 0 when it is ended, also if it was before; 1 when there is no such key; else like `create`.
    """

    async def work(store: KeyStore) -> None:
        if not await store.revoke(key_id):
            raise NotFoundError(f"there is no key {key_id!r:.80}; `keys list` shows their ids")

    with complain(_program(context)):
        _on_database(work)
    said = f"{clean(key_id)} is revoked"
    typer.echo(msgspec.json.encode({"id": key_id, "state": "revoked"}).decode() if as_json else said)


def _on_database(work: Callable[[KeyStore], Awaitable[T]], *, only_read: bool = False) -> T:
    async def opened() -> T:
        async with open_keys(database, only_read=only_read) as store:
            return await work(store)

    database = read_settings(os.environ).database
    return asyncio.run(opened())


def _is_written(file: Path) -> bool:
    """Whether there is a key in the file. Raises SettingsError where none could be written, before one is made."""
    try:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            return os.fstat(opened).st_size > 0
        finally:
            os.close(opened)
    except OSError as error:
        raise SettingsError(f"--file: {file} cannot be written: {error.strerror}") from error


def _write(file: Path, token: str) -> None:
    try:
        file.write_text(f"{token}\n", encoding="ascii")
    except OSError as error:
        raise SettingsError(
            f"--file: {file} cannot be written: {error.strerror}; the key is lost: revoke {id_in(token)}, make another"
        ) from error


def _shown(key: ApiKey) -> dict[str, Any]:
    """A key without what is kept to check it."""
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "created_at": instant(key.created_at),
        "expires_at": instant_or_none(key.expires_at),
        "revoked_at": instant_or_none(key.revoked_at),
    }


def _program(context: typer.Context) -> str:
    return context.find_root().info_name or "unwind"
