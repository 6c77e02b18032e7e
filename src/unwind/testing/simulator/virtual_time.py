"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, always in the same order."""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stalled(Exception):  # noqa: N818 - what happened, not whose fault it is
    """Nothing is left to run, and what was waited for has not come."""


class _Soon(asyncio.Handle):
    """A handle that costs little to make: a schedule makes a thousand."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: Sequence[Any], loop: "VirtualLoop", context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in order of time, then of scheduling. No I/O, no threads."""

    def __init__(self) -> None:
        """Time starts at zero."""
        super().__init__()
        self._now = 0.0
        self._queue: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle | asyncio.Future[None]]] = []
        self._sequence = 0
        self._ended = False
        self.steps = 0
        """Callbacks run so far."""
        self.errors: list[dict[str, Any]] = []
        """What tasks and callbacks raised that nobody took."""

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T], *, until: float, steps: int) -> T:
        """Run to the end of `main`.

        Raises Stalled when virtual time passes `until`, more than `steps` callbacks run, or nothing is left to run.
        """
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                if not self._queue:
                    self._next_timer(until)
                self.steps += 1
                if self.steps > steps:
                    raise Stalled(f"{self.steps} steps and not over at {self._now:.1f} s")
                handle = self._queue.popleft() if self._queue else None
                if handle is not None and not handle._cancelled:
                    handle._run()
            return task.result()
        finally:
            events._set_running_loop(None)

    def _next_timer(self, until: float) -> None:
        if not self._timers:
            raise Stalled("nothing is left to run")
        self._now, _, timer = heapq.heappop(self._timers)
        if self._now > until:
            raise Stalled(f"it is {self._now:.1f} s and not over")
        if isinstance(timer, asyncio.TimerHandle):
            self._queue.append(timer)
        elif not timer.done():
            timer.set_result(None)

    def pause(self, delay: float) -> asyncio.Future[None]:
        """Done after so many virtual seconds; cheaper than a task's sleep."""
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        self._sequence += 1
        heapq.heappush(self._timers, (self._now + max(delay, 0.0), self._sequence, future))
        return future

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run after what is ready already."""
        handle = _Soon(callback, args, self, context)
        self._queue.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run after so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run at a virtual time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        heapq.heappush(self._timers, (max(when, self._now), self._sequence, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        return asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong for the checker."""
        self.errors.append(context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """While `run` runs."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """After `close`."""
        return self._ended

    def close(self) -> None:
        """Cancel what is left and let it end."""
        self._timers.clear()
        events._set_running_loop(self)
        try:
            for task in asyncio.all_tasks(self):
                task.cancel()
            while self._queue:
                handle = self._queue.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(None)
        self._ended = True

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""


class VirtualClock:
    """`unwind.ports.Clock` on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        """`loop` gives the time."""
        self._loop = loop

    def monotonic(self) -> int:
        """Virtual microseconds."""
        return int(self._loop.time() * 1_000_000)

    async def sleep(self, duration: int) -> None:
        """Wait for virtual microseconds."""
        await self._loop.pause(duration / 1_000_000)
