"""What a commit writes: one statement, however many units, and a transaction by itself."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple

from unwind.errors import RejectedError
from unwind.ports import Committed, StreamAppend, Unit
from unwind.stores.statements import read_statements

SQL = read_statements(Path(__file__).with_name("queries.sql"))

_NUL = "\\u0000"


def to_json(value: Any) -> str:
    """A parameter that holds many values. Raises RejectedError for text and numbers that are not stored as they are."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise RejectedError(f"this data cannot be stored: {error}") from error


def accept_batches(database: sqlite3.Connection) -> None:
    """To be called once for a connection that commits."""
    database.execute(SQL["batches"])
    database.execute(SQL["write_batch"])


class Batch:
    """The units of one commit."""

    def __init__(self, units: Sequence[Unit], now: Callable[[], int]) -> None:
        """Raises ValueError when two heads are of one stream, RejectedError for text that cannot be stored."""
        self._units = units
        self._now = now
        self._won = frozenset([unit.head.stream for unit in units])
        if len(self._won) != len(units):
            raise ValueError("two units of one batch have the same head stream; fold them into one")
        self._parameters = _parameters(units)

    def write(self, database: sqlite3.Connection) -> Committed:
        """The short road, for when nobody was faster: a conflict fails it like bad data."""
        now = self._now()
        database.execute(SQL["commit"], (now, *self._parameters))
        return Committed(now, self._won)

    def write_winners(self, database: sqlite3.Connection) -> Committed:
        """The road that answers per saga."""
        now = self._now()
        heads = to_json([(unit.head.stream, unit.head.version) for unit in self._units])
        lost = set(msgspec.json.decode(database.execute(SQL["taken"], {"heads": heads}).fetchone()[0]))
        winners = [unit for unit in self._units if unit.head.stream not in lost]
        database.execute(SQL["commit"], (now, *_parameters(winners)))
        return Committed(now, self._won - lost)


def _parameters(units: Sequence[Unit]) -> tuple[str, str, str, str, str, bytes]:
    """All rows as JSON, by table, and behind them in one piece the bytes that some name a place of."""
    appends: list[tuple[Any, ...]] = []
    sagas: list[tuple[Any, ...]] = []
    wake_ups: list[tuple[str, int]] = []
    snapshots: list[tuple[Any, ...]] = []
    attributes: list[tuple[str, str, str, int]] = []
    others: list[StreamAppend] = []
    pieces: list[bytes] = []
    at = 1
    for unit in units:
        head, row, snapshot = unit.head, unit.row, unit.snapshot
        events = head.events
        pieces.append(events)
        size = len(events)
        appends.append((head.stream, head.version, head.category, head.count, at, size))
        at += size
        if unit.others:
            others += unit.others
        if row is not None:
            sagas.append(astuple(row))
            for name, value in unit.attributes:
                attributes.append((row.id, name, value, row.started_at))
        elif unit.wake_at is not None:
            wake_ups.append((head.stream, unit.wake_at))
        if snapshot is not None:
            pieces.append(snapshot.data)
            size = len(snapshot.data)
            snapshots.append((head.stream, snapshot.version, snapshot.codec, snapshot.checksum, at, size))
            at += size
    for each in others:
        pieces.append(each.events)
        size = len(each.events)
        appends.append((each.stream, each.version, each.category, each.count, at, size))
        at += size
    tables = (appends, sagas, wake_ups, snapshots, attributes)
    texts = tuple([to_json(rows) if rows else "[]" for rows in tables])
    _refuse_nul(texts)
    return *texts, b"".join(pieces)  # type: ignore[return-value]


def _refuse_nul(texts: Sequence[str]) -> None:
    """SQLite ends a text of a JSON document at its NUL character."""
    for text in texts:
        if _NUL in text:  # or a backslash that is written twice, and then the same letters
            named = [each for row in msgspec.json.decode(text) for each in row if "\0" in str(each)]
            if named:
                raise RejectedError(f"the log and its index cannot hold a NUL character: {named[0]!r}")
