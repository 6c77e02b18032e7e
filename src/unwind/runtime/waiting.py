"""Callers that wait: for the decision on their call, or for a saga to end. One look a second serves all of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from unwind.core.draft import Decision
from unwind.core.state import State
from unwind.errors import CodecError, UnavailableError, UnwindError
from unwind.ports import Clock, Query, Store
from unwind.runtime.limits import SECOND

log = structlog.get_logger("unwind.waiting")

ENDED = ("completed", "compensated")
Read = Callable[[str], Awaitable[State]]


class Call:
    """A caller that waits for a decision."""

    __slots__ = ("deadline", "future")

    def __init__(self, deadline: int) -> None:
        """`deadline` is monotonic, in microseconds."""
        self.deadline = deadline
        self.future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

    def decided(self, decision: Decision) -> None:
        """The decision is durable."""
        if not self.future.done():
            self.future.set_result(decision)

    def failed(self, error: UnwindError) -> None:
        """There will be none."""
        if not self.future.done():
            self.future.set_exception(error)


class Opening:
    """A caller that waits for the end of a saga it starts: told only when there will be none."""

    __slots__ = ("check", "future")

    def __init__(self, future: asyncio.Future[State], check: Callable[[Decision], None]) -> None:
        """`check` raises what makes a decision no start."""
        self.future = future
        self.check = check

    def decided(self, decision: Decision) -> None:
        """The saga has begun, or was there before, perhaps ended already."""
        if self.future.done():
            return
        try:
            self.check(decision)
        except UnwindError as error:
            self.future.set_exception(error)
            return
        if decision.state.status in ENDED:
            self.future.set_result(decision.state)

    def failed(self, error: UnwindError) -> None:
        """It will not begin here."""
        if not self.future.done():
            self.future.set_exception(error)


class Waiting:
    """Everyone who waits in this process."""

    def __init__(self, store: Store, clock: Clock, call_timeout: int) -> None:
        """`call_timeout` is in microseconds."""
        self._store = store
        self._clock = clock
        self._call_timeout = call_timeout
        self._somebody = asyncio.Event()
        self._calls: deque[Call] = deque()
        self._ends: dict[str, list[asyncio.Future[State]]] = {}
        self._closed = False

    def call(self) -> Call:
        """A new caller; it fails with UnavailableError when its time is up."""
        call = Call(self._clock.monotonic() + self._call_timeout)
        self._calls.append(call)
        self._somebody.set()
        return call

    def expect_end(self, saga_id: str) -> asyncio.Future[State]:
        """Resolved when the saga has ended. Whoever stops waiting for it must call `forget`."""
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        waiting = self._ends.get(saga_id)
        if waiting is None:
            if not self._ends:
                self._somebody.set()
            self._ends[saga_id] = [future]
        else:
            waiting.append(future)
        return future

    def forget(self, saga_id: str, future: asyncio.Future[State]) -> None:
        """Nobody waits for this future any more."""
        left = [each for each in self._ends.pop(saga_id, ()) if each is not future]
        if left:
            self._ends[saga_id] = left

    async def end(self, saga_id: str, read: Read) -> State:
        """Wait until the saga has ended, here or in another process. `read` tells what this worker knows of it."""
        future = self.expect_end(saga_id)
        try:
            state = await read(saga_id)
            if state.live and self._closed:
                raise UnavailableError("this process has stopped; the saga goes on elsewhere")
            return await future if state.live else state
        finally:
            if not future.done():
                self.forget(saga_id, future)

    def ended(self, state: State) -> None:
        """A saga ended here."""
        for future in self._ends.pop(state.saga_id, ()):
            if not future.done():
                future.set_result(state)

    async def run(self, reload: Read) -> None:
        """Look after those who wait, until cancelled. `reload` tells what the log says of a saga."""
        while True:
            if not self._calls and not self._ends:
                self._somebody.clear()
                await self._somebody.wait()
            await self._clock.sleep(SECOND)
            self._give_up_calls()
            try:
                await self._look_elsewhere(reload)
            except UnavailableError as error:
                log.warning("waiting_for_the_store", error=str(error))

    def _give_up_calls(self) -> None:
        now = self._clock.monotonic()
        while self._calls and (self._calls[0].future.done() or self._calls[0].deadline <= now):
            self._calls.popleft().failed(
                UnavailableError("the store did not answer in time; the outcome is unknown, repeat the call")
            )

    async def _look_elsewhere(self, reload: Read) -> None:
        """Sagas may end in another process, which tells nobody here."""
        waited = tuple(self._ends)
        if not waited:
            return
        for row in await self._store.find(Query(ids=waited, statuses=ENDED, limit=len(waited))):
            try:
                self.ended(await reload(row.id))
            except CodecError as error:
                self._fail_ends(row.id, error)

    def _fail_ends(self, saga_id: str, error: UnwindError) -> None:
        for future in self._ends.pop(saga_id, ()):
            if not future.done():
                future.set_exception(error)

    def close(self) -> None:
        """The process has stopped: nobody is to wait in vain."""
        self._closed = True
        gone = UnavailableError("this process has stopped; the outcome is unknown, repeat the call")
        while self._calls:
            self._calls.popleft().failed(gone)
        for saga_id in list(self._ends):
            self._fail_ends(saga_id, gone)
