"""The store on a PostgreSQL server: any number of processes may share one database."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from unwind.census import Living, Pace, Paces, Standing, Tally
from unwind.core.codec import Snapshot
from unwind.core.saga import revision_of
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import (
    COUNTED,
    Claimed,
    Committed,
    Loaded,
    LogEntry,
    Move,
    Query,
    Registered,
    SagaRow,
    StoredStream,
    Tail,
    Unit,
)
from unwind.stores.migrations.postgres import check_postgres
from unwind.stores.postgres.batch import Batch, to_json
from unwind.stores.postgres.connections import SERVER_SETTINGS, Pool, connect, place_of, translated
from unwind.stores.postgres.keys import PostgresKeys
from unwind.stores.postgres.roster import PostgresRoster
from unwind.stores.searched import rarest_first, stretch
from unwind.stores.statements import read_statements
from unwind.stores.text import storable

log = structlog.get_logger("unwind.stores.postgres")

SQL = read_statements(Path(__file__).with_name("queries.sql"))
_ANSWER = ")\nselect now"
"""Where the answer of a commit begins."""
_WRITE_FOUND, _WRITE_WINNERS_FOUND = (
    f"), found_by as (\n{SQL[part]}\n{_ANSWER}".join(SQL[name].rsplit(_ANSWER, 1))
    for name, part in (("write", "write_attributes"), ("write_winners", "write_attributes_of_winners"))
)
SETTINGS = {
    **SERVER_SETTINGS,
    # Few are asked for among many: each is looked up, whatever the planner believes of tables that grow quickly.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
WRITERS = 4
"""Connections for what changes something: two batches in flight, claims and moves beside them."""
READERS = 4
ATTEMPTS = 3
"""How often a question is asked when the connection breaks: what it was broken by is often over by then."""
LARGEST = 2**63 - 1
"""The largest number that a column holds."""


class PostgresStore:
    """Implements `unwind.ports.Store`. Each commit is one statement, and durable when it is answered."""

    def __init__(self, writers: Pool, readers: Pool, now: Callable[[], int] | None = None) -> None:
        """Use `open`."""
        self._writers = writers
        self._readers = readers
        self._counting = asyncio.Lock()
        """One count at a time: it may take long, and the other readers are needed to carry sagas on."""
        self._now = now
        self.keys = PostgresKeys(partial(_ask, writers), partial(_ask, readers), self._time)
        """The API keys in the same database."""
        self.roster = PostgresRoster(partial(_ask, writers), partial(_ask, readers), self._time)
        """Who works on it."""

    @classmethod
    async def open(cls, url: str, *, now: Callable[[], int] | None = None, only_read: bool = False) -> "PostgresStore":
        """Use the database at a URL, `postgres://user:password@host:port/database?sslmode=…`.

        A pooler in transaction mode, such as PgBouncer, may stand in between: it is noticed. `now` replaces the
        server's clock, in microseconds since the epoch, for tests. With `only_read` the server refuses to write for it.

        Raises SettingsError when the database cannot be used as it is, saying what to do, and UnavailableError when the
        server cannot be reached now.
        """
        connection = await connect(url)
        try:
            with translated():
                await check_postgres(connection)
        except SettingsError as error:
            raise SettingsError(f"{place_of(url)}: {error}") from error
        finally:
            connection.terminate()
        settings = {**SETTINGS, "default_transaction_read_only": "on"} if only_read else SETTINGS
        return cls(Pool(url, WRITERS, settings), Pool(url, READERS, settings), now)

    async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
        columns = list(zip(*revisions, strict=True)) if revisions else [(), (), ()]
        if note:
            await _ask(self._writers, SQL["note_definitions"], *columns)
        clashes = [tuple(row) for row in await _ask(self._readers, SQL["clashing"], *columns)]
        known = [revision_of(*each) for each in revisions]
        return Registered(clashes, dict(await _ask(self._readers, SQL["live_others"], known, COUNTED)))

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        # What cannot be stored is not there.
        asked = {stream: after for stream, after in streams.items() if storable(stream)}
        return loaded(await _ask(self._readers, SQL["load"], self._time(), to_json(asked), snapshots))

    async def commit(self, units: Sequence[Unit]) -> Committed:
        batch = Batch(units)
        with translated():
            async with self._writers.connection() as connection:
                # Never a second time where the outcome is unknown: that is told, and found out by who reads the log.
                return await write(connection, batch, self._time())

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        # Asked once: what an answer that was lost has claimed comes again after the push.
        [(now, ids)] = await _ask(self._writers, SQL["claim"], self._time(), list(revisions), limit, push, attempts=1)
        return Claimed(now, dict.fromkeys(ids, now + push))

    async def move(self, moves: Sequence[Move]) -> None:
        await _ask(self._writers, SQL["move"], to_json(moves))

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        sagas = {effect: effect.rsplit("/", 2)[0] for effect in effect_ids}
        await _ask(self._writers, SQL["hold"], self._time(), to_json(sagas), duration)

    async def tail(self, consumer: str, limit: int) -> Tail:
        rows = await _ask(self._readers, SQL["tail"], consumer, limit)
        first, last = rows[0], rows[-1]
        entries = tuple(LogEntry(*row[3:9]) for row in rows if row["position"] is not None)
        if not entries and first["restored"]:
            read = first["cursor"].split("/")[1]
            log.warning("log_restored", consumer=consumer, cursor=first["cursor"], goes_on_above_position=int(read))
            await self.advance(consumer, f"0/0/{read}")
            return await self.tail(consumer, limit)
        # The pair of the last one: a position alone says nothing about the order of commits.
        floor = f"/{first['floor']}" if first["floor"] else ""
        return Tail(entries, f"{last['tx']}/{last['position']}{floor}" if entries else first["cursor"])

    async def advance(self, consumer: str, cursor: str) -> None:
        await _ask(self._writers, SQL["advance"], consumer, cursor)

    async def find(self, query: Query) -> Sequence[SagaRow]:
        if not _may_be_there(query):
            return []
        started_from, started_to, statuses, definition, ids = _conditions(query)
        before_at, before_id = query.before or (LARGEST - 1, "")
        # A bound that the index understands; the pair only breaks the tie.
        bounds = [started_from, min(started_to, before_at + 1), before_at, before_id]
        parameters = [*bounds, statuses, definition, query.limit]
        if query.text:
            found = [*parameters, *stretch(query.text), _together(query.attributes), ids, query.live_on]
            async with self._counting:
                # A text may fit any number of sagas, and all are read: one such question at a time.
                rows = await _ask(self._readers, SQL["find_by_text"], *found, attempts=1)
        elif query.attributes:
            found = [*parameters, *_searched(query), ids, query.live_on]
            rows = await _ask(self._readers, SQL["find_by_attribute"], *found)
        elif query.live_on:
            rows = await _ask(self._readers, SQL["find_live"], *parameters, ids, query.live_on)
        elif query.ids:
            rows = await _ask(self._readers, SQL["find_by_id"], *parameters, ids)
        else:
            rows = await _ask(self._readers, SQL["find"], *parameters)
        return [SagaRow(*row) for row in rows]

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        if not _may_be_there(query):
            return []
        parameters = [*_conditions(query), to_json(amounts)]
        by = "_by_text" if query.text else "_by_attribute" if query.attributes else ""
        if query.text:
            parameters += [_together(query.attributes), *stretch(query.text)]
        elif query.attributes:
            parameters += _searched(query)
        async with self._counting:
            # Once: what takes too long would do so again.
            rows = await _ask(self._readers, SQL[f"tally{by}"], *parameters, attempts=1)
        return [
            Tally(definition, status, count, None if amount is None else int(amount))
            for definition, status, count, amount in rows
        ]

    async def living(self, revisions: Sequence[str]) -> Living:
        known = [revision for revision in revisions if storable(revision)]
        async with self._counting:
            rows = await _ask(self._readers, SQL["living"], self._time(), known, attempts=1)
        found = sorted(Standing(*each) for _, *each in rows if each[0] is not None)
        return Living(rows[0]["now"], tuple(found))

    async def paces(self, since: int, stretch: int) -> Paces:
        async with self._counting:
            rows = await _ask(self._readers, SQL["paces"], self._time(), since, stretch, attempts=1)
        found = sorted(Pace(*each) for _, *each in rows if each[0] is not None)
        return Paces(rows[0]["now"], tuple(found))

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        if not storable(definition):
            return []
        return [SagaRow(*row) for row in await _ask(self._readers, SQL["ended"], definition, limit)]

    async def close(self) -> None:
        await self._readers.close()
        await self._writers.close()

    def _time(self) -> int | None:
        return None if self._now is None else self._now()


def _may_be_there(query: Query) -> bool:
    """What cannot be stored is not there."""
    named = storable(query.definition) and storable(query.live_on) and storable(query.text)
    return named and all(storable(text) for pair in query.attributes for text in pair)


def _conditions(query: Query) -> list[Any]:
    """Which sagas: started from, started to, statuses, definition, ids."""
    return [
        -LARGEST if query.started_from is None else query.started_from,
        LARGEST if query.started_to is None else query.started_to,
        [status for status in query.statuses if storable(status)] if query.statuses else None,
        query.definition,
        [saga for saga in query.ids if storable(saga)] if query.ids else None,
    ]


def _searched(query: Query) -> list[str]:
    """Name and value to look up, and the others."""
    (name, value), others = rarest_first(query.attributes)
    return [name, value, _together(others)]


def _together(attributes: Sequence[tuple[str, str]]) -> str:
    return to_json([{"name": name, "value": value} for name, value in attributes])


async def write(connection: asyncpg.Connection, batch: Batch, now: int | None) -> Committed:
    """Write a batch; `now` as told by tests. Raises the driver's errors."""
    try:
        statement = _WRITE_FOUND if batch.attributes else SQL["write"]
        [row] = await connection.fetch(statement, now, *batch.together(), *batch.attributes)
    except asyncpg.IntegrityConstraintViolationError:
        # Whatever it was: it may be of a unit that has lost.
        return await write_winners(connection, batch, now)
    return Committed(row["now"], batch.streams)


