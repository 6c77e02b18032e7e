"""One process's parts under one lifecycle: they start together, and when one fails all end and `failed` tells why."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from unwind.errors import UnavailableError
from unwind.runtime.engine import Engine
from unwind.runtime.publisher import Publisher
from unwind.runtime.sweeper import Sweeper

log = structlog.get_logger("unwind.service")

PATIENCE = 5.0
"""Seconds for stopping in order, the grace of actions apart. A database that hangs must not hold the process."""


class Participating(Protocol):
    """A participant's service inside this process."""

    async def start(self) -> None:
        """Begin to consume commands."""
        ...

    async def wait(self) -> None:
        """Until it ends; raises what ended it."""
        ...

    async def stop(self) -> None:
        """Finish the batch in hand and leave."""
        ...


class Service:
    """What a process runs: an engine, with or without its sweeper and publisher; participants; or both."""

    def __init__(
        self,
        engine: Engine | None = None,
        sweeper: Sweeper | None = None,
        publisher: Publisher | None = None,
        participants: Sequence[Participating] = (),
    ) -> None:
        """Nothing runs before `start`."""
        self._engine = engine
        self._sweeper = sweeper
        self._publisher = publisher
        self._participants = participants
        self._working: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Resolved with the cause when a part has ended by itself; the process should then end too."""

    async def start(self) -> None:
        """Open the engine, then let everything run. Raises what the parts raise when they open; nothing runs then."""
        if self._engine is not None:
            await self._engine.open()
        async with contextlib.AsyncExitStack() as started:
            for participant in self._participants:
                await participant.start()
                started.push_async_callback(participant.stop)
            started.pop_all()
        if self._engine is not None:
            self._working = asyncio.create_task(self._engine.run())
            self._working.add_done_callback(self._ended)
        parts = [part.run() for part in (self._sweeper, self._publisher) if part is not None]
        for part in (*parts, *(participant.wait() for participant in self._participants)):
            task = asyncio.create_task(part)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_result(error)
            log.critical("worker_failed", error=repr(error), exc_info=error)

    async def check(self) -> None:
        """Raises UnavailableError when a part has failed."""
        if self.failed.done():
            raise UnavailableError("a part of this process has failed; the log says why")

    async def stop(self, grace: float = 5.0) -> None:
        """Stop admitting, finish what is in hand, leave the rest in the store to be picked up.

        What is not finished after `grace` and five seconds more is dropped: it is as if the process had been killed.
        """
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(grace + PATIENCE):
                await self._finish(grace)
        except TimeoutError:
            log.warning("stopped_without_finishing", after_s=grace + PATIENCE)
            await self._drop()

    async def _finish(self, grace: float) -> None:
        if self._engine is not None:
            await self._engine.stop(grace)
        if self._working is not None:
            await asyncio.wait({self._working})
        # What they raise was told through `failed` already.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(participant.stop() for participant in self._participants), return_exceptions=True)

    async def _drop(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working}, timeout=1.0)
