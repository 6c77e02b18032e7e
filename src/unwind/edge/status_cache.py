"""The statuses that clients poll, in Redis: a version and a body under each saga's key.

A version without a body says that what is older is stale; it outlives every reader who may have read the store before.
Whatever happens to Redis, an answer that is not final is served no longer than `LIVE` after it was put, and it was put
no later than `PUT_WITHIN` after it was read (see `unwind.runtime.statuses`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import msgpack

from unwind.edge.gate import Gate
from unwind.errors import UnavailableError
from unwind.ports import Status
from unwind.redis_client import Argument, RedisClient, Script

LIVE = 5_000
"""Milliseconds an answer may be kept that can still change."""
FINAL = 60_000
RAISED = 30_000
"""Milliseconds a version without a body is remembered: longer than any answer takes from the store to here."""

_KEY = "unwind:status:1:"
"""Names the form of what is kept, too: another release with another form does not see it."""
_DIGITS = 16


def _script(name: str) -> Script:
    return Script.of(Path(__file__).with_name(f"status_{name}.lua").read_text())


_PUT, _RAISE = _script("put"), _script("raise")


class RedisStatusCache:
    """Implements `StatusCache`."""

    def __init__(self, client: RedisClient, gate: Gate) -> None:
        """What is put here any other replica on the same Redis gets."""
        self._client = client
        self._gate = gate

    async def get(self, saga_id: str) -> tuple[int, bytes] | None:
        """Version and body. What is not understood, or does not come at once, counts as not there."""
        try:
            found = await self._gate.ask(lambda: self._client.call("GET", _KEY + saga_id))
        except UnavailableError:
            return None
        version, body = (found[:_DIGITS], found[_DIGITS:]) if found else (b"", b"")
        return (int(version), body) if body and version.isdigit() else None

    async def put(self, statuses: Sequence[Status]) -> None:
        """Keep these for a while, where nothing newer is known. Raises UnavailableError."""
        arguments: list[Argument] = []
        for status in statuses:
            arguments += (f"{status.version:0{_DIGITS}d}", status.body, FINAL if status.ended else LIVE)
        await self._client.run(_PUT, [_KEY + status.saga_id for status in statuses], arguments)

    async def raise_to(self, versions: Mapping[str, int]) -> None:
        """Forget what is older than these versions, and do not take it. Raises UnavailableError.

        Neither this nor `put` goes through the gate: nobody waits for them, and what is stale must go for the sake of
        other processes even where Redis is slow.
        """
        await self._client.run(_RAISE, [], [_KEY, RAISED, msgpack.encode(versions)])
