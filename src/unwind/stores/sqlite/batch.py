"""What a commit writes: a fixed number of statements, however many units."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from unwind.errors import RejectedError
from unwind.ports import Committed, SagaRow, Unit
from unwind.stores.statements import read_statements

SQL = read_statements(Path(__file__).with_name("queries.sql"))
MOST_ROWS = 2_048
"""In one statement; times the nine columns of a saga's row it is well below SQLite's limit of parameters."""
_PLACES = re.compile(r"\((?:\?, )+\?\)")


def to_json(value: Any) -> str:
    """A parameter that holds many values. Raises RejectedError for text and numbers that are not stored as they are."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise RejectedError(f"this data cannot be stored: {error}") from error


class Batch:
    """The units of one commit."""

    def __init__(self, units: Sequence[Unit], now: Callable[[], int]) -> None:
        """Raises ValueError when two heads are of one stream, RejectedError for text that cannot be stored."""
        self._units = units
        self._now = now
        self._won = frozenset([unit.head.stream for unit in units])
        if len(self._won) != len(units):
            raise ValueError("two units of one batch have the same head stream; fold them into one")
        self._rows = _Rows(units)

    def write(self, database: sqlite3.Connection) -> Committed:
        """The short road, for when nobody was faster: a conflict fails it like bad data."""
        now = self._now()
        self._rows.write(database, now)
        return Committed(now, self._won)

    def write_winners(self, database: sqlite3.Connection) -> Committed:
        """The road that answers per saga."""
        now = self._now()
        heads = to_json([(unit.head.stream, unit.head.version) for unit in self._units])
        lost = set(msgspec.json.decode(database.execute(SQL["taken"], {"heads": heads}).fetchone()[0]))
        _Rows([unit for unit in self._units if unit.head.stream not in lost]).write(database, now)
        return Committed(now, self._won - lost)


class _Rows:
    """What units write, as rows of parameters."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._appends: list[tuple[Any, ...]] = []
        self._sagas: list[tuple[Any, ...]] = []
        self._wake_ups: list[tuple[str, int]] = []
        self._snapshots: list[tuple[Any, ...]] = []
        self._attributes: list[tuple[str, str, str, int]] = []
        others: list[tuple[Any, ...]] = []
        for unit in units:
            head, row, snapshot = unit.head, unit.row, unit.snapshot
            # Not `bytes`: `sqlite3` looks for an adapter of each, which takes four times as long as to bind it.
            events = bytearray(head.events)
            self._appends.append((head.stream, head.version, head.category, head.count, events))
            for each in unit.others:
                events = bytearray(each.events)
                others.append((each.stream, each.version, each.category, each.count, events))
            if row is not None:
                self._sagas.append(_saga(row))
                for name, value in unit.attributes:
                    self._attributes.append((row.id, name, value, row.started_at))
            elif unit.wake_at is not None:
                self._wake_ups.append((head.stream, unit.wake_at))
            if snapshot is not None:
                self._snapshots.append(
                    (head.stream, snapshot.version, snapshot.codec, snapshot.checksum, snapshot.data)
                )
        self._appends += others
        _refuse_nul([append[0] for append in self._appends])
        _refuse_nul([text for _, name, value, _ in self._attributes for text in (name, value)])

    def write(self, database: sqlite3.Connection, now: int) -> None:
        for statement, parameters in _statements("append", self._appends):
            database.execute(statement, [now, *parameters])
        beside = {
            "write_sagas": self._sagas,
            "bring_forward": self._wake_ups,
            "keep_snapshots": self._snapshots,
            "write_attributes": self._attributes,
        }
        for name, rows in beside.items():
            for statement, parameters in _statements(name, rows):
                database.execute(statement, parameters)


def _refuse_nul(texts: list[str]) -> None:
    if "\0" in "".join(texts):
        named = next(text for text in texts if "\0" in text)
        raise RejectedError(f"the name of a stream, or an attribute, cannot hold a NUL character: {named!r}")


def _saga(row: SagaRow) -> tuple[Any, ...]:
    if "\0" in f"{row.id}{row.revision}{row.definition}{row.status}":
        raise RejectedError(f"the row of a saga cannot hold a NUL character: {row!r}")
    # '' stands for null: `sqlite3` takes a microsecond to bind None, and the twentieth part to bind a text or number.
    return (
        *(row.id, row.revision, row.definition, row.status, "" if row.wake_at is None else row.wake_at),
        *(row.correlation_id, row.started_at, row.updated_at, "" if row.ended_at is None else row.ended_at),
    )


def _statements(name: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    """As few statements as possible, of sizes that will be met again: filled up with rows of zeros, which they skip."""
    for start in range(0, len(rows), MOST_ROWS):
        part = rows[start : start + MOST_ROWS]
        size = 1 << (len(part) - 1).bit_length()
        parameters = list(chain.from_iterable(part))
        parameters += [0] * (len(part[0]) * (size - len(part)))
        yield _sized(name, size), parameters


@cache
def _sized(name: str, size: int) -> str:
    """A statement that takes one row of values, made to take `size` of them."""
    return _PLACES.sub(lambda places: ", ".join([places[0]] * size), SQL[name])
