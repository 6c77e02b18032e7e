"""Claims the wake-ups that have come and hands them to the loop. The saga row is the timer; nothing else is."""

import structlog

from unwind.errors import UnavailableError
from unwind.ports import Clock, Store
from unwind.runtime.engine import Engine
from unwind.runtime.strangers import Strangers

log = structlog.get_logger("unwind.sweeper")


class Sweeper:
    """One per worker; any number may run. A claim pushes the wake-up on: dying with it delays it little."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        """Limits and definitions are the engine's."""
        self.strangers = Strangers(engine, store, clock)
        self._engine = engine
        self._store = store
        self._clock = clock
        self.swept_at = clock.monotonic()
        """When the store last answered what is due, by the clock."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        limits = self._engine.limits
        while True:
            claimed = await self.sweep()
            await self.strangers.look()
            if claimed < limits.claim:
                await self._clock.sleep(limits.sweep)

    async def sweep(self) -> int:
        """One look; how many wake-ups it found. A loop that is full is left alone."""
        engine, limits = self._engine, self._engine.limits
        if engine.loop.backlog >= limits.inbox:
            return 0
        engine.loop.recall()
        try:
            claimed = await self._store.claim(limits.claim, limits.claim_push, engine.revisions)
        except UnavailableError as error:
            log.warning("sweep_failed", error=str(error))
            return 0
        self.swept_at = self._clock.monotonic()
        for saga_id, token in claimed.tokens.items():
            engine.loop.tick(saga_id, token)
        engine.telemetry.work["wake_ups"] += len(claimed.tokens)
        return len(claimed.tokens)
