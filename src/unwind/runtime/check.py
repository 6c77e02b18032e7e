"""Compares definitions with the sagas that live in a store: which would be stranded if nothing but these were deployed.

It only reads, a page at a time, and keeps one saga of each shape: the store may be in use, and as large as it likes.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from unwind.core.codec import SAGA_EVENTS, fold, read_snapshot
from unwind.core.saga import Saga, with_children
from unwind.core.state import NEW, State
from unwind.errors import CodecError
from unwind.ports import Query, SagaRow, Store, StoredStream
from unwind.runtime.rehearsal import Finding, point_of, rehearse, rehearse_from_start
from unwind.runtime.replies import Replies
from unwind.runtime.shapes import Shape, differences, shape_of
from unwind.runtime.strangers import key_of

PAGE = 100
EXAMPLES = 3
"""Ids that are named of sagas that stand alike."""
SHAPES = 200
"""Shapes of one definition that are rehearsed."""
COMPARED = 50
"""Sagas of a changed definition that are looked at for what has changed."""


class Group(Struct, frozen=True):
    """Live sagas that stand alike, and how the rehearsal of one of them went."""

    state: str
    sagas: int
    examples: tuple[str, ...]
    completes: bool = False
    turns: int = 0
    """How often it was turned round on the way, and undone."""
    findings: tuple[Finding, ...] = ()


class Known(Struct, frozen=True):
    """A definition that was given."""

    revision: str
    sagas: int
    """How many live sagas are bound to it."""
    groups: tuple[Group, ...]
    """Without live sagas: one, of a saga that is begun with a made-up context."""
    not_rehearsed: int = 0
    """Sagas of more shapes than are rehearsed."""
    unreadable: int = 0
    """Sagas whose log this program does not understand."""
    reasons: tuple[str, ...] = ()
    """Of some of those: the id, and why."""


class Unknown(Struct, frozen=True):
    """A revision with live sagas that no definition given is."""

    revision: str
    sagas: int
    examples: tuple[str, ...]
    given: str | None = None
    """What was given under the same name and version."""
    differences: tuple[str, ...] = ()
    """What in its sagas does not go with that, as far as they show it."""


class Report(Struct, frozen=True):
    """What a check found."""

    strands: int
    """Live sagas that would not end by themselves, or may not."""
    refuses: tuple[str, ...]
    """Definitions with which a process would not start: registered before under the same version with another hash."""
    warnings: int
    definitions: tuple[Known, ...]
    unknown: tuple[Unknown, ...]

    @property
    def good(self) -> bool:
        """A deploy of these definitions would strand nothing."""
        return not self.strands and not self.refuses


async def check(store: Store, sagas: Sequence[Saga[Any]]) -> Report:
    """Compare definitions with the live sagas of a store. Raises UnavailableError, and SettingsError of the store."""
    sagas = with_children(sagas)
    registered = await store.register([key_of(saga) for saga in sagas], note=False)
    now = (await store.load({})).now
    known = [await _Census(store, saga, now).take() for saga in sagas]
    unknown = [await _unknown(store, revision, sagas) for revision in sorted(registered.others)]
    refuses = tuple(f"{name}@{version}" for name, version, _ in registered.clashes)
    return _report(known, [each for each in unknown if each.sagas], refuses)


def check_definitions(sagas: Sequence[Saga[Any]]) -> Report:
    """Rehearse definitions from the start, without a store."""
    return _report([_from_start(saga, 0) for saga in with_children(sagas)], (), ())


def _report(known: Sequence[Known], unknown: Sequence[Unknown], refuses: tuple[str, ...]) -> Report:
    stranded = sum(each.sagas for each in unknown) + sum(each.unreadable for each in known)
    groups = [group for each in known for group in each.groups]
    stranded += sum(group.sagas for group in groups if any(found.severity == "error" for found in group.findings))
    warnings = sum(found.severity == "warning" for group in groups for found in group.findings)
    warnings += sum(bool(each.not_rehearsed) for each in known)
    return Report(stranded, refuses, warnings, tuple(known), tuple(unknown))


def _from_start(saga: Saga[Any], now: int) -> Known:
    played = rehearse_from_start(saga, Replies(saga), now)
    group = Group("begun with a made-up context", 0, (), played.completes, played.turns, played.findings)
    return Known(saga.revision, 0, (group,))


class _Census:
    """The live sagas of one definition that was given."""

    def __init__(self, store: Store, saga: Saga[Any], now: int) -> None:
        self._store = store
        self._saga = saga
        self._now = now
        self._replies = Replies(saga)
        self._groups: dict[Shape, tuple[Group, State]] = {}
        self._not_rehearsed = 0
        self._unreadable = 0
        self._reasons: list[str] = []

    async def take(self) -> Known:
        """Read them all, then rehearse one of each shape."""
        async for rows in pages(self._store, self._saga.revision):
            for row, stored in await _streams(self._store, rows):
                try:
                    state = await _folded(self._store, row.id, stored)
                except CodecError as error:
                    self._unreadable += 1
                    self._reasons += [f"{row.id}: {error}"][: EXAMPLES - len(self._reasons)]
                    continue
                if state.live:  # it may have ended since its row was read
                    self._note(state, stored)
        seen = list(self._groups.values())
        if not seen and not self._unreadable:
            return _from_start(self._saga, self._now)
        groups = tuple(self._rehearsed(group, state) for group, state in seen)
        total = sum(group.sagas for group in groups) + self._not_rehearsed + self._unreadable
        reasons = tuple(self._reasons)
        return Known(self._saga.revision, total, groups, self._not_rehearsed, self._unreadable, reasons)

    def _note(self, state: State, stored: StoredStream) -> None:
        shape = shape_of(state)
        if shape in self._groups:
            group, first = self._groups[shape]
            examples = (*group.examples, state.saga_id)[:EXAMPLES]
            self._groups[shape] = (replace(group, sagas=group.sagas + 1, examples=examples), first)
        elif len(self._groups) == SHAPES:
            self._not_rehearsed += 1
        else:
            self._groups[shape] = (Group(described(state), 1, (state.saga_id,)), state)
            for _, data in stored.commits:
                self._replies.learn(SAGA_EVENTS.decode(data))

    def _rehearsed(self, group: Group, state: State) -> Group:
        played = rehearse(self._saga, state, self._replies, self._now)
        return replace(group, completes=played.completes, turns=played.turns, findings=played.findings)


async def _unknown(store: Store, revision: str, sagas: Sequence[Saga[Any]]) -> Unknown:
    """A revision that nobody here knows. Where its version was changed: what its sagas show of it."""
    changed = next((saga for saga in sagas if revision.startswith(f"{saga.name}@{saga.version}#")), None)
    count = 0
    examples: list[str] = []
    told: dict[str, None] = {}
    async for rows in pages(store, revision):
        if changed is not None and count < COMPARED:
            for row, stored in await _streams(store, rows[: COMPARED - count]):
                try:
                    state = await _folded(store, row.id, stored)
                except CodecError:
                    told["its sagas' logs are not understood by this program"] = None
                else:
                    told.update(dict.fromkeys(differences(changed, state)))
        count += len(rows)
        examples += [row.id for row in rows[: EXAMPLES - len(examples)]]
    return Unknown(revision, count, tuple(examples), None if changed is None else changed.revision, tuple(told))


async def pages(store: Store, revision: str) -> AsyncIterator[Sequence[SagaRow]]:
    """The live sagas of a revision, newest first. Who begins meanwhile is not among them."""
    before: tuple[int, str] | None = None
    while rows := await store.find(Query(live_on=revision, before=before, limit=PAGE)):
        yield rows
        before = (rows[-1].started_at, rows[-1].id)


async def _streams(store: Store, rows: Sequence[SagaRow]) -> list[tuple[SagaRow, StoredStream]]:
    loaded = await store.load({row.id: 0 for row in rows})
    return [(row, loaded.streams[row.id]) for row in rows if row.id in loaded.streams]


async def _folded(store: Store, saga_id: str, stored: StoredStream) -> State:
    """Raises CodecError when the log is not understood."""
    if stored.snapshot is None:
        return fold(stored.commits)
    snapshot = read_snapshot(stored.snapshot)
    if snapshot is not None:
        return fold(stored.commits, snapshot)
    whole = await store.load({saga_id: 0}, snapshots=False)
    return fold(whole.streams[saga_id].commits) if saga_id in whole.streams else NEW


def described(state: State) -> str:
    """Where a saga stands, with what holds it up."""
    blocked = state.blocked
    if blocked is not None:
        way = "the undo of " if blocked.direction == "undo" else ""
        return f"{state.shown_status} at {way}{blocked.step}"
    return f"{state.shown_status}: {point_of(state)}"
