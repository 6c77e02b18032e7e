"""The API keys of the database that settings name, opened for a command."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from unwind.access import KeyStore
from unwind.errors import SettingsError
from unwind.settings import Database


@asynccontextmanager
async def open_keys(database: Database, *, only_read: bool = False) -> AsyncIterator[KeyStore]:
    """A store of keys. An SQLite file is made and migrated if need be, unless it is only read.

    Raises SettingsError when the database cannot be used as it is, UnavailableError when it does not answer.
    """
    opening = _in_file(database, only_read) if isinstance(database, Path) else _at(database.url.reveal, only_read)
    keys, close = await opening
    try:
        yield keys
    finally:
        await close()


Opened = tuple[KeyStore, Callable[[], Awaitable[None]]]


async def _in_file(path: Path, only_read: bool) -> Opened:
    from unwind.stores.sqlite.guard import HeldError  # noqa: PLC0415 - each needs only its own
    from unwind.stores.sqlite.store import SQLiteStore  # noqa: PLC0415

    try:
        store = await (SQLiteStore.open_to_read(path) if only_read else SQLiteStore.open(path))
    except HeldError as error:
        raise SettingsError(f"{error}. Stop the application, run this command again, then start it") from error
    return store.keys, store.close


async def _at(url: str, only_read: bool) -> Opened:
    from unwind.stores.postgres.store import PostgresStore  # noqa: PLC0415 - with a file nobody needs its driver

    store = await PostgresStore.open(url, only_read=only_read)
    return store.keys, store.close
