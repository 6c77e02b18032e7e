"""The read side: what a saga is and how it came to that, folded from the log when somebody asks.

What is answered here is for people and tools: instants are RFC 3339 text in UTC, with microseconds.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.codec import SAGA_EVENTS, fold, read_snapshot
from unwind.core.messages import (
    ActionTakenOver,
    Attempt,
    CompensationStarted,
    Direction,
    DomainRecorded,
    Event,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepSettled,
    StepSkipped,
    StepStarted,
    StepUnknown,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoStarted,
)
from unwind.core.state import NEW, Blocked, ShownStatus, State
from unwind.errors import CodecError, NotFoundError
from unwind.ports import Query, SagaRow, Store, StoredStream

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EntryStatus = Literal["running", "completed", "failed", "timed_out", "skipped", "compensating", "compensated"]
Act = Literal["paused", "resumed", "cancelled", "turned_round", "blocked", "taken_over"]


def instant(micros: int) -> str:
    """Microseconds since the epoch as RFC 3339 text, e.g. `2026-11-23T01:18:30.000000Z`."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _instant_or_none(micros: int | None) -> str | None:
    return None if micros is None else instant(micros)


class BlockedView(Struct, frozen=True):
    """Why a person is needed."""

    step: str
    direction: Direction
    reason: str
    since: str


class SagaView(Struct, frozen=True):
    """What a saga is now."""

    saga_id: str
    status: ShownStatus
    current_step: str | None
    """The step that is being done or undone; None when nothing is."""
    context: Raw
    definition: str
    definition_version: int
    version: int
    """Number of the saga's events so far."""
    correlation_id: str
    started_at: str
    ended_at: str | None
    deadline: str | None
    paused: bool
    blocked: BlockedView | None


class SagaSummary(Struct, frozen=True):
    """One line in a list of sagas."""

    saga_id: str
    status: str
    definition: str
    correlation_id: str
    started_at: str
    updated_at: str
    """When the status last changed."""
    ended_at: str | None


class SagaPage(Struct, frozen=True):
    """Sagas, newest first; `next` is where the following page begins, None at the end."""

    sagas: tuple[SagaSummary, ...]
    next: tuple[int, str] | None


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


class ActEntry(Struct, frozen=True):
    """What happened to the saga as a whole: operators' acts and the turns that it took."""

    at: str
    act: Act
    step: str | None
    actor: str | None
    reason: str | None


class History(Struct, frozen=True):
    """All attempts in the order in which they began, and all acts in theirs."""

    entries: tuple[HistoryEntry, ...]
    acts: tuple[ActEntry, ...]


class _Story:
    """A history being told. Lives no longer than one call of `tell`."""

    def __init__(self) -> None:
        self.entries: list[HistoryEntry] = []
        self.acts: list[ActEntry] = []

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
            retry_at=_instant_or_none(retry_at),
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

    def act(self, at: int, act: Act, step: str = "", actor: str = "", reason: str = "") -> None:
        self.acts.append(ActEntry(instant(at), act, step or None, actor or None, reason or None))

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
            story.begin(event.step, "do", Attempt(event.at))
            story.settle(event.step, "do", "skipped", event.at)
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
        case SagaStarted() | SagaCompleted() | SagaCompensated() | DomainRecorded():
            return
        case _:
            assert_never(event)


class Queries:
    """Questions put to a store. Each reads the log anew: what it answers is committed."""

    def __init__(self, store: Store) -> None:
        """Reads `store` and never writes."""
        self._store = store

    async def show(self, saga_id: str) -> SagaView:
        """What the saga is now. Raises NotFoundError, UnavailableError."""
        async with self._is_saga(saga_id):
            stored = await self._stream(saga_id, snapshots=True)
            state = None if stored.snapshot is None else read_snapshot(stored.snapshot)
            if stored.snapshot is not None and state is None:
                stored = await self._stream(saga_id, snapshots=False)
            return view(fold(stored.commits, state or NEW))

    async def history(self, saga_id: str) -> History:
        """How it came to that. Raises NotFoundError, UnavailableError."""
        async with self._is_saga(saga_id):
            stored = await self._stream(saga_id, snapshots=False)
            return tell(_events(stored))

    async def log(self, saga_id: str) -> tuple[Event, ...]:
        """Everything that happened to the saga, in order. Raises NotFoundError, UnavailableError."""
        async with self._is_saga(saga_id):
            return tuple(_events(await self._stream(saga_id, snapshots=False)))

    async def now(self) -> int:
        """The store's time, in microseconds. Raises UnavailableError."""
        return (await self._store.load({})).now

    async def find(
        self,
        *,
        statuses: Sequence[str] = (),
        definition: str = "",
        started_from: int | None = None,
        started_to: int | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 50,
    ) -> SagaPage:
        """Sagas, newest first; conditions are joined by *and*. Instants in microseconds. Raises UnavailableError."""
        rows = await self._store.find(
            Query((), tuple(statuses), definition, started_from, started_to, before, limit + 1)
        )
        page = rows[:limit]
        more = (page[-1].started_at, page[-1].id) if len(rows) > limit else None
        return SagaPage(tuple(_summary(row) for row in page), more)

    async def commits(self, stream: str) -> tuple[tuple[int, bytes], ...]:
        """The commits of any stream, `(number of the first event, encoded events)`.

        Raises NotFoundError, UnavailableError.
        """
        return (await self._stream(stream, snapshots=False)).commits

    @asynccontextmanager
    async def _is_saga(self, saga_id: str) -> AsyncIterator[None]:
        """Other streams live in the same log; asked for as a saga, they are not found."""
        try:
            yield
        except CodecError as error:
            if await self._store.find(Query((saga_id,))):
                raise
            raise NotFoundError(f"there is no saga {saga_id}") from error

    async def _stream(self, stream: str, *, snapshots: bool) -> StoredStream:
        loaded = await self._store.load({stream: 0}, snapshots=snapshots)
        stored = loaded.streams.get(stream)
        if stored is None or (stored.snapshot is None and not stored.commits):
            raise NotFoundError(f"there is no saga or stream {stream}")
        return stored


def _events(stored: StoredStream) -> Iterator[Event]:
    return (event for _, data in stored.commits for event in SAGA_EVENTS.decode(data))


def view(state: State) -> SagaView:
    """What a saga is, for people and tools."""
    blocked = state.blocked
    return SagaView(
        saga_id=state.saga_id,
        status=state.shown_status,
        current_step=state.current_step(),
        context=state.context,
        definition=state.definition,
        definition_version=state.definition_version,
        version=state.version,
        correlation_id=state.correlation_id,
        started_at=instant(state.started_at),
        ended_at=_instant_or_none(state.ended_at),
        deadline=_instant_or_none(state.deadline),
        paused=state.paused,
        blocked=None if blocked is None else _blocked(blocked),
    )


def _blocked(blocked: Blocked) -> BlockedView:
    return BlockedView(blocked.step, blocked.direction, blocked.reason, instant(blocked.since))


def _summary(row: SagaRow) -> SagaSummary:
    return SagaSummary(
        row.id,
        row.status,
        row.definition,
        row.correlation_id,
        instant(row.started_at),
        instant(row.updated_at),
        _instant_or_none(row.ended_at),
    )
