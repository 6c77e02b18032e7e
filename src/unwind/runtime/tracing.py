"""Traces, as one process tells them: a port for finished spans, and what turns commits, commands and calls into them.

A process without tracing has none of this: no part of the engine asks whether it is on. What a batch has made durable
is heard as it is by the log, and what has come to a milestone is put aside; a task reads the logs of that, and the
exporter has a thread of its own. Whatever is too much is dropped and counted, and nothing ever waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import structlog
from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, Metric

from unwind.core.codec import SAGA_EVENTS
from unwind.errors import CodecError, UnavailableError
from unwind.ports import Bus, Clock, Store, StoredStream
from unwind.runtime.background import BackgroundTask
from unwind.runtime.span import Attributes, Span, SpanSink
from unwind.runtime.spans import is_milestone, spans_told
from unwind.runtime.trace_context import TraceContext, read_context, root_of
from unwind.runtime.traced_bus import TracedBus
from unwind.runtime.unit import Decided

log = structlog.get_logger("unwind.tracing")

WAITING = 8_192
"""Milestones of sagas that may wait to be told."""
TOLD = 64
"""Told at a time."""
PAUSE = 1_000_000
"""Microseconds after the store could not be read."""
LAST_WORD = 1.0
"""Seconds that stopping waits for what is still to be told."""
_NOTHING = StoredStream(None, ())


class _Milestone(Struct, frozen=True, gc=False):
    """A commit whose saga is to be told of."""

    saga_id: str
    known: int
    now: int


class Call(Struct, frozen=True):
    """A call that is being answered, and its span."""

    context: TraceContext
    parent: str
    began: int


class Tracing:
    """One process's traces. A part of a `Service`, as a participant is."""

    def __init__(
        self, sink: SpanSink, store: Store | None, clock: Clock, now: Callable[[], int], chance: Callable[[int], str]
    ) -> None:
        """`store` has the logs of sagas, where they are carried on here; `now` is microseconds since the epoch.

        `chance` gives so many bytes of it in hexadecimal digits.
        """
        self.sink = sink
        self._store = store
        self._clock = clock
        self._now = now
        self._chance = chance
        self._waiting: deque[_Milestone] = deque()
        self._news = asyncio.Event()
        self._untold = 0
        self._telling = BackgroundTask("tracing")

    # ------------------------------------------------------------------------------------------------------- lifecycle

    async def start(self) -> None:
        """Begin to tell."""
        self._telling.start(self._tell_on())

    async def wait(self) -> None:
        """Return when it is stopped; raise what ended it, if it ended by itself."""
        await self._telling.wait()

    async def stop(self) -> None:
        """Tell what is still to be told, if it goes quickly."""
        if not await self._telling.stop():
            return
        with suppress(UnavailableError, TimeoutError):  # then it is lost, as if the process had been killed
            async with asyncio.timeout(LAST_WORD):
                while self._waiting:
                    await self._tell()

    # ------------------------------------------------------------------------------------------------------------ sagas

    def root(self, saga_id: str) -> str:
        """The context of a saga that is begun outside of any trace."""
        root = root_of(saga_id)
        return str(root.recorded(self.sink.samples(root.trace_id, None, "saga", "internal")))

    def saw(self, settled: Sequence[Decided]) -> None:
        """A batch has been committed. Returns at once."""
        for made in settled:
            if not any(map(is_milestone, made.events)):
                continue
            context = read_context(made.after.traceparent)
            if context is None or not context.sampled:
                continue
            if len(self._waiting) >= WAITING:
                self._untold += 1
                continue
            self._waiting.append(_Milestone(made.after.saga_id, made.before.version, made.after.version))
            self._news.set()

    async def _tell_on(self) -> None:
        while True:
            await self._news.wait()
            try:
                await self._tell()
            except UnavailableError as error:
                log.debug("traces_delayed", error=str(error), milestones=len(self._waiting))
                await self._clock.sleep(PAUSE)

    async def _tell(self) -> None:
        """One portion, each from its saga's whole log, one after the other: the loop may go on between them."""
        portion = [self._waiting[index] for index in range(min(TOLD, len(self._waiting)))]
        if self._store is not None and portion:
            sagas = dict.fromkeys((each.saga_id for each in portion), 0)
            streams = (await self._store.load(sagas, snapshots=False)).streams
            for each in portion:
                self._tell_of(each, streams.get(each.saga_id, _NOTHING))
                self._waiting.popleft()
                await asyncio.sleep(0)
        if not self._waiting:
            self._news.clear()

    def _tell_of(self, milestone: _Milestone, stored: StoredStream) -> None:
        try:
            events = [event for _, data in stored.commits for event in SAGA_EVENTS.decode(data)]
        except CodecError as error:
            log.warning("trace_not_told", saga_id=milestone.saga_id, error=str(error))
            return
        self.sink.emit(spans_told(events, milestone.known, milestone.now))

    def metrics(self) -> Iterator[Metric]:
        """What became of the spans so far."""
        yield from self.sink.metrics()
        text = "Milestones of sagas that were not told to the traces, since too many waited"
        yield CounterMetricFamily("unwind_traces_untold", text, self._untold)

    # ------------------------------------------------------------------------------------------------------------ calls

    def called(self, caller: TraceContext | None, name: str) -> Call:
        """A call has come in; None: from outside of any trace."""
        context = caller or TraceContext(self._chance(16), "", "00")
        sampled = self.sink.samples(context.trace_id, caller, name, "server")
        return Call(context.recorded(sampled).of(self._chance(8)), context.span_id, self._now())

    def answered(self, call: Call, name: str, attributes: Attributes, *, failed: bool) -> None:
        """It has been answered."""
        if call.context.sampled:
            span = Span(name, call.context, call.parent, "server", call.began, self._now(), failed, attributes)
            self.sink.emit([span])

    # -------------------------------------------------------------------------------------------------------- the bus

    def bus(self, bus: Bus) -> "TracedBus":
        """The same bus, whose commands carry their steps' spans, and whose participants are told of."""
        return TracedBus(bus, self.sink, self._now, self._chance)
