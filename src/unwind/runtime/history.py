"""How a saga came to where it is, told from its events: every attempt and every compensation, and what people did."""

from collections.abc import Iterable
from typing import Literal, assert_never

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from unwind.core.events import (
    ActionTakenOver,
    AttemptParked,
    AttemptReleased,
    CompensationStarted,
    DomainRecorded,
    Event,
    ItemsListed,
    ResolvedByHand,
    RetryOrdered,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    SignalReceived,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepUnknown,
    TurningRound,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.messages import Attempt, Direction
from unwind.runtime.instants import instant, instant_or_none

EntryStatus = Literal["running", "completed", "failed", "timed_out", "skipped", "compensating", "compensated"]
Act = Literal[
    "paused",
    "resumed",
    "cancelled",
    "turned_round",
    "blocked",
    "taken_over",
    "retried",
    "resolved",
    "skipped",
    "signalled",
    "settling",
    "listed",
    "parked",
    "released",
]


class HistoryEntry(Struct, frozen=True):
    """One attempt at a step, or at its compensation."""

    step_name: str
    direction: Direction
    status: EntryStatus
    started_at: str
    completed_at: str | None
    attempt: int
    """From 1."""
    retry_attempt: int
    """How many attempts came before this one."""
    error: str | None
    """Set when the attempt failed or timed out, and on a compensation that is blocked."""
    refused: bool = False
    """The participant said no: a business answer, not a failure."""
    retry_at: str | None = None
    """When the next attempt follows."""
    by_hand: bool | UnsetType = UNSET
    """True: a person said that it was done, or undone, by hand; else left out."""


class ActEntry(Struct, frozen=True, omit_defaults=True):
    """What happened to the saga as a whole: operators' acts and the turns that it took."""

    at: str
    act: Act
    step: str | None
    actor: str | None
    reason: str | None
    """Of what was resolved by hand, the evidence."""
    reference: str | None = None
    replaced: Raw | None = None
    """The payload that was sent before a retry with another one."""
    command: Raw | None = None
    """The payload that took its place."""


class History(Struct, frozen=True):
    """All attempts in the order in which they began, and all acts in theirs."""

    entries: tuple[HistoryEntry, ...]
    acts: tuple[ActEntry, ...]


class _Story:
    """A history being told. Lives no longer than one call of `tell`."""

    def __init__(self) -> None:
        self.entries: list[HistoryEntry] = []
        self.acts: list[ActEntry] = []
        self.by_hand: set[tuple[str, Direction]] = set()

    def begin(self, step: str, direction: Direction, attempt: Attempt) -> None:
        status: EntryStatus = "running" if direction == "do" else "compensating"
        number = attempt.number
        self.entries.append(HistoryEntry(step, direction, status, instant(attempt.at), None, number, number - 1, None))

    def settle(
        self,
        step: str,
        direction: Direction,
        status: EntryStatus,
        at: int,
        error: str | None = None,
        *,
        refused: bool = False,
        retry_at: int | None = None,
    ) -> None:
        """Say how the latest attempt ended. An answer that comes after it was given up is the one that counts."""
        index = self._latest(step, direction)
        self.entries[index] = replace(
            self.entries[index],
            status=status,
            completed_at=instant(at),
            error=error,
            refused=refused,
            retry_at=instant_or_none(retry_at),
            by_hand=True if (step, direction) in self.by_hand else UNSET,
        )

    def note(self, step: str, direction: Direction, error: str) -> None:
        """Attach a reason to the attempt that is still in progress, if one is."""
        for index, entry in enumerate(self.entries):
            if entry.step_name == step and entry.direction == direction and entry.completed_at is None:
                self.entries[index] = replace(entry, error=error)

    def give_up(self, step: str, at: int) -> None:
        """The step is being undone: whatever is unanswered stays so."""
        index = self._latest(step, "do")
        if self.entries[index].status == "running":
            self.settle(step, "do", "failed", at, "outcome unknown: the saga turned round before an answer came")

    def open(self, step: str, direction: Direction) -> bool:
        """Whether an attempt at this was begun."""
        return any(entry.step_name == step and entry.direction == direction for entry in self.entries)

    def act(self, at: int, act: Act, step: str = "", actor: str = "", reason: str = "") -> None:
        self.acts.append(ActEntry(instant(at), act, step or None, actor or None, reason or None))

    def retry(self, event: RetryOrdered) -> None:
        """The attempt in progress is over without an answer that counts, and another follows at once."""
        if any(
            entry.step_name == event.step and entry.direction == event.direction and entry.completed_at is None
            for entry in self.entries
        ):
            reason = self.entries[self._latest(event.step, event.direction)].error
            self.settle(event.step, event.direction, "failed", event.at, reason or "no answer yet")
        before, after = event.replaced, event.command
        self.acts.append(
            ActEntry(
                instant(event.at),
                "retried",
                event.step,
                event.actor,
                event.reason or None,
                replaced=None if before is None else before.payload,
                command=None if after is None else after.payload,
            )
        )

    def _latest(self, step: str, direction: Direction) -> int:
        return max(
            index
            for index, entry in enumerate(self.entries)
            if entry.step_name == step and entry.direction == direction
        )


def tell(events: Iterable[Event]) -> History:
    """The history of a saga. Pure, and total over events in the order in which `decide` emits them."""
    story = _Story()
    for event in events:
        _tell_step(story, event)
    return History(tuple(story.entries), tuple(story.acts))


def _over(timed_out: bool) -> EntryStatus:
    return "timed_out" if timed_out else "failed"


def _tell_step(story: _Story, event: Event) -> None:
    match event:
        case StepStarted() | StepRetried():
            story.begin(event.step, "do", event.attempt)
        case StepDone():
            story.settle(event.step, "do", "completed", event.at)
        case StepRefused():
            story.settle(event.step, "do", "failed", event.at, event.reason or "refused", refused=True)
        case StepFailed():
            error = event.reason or "failed"
            story.settle(event.step, "do", _over(event.timed_out), event.at, error, retry_at=event.retry_at)
        case StepUnknown():
            story.settle(event.step, "do", _over(event.timed_out), event.at, event.reason or "outcome unknown")
        case StepSkipped():
            if not story.open(event.step, "do"):
                story.begin(event.step, "do", Attempt(event.at))
            story.settle(event.step, "do", "skipped", event.at, event.reason or None)
            if event.actor:
                story.act(event.at, "skipped", event.step, event.actor, event.reason)
        case UndoSkipped():
            if not story.open(event.step, "undo"):
                story.begin(event.step, "undo", Attempt(event.at))
            story.settle(event.step, "undo", "skipped", event.at, event.reason or None)
            story.act(event.at, "skipped", event.step, event.actor, event.reason)
        case StepSettled():
            status: EntryStatus = "completed" if event.outcome == "ok" else "failed"
            why = None if event.outcome == "ok" else event.reason or event.outcome
            story.settle(event.step, "do", status, event.at, why, refused=event.outcome == "refused")
        case UndoStarted():
            story.give_up(event.step, event.at)
            story.begin(event.step, "undo", event.attempt)
        case UndoRetried():
            story.begin(event.step, "undo", event.attempt)
        case UndoFailed():
            error = event.reason or "failed"
            story.settle(event.step, "undo", _over(event.timed_out), event.at, error, retry_at=event.retry_at)
        case UndoDone():
            story.settle(event.step, "undo", "compensated", event.at)
        case _:
            _tell_act(story, event)


def _tell_act(
    story: _Story,
    event: CompensationStarted
    | SagaBlocked
    | SagaPaused
    | SagaResumed
    | ActionTakenOver
    | RetryOrdered
    | ResolvedByHand
    | SignalReceived
    | TurningRound
    | ItemsListed
    | AttemptParked
    | AttemptReleased
    | SagaStarted
    | SagaCompleted
    | SagaCompensated
    | DomainRecorded,
) -> None:
    match event:
        case CompensationStarted():
            act: Act = "cancelled" if event.cause == "cancelled" else "turned_round"
            reason = event.reason or event.cause
            story.act(event.at, act, event.step, event.actor, reason)
        case SagaBlocked():
            story.note(event.step, event.direction, event.reason)
            story.act(event.at, "blocked", event.step, "", event.reason)
        case SagaPaused():
            story.act(event.at, "paused", "", event.actor, event.reason)
        case SagaResumed():
            story.act(event.at, "resumed", "", event.actor, event.reason)
        case ActionTakenOver():
            story.act(event.at, "taken_over", event.step, event.runner, "the runner of the action fell silent")
        case RetryOrdered():
            story.retry(event)
        case ResolvedByHand():
            story.by_hand.add((event.step, event.direction))
            entry = ActEntry(
                instant(event.at), "resolved", event.step, event.actor, event.evidence, event.reference or None
            )
            story.acts.append(entry)
        case SignalReceived():
            story.act(event.at, "signalled", event.step, event.actor)
        case TurningRound():
            story.act(event.at, "settling", event.step, "", event.reason)
        case ItemsListed():
            story.act(event.at, "listed", event.step, "", ", ".join(key for key, _ in event.items) or "no items")
        case AttemptParked():
            story.act(event.at, "parked", event.step, "", "its participant answers nobody; the attempt is not spent")
        case AttemptReleased():
            story.act(event.at, "released", event.step, "", "its participant is asked again")
        case SagaStarted() | SagaCompleted() | SagaCompensated() | DomainRecorded():
            return
        case _:
            assert_never(event)
