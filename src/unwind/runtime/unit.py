"""From decisions to what is written and sent: pure functions between the core and the ports."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from unwind.core.attributes import as_text
from unwind.core.author import SAGA
from unwind.core.codec import SAGA_EVENTS, take_snapshot
from unwind.core.effects import Effect, SendCommand
from unwind.core.events import Event, Record, SagaStarted
from unwind.core.messages import Direction, effect_id
from unwind.core.pending import due, effect_of, pending
from unwind.core.saga import Saga
from unwind.core.state import LIVE, State
from unwind.ports import Message, SagaRow, StreamAppend, Unit

SNAPSHOT_EVERY = 5
"""Steps and undos that end between two snapshots."""
SNAPSHOT_AFTER = 64
"""Events after which there is one all the same: retries, pauses and resumes end no step, and a log of thousands of them
would be folded from its beginning each time."""

_encode = msgspec.json.encode


class Decided(Struct, gc=False):
    """What a batch makes of one saga: all its inputs folded into one unit."""

    saga: Saga[Any]
    before: State
    after: State
    events: Sequence[Event]
    records: Sequence[Record]
    token: int | None
    """The wake-up's token when one of the inputs was a tick."""
    redrive: bool
    """Whether everything outstanding is to be sent again, not only what is new."""
    probed: frozenset[str] = frozenset()
    """Whether what is parked is to be sent too, to learn whether its participant is back."""


def make_unit(decided: Decided, now: int, push: int) -> Unit:
    """Everything the decision writes. `push` is by how much a claim moves a wake-up."""
    before, after, events = decided.before, decided.after, decided.events
    head = StreamAppend(after.saga_id, SAGA, before.version + 1, len(events), SAGA_EVENTS.encode(events))
    others = _domain_appends(before, decided.records) if decided.records else ()
    wake_at = due(after, now)
    row = None
    if writes_row(decided):
        row = make_row(decided.saga, after, now, wake_at)
    elif stands_early_enough(before, wake_at, now, push):
        wake_at = None
    snapshot = None
    if (
        after.outcomes // SNAPSHOT_EVERY != before.outcomes // SNAPSHOT_EVERY
        or after.version // SNAPSHOT_AFTER != before.version // SNAPSHOT_AFTER
    ) and after.status in LIVE:
        snapshot = take_snapshot(after)
    return Unit(head, row, others, snapshot, wake_at, found_by(events) if before.version == 0 else ())


def found_by(events: Sequence[Event]) -> tuple[tuple[str, str], ...]:
    """The attributes that the beginning of a saga has recorded, as they are stored."""
    [started, *_] = events
    if not isinstance(started, SagaStarted) or not started.attributes:
        return ()
    return tuple(sorted((name, as_text(value)) for name, value in started.attributes.items()))


def writes_row(decided: Decided) -> bool:
    """Iff the status changed or a wake-up is handled; else the commit only brings forward a wake-up that stands later.

    Never by comparing with what the row was: neither a remembered row nor the state before tells where another worker's
    claim has put the wake-up by the time of this commit.
    """
    before, after = decided.before, decided.after
    return (
        decided.token is not None
        or before.status != after.status
        or before.paused != after.paused
        or bool(before.blocks) != bool(after.blocks)
        or (after.begin_at > 0 and before.scheduled != after.scheduled)
    )


def stands_early_enough(before: State, wake_at: int | None, now: int, push: int) -> bool:
    """Whether the stored wake-up cannot stand later than this one, so that it need not be brought forward.

    It stands where the state before was due at the latest, or where a claim has pushed it: at most `push` after the
    claim, which may come as late as this commit; a second `push` is left for the commit to arrive. Nor may the state
    before fall due meanwhile, or a wake-up that found nothing to do would move it on, past what this decision needs.
    """
    if wake_at is None:
        return True
    stands = due(before, now)
    return stands is not None and now + 2 * push <= stands <= wake_at


def make_row(saga: Saga[Any], state: State, now: int, wake_at: int | None) -> SagaRow:
    """The read row of a state."""
    return SagaRow(
        state.saga_id,
        saga.revision,
        saga.name,
        state.shown_status,
        wake_at,
        state.correlation_id,
        state.started_at,
        now,
        state.ended_at,
    )


def _domain_appends(before: State, records: Sequence[Record]) -> tuple[StreamAppend, ...]:
    written = dict(before.streams)
    if len(records) == 1:  # as most have it
        [record] = records
        number = written.get(record.stream, 0) + 1
        return (StreamAppend(record.stream, record.category, number, 1, _encode([record.event])),)
    by_stream: dict[str, list[Record]] = {}
    for record in records:
        by_stream.setdefault(record.stream, []).append(record)
    return tuple(
        StreamAppend(
            stream,
            group[0].category,
            written.get(stream, 0) + 1,
            len(group),
            _encode([record.event for record in group]),
        )
        for stream, group in by_stream.items()
    )


def new_effects(decided: Decided) -> Sequence[Effect]:
    """What to dispatch after the commit: what the state before did not ask for yet, or everything on a redrive."""
    before, after = decided.before, decided.after
    if decided.redrive or before.paused:
        return pending(after)
    if after.paused:
        return ()
    if after.status not in LIVE:
        return pending(after)
    forward = after.status == "running"
    new, old = (after.runs, before.runs) if forward else (after.undos, before.undos)
    if not new:
        return ()
    direction: Direction = "do" if forward else "undo"
    if decided.saga.flat:  # where steps come one after another only the last can be new
        run = new[-1]
        if run.status != "outstanding" or run.waits or run.parked or (old and old[-1] is run):
            return ()
        return (effect_of(after, direction, run),)
    # By identity: what a decision leaves alone is the same object, and of runs there may be hundreds.
    known = set(map(id, old))
    return [
        effect_of(after, direction, run)
        for run in new
        if run.status == "outstanding" and not (run.waits or run.parked) and id(run) not in known
    ]


def command_message(state: State, effect: SendCommand) -> Message:
    """The command as it travels. Its id is the effect's: the participant's idempotency key."""
    identity = effect_id(effect.saga_id, effect.step, effect.direction)
    return Message(
        id=identity,
        name=effect.command.name,
        payload=effect.command.payload,
        saga_id=effect.saga_id,
        step=effect.step,
        direction=effect.direction,
        attempt=effect.attempt,
        retriable=effect.retriable,
        correlation_id=state.correlation_id,
        causation_id=effect.saga_id,
        traceparent=state.traceparent,
    )
