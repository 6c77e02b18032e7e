"""How fast sagas began and ended, how many of them undone, and how long they took, over time: from the store's rows.

Stretches of time that are over are counted once and kept, so that an open page costs a look at the newest.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct, field

from unwind.census import Pace
from unwind.dashboard.patience import Patient
from unwind.dashboard.words import SECOND
from unwind.errors import InputError
from unwind.runtime.queries import Queries

EVERY = 5.0
"""Seconds for which what was counted is shown to all who ask."""
_SETTLED = 60 * SECOND
"""After so long nothing is written any more that ended before: a commit takes less."""
_MINUTE = 60 * SECOND


class Span(Struct, frozen=True):
    """How far back one looks, and in which stretches."""

    name: str
    """In the address of the page."""
    text: str
    stretch: int
    each: str
    """How a stretch is called."""
    stretches: int

    @property
    def one(self) -> str:
        return f"one {self.each}" if self.each.isalpha() else self.each


SPANS = (
    Span("1h", "1 hour", _MINUTE, "minute", 60),
    Span("24h", "24 hours", 30 * _MINUTE, "30 minutes", 48),
    Span("7d", "7 days", 180 * _MINUTE, "3 hours", 56),
)


def span_of(name: str) -> Span:
    """The span of a page's address; the shortest where it says nothing. Raises InputError."""
    for span in SPANS:
        if span.name == (name or SPANS[0].name):
            return span
    raise InputError(f"range: give one of {', '.join(span.name for span in SPANS)}", "range")


class Count(Struct):
    """What began and ended within some time."""

    started: int = 0
    completed: int = 0
    compensated: int = 0
    took: Counter[int] = field(default_factory=Counter)
    """How many of those that ended took how long, in microseconds, cut to two digits."""

    @property
    def ended(self) -> int:
        return self.completed + self.compensated

    @property
    def failing(self) -> float | None:
        """Share of those undone among those that ended; None: none did."""
        return self.compensated / self.ended if self.ended else None

    def within(self, share: float) -> int | None:
        """So long, or less, that share of them took; None: none ended."""
        rank, seen = share * self.took.total(), 0
        for took in sorted(self.took):
            seen += self.took[took]
            if seen >= rank:
                return took
        return None

    def add(self, pace: Pace) -> None:
        match pace.what:
            case "started":
                self.started += pace.count
            case "completed":
                self.completed += pace.count
                self.took[pace.took] += pace.count
            case "compensated":
                self.compensated += pace.count
                self.took[pace.took] += pace.count
            case _:
                return


class Stretch(Struct, frozen=True):
    """One stretch of time, and what was counted in it."""

    at: int
    """Its begin, in microseconds."""
    over: bool
    count: Count


class Course(Struct, frozen=True):
    """A span up to now."""

    span: Span
    stretches: tuple[Stretch, ...]
    whole: Count


class Courses:
    """What was counted, by span."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[int, Count]] = {span.name: {} for span in SPANS}
        """Of stretches that nothing is added to any more."""
        self._answers: Patient[Course] = Patient(EVERY)
        self.stop = self._answers.stop

    async def read(self, queries: Queries, span: Span) -> Course | None:
        """The course of a span; None: it could not be counted, or not in time."""

        async def count() -> Course:
            return await self._count(queries, span)

        return await self._answers.get(span.name, count)

    async def _count(self, queries: Queries, span: Span) -> Course:
        """Raises UnavailableError."""
        kept = self._kept[span.name]
        last = await queries.now() // span.stretch
        first = last - span.stretches + 1
        since = next((number for number in range(first, last) if number not in kept), last)
        found = await queries.paces(since * span.stretch, span.stretch)
        counts = _sorted_in(found.paces)
        for number in [number for number in kept if number < first]:
            del kept[number]
        for number in range(since, last):
            if (number + 1) * span.stretch <= found.now - _SETTLED:
                kept[number] = counts.get(number, Count())
        shown = {number: kept.get(number) or counts.get(number) or Count() for number in range(first, last + 1)}
        stretches = [Stretch(number * span.stretch, number < last, count) for number, count in shown.items()]
        return Course(span, tuple(stretches), _together(list(shown.values())))


def _sorted_in(paces: Sequence[Pace]) -> Mapping[int, Count]:
    counts: dict[int, Count] = {}
    for pace in paces:
        counts.setdefault(pace.stretch, Count()).add(pace)
    return counts


def _together(counts: Sequence[Count]) -> Count:
    took: Counter[int] = Counter()
    for each in counts:
        took.update(each.took)
    return Count(
        sum(each.started for each in counts),
        sum(each.completed for each in counts),
        sum(each.compensated for each in counts),
        took,
    )


TheCourses = NamedDependency[SkipValidation[Courses]]
