"""What is counted of the sagas of one definition: plain integers, kept by what happened."""

from collections.abc import Callable, Mapping, Sequence

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
    StepStarted,
    StepUnknown,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.plans import key_of
from unwind.core.state import State, StepRun
from unwind.runtime.histograms import Durations
from unwind.runtime.unit import Decided

UNCOUNTED: frozenset[type] = frozenset(
    (StepStarted, DomainRecorded, UndoStarted, AttemptParked, AttemptReleased, ActionTakenOver)
)
"""What is frequent and counts as nothing."""
_FAILED = "Steps refused, attempts failed, outcomes unknown"
_NOT_UNDONE = "Attempts at undoing that failed, and undos that a person left out"
BY_SAGA: dict[type, tuple[str, str]] = {
    CompensationStarted: ("saga_failed", "Sagas that turned round"),
    SagaBlocked: ("saga_blocked", "Times a saga needed a person"),
}
BY_STEP: dict[type, tuple[str, str, str]] = {
    StepFailed: ("step_failed", _FAILED, "retried"),
    StepUnknown: ("step_failed", _FAILED, "unknown"),
    StepRetried: ("step_retried", "Attempts at a step, or its undo, after the first", "do"),
    UndoRetried: ("step_retried", "", "undo"),
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
        "note_done",
        "refused",
        "started",
        "undone",
    )

    def __init__(self) -> None:
        """Everything starts at zero."""
        self.started = 0
        self.done: dict[str, Durations] = {}
        """How long steps took, by name; so are those below."""
        self.note_done: dict[str, Callable[[int], None]] = {}
        """How each is noted, by the name that its events have: the most frequent of all figures."""
        self.refused: dict[str, Durations] = {}
        self.undone: dict[str, Durations] = {}
        self.completed = Durations()
        self.compensated = Durations()
        self.completed_window = Durations()
        """From the first effect that was asked for to the end; so is the next."""
        self.compensated_window = Durations()
        self.events: dict[type, dict[str, int]] = {kind: {} for kind in (*BY_SAGA, *BY_STEP)}
        """Everything else, by event and step."""

    def count(self, kind: type, event: Event, made: Decided) -> None:
        """Anything but the beginning of a saga, and steps begun and done."""
        if kind is UndoDone:
            _note(self.undone, made.before.undos, event)
        elif kind is StepRefused:
            _note(self.refused, made.after.runs, event)
        elif kind is SagaCompleted:
            _ended(self.completed, self.completed_window, made.after, event.at)
        elif kind is SagaCompensated:
            _ended(self.compensated, self.compensated_window, made.after, event.at)
        elif kind in self.events:
            counted = self.events[kind]
            step = "" if kind in BY_SAGA else key_of(event.step)[0]  # type: ignore[union-attr]
            counted[step] = counted.get(step, 0) + 1

    def first_done(self, step: str) -> Callable[[int], None]:
        """How the duration of a step is noted that was never done before."""
        note = self.note_done[step] = durations_of(self.done, step).noted.append
        return note

    def sort_in(self) -> None:
        """Whatever was only noted: it takes memory."""
        for found in (self.done, self.refused, self.undone):
            for each in found.values():
                each.counted()
        for each in (self.completed, self.compensated, self.completed_window, self.compensated_window):
            each.counted()


def _ended(durations: Durations, window: Durations, after: State, at: int) -> None:
    durations.noted.append(at - max(after.started_at, after.begin_at))
    for run in after.runs:  # the first of them, as a rule
        if not run.waits and run.status != "skipped":
            window.noted.append(at - run.attempt.at)
            return


def _note(found: dict[str, Durations], runs: Sequence[StepRun], event: Event) -> None:
    step: str = event.step  # type: ignore[union-attr]
    for run in reversed(runs):
        if run.step == step:
            try:
                durations = found[step]
            except KeyError:
                durations = durations_of(found, step)
            durations.noted.append(event.at - run.attempt.at)
            return


def durations_of(found: dict[str, Durations], step: str) -> Durations:
    """Those of a step as it was declared: however many items a `ForEach` has, its steps are told together."""
    step = key_of(step)[0]
    durations = found.get(step)
    if durations is None:
        durations = found[step] = Durations()
    return durations


BY_DURATION: tuple[tuple[str, str, str, Callable[[Figures], Mapping[str, Durations]]], ...] = (
    ("step_completed", "Steps done", "done", lambda figures: figures.done),
    ("step_failed", _FAILED, "refused", lambda figures: figures.refused),
    ("step_undone", "Steps undone", "undone", lambda figures: figures.undone),
)
"""Of steps, what follows from how long they took, so that it is not counted twice."""
Count = Callable[[Figures], int]
TOTALS: dict[str, tuple[str, Count]] = {
    "saga_started": ("Sagas accepted", lambda figures: figures.started),
    "saga_completed": ("Sagas that ended completed", lambda figures: figures.completed.count()),
    "saga_compensated": ("Sagas that ended completely undone", lambda figures: figures.compensated.count()),
}
"""The same of sagas."""
