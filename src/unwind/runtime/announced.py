"""A store that tells what is committed through it, for those who keep copies. Everything else is the store's own."""

from collections.abc import Callable, Mapping, Sequence

from unwind.errors import UnavailableError
from unwind.ports import Committed, Store, Unit


class AnnouncedStore:
    """Implements `Store`."""

    def __init__(self, store: Store, announce: Callable[[Mapping[str, int]], None]) -> None:
        """`announce` hears after each commit how many events its sagas have now; also where the outcome is unknown."""
        self._store = store
        self._announce = announce
        self.register = store.register
        self.load = store.load
        self.claim = store.claim
        self.move = store.move
        self.lease = store.lease
        self.tail = store.tail
        self.advance = store.advance
        self.find = store.find
        self.close = store.close

    async def commit(self, units: Sequence[Unit]) -> Committed:
        """Write as the store does, and announce it."""
        try:
            committed = await self._store.commit(units)
        except UnavailableError:
            self._announce({unit.head.stream: _last(unit) for unit in units})
            raise
        won = committed.won
        self._announce({unit.head.stream: _last(unit) for unit in units if unit.head.stream in won})
        return committed


def _last(unit: Unit) -> int:
    """How many events the stream has with this unit."""
    return unit.head.version + unit.head.count - 1
