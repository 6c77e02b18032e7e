"""What waits to be decided, by saga. A saga with a unit in flight enters no other batch; its inputs wait here."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from unwind.core.draft import Decision
from unwind.core.messages import Input
from unwind.errors import UnwindError


class Waiter(Protocol):
    """Whoever wants to know what became of an input."""

    def decided(self, decision: Decision) -> None:
        """The input's decision is durable (or was to do nothing)."""
        ...

    def failed(self, error: UnwindError) -> None:
        """The input will not be decided here."""
        ...


class Entry(Struct, gc=False):
    """One input and who waits for it."""

    message: Input
    waiter: Waiter | None = None


Batch = dict[str, list[Entry]]


class Inbox:
    """Inputs by saga, in order of arrival, and which sagas are ready for a batch."""

    def __init__(self) -> None:
        """Empty."""
        self._entries: Batch = {}
        self._ready: deque[str] = deque()
        self._busy: set[str] = set()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        """Sagas with inputs that wait."""
        return len(self._entries)

    @property
    def ready(self) -> bool:
        """Whether a batch could be taken."""
        return bool(self._ready)

    @property
    def in_flight(self) -> int:
        """Sagas in a batch that is being decided or committed."""
        return len(self._busy)

    def put(self, saga_id: str, message: Input, waiter: Waiter | None = None) -> None:
        """Add an input."""
        entries = self._entries.get(saga_id)
        if entries is not None:
            entries.append(Entry(message, waiter))
            return
        self._entries[saga_id] = [Entry(message, waiter)]
        if saga_id not in self._busy:
            if not self._ready:
                self._work.set()
            self._ready.append(saga_id)

    def take(self, limit: int) -> Batch:
        """A batch of up to `limit` ready sagas with all their inputs; they are busy until released."""
        ready, entries = self._ready, self._entries
        batch: Batch = {}
        while ready and len(batch) < limit:
            saga_id = ready.popleft()
            batch[saga_id] = entries.pop(saga_id)
        self._busy.update(batch)
        return batch

    def release(self, saga_ids: Iterable[str]) -> None:
        """These sagas' units are no longer in flight."""
        for saga_id in saga_ids:
            self._busy.discard(saga_id)
            if saga_id in self._entries:
                self._ready.append(saga_id)
        if self._ready:
            self._work.set()
        self._room.set()

    def give_back(self, saga_id: str, entries: list[Entry]) -> None:
        """Inputs of a busy saga that must be decided again, before anything that came later."""
        self._entries[saga_id] = [*entries, *self._entries.get(saga_id, ())]

    def drain(self) -> Batch:
        """Everything that waits; the inbox is empty afterwards."""
        left = self._entries
        self._entries = {}
        self._ready.clear()
        return left

    async def work(self) -> None:
        """Wait until a saga is ready, or until woken."""
        if not self._ready:
            self._work.clear()
            await self._work.wait()

    def wake(self) -> None:
        """Wake whoever waits for work, for instance to stop."""
        self._work.set()
        self._room.set()

    async def room(self, limit: int) -> None:
        """Wait until fewer than `limit` sagas wait."""
        while len(self._entries) >= limit:
            self._room.clear()
            await self._room.wait()
