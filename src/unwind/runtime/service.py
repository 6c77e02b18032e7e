"""One worker's parts under one lifecycle: they start together, and when one fails all end and `failed` tells why."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from unwind.runtime.engine import Engine
from unwind.runtime.publisher import Publisher
from unwind.runtime.sweeper import Sweeper

log = structlog.get_logger("unwind.service")


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
    """An engine with its sweeper and publisher, and the participants that live in the same process."""

    def __init__(
        self,
        engine: Engine,
        sweeper: Sweeper,
        publisher: Publisher | None = None,
        participants: Sequence[Participating] = (),
    ) -> None:
        """Nothing runs before `start`."""
        self._engine = engine
        self._sweeper = sweeper
        self._publisher = publisher
        self._participants = participants
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Resolved with the cause when a part has ended by itself; the process should then end too."""

    async def start(self) -> None:
        """Open the engine, then let everything run. Raises what the parts raise when they open; nothing runs then."""
        await self._engine.open()
        async with contextlib.AsyncExitStack() as started:
            for participant in self._participants:
                await participant.start()
                started.push_async_callback(participant.stop)
            started.pop_all()
        parts = [self._engine.run(), self._sweeper.run(), *(participant.wait() for participant in self._participants)]
        if self._publisher is not None:
            parts.append(self._publisher.run())
        for part in parts:
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

    async def stop(self, grace: float = 5.0) -> None:
        """Stop admitting, finish what is in hand, leave the rest in the store to be picked up."""
        for task in self._tasks[1:]:
            task.cancel()
        await self._engine.stop(grace)
        # What they raise was told through `failed` already.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(participant.stop() for participant in self._participants), return_exceptions=True)
