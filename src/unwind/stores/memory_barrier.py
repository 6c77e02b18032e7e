"""A participant's database in memory: any state object, copied to be rolled back. For tests and simulations."""

import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar

from unwind.core.barrier import Answer
from unwind.errors import RejectedError, UnavailableError
from unwind.ports import ParticipantTransaction
from unwind.stores.inline import run_inline

S = TypeVar("S")
R = TypeVar("R")


class MemoryParticipantStore(Generic[S]):
    """Implements `ParticipantStore`; handlers get the state itself. Transactions never yield to the event loop."""

    def __init__(self, state: S, now: Callable[[], int], *, clone: Callable[[S], S] = copy.deepcopy) -> None:
        """`now` tells the time in microseconds; `clone` copies a state as deep as handlers change it."""
        self.state = state
        """As committed."""
        self.rows: dict[str, Answer] = {}
        """The barrier, as committed."""
        self._recorded_at: dict[str, int] = {}
        self._now = now
        self._clone = clone
        self._closed = False

    async def transact(self, work: Callable[[ParticipantTransaction[S]], Coroutine[Any, Any, R]]) -> R:
        """Run `work` in one transaction. Raises what it raises, and UnavailableError when closed."""
        if self._closed:
            raise UnavailableError("the participant's database is closed")
        tx = _Transaction(self.state, self.rows, self._clone)
        result = run_inline(work(tx))
        self.state = tx.handle
        self.rows |= tx.fresh
        self._recorded_at |= dict.fromkeys(tx.fresh, self._now())
        return result

    async def purge(self, older_than: int) -> int:
        """Forget old answers."""
        old = [key for key, at in self._recorded_at.items() if at < self._now() - older_than]
        for key in old:
            del self.rows[key], self._recorded_at[key]
        return len(old)

    async def close(self) -> None:
        """Refuse further transactions."""
        self._closed = True


class _Transaction(Generic[S]):
    def __init__(self, state: S, rows: Mapping[str, Answer], clone: Callable[[S], S]) -> None:
        self.handle = state
        self.fresh: dict[str, Answer] = {}
        self._rows = rows
        self._clone = clone
        self._saved = self.handle

    async def lookup(self, effect_ids: Sequence[str]) -> Mapping[str, Answer]:
        rows = self._rows
        return {key: rows[key] for key in effect_ids if key in rows}

    async def record(self, rows: Mapping[str, Answer]) -> None:
        twice = rows.keys() & (self._rows.keys() | self.fresh.keys())
        if twice:
            raise RejectedError(f"stored already: {', '.join(sorted(twice))}")
        self.fresh |= rows

    async def savepoint(self) -> None:
        self._saved, self.handle = self.handle, self._clone(self.handle)

    async def release(self) -> None:
        self._saved = self.handle

    async def rollback(self) -> None:
        self.handle = self._saved
