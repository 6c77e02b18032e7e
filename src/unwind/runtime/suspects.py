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
        self.held: dict[str, tuple[int, int]] = {}
        """Until when, and for how long; who was written again is taken out by the loop."""

    def add(self, saga_id: str) -> int:
        """Set a saga aside; answers for how long."""
        _, last = self.held.pop(saga_id, (0, self._pause // 2))
        pause = min(last * 2, self._pause * LONGEST)
        self.held[saga_id] = (self._clock.monotonic() + pause, pause)
        if len(self.held) > MOST:
            del self.held[next(iter(self.held))]
        return pause

    def holds(self, saga_id: str) -> bool:
        """Whether the saga is to be left alone now."""
        until, _ = self.held.get(saga_id, (0, 0))
        return self._clock.monotonic() < until
