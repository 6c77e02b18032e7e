"""Puts processes together from settings: the only module that names concrete stores and buses."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import random
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace
from uuid_utils import uuid7

from unwind.buses.memory import MemoryBus
from unwind.census import CountedStore
from unwind.core.saga import Saga
from unwind.edge.local_limiter import LocalLimiter
from unwind.errors import UnavailableError
from unwind.ports import Bus, Clock, ParticipantStore, Rate, RateLimiter, Store
from unwind.queues import OperatedBus
from unwind.roster import Roster
from unwind.runtime.announced import AnnouncedStore
from unwind.runtime.bulk import Bulk
from unwind.runtime.clock import SystemClock
from unwind.runtime.depths import commands_waiting
from unwind.runtime.engine import Engine
from unwind.runtime.journal import journalled
from unwind.runtime.keyring import Keyring
from unwind.runtime.limits import limits_of
from unwind.runtime.logs import configure_unless_done
from unwind.runtime.participant import Participant, check_writable
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.presence import Announcer
from unwind.runtime.publisher import Publisher
from unwind.runtime.queries import Queries
from unwind.runtime.readiness import Check, Checks, Probe, Remembered, StoreProbe
from unwind.runtime.service import Participating, Service
from unwind.runtime.standings import Standings
from unwind.runtime.statuses import CachedQueries, Statuses
from unwind.runtime.sweeper import Sweeper
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.tracing import Tracing
from unwind.settings import Database, Server, Settings, blamed_on, check_shared

if TYPE_CHECKING:
    from unwind.edge.edge import Edge
    from unwind.stores.postgres.store import PostgresStore as OnServer
    from unwind.stores.sqlite.store import SQLiteStore as InFile

log = structlog.get_logger("unwind.start")

T = TypeVar("T")
Role = Literal["all", "api", "worker"]
"""What a process does for sagas: everything; only begin, steer and show them; only carry them on."""
_PROGRAMS: dict[Role, str] = {"all": "unwind", "api": "unwind-api", "worker": "unwind-worker"}
"""What each is called in traces."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds between two tries to reach what is down at the start."""
CLOSING = 2.0
"""Seconds for letting go of one thing when the process ends."""


class Embedded(Struct, frozen=True):
    """A participant, with the SQL that makes its tables in each kind of database."""

    participant: Participant[Any]
    schema: str | Sequence[str] = ()
    """For SQLite: scripts, each run once, in order. One that was run is never changed; a further one is added."""
    postgres: str | Sequence[str] = ()
    """For PostgreSQL, likewise."""
    database: Database | None = None
    """None: an SQLite file of the service's name, where the settings place files."""
    variable: str = ""
    """What named the database, if anything did: it is told when the database cannot be used."""

    def on(self, database: Database, variable: str) -> "Embedded":
        """The same on another database."""
        return replace(self, database=database, variable=variable)


class Worker(Struct, frozen=True):
    """A process for sagas that runs."""

    engine: Engine
    queries: Queries
    service: Service
    checks: Checks
    limiter: RateLimiter | None
    """Of calls to the API; None: it has none."""
    bulk: Bulk
    """Acts on many sagas, taken by this process."""
    keys: Keyring
    """Who may call the API."""
    bus: OperatedBus
    """What carries commands and replies, and keeps dead letters."""
    roster: Roster
    """Who works on the store."""
    tracing: Tracing | None = None
    """None: nothing is told to a collector."""
    trace_url: str = ""
    """Where people look at a trace, with `{trace_id}` in it; empty: nowhere."""


class Hosted(Struct, frozen=True):
    """A process for participants that runs."""

    service: Service
    checks: Checks
    telemetry: Telemetry


def new_id() -> str:
    """A fresh id, ordered by time (UUIDv7)."""
    return str(uuid7())


def participant_file(settings: Settings, service: str) -> Path:
    """The database file of a participant that no setting places."""
    return settings.data_dir / f"{service}.db"


