"""Where SQL runs: each connection belongs to one lane, which works through jobs in the order given.

A thread lane takes all that waits in one go, so that its writers share one fsync, and hands all answers back in one
call: one hop there and one back per group, however many callers. An inline lane works at once, for virtual time.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from unwind.errors import UnavailableError, UnwindError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
GROUP = 64
"""Jobs that share a transaction at most."""


class Job(Struct, frozen=True):
    """Work on a connection. `again` is done instead where `first` ran into a constraint."""

    first: Work[Any]
    again: Work[Any]
    one: bool = False
    """Whether `first` is one statement, which needs no transaction around it when it is alone."""


Outcome = Any | UnwindError
Execute = Callable[[list[Job]], list[Outcome]]
"""Does jobs; answers in their order, with an error in place of a result."""


class Lane(Protocol):
    """One connection's worker."""

    async def run(self, job: Job) -> Any:
        """The result of a job. Raises what its execution answered, UnavailableError when the lane has ended."""
        ...

    async def close(self) -> None:
        """End after what is waiting."""
        ...


class InlineLane:
    """Works at once, in the caller's thread."""

    def __init__(self, execute: Execute, finish: Callable[[], None]) -> None:
        self._execute = execute
        self._finish = finish
        self._open = True

    async def run(self, job: Job) -> Any:
        if not self._open:
            raise UnavailableError("the store is closed")
        [outcome] = self._execute([job])
        if isinstance(outcome, UnwindError):
            raise outcome
        return outcome

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._finish()


class ThreadLane:
    """Works in a thread of its own. Futures are touched by the event loop's thread only."""

    def __init__(self, name: str, execute: Execute, finish: Callable[[], None]) -> None:
        """To be made in the running event loop. `finish` runs last in the thread."""
        self._execute = execute
        self._finish = finish
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = SimpleQueue()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._closed = ""
        self._ended = asyncio.Event()
        # A daemon: a process that ends without `close` is a crash, which the database survives.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, job: Job) -> Any:
        if self._closed:
            raise UnavailableError(self._closed)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(future)
        self._queue.put((job, future))
        return await future

    async def close(self) -> None:
        if not self._closed:
            self._closed = "the store is closed"
            self._queue.put(None)
        await self._ended.wait()

    def _work(self) -> None:
        try:
            while group := self._next_group():
                outcomes = self._execute([job for job, _ in group])
                self._tell(self._answer, [future for _, future in group], outcomes)
        finally:
            # Also when this thread dies of a bug, which `threading.excepthook` reports: nobody may wait for ever.
            try:
                self._finish()
            finally:
                self._tell(self._end)

    def _next_group(self) -> list[tuple[Job, asyncio.Future[Any]]]:
        group: list[tuple[Job, asyncio.Future[Any]]] = []
        with suppress(Empty):
            while len(group) < GROUP:
                item = self._queue.get(block=not group)
                if item is None:
                    # The end is announced once more for the next round.
                    if group:
                        self._queue.put(None)
                    break
                group.append(item)
        return group

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        # A loop that is closed has nobody left to be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)

    def _answer(self, futures: list[asyncio.Future[Any]], outcomes: list[Outcome]) -> None:
        for future, outcome in zip(futures, outcomes, strict=True):
            self._waiting.discard(future)
            if future.cancelled():
                continue
            if isinstance(outcome, UnwindError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _end(self) -> None:
        self._closed = self._closed or "the thread of this database has died; restart the process"
        self._ended.set()
        for future in self._waiting:
            if not future.done():
                future.set_exception(UnavailableError(self._closed))
        self._waiting.clear()
