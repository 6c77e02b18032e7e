"""A simulated process: its tasks, and the points round every I/O action at which it may freeze or be killed."""

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from unwind.testing.simulator.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from unwind.testing.simulator.world import World

T = TypeVar("T")
CURRENT: ContextVar["Process | None"] = ContextVar("process", default=None)


@contextmanager
def outside() -> Iterator[None]:
    """What is begun in this block outlives the process that asked for it."""
    token = CURRENT.set(None)
    try:
        yield
    finally:
        CURRENT.reset(token)


class ProcessLoop(VirtualLoop):
    """Notes which process a task belongs to: the one that created it."""

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of the current process, if there is one."""
        task = super().create_task(coro, name=name, context=context)
        process = CURRENT.get()
        if process is not None:
            process.tasks.append(task)
        return task


class Process:
    """One life of a process. After a kill nothing it still does reaches the outside."""

    def __init__(self, world: "World", name: str) -> None:
        """Alive."""
        self.world = world
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.tasks: list[asyncio.Task[Any]] = []

    def kill(self) -> None:
        """End at once: no task runs on, no cleaning up reaches the outside."""
        if not self.alive:
            return
        self.alive = False
        self.world.count("kills")
        self.world.trace("KILL", self.name)
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()
        self.world.reboot(self)

    async def point(self, low: float, high: float) -> None:
        """An I/O action takes its time; here the process may be frozen for a while, or killed."""
        world = self.world
        await self._alive()
        if world.chance(world.faults.kill):
            self.kill()
            await self._alive()
        if world.chance(world.faults.freeze):
            world.count("freezes")
            self.frozen_until = world.loop.time() + world.rng.uniform(1, 25)
        await world.loop.pause(world.rng.uniform(low, high))
        await self.thaw()

    async def thaw(self) -> None:
        """Go on once the process is not frozen; never, when it is dead."""
        while (left := self.frozen_until - self.world.loop.time()) > 0:
            await self.world.loop.pause(left)
        await self._alive()

    async def _alive(self) -> None:
        if not self.alive:
            await asyncio.get_running_loop().create_future()
