"""One task that runs beside its owner's other work, from the owner's start to its stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class BackgroundTask:
    """Nothing runs before `start`."""

    def __init__(self, name: str) -> None:
        """`name` is for whoever looks at the tasks of the process."""
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it run."""
        self._task = asyncio.create_task(work, name=self._name)

    async def wait(self) -> None:
        """Return when it is stopped; raise what ended it, if it ended by itself."""
        if self._task is not None:
            # Not awaited itself: its being cancelled is no cancellation of who waits, nor the other way round.
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()

    async def stop(self) -> bool:
        """Cancel it, and return once it has ended, however; False: it was never started."""
        if self._task is None:
            return False
        self._task.cancel()
        await asyncio.wait({self._task})
        return True