async def write_winners(connection: asyncpg.Connection, batch: Batch, now: int | None) -> Committed:
    """The same at once by the road on which a conflict fails nothing."""
    statement = _WRITE_WINNERS_FOUND if batch.attributes else SQL["write_winners"]
    [row] = await connection.fetch(statement, now, *batch.apart(), *batch.attributes)
    return Committed(row["now"], frozenset(row["won"]))


def loaded(rows: Sequence[Any]) -> Loaded:
    """Streams, made of the rows of `load`."""
    now = 0
    kept: dict[str, Snapshot] = {}
    commits: dict[str, list[tuple[int, bytes]]] = {}
    leases: dict[str, dict[str, int]] = {}
    for kind, stream, version, number, codec, effect, data in rows:
        if kind == "c":
            commits.setdefault(stream, []).append((version, data))
        elif kind == "s":
            kept[stream] = Snapshot(version, codec, number, data)
        elif kind == "l":
            leases.setdefault(stream, {})[effect] = number
        else:
            now = number
    found = {
        stream: StoredStream(kept.get(stream), tuple(sorted(commits.get(stream, ()))), leases.get(stream, {}))
        for stream in kept.keys() | commits.keys() | leases.keys()
    }
    return Loaded(now, found)


async def _ask(pool: Pool, statement: str, *parameters: Any, attempts: int = ATTEMPTS) -> list[Any]:
    """The rows of a statement that may be executed twice. Raises UnavailableError, RejectedError."""
    while True:
        attempts -= 1
        try:
            with translated():
                async with pool.connection() as connection:
                    rows: list[Any] = await connection.fetch(statement, *parameters)
                    return rows
        except UnavailableError:
            if not attempts:
                raise
