"""What operators see of Redis Streams: how much waits in each group, and what was set aside, topic by topic."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from unwind.buses.envelope import encode_batch, letter_of, restored
from unwind.buses.redis_group import DEAD_TOPICS, STREAM, TOPICS
from unwind.errors import UnavailableError
from unwind.ports import DEAD
from unwind.queues import DeadLetter, DeadLetters, Queue
from unwind.redis_client import RedisClient

_MILLI = 1_000
"""Microseconds: ids of entries begin with milliseconds since the epoch."""


async def read_queues(client: RedisClient) -> Sequence[Queue]:
    """Of all topics that have a group. Raises UnavailableError."""
    found: list[Queue] = []
    for topic in await _members(client, TOPICS):
        if topic.startswith(DEAD) or not await client.call("EXISTS", STREAM + topic):
            continue
        for flat in await client.call("XINFO", "GROUPS", STREAM + topic):
            group = dict(zip(flat[::2], flat[1::2], strict=False))
            # `lag` came with Redis 7; it is null where entries were deleted from between.
            waiting, held = group.get(b"lag"), group[b"pending"]
            oldest = await _oldest(client, topic, group) if held or waiting != 0 else None
            found.append(Queue(topic, group[b"name"].decode(), waiting, held, oldest))
    return sorted(found, key=lambda queue: (queue.topic, queue.group))


async def _oldest(client: RedisClient, topic: str, group: dict[bytes, Any]) -> int | None:
    if group[b"pending"]:
        held = await client.call("XPENDING", STREAM + topic, group[b"name"])
        if held[1]:
            return _at(held[1])
    last: bytes = group[b"last-delivered-id"]
    entries = await client.call("XRANGE", STREAM + topic, b"(" + last, "+", "COUNT", 1)
    return _at(entries[0][0]) if entries else None


class _Key(Struct, frozen=True, order=True):
    """Where a letter stands among all: by its time, then by its topic."""

    milliseconds: int
    number: int
    topic: str

    @classmethod
    def of(cls, entry: bytes, topic: str) -> "_Key":
        milliseconds, _, number = entry.partition(b"-")
        return cls(int(milliseconds), int(number), topic)

    @classmethod
    def read(cls, text: str) -> "_Key | None":
        """None: this is no id of a letter."""
        entry, slash, topic = text.partition("/")
        milliseconds, _, number = entry.partition("-")
        if not (slash and entry.isascii() and milliseconds.isdigit() and number.isdigit() and len(entry) <= _DIGITS):
            return None
        return cls(int(milliseconds), int(number), topic)

    @property
    def entry(self) -> str:
        return f"{self.milliseconds}-{self.number}"

    @property
    def stream(self) -> str:
        return STREAM + DEAD + self.topic

    def __str__(self) -> str:
        return f"{self.entry}/{self.topic}"


_DIGITS = 36
"""Of an entry's id, at most."""


class RedisDead:
    """The streams of dead letters. Every call raises UnavailableError."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def page(self, limit: int, after: str) -> DeadLetters:
        found: list[DeadLetter] = []
        total, last = 0, _Key.read(after)
        for topic in await _members(self._client, DEAD_TOPICS):
            stream = STREAM + DEAD + topic
            total += await self._client.call("XLEN", stream)
            start = "-" if last is None else f"{'' if topic > last.topic else '('}{last.entry}"
            for entry, fields in await self._client.call("XRANGE", stream, start, "+", "COUNT", limit + 1):
                found.append(_opened(_Key.of(entry, topic), fields))
        found.sort(key=lambda letter: _Key.read(letter.id) or _Key(0, 0, ""))
        page = tuple(found[:limit])
        return DeadLetters(page, page[-1].id if len(found) > limit else None, total)

    async def find(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return [_opened(key, fields) for key, fields in await self._read(ids)]

    async def redrive(self, ids: Sequence[str], length: int) -> Sequence[str]:
        """`length` is how many publications a topic keeps, about."""
        done = []
        for key, fields in await self._read(ids):
            letter, told = _opened(key, fields), _named(fields)
            # A reason beside the data was added to it; one inside says why each message is dead, and goes.
            inside = b"reason" not in told and letter.messages
            data = encode_batch(restored(letter.messages)) if inside else told.get(b"data", b"")
            await self._client.call("XADD", STREAM + key.topic, "MAXLEN", "~", length, "*", "data", data)
            await self._client.call("XDEL", key.stream, key.entry)
            done.append(str(key))
        return done

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        keys = [key for key in map(_Key.read, dict.fromkeys(ids)) if key is not None]
        return [str(key) for key in keys if await self._client.call("XDEL", key.stream, key.entry)]

    async def _read(self, ids: Sequence[str]) -> Sequence[tuple[_Key, Sequence[bytes]]]:
        found = []
        for key in map(_Key.read, dict.fromkeys(ids)):
            if key is not None:
                for _, fields in await self._client.call("XRANGE", key.stream, key.entry, key.entry):
                    found.append((key, fields))
        return found


def _opened(key: _Key, fields: Sequence[bytes]) -> DeadLetter:
    told = _named(fields)
    reason = told.get(b"reason", b"").decode(errors="replace")
    return letter_of(str(key), key.topic, reason, key.milliseconds * _MILLI, told.get(b"data", b""))


def _named(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=False))


def _at(entry: bytes) -> int:
    return int(entry.partition(b"-")[0]) * _MILLI


async def _members(client: RedisClient, name: str) -> Sequence[str]:
    """Raises UnavailableError."""
    found: list[bytes] = await client.call("SMEMBERS", name)
    try:
        return sorted(each.decode() for each in found)
    except UnicodeDecodeError as error:
        raise UnavailableError(f"{name} at Redis holds what is no text; something else writes there") from error
