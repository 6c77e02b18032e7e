"""The faults: every second a random process is killed; now and then a server is, with what it had stored."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from chaos.deployment import Application, Deployment

EVERY = 1.0
"""Seconds between two kills of processes."""
DOWN = 0.5
"""Seconds for which a killed server stays away."""


class Faults:
    """A seeded schedule. What was done is counted; `last` is when it ended."""

    def __init__(self, deployment: Deployment, seconds: float, chance: random.Random) -> None:
        """Faults go on for so many seconds."""
        self.injected: Counter[str] = Counter()
        self.last = 0.0
        self._deployment = deployment
        self._seconds = seconds
        self._chance = chance
        self._servers = self._plan()

    def _plan(self) -> list[tuple[float, str, Callable[[], Awaitable[None]]]]:
        """When which server is hit: each at a random moment of its own share of the time."""
        hits = [
            ("PostgreSQL stopped immediately", self._hit_postgres),
            ("NATS killed, JetStream deleted", self._hit_nats),
            ("Redis flushed", self._flush_redis),
            ("PostgreSQL stopped immediately", self._hit_postgres),
            ("Redis killed", self._hit_redis),
            ("NATS killed, JetStream deleted", self._hit_nats),
        ]
        share = self._seconds / (len(hits) + 1)
        return [((number + self._chance.random()) * share, name, hit) for number, (name, hit) in enumerate(hits, 1)]

    async def run(self) -> None:
        """Until the time is over and all that was killed is up again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill_processes())
            tasks.create_task(self._hit_servers())
        self.last = time.time()

    async def _kill_processes(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as restarts:
            down: set[str] = set()
            while time.monotonic() - began < self._seconds:
                up = [each for each in self._deployment.applications if each.name not in down]
                if up:  # else all of them are starting
                    victim = self._chance.choice(up)
                    down.add(victim.name)
                    restarts.create_task(self._kill(victim, down))
                await asyncio.sleep(EVERY)

    async def _kill(self, victim: Application, down: set[str]) -> None:
        await asyncio.to_thread(victim.kill)
        self.injected[f"{victim.name} killed"] += 1
        # One that starts while PostgreSQL or NATS is away waits for it.
        await asyncio.to_thread(victim.start)
        down.discard(victim.name)

    async def _hit_servers(self) -> None:
        began = time.monotonic()
        for at, name, hit in self._servers:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            await hit()
            self.injected[name] += 1

    async def _hit_postgres(self) -> None:
        await asyncio.to_thread(self._deployment.postgres.stop_immediately)
        await asyncio.sleep(DOWN)
        await asyncio.to_thread(self._deployment.postgres.start)

    async def _hit_nats(self) -> None:
        await asyncio.to_thread(self._deployment.nats.kill)
        self._deployment.nats.forget_everything()
        await asyncio.sleep(DOWN)
        await asyncio.to_thread(self._deployment.nats.start)

    async def _flush_redis(self) -> None:
        await asyncio.to_thread(self._deployment.redis.flush)

    async def _hit_redis(self) -> None:
        await asyncio.to_thread(self._deployment.redis.kill)
        await asyncio.sleep(DOWN)
        await asyncio.to_thread(self._deployment.redis.start)
