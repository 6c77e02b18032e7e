"""Answers that may take long: asked once for all who want them, kept for a while, and never waited for for long."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from unwind.errors import UnavailableError

PATIENCE = 2.0
"""Seconds that a page waits for an answer; what comes later is there when it is loaded again."""
SHARE = 10
"""What takes long is asked again only after so many times as long: it never keeps a database busy."""

A = TypeVar("A")


class _Asked(Struct, Generic[A]):
    """One question."""

    task: asyncio.Task[A | None]
    answer: A | None = None
    """The newest there is."""
    due: float = 0.0
    """When it may be asked again."""


class Patient(Generic[A]):
    """Answers by name."""

    def __init__(self, every: float) -> None:
        """An answer is kept for `every` seconds at least."""
        self._every = every
        self._asked: dict[str, _Asked[A]] = {}

    def stop(self) -> None:
        """Give up whatever is being asked."""
        for asked in self._asked.values():
            asked.task.cancel()

    async def get(self, name: str, ask: Callable[[], Awaitable[A]]) -> A | None:
        """The answer, perhaps one that is a little old; None: there is none yet, or none could be had."""
        asked = self._asked.get(name)
        now = asyncio.get_running_loop().time()
        if asked is None or (asked.task.done() and now >= asked.due):
            kept = None if asked is None else asked.answer
            asked = self._asked[name] = _Asked(asyncio.create_task(self._ask(name, ask)), kept)
        await asyncio.wait({asked.task}, timeout=PATIENCE)
        if asked.task.done() and not asked.task.cancelled():
            asked.task.result()  # what is a fault of ours is told
        return asked.answer

    async def _ask(self, name: str, ask: Callable[[], Awaitable[A]]) -> A | None:
        clock = asyncio.get_running_loop().time
        begun, answer = clock(), None
        try:
            answer = await ask()
        except UnavailableError:
            answer = None  # old figures would hide what is wrong
        asked, ended = self._asked[name], clock()
        asked.answer, asked.due = answer, ended + max(self._every, SHARE * (ended - begun))
        return answer
