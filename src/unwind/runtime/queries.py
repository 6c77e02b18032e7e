"""The read side: what a saga is and how it came to that, folded from the log when somebody asks.

What is answered here is for people and tools: instants are RFC 3339 text in UTC, with microseconds.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.census import CountedStore, Living, Paces, Tally
from unwind.core.codec import SAGA_EVENTS, fold, read_snapshot
from unwind.core.events import Event
from unwind.core.messages import Direction
from unwind.core.rules import unheard
from unwind.core.saga import version_in
from unwind.core.state import LIVE, NEW, Blocked, ShownStatus, State
from unwind.errors import CodecError, NotFoundError
from unwind.ports import Query, SagaRow, StoredStream
from unwind.runtime.families import child_id
from unwind.runtime.history import History, tell
from unwind.runtime.instants import instant, instant_or_none
from unwind.runtime.trace_context import read_context


class BlockedView(Struct, frozen=True):
    """Why a person is needed."""

    step: str
    direction: Direction
    reason: str
    since: str


class ParkedView(Struct, frozen=True):
    """What is left alone for a while, since its participant answers nobody. No attempt is being spent."""

    step: str
    direction: Direction
    participant: str
    since: str
    """When the attempt was first parked."""
    until: str
    """When it is tried again at the latest."""


class RelativeView(Struct, frozen=True):
    """Another saga, and the step that joins them."""

    saga_id: str
    step: str


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
    parent: RelativeView | None = None
    """The saga whose step this one is the doing of."""
    children: tuple[RelativeView, ...] = ()
    """The sagas that are the doing of its own steps, so far as they have begun."""
    left_undone: tuple[str, ...] = ()
    """Steps whose undo an operator skipped: they stay as they are, whatever the status says."""
    parked: ParkedView | None = None
    trace_id: str | None = None
    """The trace that it is part of, in 32 hexadecimal digits."""


class SagaSummary(Struct, frozen=True):
    """One line in a list of sagas."""

    saga_id: str
    status: str
    definition: str
    definition_version: int
    correlation_id: str
    started_at: str
    updated_at: str
    """When the status last changed."""
    ended_at: str | None
    parked: str | None = None
    """The participant that answers nobody, at which it is left alone for a while."""


class SagaPage(Struct, frozen=True):
    """Sagas, newest first; `next` is where the following page begins, None at the end."""

    sagas: tuple[SagaSummary, ...]
    next: tuple[int, str] | None


_Counted = tuple[Query, tuple[tuple[str, str], ...]]
"""What is counted: conditions, and amounts by definition."""


class Queries:
    """Questions put to a store. Each reads the log anew: what it answers is committed."""

    def __init__(self, store: CountedStore) -> None:
        """Reads `store` and never writes."""
        self._store = store
        self._counting = asyncio.Lock()
        self._waiting: dict[_Counted, asyncio.Task[Sequence[Tally]]] = {}

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

    async def find(self, query: Query, *, parked: bool = True) -> SagaPage:
        """Sagas, newest first. Without `parked` that is not looked for: it takes the streams of all that live.

        Raises UnavailableError.
        """
        rows = await self._store.find(replace(query, limit=query.limit + 1))
        page = rows[: query.limit]
        more = (page[-1].started_at, page[-1].id) if len(rows) > query.limit else None
        silent = await self._parked([row.id for row in page if row.status in LIVE]) if parked else {}
        return SagaPage(tuple(_summary(row, silent.get(row.id)) for row in page), more)

    async def newest(self, attribute: str, value: str) -> SagaSummary | None:
        """The newest saga with that attribute, as its text is stored. Raises UnavailableError."""
        rows = await self._store.find(Query(attributes=((attribute, value),), limit=1))
        return _summary(rows[0], None) if rows else None

    async def _parked(self, saga_ids: Sequence[str]) -> dict[str, str]:
        """Of these sagas those that are parked, and at which participant: the rows do not know."""
        if not saga_ids:
            return {}
        found: dict[str, str] = {}
        for saga_id, stored in (await self._store.load(dict.fromkeys(saga_ids, 0))).streams.items():
            base = NEW if stored.snapshot is None else read_snapshot(stored.snapshot)
            if base is None:
                continue
            with suppress(CodecError):  # written by another version: to be read there
                parked = _parked(fold(stored.commits, base))
                if parked is not None:
                    found[saga_id] = parked.participant
        return found

    async def count(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        """How many sagas fit the query's conditions, by definition and status.

        `amounts` names the attribute of a definition that is added up. Counts are made one after another; whoever asks
        what another one still waits to ask shares its answer. Raises UnavailableError.
        """
        wanted = replace(query, before=None, limit=1)
        key = (wanted, tuple(sorted(amounts.items())))
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._tally(wanted, amounts, key))
            self._waiting[key].add_done_callback(_heard)
        return await asyncio.shield(self._waiting[key])

    async def _tally(self, query: Query, amounts: Mapping[str, str], key: _Counted) -> Sequence[Tally]:
        async with self._counting:
            # From here on too late to join: who asks now may have written what this count does not see.
            del self._waiting[key]
            return await self._store.tally(query, amounts)

    async def paces(self, since: int, stretch: int) -> Paces:
        """What began and ended from an instant on, by stretches of so many microseconds. Raises UnavailableError."""
        return await self._store.paces(since, stretch)

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        """The sagas of a definition that ended last, the newest first. Raises UnavailableError."""
        return await self._store.ended(definition, limit)

    async def living(self, revisions: Sequence[str]) -> Living:
        """What has not ended of these revisions. Raises UnavailableError."""
        return await self._store.living(revisions)

    async def live_revisions(self) -> Mapping[str, int]:
        """How many live sagas are bound to each revision, 10 000 at most of each. Raises UnavailableError."""
        return (await self._store.register((), note=False)).others

    async def logs(self, saga_ids: Sequence[str]) -> Mapping[str, tuple[Event, ...]]:
        """The logs of several sagas; without those that are not there, or were written by another version.

        Raises UnavailableError.
        """
        found: dict[str, tuple[Event, ...]] = {}
        for saga_id, stored in (await self._store.load(dict.fromkeys(saga_ids, 0), snapshots=False)).streams.items():
            with suppress(CodecError):  # to be read there
                found[saga_id] = tuple(_events(stored))
        return found

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


def _heard(count: asyncio.Task[Sequence[Tally]]) -> None:
    """Whoever asked may have gone: then nobody else looks at what was raised."""
    if not count.cancelled():
        count.exception()


def _events(stored: StoredStream) -> Iterator[Event]:
    return (event for _, data in stored.commits for event in SAGA_EVENTS.decode(data))


def view(state: State) -> SagaView:
    """What a saga is, for people and tools."""
    blocked, context = state.blocked, read_context(state.traceparent)
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
        ended_at=instant_or_none(state.ended_at),
        deadline=instant_or_none(state.deadline),
        paused=state.paused,
        blocked=None if blocked is None else _blocked(blocked),
        parent=_parent(state),
        children=tuple(RelativeView(child_id(state.saga_id, run.step), run.step) for run in state.runs if run.child),
        left_undone=state.left,
        parked=_parked(state),
        trace_id=None if context is None else context.trace_id,
    )


def _parent(state: State) -> RelativeView | None:
    saga_id, _, step = state.parent.rpartition("/")
    return RelativeView(saga_id, step) if state.parent else None


def _blocked(blocked: Blocked) -> BlockedView:
    return BlockedView(blocked.step, blocked.direction, blocked.reason, instant(blocked.since))


def _parked(state: State) -> ParkedView | None:
    for direction, run in unheard(state):
        if run.parked and run.command is not None:
            return ParkedView(run.step, direction, run.command.service, instant(run.silent), instant(run.parked))
    return None


def _summary(row: SagaRow, parked: str | None) -> SagaSummary:
    return SagaSummary(
        row.id,
        row.status,
        row.definition,
        version_in(row.revision),
        row.correlation_id,
        instant(row.started_at),
        instant(row.updated_at),
        instant_or_none(row.ended_at),
        parked,
    )
