"""Names ⇄ types: how events, states and domain events become bytes and come back, in every version ever written.

An event is a JSON object whose `type` is its stored name, `name/version`. The present shapes decode straight into
types; anything else goes through the upcasters, one version at a time. Readers ignore fields they do not know.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, TypeVar, cast
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from unwind.core.events import Event
from unwind.core.evolve import evolve
from unwind.core.state import NEW, State
from unwind.errors import CodecError

E = TypeVar("E")

Document = dict[str, Any]
Upcaster = Callable[[Document], Document]
"""From one stored version of an event to the next; sets `type` to the new name."""

SNAPSHOT_CODEC = 2
"""Version of the snapshot's shape. Snapshots of another version are ignored: the log is the truth."""


# Numbers in payloads are somebody's money: no upcaster's road may lead through a binary float.
_raws = msgspec.json.Decoder(list[Raw])
_document = msgspec.json.Decoder(Document, float_hook=Decimal)
_exact = msgspec.json.Encoder(decimal_format="number")


class EventCodec(Generic[E]):
    """Encodes and decodes lists of tagged structs of one closed union."""

    def __init__(self, union: Any, upcasters: Mapping[str, Upcaster] | None = None) -> None:
        """`union` is the union of the present types; `upcasters` maps each outdated stored name to its mend."""
        self._decoder = msgspec.json.Decoder(list[union])
        self._one = msgspec.json.Decoder(union)
        self.encode: Callable[[Sequence[E]], bytes] = msgspec.json.Encoder().encode
        """A JSON list of the events."""
        self._upcasters = dict(upcasters or {})

    def decode(self, data: bytes) -> list[E]:
        """The events in a JSON list. Raises CodecError naming the event that is not understood."""
        try:
            return cast("list[E]", self._decoder.decode(data))
        except msgspec.ValidationError:
            return self._decode_outdated(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CodecError(f"stored events are not JSON: {error}") from error

    def _decode_outdated(self, data: bytes) -> list[E]:
        try:
            return [self._decode_one(event) for event in _raws.decode(data)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CodecError(f"stored events are not a JSON list of objects: {error}") from error

    def _decode_one(self, event: Raw) -> E:
        try:
            return cast("E", self._one.decode(event))
        except msgspec.ValidationError:
            return self._convert(_document.decode(event))

    def _convert(self, document: Document) -> E:
        seen: set[str] = set()
        while (name := str(document.get("type"))) in self._upcasters:
            if name in seen:
                raise CodecError(f"the upcaster of {name!r} does not lead to a newer version")
            seen.add(name)
            document = self._upcasters[name](document)
        try:
            # Through JSON once more, not `convert`: raw payloads exist only in bytes.
            return cast("E", self._one.decode(_exact.encode(document)))
        except msgspec.ValidationError as error:
            raise CodecError(
                f"stored event {name!r} is not understood ({error}); it was written by another version of this program"
            ) from error


SAGA_EVENTS: EventCodec[Event] = EventCodec(Event)


class Snapshot(Struct, frozen=True, gc=False):
    """A state as stored: a cache of the log up to `version`, believed only if checksum and codec version fit."""

    version: int
    codec: int
    checksum: int
    data: bytes


_state_encoder = msgspec.json.Encoder()
_state_decoder = msgspec.json.Decoder(State)


def take_snapshot(state: State) -> Snapshot:
    """The snapshot of a state."""
    data = _state_encoder.encode(state)
    return Snapshot(state.version, SNAPSHOT_CODEC, crc32(data), data)


def read_snapshot(snapshot: Snapshot) -> State | None:
    """The state of a snapshot, or None when it is not to be believed."""
    if snapshot.codec != SNAPSHOT_CODEC or crc32(snapshot.data) != snapshot.checksum:
        return None
    try:
        state = _state_decoder.decode(snapshot.data)
    except msgspec.DecodeError:
        return None
    return state if state.version == snapshot.version else None


def fold(commits: Iterable[tuple[int, bytes]], state: State = NEW) -> State:
    """Apply a stream's commits, `(number of the first event, encoded events)`, to a state.

    Raises CodecError when the log has a gap or an event is not understood.
    """
    for version, data in commits:
        if version != state.version + 1:
            raise CodecError(
                f"saga {state.saga_id}: the log goes from event {state.version} to {version}; restore it from a backup"
            )
        for event in SAGA_EVENTS.decode(data):
            state = evolve(state, event)
    return state
