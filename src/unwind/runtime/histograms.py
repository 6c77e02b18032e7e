"""Histograms of plain integers: a list of counts that is added to on the hot path, made Prometheus's when scraped."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from unwind.runtime.limits import SECOND

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 3_600, 86_400)
DURATIONS = tuple(int(bound * SECOND) for bound in _SECONDS)
"""Upper bounds of what durations are sorted into, in microseconds."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""The same of batches."""

Cells = list[int]
"""How many are at most as large as each bound and larger than the one before, how many are larger, and their sum."""


def cells(bounds: tuple[int, ...]) -> Cells:
    """Nothing counted yet."""
    return [0] * (len(bounds) + 2)


def add(counted: Cells, bounds: tuple[int, ...], value: int) -> None:
    """Count one."""
    counted[bisect_left(bounds, value)] += 1
    counted[-1] += value


class Durations:
    """How long something took, in microseconds. New ones are only noted; they are sorted in many at a time."""

    __slots__ = ("_counted", "noted")

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._counted = cells(DURATIONS)
        self.noted: list[int] = []
        """To be appended to, which is all that counting costs where sagas run."""

    def counted(self) -> Cells:
        """All of them, sorted in."""
        noted, counted = self.noted, self._counted
        if noted:
            noted.sort()
            below = 0
            for place, bound in enumerate(DURATIONS):
                up_to = bisect_right(noted, bound)
                counted[place] += up_to - below
                below = up_to
            counted[-2] += len(noted) - below
            counted[-1] += sum(noted)
            noted.clear()
        return counted

    def count(self) -> int:
        """How many there were."""
        return sum(self.counted()[:-1])


def family(  # noqa: PLR0917 - what a metric consists of
    name: str,
    text: str,
    labels: Sequence[str],
    found: Mapping[tuple[str, ...], Cells],
    bounds: tuple[int, ...],
    unit: int,
) -> HistogramMetricFamily:
    """What was counted, by the values of the labels. `unit` is how much of what was added makes one that is shown."""
    made = HistogramMetricFamily(name, text, labels=labels)
    for values, counted in sorted(found.items()):
        made.add_metric(list(values), list(_cumulative(counted, bounds, unit)), counted[-1] / unit)
    return made


def _cumulative(counted: Cells, bounds: tuple[int, ...], unit: int) -> Iterable[tuple[str, float]]:
    total = 0
    # As Prometheus writes numbers itself: queries name them by this text.
    names = [floatToGoString(bound / unit) for bound in bounds]  # type: ignore[no-untyped-call]
    for bound, count in zip((*names, "+Inf"), counted, strict=False):
        total += count
        yield bound, total
