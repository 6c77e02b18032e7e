"""What became of the sagas of a definition that ended last: read from the log, so it is the same in every process.

All of them would be too many. Sagas that were read are remembered, so that only what has ended since is read next time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

from msgspec import Struct

from unwind.core.events import (
    Event,
    StepDone,
    StepRefused,
    StepRetried,
    StepStarted,
    StepUnknown,
    UndoDone,
    UndoRetried,
    UndoSkipped,
)
from unwind.core.plans import key_of
from unwind.runtime.queries import Queries

SAMPLED = 500
"""How many of those that ended last are looked at."""
_READ = 25
"""Sagas read at a time: others have their turn between."""
_COUNTED: Mapping[type, str] = {
    StepStarted: "started",
    StepDone: "done",
    StepRefused: "refused",
    StepUnknown: "unknown",
    StepRetried: "retried",
    UndoDone: "undone",
    UndoRetried: "undo_retried",
    UndoSkipped: "left",
}


class StepShare(Struct, frozen=True):
    """What became of one step, in how many sagas; of a `ForEach` each item counts."""

    started: int = 0
    done: int = 0
    refused: int = 0
    unknown: int = 0
    """The attempts were used up, and nobody knows whether it happened."""
    retried: int = 0
    """Attempts after the first."""
    undone: int = 0
    undo_retried: int = 0
    left: int = 0
    """A person skipped the undo."""

    @property
    def success(self) -> float | None:
        """Share of those that were done among those begun; None: none was."""
        return self.done / self.started if self.started else None

    @property
    def others(self) -> tuple[str, ...]:
        """What else happened, in words."""
        told = (
            (self.refused, "refused"),
            (self.unknown, "unknown"),
            (self.retried, "attempts repeated"),
            (self.undo_retried, "undos repeated"),
            (self.left, "undos left out"),
        )
        return tuple(f"{count} {what}" for count, what in told if count)

    @property
    def compensation(self) -> float | None:
        """Share of those that were undone among those begun; None: none was."""
        return self.undone / self.started if self.started else None


class Sample(Struct, frozen=True):
    """The sagas of one definition, all versions together, that ended last."""

    definition: str
    sagas: int
    unread: int
    """Of them those that could not be read: another version wrote them."""
    since: int
    """When the first of them ended; 0: there are none."""
    steps: Mapping[str, StepShare]
    windows: tuple[int, ...]
    """For how long the world was half done: from the first thing that was asked of anybody to the end. In order."""

    def window(self, share: float) -> int | None:
        """So long, or less, it was for that share of them; None: nothing was asked of anybody."""
        if not self.windows:
            return None
        return self.windows[max(ceil(share * len(self.windows)) - 1, 0)]


class _Read(Struct, frozen=True):
    """What is kept of a saga."""

    counts: Counter[tuple[str, str]]
    window: int | None


class Samples:
    """Looks at what has ended."""

    def __init__(self, limit: int = SAMPLED) -> None:
        self._limit = limit
        self._read: dict[str, dict[tuple[str, int], _Read | None]] = {}

    async def look(self, queries: Queries, definition: str) -> Sample:
        """Those that ended last. Raises UnavailableError."""
        ended = {(row.id, row.ended_at or 0): row for row in await queries.ended(definition, self._limit)}
        before = self._read.get(definition, {})
        read = {key: before[key] for key in ended if key in before}
        missing = [key for key in ended if key not in read]
        for first in range(0, len(missing), _READ):
            part = missing[first : first + _READ]
            logs = await queries.logs([saga_id for saga_id, _ in part])
            for saga_id, at in part:
                read[saga_id, at] = _digest(logs[saga_id], at) if saga_id in logs else None
        self._read[definition] = read
        return _sampled(definition, read)


def _digest(log: Sequence[Event], ended_at: int) -> _Read:
    counts: Counter[tuple[str, str]] = Counter()
    first: int | None = None
    for event in log:
        what = _COUNTED.get(type(event))
        if what is not None:
            counts[key_of(event.step)[0], what] += 1  # type: ignore[union-attr]
            if first is None and isinstance(event, StepStarted) and not event.waits:
                first = event.at
    return _Read(counts, None if first is None else max(ended_at - first, 0))


def _sampled(definition: str, read: Mapping[tuple[str, int], _Read | None]) -> Sample:
    found = [each for each in read.values() if each is not None]
    counts: Counter[tuple[str, str]] = Counter()
    for each in found:
        counts.update(each.counts)
    steps: dict[str, dict[str, int]] = {}
    for (step, what), count in counts.items():
        steps.setdefault(step, {})[what] = count
    return Sample(
        definition,
        len(read),
        len(read) - len(found),
        min((at for _, at in read), default=0),
        {step: StepShare(**told) for step, told in steps.items()},
        tuple(sorted(each.window for each in found if each.window is not None)),
    )
