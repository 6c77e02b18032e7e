"""A saga as a picture: two lanes on one time axis, steps forward in the first, their undoing beneath it. Pure.

Places are percentages of the width, so that the picture fits a phone; heights are pixels. Colours are the stylesheet's.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from unwind.core.foresight import Plan
from unwind.core.messages import Direction
from unwind.core.state import State, StepRun
from unwind.dashboard.words import duration, micros_of
from unwind.runtime.history import History, HistoryEntry

Look = Literal[
    "running",
    "done",
    "failed",
    "unknown",
    "refused",
    "skipped",
    "waits",
    "parked",
    "blocked",
    "undoing",
    "undone",
    "ahead",
]
ROW = 34
_HEAD = 26
"""Height of a lane's heading."""
_ALL = 100.0
_NOW = 76.0
"""Where now is while something is still to come, which stands to the right of it."""
_NOW_LAST = 97.0
_SLIVER = 0.6
"""The least width of what was over in no time."""
_APART = 0.4
"""Ticks that stand closer are one."""
_FULL = 0.85
"""Share of its place that what is to come takes up."""
_MANY = 40
"""From so many attempts on they are one bar, with ticks."""


class Bar(Struct, frozen=True):
    """One attempt, or many that cannot be told apart."""

    x: float
    width: float
    look: Look
    tip: str


class Row(Struct, frozen=True):
    """One step, or one undo."""

    step: str
    label: str
    look: Look
    y: int
    bars: tuple[Bar, ...]
    ticks: tuple[float, ...]
    """Where attempts began, if there were several."""


class Lane(Struct, frozen=True):
    """What was done, or what undid it."""

    title: str
    y: int
    rows: tuple[Row, ...]


class Picture(Struct, frozen=True):
    """The whole."""

    lanes: tuple[Lane, ...]
    height: int
    now: float | None
    """None once the saga has ended."""
    turned: float | None
    """When it turned round."""
    axis: tuple[tuple[float, str], ...]
    """Places, and how long after its beginning they are."""


_LOOKS: dict[str, Look] = {
    "running": "running",
    "completed": "done",
    "failed": "failed",
    "timed_out": "failed",
    "skipped": "skipped",
    "compensating": "undoing",
    "compensated": "undone",
}
_SAID: dict[Look, str] = {
    "running": "under way",
    "done": "done",
    "failed": "failed",
    "unknown": "outcome unknown",
    "refused": "refused",
    "skipped": "skipped",
    "waits": "waits",
    "parked": "parked, its participant answers nobody",
    "blocked": "needs a person",
    "undoing": "being undone",
    "undone": "undone",
    "ahead": "to come",
}


class _Scale:
    """From instants to places."""

    def __init__(self, start: int, end: int, right: float) -> None:
        self.start, self.length, self.right = start, max(end - start, 1), right

    def at(self, instant: int) -> float:
        share = (min(max(instant, self.start), self.start + self.length) - self.start) / self.length
        return round(share * self.right, 2)

    def marks(self) -> Iterator[tuple[float, str]]:
        for share in (0.0, 0.5, 1.0):
            yield round(share * self.right, 2), "0" if not share else f"+{duration(int(share * self.length))}"


def draw(state: State, history: History, plan: Plan, now: int) -> Picture:
    """The picture of a saga. `now` is the store's time."""
    ended = state.ended_at
    begun = {(entry.direction, entry.step_name) for entry in history.entries}
    todo = [each.step for each in plan.ahead if ("do", each.step) not in begun]
    undo = [each.step for each in plan.undo if ("undo", each.step) not in begun]
    undo = undo if state.status == "compensating" else []
    right = _ALL if ended is not None else _NOW if todo or undo else _NOW_LAST
    end = now if ended is None else ended
    scale = _Scale(state.started_at, max(end, state.started_at), right)
    forward = Lane("Forward", 0, tuple(_Drawn(state, "do", scale, end).rows(history, todo, _HEAD)))
    lanes, y = [forward], _HEAD + ROW * len(forward.rows)
    rows = tuple(_Drawn(state, "undo", scale, end).rows(history, undo, y + _HEAD))
    if rows or state.status in _BACK:
        lanes.append(Lane("Compensation, in reverse" if rows else "Compensation: nothing was to be undone", y, rows))
        y += _HEAD + ROW * len(rows)
    turned = next((micros_of(act.at) for act in history.acts if act.act in {"turned_round", "cancelled"}), None)
    return Picture(
        tuple(lanes),
        y + _HEAD,
        None if ended is not None else right,
        None if turned is None else scale.at(turned),
        tuple(scale.marks()),
    )