@asynccontextmanager
async def open_worker(
    settings: Settings, sagas: Sequence[Saga[Any]], embedded: Sequence[Embedded] = (), *, role: Role = "all"
) -> AsyncIterator[Worker]:
    """Start a process for sagas, stop it gracefully at the end. What is down at the start is waited for.

    Configures structlog where the program has not: warnings and errors go to stderr, without values of variables.
    Raises SettingsError (what waiting will not mend), DefinitionError (a definition changed without a new version).
    """
    configure_unless_done(settings)
    if role != "all":
        check_shared(settings)
    async with AsyncExitStack() as stack:
        outside = _Outside(settings, stack)
        clock, limits, telemetry = outside.clock, limits_of(settings), journalled()
        worker = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        truth, keys, roster = await outside.store(answers=role != "worker")
        store: Store = truth
        edge = await outside.edge()
        limiter = outside.limiter(edge)
        statuses = None if edge is None else Statuses(edge.statuses, clock, telemetry.work)
        queries: Queries = Queries(truth)
        if statuses is not None:
            queries = CachedQueries(truth, statuses, clock, telemetry.work)
            store = AnnouncedStore(truth, statuses.committed)
        plain, bus, tracing = await outside.traced_bus(_PROGRAMS[role], telemetry, truth)
        databases = [await outside.participant_store(each) for each in embedded]

        async def start() -> tuple[Engine, Sweeper | None, Service]:
            telemetry.more.clear()  # of an engine that did not come up
            engine = Engine(
                store,
                bus,
                sagas,
                clock=clock,
                worker=worker,
                new_id=new_id,
                jitter=random,
                limits=limits,
                telemetry=telemetry,
                replies=role != "api",
                trace=None if tracing is None else tracing.root,
            )
            sweeper = None if role == "api" else Sweeper(engine, store, clock)
            publisher = None if role == "api" else Publisher(store, bus, clock, limits)
            if publisher is not None:
                telemetry.more.append(lambda: publisher.metrics(engine.loop.time.now()))
            parts = _parts(zip(embedded, databases, strict=True), bus, clock, telemetry, tracing)
            parts = [*([statuses] if statuses else ()), Announcer(roster, engine, clock, role, sweeper), *parts]
            service = Service(engine, sweeper, publisher, parts)
            await service.start()
            return engine, sweeper, service

        engine, sweeper, service = await outside.reach("the store and the bus", start)
        stack.push_async_callback(service.stop)
        stack.push_async_callback(Standings(engine, truth, clock).close)
        bulk = Bulk(engine, Queries(truth), clock, new_id)
        stack.push_async_callback(bulk.stop)
        known = {} if sweeper is None else {"definitions": Check(sweeper.strangers.check, needed=False)}
        checks = {**outside.checks, "worker": Check(service.check), **known}
        yield Worker(engine, queries, service, checks, limiter, bulk, keys, plain, roster, tracing, settings.trace_url)


@asynccontextmanager
async def open_participants(settings: Settings, hosted: Sequence[Embedded]) -> AsyncIterator[Hosted]:
    """Start a process of participants only, stop it gracefully at the end. What is down at the start is waited for.

    Raises SettingsError: what waiting will not mend.
    """
    configure_unless_done(settings)
    check_shared(settings, store=False)
    async with AsyncExitStack() as stack:
        outside, telemetry = _Outside(settings, stack), Telemetry()
        _, bus, tracing = await outside.traced_bus("-".join(each.participant.service for each in hosted), telemetry)
        databases = [await outside.participant_store(each) for each in hosted]

        async def start() -> Service:
            telemetry.more.clear()
            parts = _parts(zip(hosted, databases, strict=True), bus, outside.clock, telemetry, tracing)
            service = Service(participants=parts)
            await service.start()
            return service

        service = await outside.reach("the bus", start)
        stack.push_async_callback(service.stop, grace=0)
        yield Hosted(service, {**outside.checks, "participant": Check(service.check)}, telemetry)


def _parts(
    hosted: Iterable[tuple[Embedded, ParticipantStore[Any]]],
    bus: Bus,
    clock: Clock,
    telemetry: Telemetry,
    tracing: Tracing | None,
) -> list[Participating]:
    """The participants' services, and what tells traces, last; they tell their figures from now on."""
    made = [ParticipantService(each.participant, bus, store, clock, work=telemetry.work) for each, store in hosted]
    telemetry.more.append(lambda: commands_waiting(made))
    if tracing is None:
        return [*made]
    telemetry.more.append(tracing.metrics)
    return [*made, tracing]


@asynccontextmanager
async def open_to_read(settings: Settings) -> AsyncIterator[CountedStore]:
    """The store of others, to look into: nothing is made, migrated or written, and nothing is waited for.

    Raises SettingsError when it is not there or cannot be used as it is, UnavailableError when it does not answer.
    """
    database, variable = settings.database, settings.variables["database"]
    store: CountedStore
    with blamed_on(variable):
        if isinstance(database, Server):
            from unwind.stores.postgres.store import PostgresStore

            store = await PostgresStore.open(database.url.reveal, only_read=True)
        else:
            from unwind.stores.sqlite.store import SQLiteStore

            store = await SQLiteStore.open_to_read(database)
    try:
        yield store
    finally:
        await store.close()


# ------------------------------------------------------------------------------------------------ what is outside of it


