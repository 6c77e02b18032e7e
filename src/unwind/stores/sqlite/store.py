"""The store in one SQLite file: a thread that writes, one that reads, one that counts."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from unwind.census import Living, Pace, Paces, Standing, Tally
from unwind.core.codec import Snapshot
from unwind.core.saga import revision_of
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
from unwind.stores.searched import rarest_first, stretch
from unwind.stores.sqlite.batch import SQL, Batch, accept_batches, to_json
from unwind.stores.sqlite.connections import connect_memory, connect_reader, connect_to_read, connect_writer
from unwind.stores.sqlite.execution import reading, refusing, writing
from unwind.stores.sqlite.guard import LINKED, Version
from unwind.stores.sqlite.keys import SQLiteKeys
from unwind.stores.sqlite.lanes import InlineLane, Job, Lane, ThreadLane, Work
from unwind.stores.sqlite.roster import SQLiteRoster
from unwind.stores.text import storable

T = TypeVar("T")
LARGEST = 2**63 - 1
"""The largest integer of SQLite."""
_rows = msgspec.json.Decoder(list[SagaRow])


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


class SQLiteStore:
    """Implements `unwind.ports.Store`. A commit is on the disk when it is answered."""

    def __init__(self, writer: Lane, reader: Lane, counter: Lane, now: Callable[[], int]) -> None:
        """Use `open` or `in_memory`."""
        self._writer = writer
        self._reader = reader
        self._counter = counter
        self._now = now
        self.keys = SQLiteKeys(writer, reader, now)
        """The API keys in the same file."""
        self.roster = SQLiteRoster(writer, reader, now)
        """Who works on it."""

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        now: Callable[[], int] = wall_clock,
        version: Version = LINKED,
    ) -> "SQLiteStore":
        """Open a file, made if need be, and bring its schema up to date. The running event loop is the one to use it.

        `now` tells the time in microseconds since the epoch, in any thread. `version` is SQLite's, for tests.

        Raises SettingsError when the file cannot be used, or may not be written to by two processes and is.
        """
        path = Path(path)
        with ExitStack() as opened:
            writer = connect_writer(path, version)
            opened.callback(writer.close)
            accept_batches(writer)
            reader = connect_reader(path)
            opened.callback(reader.close)
            counter = connect_reader(path)
            opened.pop_all()
        return cls(
            ThreadLane(f"{path.name} writer", writing(writer), writer.close),
            ThreadLane(f"{path.name} reader", reading(reader), reader.close),
            # Of its own: who counts a million sagas must not keep those waiting that are carried on.
            ThreadLane(f"{path.name} counter", reading(counter), counter.close),
            now,
        )

    @classmethod
    async def open_to_read(cls, path: str | Path) -> "SQLiteStore":
        """Look into a file that is there and has the newest schema, while others may write it; writing fails.

        Raises SettingsError when there is none, or it cannot be used as it is, saying what to do.
        """
        path = Path(path)
        reader = connect_to_read(path)
        lane = ThreadLane(f"{path.name} reader", reading(reader), reader.close)
        return cls(InlineLane(refusing, lambda: None), lane, lane, wall_clock)

    @classmethod
    def in_memory(cls, *, now: Callable[[], int]) -> "SQLiteStore":
        """The same SQL on a private database in memory. Calls never yield to the event loop: fit for virtual time."""
        database = connect_memory()
        accept_batches(database)
        lane = InlineLane(writing(database), database.close)
        return cls(lane, lane, lane, now)

    async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
        asked = {"revisions": to_json(revisions)}
        known = {"known": to_json([revision_of(*each) for each in revisions]), "most": COUNTED}

        def work(database: sqlite3.Connection) -> Registered:
            if note:
                database.execute(SQL["note_definitions"], asked)
            clashes = [(name, version, digest) for name, version, digest in _list(database, "clashing", asked)]
            return Registered(clashes, dict(_list(database, "live_others", known)))

        return await _run(self._writer if note else self._reader, work)

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        # What cannot be stored is not there.
        asked = {stream: after for stream, after in streams.items() if storable(stream)}
        parameters = {"streams": to_json(asked)}

        def work(database: sqlite3.Connection) -> Loaded:
            now = self._now()
            kept: dict[str, Snapshot] = {}
            if snapshots:
                for [stream, version, codec, checksum], data in _with_bytes(database, "load_snapshots", parameters):
                    kept[stream] = Snapshot(version, codec, checksum, data)
            # By the snapshots just read: a newer one may be written between two statements.
            after = {"streams": to_json(asked | {stream: each.version for stream, each in kept.items()})}
            commits: dict[str, list[tuple[int, bytes]]] = {}
            for [stream, version], data in _with_bytes(database, "load_commits", after):
                commits.setdefault(stream, []).append((version, data))
            leases: dict[str, dict[str, int]] = {}
            for saga, effect, until in _list(database, "load_leases", parameters | {"now": now}):
                leases.setdefault(saga, {})[effect] = until
            found = {
                stream: StoredStream(kept.get(stream), tuple(sorted(commits.get(stream, ()))), leases.get(stream, {}))
                for stream in kept.keys() | commits.keys() | leases.keys()
            }
            return Loaded(now, found)

        return await _run(self._reader, work)

    async def commit(self, units: Sequence[Unit]) -> Committed:
        batch = Batch(units, self._now)
        committed: Committed = await self._writer.run(Job(batch.write, batch.write_winners, one=True))
        return committed

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        known = to_json(revisions)

        def work(database: sqlite3.Connection) -> Claimed:
            now = self._now()
            due = _list(database, "due", {"now": now, "revisions": known, "limit": limit})
            if due:
                database.execute(SQL["push"], {"ids": to_json(due), "wake_at": now + push})
            return Claimed(now, dict.fromkeys(due, now + push))

        return await _run(self._writer, work)

    async def move(self, moves: Sequence[Move]) -> None:
        parameters = {"moves": to_json(moves)}
        await _run(self._writer, lambda database: database.execute(SQL["move"], parameters).close())

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        effects = to_json([(saga_of(effect), effect) for effect in effect_ids])

        def work(database: sqlite3.Connection) -> None:
            now = self._now()
            database.execute(SQL["forget_leases"], {"now": now})
            database.execute(SQL["hold"], {"effects": effects, "until": now + duration})

        await _run(self._writer, work)

    async def tail(self, consumer: str, limit: int) -> Tail:
        def work(database: sqlite3.Connection) -> Tail:
            row = database.execute(SQL["cursor"], {"consumer": consumer}).fetchone()
            cursor = "0" if row is None else row[0]
            entries = tuple(
                LogEntry(position, stream, category, version, events, recorded_at)
                for [position, stream, category, version, recorded_at], events in _with_bytes(
                    database, "tail", {"position": int(cursor), "limit": limit}
                )
            )
            return Tail(entries, str(entries[-1].position) if entries else cursor)

        return await _run(self._reader, work)

    async def advance(self, consumer: str, cursor: str) -> None:
        parameters = {"consumer": consumer, "cursor": cursor}
        await _run(self._writer, lambda database: database.execute(SQL["advance"], parameters).close())

    async def find(self, query: Query) -> Sequence[SagaRow]:
        if not _may_be_there(query):
            return []
        before_at, before_id = query.before or (LARGEST - 1, "")
        parameters = _conditions(query) | {"before_at": before_at, "before_id": before_id, "limit": query.limit}
        # A bound that the index understands; the pair only breaks the tie.
        parameters["started_to"] = min(parameters["started_to"], before_at + 1)
        parameters["live_on"] = query.live_on
        by = "_by_attribute" if query.attributes else "_live" if query.live_on else "_by_id" if query.ids else ""
        name = "find_by_text" if query.text else f"find{by}"
        # A text may fit any number of sagas, and all are read.
        lane = self._counter if query.text else self._reader
        return await _run(lane, lambda database: _rows.decode(database.execute(SQL[name], parameters).fetchone()[0]))

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        if not _may_be_there(query):
            return []
        parameters = _conditions(query) | {"amounts": to_json(amounts)}
        name = "tally_by_text" if query.text else "tally_by_attribute" if query.attributes else "tally"
        return [
            Tally(definition, status, count, None if millions is None else millions * 1_000_000 + rest)
            for definition, status, count, millions, rest in await _run(
                self._counter, lambda database: _list(database, name, parameters)
            )
        ]

    async def living(self, revisions: Sequence[str]) -> Living:
        asked = {"revisions": to_json([revision for revision in revisions if storable(revision)])}

        def work(database: sqlite3.Connection) -> Living:
            now = self._now()
            return Living(now, tuple(Standing(*each) for each in _list(database, "living", asked)))

        return await _run(self._counter, work)

    async def paces(self, since: int, stretch: int) -> Paces:
        asked = {"since": since, "stretch": stretch}

        def work(database: sqlite3.Connection) -> Paces:
            now = self._now()
            return Paces(now, tuple(sorted(Pace(*each) for each in _list(database, "paces", asked))))

        return await _run(self._counter, work)

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        if not storable(definition):
            return []
        asked = {"definition": definition, "limit": limit}
        return await _run(
            self._reader, lambda database: _rows.decode(database.execute(SQL["ended"], asked).fetchone()[0])
        )

    async def close(self) -> None:
        await self._counter.close()
        await self._reader.close()
        await self._writer.close()


def _may_be_there(query: Query) -> bool:
    """What cannot be stored is not there."""
    named = storable(query.definition) and storable(query.live_on) and storable(query.text)
    return named and all(storable(text) for pair in query.attributes for text in pair)


def _conditions(query: Query) -> dict[str, Any]:
    """The parameters that say which sagas."""
    conditions = {
        "ids": to_json([saga for saga in query.ids if storable(saga)]) if query.ids else None,
        "statuses": to_json([status for status in query.statuses if storable(status)]) if query.statuses else None,
        "definition": query.definition,
        "started_from": -LARGEST if query.started_from is None else query.started_from,
        "started_to": LARGEST if query.started_to is None else query.started_to,
    }
    if query.text:
        text, beyond = stretch(query.text)
        conditions |= {"text": text, "beyond": beyond, "others": to_json(query.attributes)}
    elif query.attributes:
        (name, value), others = rarest_first(query.attributes)
        conditions |= {"name": name, "value": value, "others": to_json(others)}
    return conditions


def saga_of(effect_id: str) -> str:
    """The saga of an effect id."""
    return effect_id.rsplit("/", 2)[0]


async def _run(lane: Lane, work: Work[T]) -> T:
    result: T = await lane.run(Job(work, work))
    return result


def _list(database: sqlite3.Connection, name: str, parameters: Mapping[str, Any]) -> list[Any]:
    """What a statement that answers with one JSON array found."""
    found: list[Any] = msgspec.json.decode(database.execute(SQL[name], parameters).fetchone()[0])
    return found


def _with_bytes(
    database: sqlite3.Connection, name: str, parameters: Mapping[str, Any]
) -> Iterator[tuple[list[Any], bytes]]:
    """Rows of a statement that answers with a JSON array, the last column being a length, and all their bytes."""
    rows, data = database.execute(SQL[name], parameters).fetchone()
    start = 0
    for *columns, length in msgspec.json.decode(rows):
        yield columns, data[start : start + length]
        start += length