_BACK = {"compensating", "compensated"}


class _Drawn:
    """One lane being drawn."""

    def __init__(self, state: State, direction: Direction, scale: _Scale, end: int) -> None:
        """`end` is when the picture ends: now, or when the saga did."""
        self.state, self.direction, self.scale, self.end = state, direction, scale, end

    def rows(self, history: History, ahead: Sequence[str], y: int) -> Iterator[Row]:
        """From `y` downwards: what was begun, then what is to come."""
        attempts: dict[str, list[HistoryEntry]] = {}
        for entry in history.entries:
            if entry.direction == self.direction:
                attempts.setdefault(entry.step_name, []).append(entry)
        for step, entries in attempts.items():
            yield self._row(step, entries, y)
            y += ROW
        right = self.scale.right
        slot = (_ALL - right) / max(len(ahead), 1)
        for number, step in enumerate(ahead):
            bar = Bar(round(right + number * slot, 2), round(slot * _FULL, 2), "ahead", "to come")
            yield Row(step, f"{step}: to come", "ahead", y, (bar,), ())
            y += ROW

    def _row(self, step: str, entries: Sequence[HistoryEntry], y: int) -> Row:
        state = self.state
        run = state.run(step) if self.direction == "do" else state.undo_of(step)
        looks = [*map(_plain, entries[:-1]), self._look(entries[-1], run)]
        begun, over = micros_of(entries[0].started_at), self._over(entries[-1])
        bars = (
            [self._bar(begun, over, looks[-1], f"{len(entries)} attempts")]
            if len(entries) >= _MANY
            else [
                self._bar(micros_of(entry.started_at), self._over(entry), look, f"attempt {entry.attempt}")
                for entry, look in zip(entries, looks, strict=True)
            ]
        )
        times = f", {len(entries)} attempts" if len(entries) > 1 else ""
        label = f"{step}: {_SAID[looks[-1]]}{times}, {duration(over - begun)}"
        began = (self.scale.at(micros_of(entry.started_at)) for entry in entries)
        ticks = tuple(_apart(began)) if len(entries) > 1 else ()
        return Row(step, label, looks[-1], y, tuple(bars), ticks)

    def _look(self, entry: HistoryEntry, run: StepRun | None) -> Look:
        """How the latest attempt looks: the state knows more of it than its history."""
        if entry.refused:
            return "refused"
        if self.state.live and self.state.blocked_on(entry.step_name, self.direction):
            return "blocked"
        if run is not None:
            given_up = entry.completed_at is not None and self.direction == "do" and self.state.status in _BACK
            if run.status == "unknown" or (run.status == "outstanding" and given_up):
                return "unknown"
            if run.parked:
                return "parked"
            if run.waits and entry.completed_at is None:
                return "waits"
        return _plain(entry)

    def _over(self, entry: HistoryEntry) -> int:
        return self.end if entry.completed_at is None else micros_of(entry.completed_at)

    def _bar(self, begun: int, over: int, look: Look, what: str) -> Bar:
        x = min(self.scale.at(begun), _ALL - _SLIVER)
        width = max(round(self.scale.at(over) - x, 2), _SLIVER)
        return Bar(x, width, look, f"{what}: {_SAID[look]}, {duration(over - begun)}")


def _plain(entry: HistoryEntry) -> Look:
    return "refused" if entry.refused else _LOOKS[entry.status]


def _apart(places: Iterable[float]) -> Iterator[float]:
    before = -_ALL
    for place in places:
        if place - before >= _APART:
            yield place
            before = place
