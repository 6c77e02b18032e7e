"""One member of a consumer group on a Redis stream: the commands, and what they answer."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from redis.exceptions import ResponseError

from unwind.buses.envelope import decode_batch
from unwind.errors import CodecError, SettingsError, UnavailableError
from unwind.ports import DEAD, Delivery
from unwind.redis_client import Argument, RedisClient, Script

log = structlog.get_logger("unwind.redis")

STREAM = "unwind:bus:"
"""A topic's stream is called this and the topic's name."""
TOPICS = "unwind:topics"
"""The set of topics that have, or had, a group."""
DEAD_TOPICS = "unwind:topics:dead"
"""The set of topics of which something was set aside."""
DEAD_LENGTH = 1_000
"""How many of the latest entries that nobody can handle are kept of a topic."""
DELIVERIES = 50
"""How often an entry is handed out before it is set aside."""

_NOBODY = "nobody"
"""Holds, in each group, what was given back and is not taken over yet."""
_GONE = 600_000
"""Milliseconds after which a silent member that holds nothing is forgotten."""


def _script(name: str) -> Script:
    return Script.of(Path(__file__).with_name(f"redis_{name}.lua").read_text())


_CLAIM, _LEAVE, _TIDY = _script("claim"), _script("leave"), _script("tidy")


def is_missing(error: UnavailableError) -> bool:
    """Whether stream or group is not there: the server is new, or was flushed."""
    return _answer(error).startswith(("NOGROUP", "UNBLOCKED"))


def _answer(error: UnavailableError) -> str:
    return str(error.__cause__) if isinstance(error.__cause__, ResponseError) else ""


class Member:
    """Speaks as one consumer. Every call raises UnavailableError as `RedisClient.call`."""

    def __init__(self, client: RedisClient, topic: str, group: str, name: str, ack_wait: int) -> None:
        """`ack_wait` is in milliseconds."""
        self._client = client
        self._topic = topic
        self._stream = STREAM + topic
        self._group = group
        self._name = name
        self._ack_wait = ack_wait
        self._cursor = b"0-0"

    async def furnish(self) -> None:
        """Make stream and group where they are missing; a new group begins with what the stream still has.

        Raises SettingsError when something else is stored under the stream's name.
        """
        await self._client.call("SADD", TOPICS, self._topic)
        try:
            await self._client.call("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
        except UnavailableError as error:
            answer = _answer(error)
            if answer.startswith("WRONGTYPE"):
                raise SettingsError(
                    f"REDIS_ADDR: {self._stream} at {self._client.address} is no stream; "
                    "give the bus a database of its own"
                ) from error
            if not answer.startswith("BUSYGROUP"):
                raise

    async def read(self, connection: RedisClient, limit: int, wait: int) -> Sequence[Delivery]:
        """New entries; waits for some up to `wait` milliseconds, 0 for not at all."""
        waiting = ("BLOCK", wait) if wait else ()
        found = await connection.call(
            "XREADGROUP", "GROUP", self._group, self._name, "COUNT", limit, *waiting, "STREAMS", self._stream, ">"
        )
        return await self._opened((key, fields, 1) for _, entries in found or () for key, fields in entries)

    async def take_over(self, limit: int) -> tuple[Sequence[Delivery], bool]:
        """Entries held longer than `ack_wait` by anybody, and whether all that are held have been looked at."""
        self._cursor, entries = await self._client.run(
            _CLAIM, [self._stream], [self._group, self._name, self._ack_wait, self._cursor, limit]
        )
        return await self._opened(entries), self._cursor == b"0-0"

    async def ack(self, deliveries: Iterable[Delivery]) -> None:
        """These are done."""
        await self._ack([_id(delivery) for delivery in deliveries])

    async def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """These are for whoever looks next."""
        ids = [_id(delivery) for delivery in deliveries]
        held = ("IDLE", self._ack_wait, "JUSTID")
        await self._client.call("XCLAIM", self._stream, self._group, _NOBODY, 0, *ids, *held)
        self._cursor = b"0-0"

    async def leave(self) -> None:
        """Give back everything and be forgotten."""
        await self._client.run(_LEAVE, [self._stream], [self._group, self._name, _NOBODY, self._ack_wait])

    async def tidy(self) -> None:
        """Remove what all groups are done with, and members of processes that are long gone."""
        await self._client.run(_TIDY, [self._stream], [_GONE])

    async def _ack(self, ids: Sequence[bytes]) -> None:
        await self._client.call("XACK", self._stream, self._group, *ids)

    async def _opened(self, entries: Iterable[tuple[bytes, Sequence[bytes], int]]) -> Sequence[Delivery]:
        """The entries as deliveries; what can never be one is set aside."""
        deliveries: list[Delivery] = []
        for key, fields, count in entries:
            data = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"data", b"")
            if count > DELIVERIES:
                await self._set_aside(key, data, f"handed out {count - 1} times and never acknowledged")
                continue
            try:
                deliveries.append(Delivery(decode_batch(data), key, count - 1))
            except CodecError as error:
                await self._set_aside(key, data, str(error))
        return deliveries

    async def _set_aside(self, key: bytes, data: bytes, reason: str) -> None:
        log.warning("dead_letter", topic=self._topic, group=self._group, id=key.decode(), reason=reason)
        if not self._topic.startswith(DEAD):
            stream = STREAM + DEAD + self._topic
            await self._client.call("SADD", DEAD_TOPICS, self._topic)
            told: list[Argument] = ["data", data, "reason", reason, "group", self._group, "id", key]
            await self._client.call("XADD", stream, "MAXLEN", "~", DEAD_LENGTH, "*", *told)
        await self._ack([key])


def _id(delivery: Delivery) -> bytes:
    assert isinstance(delivery.token, bytes)  # noqa: S101 - a delivery of this bus
    return delivery.token
