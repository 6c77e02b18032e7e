"""What operators see of JetStream: how much waits for each group, and what was set aside."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from unwind.buses.envelope import encode_batch, letter_of, restored
from unwind.buses.nats.cloud_events import ID, event_of
from unwind.buses.nats.sender import Parcel, Sender
from unwind.buses.nats.streams import Consumer, Stored, Streams, group_of, place_of, topic_of
from unwind.buses.nats.subscription import REASON, SOURCE
from unwind.ports import DEAD
from unwind.queues import DeadLetter, DeadLetters, Queue

_DEAD = place_of(DEAD.rstrip("."))
_ALL = f"{_DEAD.subject}.>"
_OURS = frozenset({REASON, SOURCE, "Nats-Msg-Id"})
"""Headers that do not go back with a letter; by the last JetStream would take it for a repetition."""
_DIGITS = 20
_SECOND = 1_000_000


async def read_queues(streams: Streams) -> Sequence[Queue]:
    """Of all groups. Raises UnavailableError."""
    found: list[Queue] = []
    for stream in await streams.names():
        if stream != _DEAD.stream:
            for consumer in await streams.consumers(stream):
                oldest = await _oldest(streams, stream, consumer)
                topic = topic_of(str(consumer.config.get("filter_subject", "")))
                group = group_of(consumer.name)
                found.append(Queue(topic, group, consumer.num_pending, consumer.num_ack_pending, oldest))
    return sorted(found, key=lambda queue: (queue.topic, queue.group))


async def _oldest(streams: Streams, stream: str, consumer: Consumer) -> int | None:
    if not (consumer.num_pending or consumer.num_ack_pending):
        return None
    subject = str(consumer.config.get("filter_subject", ""))
    stored = await streams.message(stream, consumer.ack_floor.stream_seq + 1, subject)
    return None if stored is None else _instant(stored.time)


class NatsDead:
    """The stream of dead letters. Every call raises UnavailableError."""

    def __init__(self, streams: Streams, sender: Sender) -> None:
        self._streams = streams
        self._sender = sender

    async def page(self, limit: int, after: str) -> DeadLetters:
        found: list[Stored] = []
        number = (_number(after) or 0) + 1
        while len(found) <= limit and (stored := await self._streams.message(_DEAD.stream, number, _ALL)) is not None:
            found.append(stored)
            number = stored.seq + 1
        page = tuple(_opened(stored) for stored in found[:limit])
        total = await self._streams.count(_DEAD.stream)
        return DeadLetters(page, page[-1].id if len(found) > limit else None, total)

    async def find(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return [_opened(stored) for stored in await self._read(ids)]

    async def redrive(self, ids: Sequence[str]) -> Sequence[str]:
        done = []
        for stored in await self._read(ids):
            letter, headers = _opened(stored), _headers(stored.hdrs)
            kept = {name: value for name, value in headers.items() if name not in _OURS}
            # With a source it was set aside as it came; else each message says why it is dead, and that goes.
            inside = SOURCE not in headers and letter.messages
            data = encode_batch(restored(letter.messages)) if inside else stored.data
            await self._sender.send([Parcel(place_of(letter.topic), data, kept or None)], surely=True)
            await self._streams.delete(_DEAD.stream, stored.seq)
            done.append(letter.id)
        return done

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        numbers = [number for number in map(_number, dict.fromkeys(ids)) if number is not None]
        return [str(number) for number in numbers if await self._streams.delete(_DEAD.stream, number)]

    async def _read(self, ids: Sequence[str]) -> Sequence[Stored]:
        numbers = [number for number in map(_number, dict.fromkeys(ids)) if number is not None]
        found = [await self._streams.message(_DEAD.stream, number) for number in numbers]
        return [stored for stored in found if stored is not None]


def _number(key: str) -> int | None:
    """None: this is no id of a letter."""
    return int(key) if key.isascii() and key.isdigit() and len(key) < _DIGITS and int(key) > 0 else None


def _opened(stored: Stored) -> DeadLetter:
    headers = _headers(stored.hdrs)
    topic, reason = topic_of(stored.subject).removeprefix(DEAD), headers.get(REASON, "")
    letter = letter_of(str(stored.seq), topic, reason, _instant(stored.time), stored.data)
    if ID in headers and not letter.messages:  # a domain event travels without an envelope
        return replace(letter, messages=(event_of(headers, stored.data),), data=b"")
    return letter


def _headers(block: bytes) -> Mapping[str, str]:
    """As NATS writes them: a line for its version, then one for each."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _instant(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 instant with any number of digits."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * _SECOND + int(fraction[:6].ljust(6, "0"))
