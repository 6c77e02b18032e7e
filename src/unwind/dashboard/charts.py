"""Figures over time as pictures, each with the same in words: bars and lines over one axis of time. Pure.

Places across are percentages of the width, so that a picture fits a phone; heights are pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from unwind.dashboard.course import Course, Stretch
from unwind.dashboard.words import SECOND, duration, percent, when

PLOT = 120
"""Height of the field."""
TOP = 18
"""What stands above it: the topmost label."""
_NOTHING: tuple[tuple[float, str], ...] = ()
"""Levels where no figure says how high the field is."""
_ALL = 100.0
_ACROSS = 1_000
"""Units across, of what a line is drawn in: it is stretched to the width."""
_FULL = 0.82
"""Share of its place that a bar takes up."""
_LABELS = 4
"""Stretches between the labels of the axis, in parts of all."""
_DAY = 86_400 * SECOND
_HALVED = (2, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 50, 60, 80)
_ROUND = (1, 2, 5)
_MINUTE, _HOUR = 60 * SECOND, 3_600 * SECOND
_ROUND_DURATIONS = (
    *(number * unit for unit in (1, 10, 100, 1_000, 10_000, 100_000, SECOND) for number in _ROUND),
    *(number * unit for unit in (SECOND, _MINUTE) for number in (10, 20, 30)),
    *(number * _MINUTE for number in _ROUND),
    *(number * _HOUR for number in (1, 2, 6, 12)),
    *(number * _DAY for number in (1, 2, 7, 14, 30, 90, 180, 365)),
)


class Bar(Struct, frozen=True):
    """One stretch's part of a column."""

    x: float
    width: float
    y: float
    height: float
    look: str


class Line(Struct, frozen=True):
    """A figure over time: level within each stretch, broken where there is none."""

    look: str
    text: str
    path: str


class Chart(Struct, frozen=True):
    """One picture."""

    name: str
    title: str
    told: str
    """The same in words."""
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    levels: tuple[tuple[float, str], ...]
    """Heights, and what they stand for."""
    times: tuple[tuple[float, str], ...]
    """Places across, and what time it was."""
    legend: tuple[tuple[str, str], ...]
    """Look and text of what is to be told apart."""


def charts_of(course: Course) -> tuple[Chart, ...]:
    """Throughput, failures, durations."""
    return _throughput(course), _failures(course), _durations(course)


def _throughput(course: Course) -> Chart:
    counts = [each.count for each in course.stretches]
    top = _round_above(max(max(count.ended, count.started) for count in counts))
    begun = _line("begun", "begun", [count.started for count in counts], top)
    busiest = max(course.stretches, key=lambda each: each.count.ended)
    whole = course.whole
    begun_ones = "1 saga" if whole.started == 1 else f"{whole.started} sagas"
    completed = f"{whole.completed} {'was' if whole.completed == 1 else 'were'} completed"
    told = f"Within {course.span.text} {begun_ones} began, {completed} and {whole.compensated} undone."
    if whole.ended:
        told += f" Most ended from {when(busiest.at)}: {busiest.count.ended} within {course.span.one}."
    return Chart(
        "throughput",
        f"Sagas per {course.span.each}",
        told,
        tuple(_columns(course.stretches, top)),
        (begun,),
        ((TOP, f"{top:,}"), (_height(0.5), f"{top // 2:,}"), (_height(0), "0")),
        _times(course),
        (("done", "completed"), ("undone", "undone"), ("begun", "begun")),
    )


def _failures(course: Course) -> Chart:
    shares = [each.count.failing for each in course.stretches]
    most = max((share for share in shares if share is not None), default=0.0)
    top = next(level for level in (0.05, 0.1, 0.2, 0.5, 1.0) if most <= level)
    share = course.whole.failing
    told = "None ended." if share is None else f"{percent(share)} of those that ended were undone."
    if most:
        told += f" At most {percent(most)} within {course.span.one}."
    return Chart(
        "failures",
        "Share of those that ended undone",
        told,
        (),
        (_line("undone", "undone", shares, top),),
        ((TOP, percent(top)), (_height(0.5), percent(top / 2)), (_height(0), "0 %")),
        _times(course),
        (),
    )


def _durations(course: Course) -> Chart:
    half = [each.count.within(0.5) for each in course.stretches]
    most = [each.count.within(0.95) for each in course.stretches]
    top = next((level for level in _ROUND_DURATIONS if level >= max((each or 0 for each in most))), None)
    top = top or max(each or 0 for each in most)
    whole = course.whole
    p50, p95 = whole.within(0.5), whole.within(0.95)
    told, levels = "None ended: there is nothing to show.", _NOTHING
    if p50 is not None and p95 is not None:
        told = f"Half of those that ended took {duration(p50)} or less (p50), 95 % took {duration(p95)} or less (p95)."
        levels = ((TOP, _level(top)), (_height(0.5), _level(top // 2)), (_height(0), "0"))
    return Chart(
        "durations",
        "From acceptance to the end",
        told,
        (),
        (_line("p95", "p95", most, top), _line("p50", "p50", half, top)),
        levels,
        _times(course),
        (("p50", "p50: half of them"), ("p95", "p95: 95 % of them")),
    )


def _columns(stretches: Sequence[Stretch], top: int) -> Iterator[Bar]:
    place = _ALL / len(stretches)
    for number, each in enumerate(stretches):
        below = 0.0
        for look, count in (("done", each.count.completed), ("undone", each.count.compensated)):
            if count:
                height = round(PLOT * count / top, 1)
                y = round(TOP + PLOT - below - height, 1)
                so_far = "" if each.over else " part"
                yield Bar(round(number * place, 2), round(place * _FULL, 2), y, max(height, 1.0), look + so_far)
                below += height


def _line(look: str, text: str, values: Sequence[float | None], top: float) -> Line:
    """Level within each stretch. Drawn in the field's own coordinates."""
    place, drawing, path = _ACROSS / len(values), False, []
    for number, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        y = round(PLOT * (1 - value / top), 1)
        path.append(f"{'V' if drawing else f'M{number * place:.4g} '}{y:g}H{(number + 1) * place:.4g}")
        drawing = True
    return Line(look, text, "".join(path))


def _height(share: float) -> float:
    return TOP + PLOT * (1 - share)


def _round_above(count: int) -> int:
    """The next number that is easy to read, and can be halved."""
    scale = 1
    while True:
        for number in _HALVED:
            if number * scale >= count:
                return number * scale
        scale *= 10


def _level(micros: int) -> str:
    return duration(micros).replace(".0 ", " ")


def _times(course: Course) -> tuple[tuple[float, str], ...]:
    stretches, count = course.stretches, len(course.stretches)
    by_day = course.span.stretch * course.span.stretches > _DAY
    write: Callable[[int], str] = _day if by_day else _minute
    numbers = [count * part // _LABELS for part in range(_LABELS)]
    return (*((_ALL * number / count, write(stretches[number].at)) for number in numbers), (_ALL, "now"))


def _day(at: int) -> str:
    moment = datetime.fromtimestamp(at // SECOND, UTC)
    return f"{moment:%b} {moment.day}"


def _minute(at: int) -> str:
    return f"{datetime.fromtimestamp(at // SECOND, UTC):%H:%M}"
