"""What a commit writes, encoded for its statements: rows as JSON, their bytes joined in one blob."""

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from unwind.errors import RejectedError
from unwind.ports import Committed, StreamAppend, Unit
from unwind.stores.statements import read_statements

SQL = read_statements(Path(__file__).with_name("queries.sql"))
_encoder = msgspec.json.Encoder()
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")


def to_json(value: Any) -> str:
    """A parameter that holds many values. Raises RejectedError for text that no database keeps as it is."""
    try:
        text = _encoder.encode(value).decode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise RejectedError(f"this data cannot be stored: {error}") from error
    # SQLite's JSON functions would silently end the text there.
    if "\\u0000" in text and _NUL.search(text):
        raise RejectedError("text with a NUL character cannot be stored")
    return text


def storable(text: str) -> bool:
    """Whether SQLite keeps this text as it is."""
    return "\0" not in text and (text.isascii() or _SURROGATE.search(text) is None)


class Batch:
    """The units of one commit."""

    def __init__(self, units: Sequence[Unit], now: Callable[[], int]) -> None:
        """Raises ValueError when two heads are of one stream, RejectedError for text that cannot be stored."""
        self._units = units
        self._now = now
        self._won = frozenset([unit.head.stream for unit in units])
        if len(self._won) != len(units):
            raise ValueError("two units of one batch have the same head stream; fold them into one")
        self._writes = _encode(units)

    def write(self, database: sqlite3.Connection) -> Committed:
        """The short road, for when nobody was faster: a conflict fails it like bad data."""
        now = self._now()
        _write(database, self._writes, now)
        return Committed(now, self._won)

    def write_winners(self, database: sqlite3.Connection) -> Committed:
        """The road that answers per saga."""
        now = self._now()
        heads = to_json([(unit.head.stream, unit.head.version) for unit in self._units])
        lost = set(msgspec.json.decode(database.execute(SQL["taken"], {"rows": heads}).fetchone()[0]))
        _write(database, _encode([unit for unit in self._units if unit.head.stream not in lost]), now)
        return Committed(now, self._won - lost)


Write = tuple[str, dict[str, Any]]


def _encode(units: Sequence[Unit]) -> list[Write]:
    # Heads first, then what goes with them: so a clash among them is never taken for a lost race.
    appends = [unit.head for unit in units]
    appends += [append for unit in units for append in unit.others]
    sagas = [unit.row for unit in units if unit.row is not None]
    snapshots = [(unit.head.stream, unit.snapshot) for unit in units if unit.snapshot is not None]
    writes = [("append", _with_blob((_columns(append), append.events) for append in appends))]
    if sagas:
        writes.append(("write_sagas", {"rows": to_json(sagas)}))
    if snapshots:
        columns = (((stream, each.version, each.codec, each.checksum), each.data) for stream, each in snapshots)
        writes.append(("keep_snapshots", _with_blob(columns)))
    return writes


def _columns(append: StreamAppend) -> tuple[Any, ...]:
    return append.stream, append.version, append.category, append.count


def _with_blob(rows: Iterable[tuple[tuple[Any, ...], bytes]]) -> dict[str, Any]:
    encoded = []
    blobs = []
    offset = 1
    for columns, data in rows:
        encoded.append((*columns, offset, len(data)))
        blobs.append(data)
        offset += len(data)
    return {"rows": to_json(encoded), "blob": b"".join(blobs)}


def _write(database: sqlite3.Connection, writes: list[Write], now: int) -> None:
    for name, parameters in writes:
        database.execute(SQL[name], parameters | {"now": now})
