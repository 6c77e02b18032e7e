"""Publishes domain events: tails the log in commit order, without a gap, with a saved cursor. At least once."""

from collections.abc import Iterator

import msgspec
import structlog
from msgspec import Raw, Struct
from prometheus_client.core import GaugeMetricFamily, Metric

from unwind.core.author import SAGA
from unwind.errors import UnavailableError
from unwind.ports import EVENTS, Bus, Clock, LogEntry, Message, Store
from unwind.runtime.limits import SECOND, Limits

log = structlog.get_logger("unwind.publisher")

CONSUMER = "domain-events"


class _Named(Struct):
    type: str


_raw_list = msgspec.json.Decoder(list[Raw])
_named = msgspec.json.Decoder(_Named)


class Publisher:
    """Any number may run; each event goes out at least once, its id is `stream/number`."""

    def __init__(self, store: Store, bus: Bus, clock: Clock, limits: Limits) -> None:
        """The cursor is saved in the store, under one name for all publishers."""
        self._store = store
        self._bus = bus
        self._clock = clock
        self._limits = limits
        self._waits_since: int | None = None

    def metrics(self, now: int) -> Iterator[Metric]:
        """How far it is behind at this instant of the store's clock, as far as it has read."""
        since = self._waits_since
        text = "Age of the oldest entry of the log that is known not to be published yet"
        lag = 0 if since is None else max(0, now - since)
        yield GaugeMetricFamily("unwind_publisher_lag_seconds", text, lag / SECOND)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                seen = await self.publish()
            except UnavailableError as error:
                log.warning("publishing_delayed", error=str(error))
                seen = 0
            if seen < self._limits.publish:
                await self._clock.sleep(self._limits.publish_idle)

    async def publish(self) -> int:
        """One portion of the log; how many entries it held. The cursor moves only after the bus has taken them."""
        tail = await self._store.tail(CONSUMER, self._limits.publish)
        entries = tail.entries
        self._waits_since = entries[0].recorded_at if entries else None
        by_category: dict[str, list[Message]] = {}
        for entry in entries:
            if entry.category != SAGA:
                by_category.setdefault(entry.category, []).extend(_messages(entry))
        for category, messages in by_category.items():
            await self._bus.publish(EVENTS + category, messages)
        if entries:
            await self._store.advance(CONSUMER, tail.cursor)
            self._waits_since = entries[-1].recorded_at if len(entries) >= self._limits.publish else None
        return len(entries)


def _messages(entry: LogEntry) -> list[Message]:
    """An entry that is not understood stays in the log, and may not hold back those after it."""
    try:
        return domain_messages(entry)
    except msgspec.DecodeError:
        log.exception("not_published", stream=entry.stream, version=entry.version)
        return []


def domain_messages(entry: LogEntry) -> list[Message]:
    """The events of one commit as they travel."""
    return [
        Message(id=f"{entry.stream}/{number}", name=_named.decode(raw).type, payload=Raw(bytes(raw)))
        for number, raw in enumerate(_raw_list.decode(entry.events), entry.version)
    ]
