"""API keys in a dict: the oracle of the other stores, and the store for tests."""

from collections.abc import Callable
from typing import get_args

from msgspec.structs import replace

from unwind.access import ApiKey, Fresh, Kept, Scope
from unwind.errors import RejectedError


class MemoryKeys:
    """Implements `unwind.access.KeyStore`, durable as long as the object."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` tells the time in microseconds since the epoch."""
        self._now = now
        self._keys: dict[str, ApiKey] = {}

    async def keys(self) -> Kept:
        now = self._now()
        shown = (key for key in self._keys.values() if not key.parent or key.state(now) == "active")
        return Kept(now, tuple(sorted(shown, key=lambda key: (key.created_at, key.id))))

    async def add(self, fresh: Fresh, name: str, scope: Scope, *, lasts: int | None = None, parent: str = "") -> ApiKey:
        if fresh.id in self._keys or scope not in get_args(Scope):
            raise RejectedError(f"there is a key {fresh.id} already, or no scope {scope!r}")
        now = self._now()
        if parent:
            self._keys = {
                each.id: each for each in self._keys.values() if not each.parent or each.state(now) == "active"
            }
        key = ApiKey(fresh.id, name, scope, fresh.digest, now, None if lasts is None else now + lasts, None, parent)
        self._keys[key.id] = key
        return key

    async def revoke(self, key_id: str) -> bool:
        ended = [key for key in self._keys.values() if key_id in {key.id, key.parent} and key_id]
        now = self._now()
        for key in ended:
            if key.revoked_at is None:
                self._keys[key.id] = replace(key, revoked_at=now)
        return bool(ended)
