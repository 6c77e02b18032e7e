"""Small values to try a store with, ways to see what it holds, and the clock it lives by in a test."""

from unwind.core.codec import Snapshot
from unwind.ports import LogEntry, Query, SagaRow, Store, StreamAppend, Unit

BEGINNING = 1_700_000_000_000_000
"""Where `StoreClock` begins, and the usual `started_at` and `wake_at`."""
REVISION = "order@1#abc"
"""What the rows made here are bound to."""
LIVE = ("running", "compensating", "blocked")
ASLEEP = ("completed", "compensated", "paused")
BYTES = {
    "empty": b"",
    "a NUL": b'["a\0b"]',
    "no text": b"\xff\xfe\x80",
    "JSON": b'[{"type":"x/1"}]',
    "1 MiB": b"\0\x80 x" * 262_144,
}
TEXTS = (
    "",
    "naïve",
    "日本",
    "👩‍👩‍👧",
    "e\u0301",
    "\u202eabc",
    "a'b\"c\\u0000",
    "%_;--",
    "a\nb",
    "\ufeff",
    "a\0b",
    "\ud800",
)


class StoreClock:
    """The store's time, set by hand."""

    def __init__(self) -> None:
        self.at = BEGINNING
        """Microseconds since the epoch."""

    def __call__(self) -> int:
        return self.at


def append(
    stream: str, version: int = 1, events: bytes = b"[1]", *, category: str = "saga", count: int = 1
) -> StreamAppend:
    """Events for a stream."""
    return StreamAppend(stream, category, version, count, events)


def row(saga: str, wake_at: int | None = BEGINNING, status: str = "running", *, started_at: int = BEGINNING) -> SagaRow:
    """A saga's row."""
    return SagaRow(saga, REVISION, "order", status, wake_at, f"about {saga}", started_at, started_at)


def snapshot(version: int, data: bytes = b"{}") -> Snapshot:
    """A state as stored."""
    return Snapshot(version, 1, 4_294_967_295, data)


def unit(stream: str, version: int = 1, *, whole: bool = False) -> Unit:
    """A decision; `whole`: with all that can go with it."""
    if not whole:
        return Unit(append(stream, version))
    other = append(f"order of {stream}", version, b"[2]", category="order")
    return Unit(append(stream, version), row(stream), (other,), snapshot(version))


async def log_of(store: Store, consumer: str = "all of it") -> list[LogEntry]:
    """The whole log."""
    entries: list[LogEntry] = []
    while portion := (tail := await store.tail(consumer, 100)).entries:
        entries += portion
        await store.advance(consumer, tail.cursor)
    return entries


async def stored(store: Store) -> list[tuple[str, int]]:
    """Stream and version of each commit."""
    return sorted((entry.stream, entry.version) for entry in await log_of(store, "a reader that is new each time"))


async def contents(store: Store, *streams: str) -> object:
    """All that a reader can see of some streams."""
    return (
        await store.load(dict.fromkeys(streams, 0)),
        await store.find(Query()),
        (await store.tail("nobody", 9_999)).entries,
    )