class _Outside:
    """Opens what a process needs of the outside, and lets go of it when the stack closes, the last first."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self.clock = SystemClock()
        self.checks: dict[str, Check] = {}
        """Of what has been opened."""

    async def store(self, *, answers: bool) -> tuple[CountedStore, Keyring, Roster]:
        """Where the truth is kept; beside it keys, without which no outsider is answered, and who works."""
        database, variable = self._settings.database, self._settings.variables["database"]
        store: OnServer | InFile
        with blamed_on(variable):
            if isinstance(database, Server):
                from unwind.stores.postgres.store import PostgresStore

                url = database.url.reveal
                store = await self.reach(f"PostgreSQL at {database.place}", lambda: PostgresStore.open(url))
            else:
                from unwind.stores.sqlite.place import prepare_file
                from unwind.stores.sqlite.store import SQLiteStore

                prepare_file(database)
                store = await SQLiteStore.open(database)
        self._close_later("store", store.close)
        self._check("store", StoreProbe(store))
        ring = Keyring(store.keys, self.clock, token_bytes)
        if answers:
            host, named = self._settings.host, self._settings.variables["host"]
            await self.reach("the API keys", lambda: ring.check(host, named))
        return store, ring, store.roster

    async def bus(self) -> OperatedBus:
        """What carries commands and replies."""
        settings = self._settings
        if settings.bus == "nats" and settings.nats is not None:
            from unwind.buses.nats import NatsBus

            url = settings.nats.url.reveal
            with blamed_on("NATS_URL"):
                nats = await self.reach(f"NATS at {settings.nats.place}", lambda: NatsBus.open(url, self.clock))
            return self._keep_bus(nats, nats.ping)
        if settings.bus == "redis" and settings.redis is not None:
            from unwind.buses.redis import RedisBus

            address, password = settings.redis.address, settings.redis.password
            given = "" if password is None else password.reveal
            redis = await self.reach(f"Redis at {address}", lambda: RedisBus.open(address, given, self.clock))
            return self._keep_bus(redis, redis.ping)
        memory = MemoryBus(self.clock)
        self._close_later("bus", memory.close)
        return memory

    async def traced_bus(
        self, name: str, telemetry: Telemetry, store: Store | None = None
    ) -> tuple[OperatedBus, Bus, Tracing | None]:
        """The bus, with what tells traces, if they are told. `name` is the process's unless OTEL_SERVICE_NAME says."""
        bus = await self.bus()
        if not self._settings.traced:
            return bus, bus, None
        from unwind.otlp import open_tracing

        tracing = open_tracing(name, store, self.clock)
        self._close_later("traces", tracing.sink.close)
        telemetry.hear.append(tracing.saw)
        return bus, tracing.bus(bus), tracing

    def _keep_bus(self, bus: OperatedBus, ping: Probe) -> OperatedBus:
        self._close_later("bus", bus.close)
        self._check("bus", ping)
        return bus

    async def edge(self) -> "Edge | None":
        """What API replicas share; None where there is no Redis. One that is down is not waited for."""
        redis = self._settings.redis
        if redis is None:
            return None
        from unwind.edge.edge import Edge

        edge = await Edge.open(redis.address, "" if redis.password is None else redis.password.reveal, self.clock)
        self._close_later("redis", edge.close)
        self._check("redis", edge.ping, needed=False)
        return edge

    def limiter(self, edge: "Edge | None") -> RateLimiter | None:
        """How often each client may call the API; None: as often as it likes."""
        settings = self._settings
        if not settings.rate_limit:
            return None
        rate = Rate(settings.rate_limit, settings.rate_burst)
        return LocalLimiter(rate, self.clock) if edge is None else edge.limiter(rate)

    async def participant_store(self, embedded: Embedded) -> ParticipantStore[Any]:
        """A participant's own database."""
        service = embedded.participant.service
        database = embedded.database or participant_file(self._settings, service)
        store: ParticipantStore[Any]
        named = embedded.variable or self._settings.variables["data_dir"]
        with blamed_on(named), blamed_on(f"participant {service}"):
            if isinstance(database, Server):
                from unwind.stores.postgres.barrier import PostgresParticipantStore

                url, schema = database.url.reveal, embedded.postgres
                what = f"PostgreSQL of {service} at {database.place}"
                store = await self.reach(what, lambda: PostgresParticipantStore.open(url, schema))
            else:
                from unwind.stores.sqlite.barrier import SQLiteParticipantStore
                from unwind.stores.sqlite.place import prepare_file

                prepare_file(database)
                store = await SQLiteParticipantStore.open(database, embedded.schema)
        self._close_later(service, store.close)
        self._check(service, lambda: check_writable(store))
        return store

    async def reach(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it can be reached. Raises SettingsError and others at once: waiting would not mend that."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except UnavailableError as error:
                log.warning("waiting", what=what, reason=str(error), again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _check(self, name: str, probe: Probe, *, needed: bool = True) -> None:
        self.checks[name] = Check(Remembered(probe, self.clock), needed)

    def _close_later(self, what: str, close: Callable[[], Awaitable[None]]) -> None:
        async def let_go() -> None:
            try:
                async with asyncio.timeout(CLOSING):
                    await close()
            except (UnavailableError, TimeoutError) as error:
                log.warning("left_behind", what=what, reason=str(error) or f"no answer within {CLOSING:g} s")

        self._stack.push_async_callback(let_go)
