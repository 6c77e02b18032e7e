"""What a commit sends: a JSON document for each table, rows sorted by id, and their bytes in one piece beside it.

Not arrays: the driver takes up to a microsecond for each element of one, which at 256 sagas a commit was more than half
of what the store asked of the event loop.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec
from msgspec import Struct

from unwind.errors import RejectedError
from unwind.ports import StreamAppend, Unit

_place = attrgetter("stream", "version")


class _Append(Struct, frozen=True, gc=False):
    """Events for a stream, and how many bytes of the piece are theirs."""

    stream: str
    version: int
    category: str
    count: int
    size: int
    head: str = ""
    """Of events for another stream: the stream of the head they go with."""


class _Kept(Struct, frozen=True, gc=False):
    """A snapshot, and how many bytes of the piece are its own."""

    stream: str
    version: int
    codec: int
    checksum: int
    size: int


class _Found(Struct, frozen=True, gc=False):
    """An attribute by which a saga that begins can be found."""

    saga_id: str
    name: str
    value: str
    started_at: int


class Batch:
    """The units of one commit, as parameters of its statements."""

    def __init__(self, units: Sequence[Unit]) -> None:
        """Raises ValueError when two heads are of one stream."""
        streams = [unit.head.stream for unit in units]
        self.streams = frozenset(streams)
        """Of the heads."""
        if len(self.streams) != len(streams):
            raise ValueError("two units of one batch have the same head stream; fold them into one")
        in_order = sorted(streams)
        if in_order != streams:
            by_stream = dict(zip(streams, units, strict=True))
            units = [by_stream[stream] for stream in in_order]
        self._units = units
        self._heads = [unit.head for unit in units]
        self._beside = _beside(units)
        found = [
            _Found(unit.row.id, name, value, unit.row.started_at)
            for unit in units
            if unit.attributes and unit.row is not None
            for name, value in unit.attributes
        ]
        self.attributes = (to_json(found),) if found else ()
        """A further parameter, and a further part of the statement: most batches have neither."""

    def together(self) -> tuple[str, bytes, str, str, str, bytes]:
        """For the road on which all of it is written or nothing. Raises RejectedError for what no document holds."""
        others = [other for unit in self._units for other in unit.others]
        return *_appends([*self._heads, *sorted(others, key=_place)]), *self._beside

    def apart(self) -> tuple[str, bytes, str, str, str, bytes, str, bytes]:
        """For the road that answers per saga: events for other streams go by themselves."""
        others = [(other, unit.head.stream) for unit in self._units for other in unit.others]
        others.sort(key=lambda pair: _place(pair[0]))
        beside = [
            _Append(each.stream, each.version, each.category, each.count, len(each.events), head)
            for each, head in others
        ]
        return *_appends(self._heads), *self._beside, to_json(beside), b"".join([each.events for each, _ in others])


def _appends(appends: Iterable[StreamAppend]) -> tuple[str, bytes]:
    places = []
    pieces = []
    for each in appends:
        events = each.events
        places.append(_Append(each.stream, each.version, each.category, each.count, len(events)))
        pieces.append(events)
    return to_json(places), b"".join(pieces)


def _beside(units: Sequence[Unit]) -> tuple[str, str, str, bytes]:
    """Rows of sagas, wake-ups to be brought forward, snapshots and their bytes."""
    rows = []
    wake_ups = {}
    snapshots = []
    pieces = []
    for unit in units:
        if unit.row is not None:
            rows.append(unit.row)
        elif unit.wake_at is not None:
            wake_ups[unit.head.stream] = unit.wake_at
        kept = unit.snapshot
        if kept is not None:
            snapshots.append(_Kept(unit.head.stream, kept.version, kept.codec, kept.checksum, len(kept.data)))
            pieces.append(kept.data)
    return to_json(rows), to_json(wake_ups), to_json(snapshots), b"".join(pieces)


def to_json(value: object) -> str:
    """A parameter that holds many values. Raises RejectedError for text and numbers that are not stored as they are."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError) as error:
        raise RejectedError(f"this data cannot be stored: {error}") from error
