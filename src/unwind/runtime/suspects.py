"""Sagas whose unit the store refused: left alone for a while, longer each time, so that they stall no others."""

from unwind.ports import Clock

LONGEST = 64
"""The pause grows up to this many times the first one."""


MOST = 10_000
"""So many are remembered; a saga that was never written would be remembered for ever."""


class Suspects:
    """Who is set aside, and until when."""

    def __init__(self, clock: Clock, pause: int) -> None:
        """`pause` is the first pause, in microseconds."""
        self._clock = clock
        self._pause = pause
        self._held: dict[str, tuple[int, int]] = {}

    def add(self, saga_id: str) -> int:
        """Set a saga aside; answers for how long."""
        _, last = self._held.pop(saga_id, (0, self._pause // 2))
        pause = min(last * 2, self._pause * LONGEST)
        self._held[saga_id] = (self._clock.monotonic() + pause, pause)
        if len(self._held) > MOST:
            del self._held[next(iter(self._held))]
        return pause

    def holds(self, saga_id: str) -> bool:
        """Whether the saga is to be left alone now."""
        until, _ = self._held.get(saga_id, (0, 0))
        return self._clock.monotonic() < until

    def clear(self, saga_id: str) -> None:
        """The saga was written: it is like any other."""
        self._held.pop(saga_id, None)
