"""Small values to try a store with, and the clock to try it by."""

from unwind.core.codec import Snapshot
from unwind.ports import SagaRow, StreamAppend, Unit

BEGINNING = 1_700_000_000_000_000
"""Where `StoreClock` begins, and the usual `started_at` and `wake_at`."""
REVISION = "order@1#abc"
"""What the rows made here are bound to."""
LIVE = ("running", "compensating", "blocked")
ASLEEP = ("completed", "compensated", "paused")


class StoreClock:
    """The store's time, set by hand."""

    def __init__(self) -> None:
        self.at = BEGINNING
        """Microseconds since the epoch."""

    def __call__(self) -> int:
        return self.at


def append(stream: str, version: int = 1, events: bytes = b"[1]", *, category: str = "saga", count: int = 1) -> StreamAppend:
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
