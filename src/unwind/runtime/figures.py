"""What is counted of the sagas of one definition: plain integers, kept by what happened."""

from bisect import bisect_left
from collections.abc import Callable

from unwind.core.events import (
    ActionTakenOver,
    AttemptParked,
    AttemptReleased,
    CompensationStarted,
    DomainRecorded,
    Event,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    StepFailed,
    StepRefused,
    StepRetried,
    StepUnknown,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.plans import key_of
from unwind.core.state import State, StepRun
from unwind.runtime.histograms import DURATIONS, Cells, cells
from unwind.runtime.unit import Decided

UNCOUNTED: frozenset[type] = frozenset((DomainRecorded, UndoStarted, AttemptParked, AttemptReleased, ActionTakenOver))
"""What is frequent and counts as nothing."""
_FAILED = "Steps refused, attempts failed, outcomes unknown"
_NOT_UNDONE = "Attempts at undoing that failed, and undos that a person left out"
BY_SAGA: dict[type, tuple[str, str]] = {
    CompensationStarted: ("saga_failed", "Sagas that turned round"),
    SagaBlocked: ("saga_blocked", "Times a saga needed a person"),
}
BY_STEP: dict[type, tuple[str, str, str]] = {
    StepRefused: ("step_failed", _FAILED, "refused"),
    StepFailed: ("step_failed", _FAILED, "retried"),
    StepUnknown: ("step_failed", _FAILED, "unknown"),
    StepRetried: ("step_retried", "Attempts at a step, or its undo, after the first", "do"),
    UndoRetried: ("step_retried", "", "undo"),
    UndoDone: ("step_undone", "Steps undone", "undone"),
    UndoFailed: ("step_undo_failed", _NOT_UNDONE, "retried"),
    UndoSkipped: ("step_undo_failed", "", "skipped"),
}


class Figures:
    """Of one definition, all its versions together."""

    __slots__ = (
        "compensated",
        "compensated_window",
        "completed",
        "completed_window",
        "done",
        "events",
        "refused",
        "started",
        "undone",
    )

    def __init__(self) -> None:
        """Everything starts at zero."""
        self.started = 0
        self.done: dict[str, Cells] = {}
        """How long steps took, by name; so are those below."""
        self.refused: dict[str, Cells] = {}
        self.undone: dict[str, Cells] = {}
        self.completed = cells(DURATIONS)
        self.compensated = cells(DURATIONS)
        self.completed_window = cells(DURATIONS)
        """From the first effect that was asked for to the end; so is the next."""
        self.compensated_window = cells(DURATIONS)
        self.events: dict[tuple[type, str], int] = {}
        """Everything else, by event and step."""

    def count(self, kind: type, event: Event, made: Decided) -> None:
        """Anything but the beginning of a saga, and steps begun and done."""
        if kind is SagaCompleted:
            self._ended(self.completed, self.completed_window, made.after, event.at)
            return
        if kind is SagaCompensated:
            self._ended(self.compensated, self.compensated_window, made.after, event.at)
            return
        if kind in BY_SAGA:
            key = (kind, "")
        elif kind in BY_STEP:
            step: str = event.step  # type: ignore[union-attr]
            key = (kind, step)
            if kind is UndoDone:
                for undo in made.before.undos:
                    if undo.step == step:
                        _add(self.undone, undo, event.at)
                        break
            elif kind is StepRefused:
                run = made.after.runs[-1]
                _add(self.refused, run if run.step == step else made.after.run(step) or run, event.at)
            if key not in self.events:
                key = (kind, key_of(step)[0])
        else:
            return
        try:
            self.events[key] += 1
        except KeyError:
            self.events[key] = 1

    def _ended(self, counted: Cells, window: Cells, after: State, at: int) -> None:
        took = at - max(after.started_at, after.begin_at)
        counted[bisect_left(DURATIONS, took)] += 1
        counted[-1] += took
        for run in after.runs:  # the first of them, as a rule
            if not run.waits and run.status != "skipped":
                took = at - run.attempt.at
                window[bisect_left(DURATIONS, took)] += 1
                window[-1] += took
                return


def _add(found: dict[str, Cells], run: StepRun, at: int) -> None:
    try:
        counted = found[run.step]
    except KeyError:
        counted = cells_of(found, run.step)
    took = at - run.attempt.at
    counted[bisect_left(DURATIONS, took)] += 1
    counted[-1] += took


def cells_of(found: dict[str, Cells], step: str) -> Cells:
    """Those of a step as it was declared: however many items a `ForEach` has, its steps are told together."""
    step = key_of(step)[0]
    counted = found.get(step)
    if counted is None:
        counted = found[step] = cells(DURATIONS)
    return counted


Count = Callable[[Figures], int]
TOTALS: dict[str, tuple[str, Count]] = {
    "saga_started": ("Sagas accepted", lambda figures: figures.started),
    "saga_completed": ("Sagas that ended completed", lambda figures: sum(figures.completed[:-1])),
    "saga_compensated": ("Sagas that ended completely undone", lambda figures: sum(figures.compensated[:-1])),
}
"""What follows from how long it took, so that it is not counted twice."""
