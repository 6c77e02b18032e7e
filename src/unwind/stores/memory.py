"""The store in plain dicts: the oracle that other stores are compared with, and the store for tests and simulations."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from unwind.census import Living, Pace, Paces, Standing, Tally
from unwind.core.codec import Snapshot
from unwind.core.saga import revision_of
from unwind.errors import RejectedError, UnavailableError
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
    StreamAppend,
    Tail,
    Unit,
)

ENDED = frozenset(("completed", "compensated"))
ASLEEP = ENDED | {"paused"}
"""Statuses of rows that nothing wakes."""
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
"""How an `int` is written as an attribute."""


class MemoryStore:
    """All of `unwind.ports.Store`, durable as long as the object. Calls never yield to the event loop."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` tells the time in microseconds since the epoch."""
        self._now = now
        self._closed = False
        self._log: list[LogEntry] = []
        self._streams: dict[str, dict[int, LogEntry]] = {}
        self._rows: dict[str, SagaRow] = {}
        self._awake: set[str] = set()
        self._attributes: dict[str, dict[str, str]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._leases: dict[str, dict[str, int]] = {}
        self._cursors: dict[str, str] = {}
        self._definitions: dict[tuple[str, int], str] = {}

    async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
        self._refuse_when_closed()
        known = self._definitions if note else dict(self._definitions)
        clashes = [each for each in revisions if known.setdefault(each[:2], each[2]) != each[2]]
        asked = {revision_of(*each) for each in revisions}
        live = Counter(row.revision for row in self._rows.values() if row.status not in ENDED)
        others = {revision: min(count, COUNTED) for revision, count in live.items() if revision not in asked}
        return Registered(clashes, others)

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        self._refuse_when_closed()
        now = self._now()
        found = {}
        for stream, after in streams.items():
            commits = self._commits(stream, after)
            leases = {effect: until for effect, until in self._leases.get(stream, {}).items() if until > now}
            if not commits and not leases:
                continue
            snapshot = self._snapshots.get(stream) if snapshots else None
            if snapshot is not None and snapshot.version <= after:
                snapshot = None
            if snapshot is not None:
                commits = [commit for commit in commits if commit[0] > snapshot.version]
            found[stream] = StoredStream(snapshot, tuple(commits), leases)
        return Loaded(now, found)

    async def commit(self, units: Sequence[Unit]) -> Committed:
        self._refuse_when_closed()
        if len({unit.head.stream for unit in units}) != len(units):
            raise ValueError("two units of one batch have the same head stream; fold them into one")
        now = self._now()
        won = [unit for unit in units if unit.head.version not in self._streams.get(unit.head.stream, ())]
        self._refuse_poison(won)
        for unit in won:
            self._append(unit.head, now)
        for unit in won:
            for append in unit.others:
                self._append(append, now)
            if unit.row is not None:
                self._write(unit.row)
                if unit.attributes:
                    self._attributes[unit.row.id] = dict(unit.attributes) | self._attributes.get(unit.row.id, {})
            elif unit.wake_at is not None:
                self._bring_forward(unit.head.stream, unit.wake_at)
            self._keep(unit.head.stream, unit.snapshot)
        return Committed(now, frozenset(unit.head.stream for unit in won))

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        self._refuse_when_closed()
        now = self._now()
        wakes = [
            (row.wake_at, row.id)
            for row in map(self._rows.__getitem__, self._awake)
            if row.wake_at is not None and row.wake_at <= now and row.revision in revisions
        ]
        taken = [saga for _, saga in sorted(wakes)[:limit]]
        for saga in taken:
            self._rows[saga] = replace(self._rows[saga], wake_at=now + push)
        return Claimed(now, dict.fromkeys(taken, now + push))

    async def move(self, moves: Sequence[Move]) -> None:
        self._refuse_when_closed()
        for move in moves:
            row = self._rows.get(move.id)
            newer = max(self._streams.get(move.id, ()), default=0) > move.version
            if row is not None and row.wake_at == move.token and not newer:
                self._rows[move.id] = replace(row, wake_at=move.wake_at)

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        self._refuse_when_closed()
        until = self._now() + duration
        for effect in effect_ids:
            self._leases.setdefault(effect.rsplit("/", 2)[0], {})[effect] = until

    async def tail(self, consumer: str, limit: int) -> Tail:
        self._refuse_when_closed()
        start = int(self._cursors.get(consumer, "0"))
        entries = tuple(self._log[start : start + limit])
        return Tail(entries, str(entries[-1].position if entries else start))

    async def advance(self, consumer: str, cursor: str) -> None:
        self._refuse_when_closed()
        self._cursors[consumer] = cursor

    async def find(self, query: Query) -> Sequence[SagaRow]:
        self._refuse_when_closed()
        rows = [row for row in self._matching(query) if query.before is None or _place(row) < query.before]
        rows.sort(key=_place, reverse=True)
        return rows[: query.limit]

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        self._refuse_when_closed()
        counts: Counter[tuple[str, str]] = Counter()
        sums: dict[tuple[str, str], int] = {}
        for row in self._matching(query):
            group = (row.definition, row.status)
            counts[group] += 1
            amount = self._attributes.get(row.id, {}).get(amounts.get(row.definition, ""), "")
            if _WHOLE.fullmatch(amount) and -(2**63) <= int(amount) < 2**63:
                sums[group] = sums.get(group, 0) + int(amount)
        return [Tally(*group, counts[group], sums.get(group)) for group in sorted(counts)]

    async def living(self, revisions: Sequence[str]) -> Living:
        self._refuse_when_closed()
        groups: dict[tuple[str, str], list[SagaRow]] = {}
        for row in self._rows.values():
            if row.status not in ENDED and row.revision in revisions:
                groups.setdefault((row.definition, row.status), []).append(row)
        standings = (
            Standing(
                *group,
                len(rows),
                min(row.started_at for row in rows),
                min(row.updated_at for row in rows),
                min((row.wake_at for row in rows if row.wake_at is not None), default=None),
            )
            for group, rows in sorted(groups.items())
        )
        return Living(self._now(), tuple(standings))

    async def paces(self, since: int, stretch: int) -> Paces:
        self._refuse_when_closed()
        counts: Counter[tuple[int, str, int]] = Counter()
        for row in self._rows.values():
            if row.started_at >= since:
                counts[row.started_at // stretch, "started", 0] += 1
            if row.ended_at is not None and row.ended_at >= since:
                counts[row.ended_at // stretch, row.status, _cut(row.ended_at - row.started_at)] += 1
        return Paces(self._now(), tuple(sorted(Pace(*group, count) for group, count in counts.items())))

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        self._refuse_when_closed()
        theirs = [row for row in self._rows.values() if row.definition == definition and row.ended_at is not None]
        theirs.sort(key=lambda row: (row.ended_at, row.id), reverse=True)
        return theirs[:limit]

    async def close(self) -> None:
        self._closed = True

    def _matching(self, query: Query) -> Iterable[SagaRow]:
        asked = set(query.attributes)
        return (
            row
            for row in self._rows.values()
            if _matches(row, query) and asked <= self._attributes.get(row.id, {}).items()
            if not query.text or self._begins(row, query.text)
        )

    def _begins(self, row: SagaRow, text: str) -> bool:
        known = (row.id, row.correlation_id, *self._attributes.get(row.id, {}).values())
        return any(each.startswith(text) for each in known)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")

    def _commits(self, stream: str, after: int) -> list[tuple[int, bytes]]:
        entries = self._streams.get(stream, {})
        return sorted((version, entry.events) for version, entry in entries.items() if version > after)

    def _refuse_poison(self, won: Iterable[Unit]) -> None:
        taken = {(unit.head.stream, unit.head.version) for unit in won}
        for unit in won:
            row = unit.row
            if row is not None and (row.status in ASLEEP) != (row.wake_at is None):
                raise RejectedError(f"saga {row.id}: status {row.status!r} does not go with wake_at {row.wake_at}")
            for append in unit.others:
                key = (append.stream, append.version)
                if key in taken or append.version in self._streams.get(append.stream, ()):
                    raise RejectedError(f"stream {append.stream} has an event {append.version} already")
                taken.add(key)

    def _append(self, append: StreamAppend, now: int) -> None:
        entry = LogEntry(len(self._log) + 1, append.stream, append.category, append.version, append.events, now)
        self._log.append(entry)
        self._streams.setdefault(append.stream, {})[append.version] = entry

    def _write(self, row: SagaRow) -> None:
        self._rows[row.id] = row
        if row.wake_at is None:
            self._awake.discard(row.id)
        else:
            self._awake.add(row.id)

    def _bring_forward(self, saga: str, wake_at: int) -> None:
        row = self._rows.get(saga)
        if row is not None and row.wake_at is not None and row.wake_at > wake_at:
            self._rows[saga] = replace(row, wake_at=wake_at)

    def _keep(self, stream: str, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        kept = self._snapshots.get(stream)
        if kept is None or kept.version < snapshot.version:
            self._snapshots[stream] = snapshot


def _matches(row: SagaRow, query: Query) -> bool:
    return (
        (not query.ids or row.id in query.ids)
        and (not query.statuses or row.status in query.statuses)
        and (not query.definition or row.definition == query.definition)
        and (query.started_from is None or row.started_at >= query.started_from)
        and (query.started_to is None or row.started_at < query.started_to)
        and (not query.live_on or (row.revision == query.live_on and row.status not in ENDED))
    )


def _place(row: SagaRow) -> tuple[int, str]:
    return row.started_at, row.id


def _cut(duration: int) -> int:
    """Its two first digits, and as many zeros as there were others."""
    written = str(max(duration, 0))
    return int(written[:2].ljust(len(written), "0"))
