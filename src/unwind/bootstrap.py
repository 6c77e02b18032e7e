"""Puts a worker together from settings: the only module that names concrete stores and buses."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import random
from secrets import token_hex
from typing import Any

from msgspec import Struct
from uuid_utils import uuid7

from unwind.buses.memory import MemoryBus
from unwind.core.saga import Saga
from unwind.errors import SettingsError, UnavailableError
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.limits import Limits
from unwind.runtime.participant import Participant
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.publisher import Publisher
from unwind.runtime.queries import Queries
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.settings import Settings
from unwind.stores.sqlite.barrier import SQLiteParticipantStore
from unwind.stores.sqlite.store import SQLiteStore


class Embedded(Struct, frozen=True):
    """A participant that lives in the worker's process, on a database file of its own."""

    participant: Participant[Any]
    schema: str
    """SQL that makes its tables where they are missing."""


class Worker(Struct, frozen=True):
    """A worker that runs."""

    engine: Engine
    queries: Queries
    service: Service
    checks: Mapping[str, Callable[[], Awaitable[None]]]
    """Name of a dependency → raises UnavailableError when it cannot be worked with."""


def new_id() -> str:
    """A fresh id, ordered by time (UUIDv7)."""
    return str(uuid7())


def participant_file(settings: Settings, service: str) -> Path:
    """The database file of a participant that lives in the worker's process."""
    return settings.data_dir / f"{service}.db"


@asynccontextmanager
async def open_worker(
    settings: Settings, sagas: Sequence[Saga[Any]], embedded: Sequence[Embedded] = ()
) -> AsyncIterator[Worker]:
    """Start a worker, stop it gracefully at the end.

    Raises SettingsError (a place that cannot be used), DefinitionError (a definition changed without a new version),
    UnavailableError (a database that cannot be opened).
    """
    _make_directory("DATABASE_URL", settings.database.parent)
    _make_directory("UNWIND_DATA_DIR", settings.data_dir)
    for path in (settings.database, *(participant_file(settings, each.participant.service) for each in embedded)):
        if path.is_dir():
            raise SettingsError(f"DATABASE_URL: {path} is a directory; name a file")
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await SQLiteStore.open(settings.database)
        stack.push_async_callback(store.close)
        bus = MemoryBus(clock)
        stack.push_async_callback(bus.close)
        limits = Limits(inbox=settings.max_waiting)
        worker = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        engine = Engine(store, bus, sagas, clock=clock, worker=worker, new_id=new_id, jitter=random, limits=limits)
        services = []
        for each in embedded:
            own = await SQLiteParticipantStore.open(participant_file(settings, each.participant.service), each.schema)
            stack.push_async_callback(own.close)
            services.append(ParticipantService(each.participant, bus, own, clock))
        service = Service(engine, Sweeper(engine, store, clock), Publisher(store, bus, clock, limits), services)
        await service.start()
        stack.push_async_callback(service.stop)
        queries = Queries(store)
        yield Worker(engine, queries, service, {"store": queries.ping, "worker": _alive(service)})


def _alive(service: Service) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        if service.failed.done():
            raise UnavailableError("a part of this worker has failed; the log says why")

    return check


def _make_directory(variable: str, path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be used as a directory: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(f"{variable}: {path} may not be written to")
