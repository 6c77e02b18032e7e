"""What a decision writes: when the read row goes with it, where domain events go, what is dispatched anew."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from tests.core.trips import booking, diary, errand, note, trip

from unwind.core.attributes import Attribute
from unwind.core.codec import SAGA_EVENTS
from unwind.core.decide import decide
from unwind.core.events import Event, Record
from unwind.core.messages import Cancel, Input, Moment, Pause, Reply, Resume, Start, Tick
from unwind.core.pending import due, pending
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.runtime.unit import Decided, make_unit, new_effects, stands_early_enough, writes_row

SECOND = 1_000_000
PUSH = 3 * SECOND
START = Start("s", Raw(b"{}"))
OK = Raw(b'{"code":"x"}')
TRIP = trip()
YES = Reply("flight", "do", "ok", 1, OK)
NO = Reply("flight", "do", "refused", 1)
FAILED = Reply("flight", "do", "failed", 1)
TICK = Tick(7)


def fold(saga: Saga[Any], state: State, inputs: list[Input], at: int) -> Decided:
    """The inputs folded into one unit, as the loop does it."""
    before, token = state, None
    events: list[Event] = []
    records: list[Record] = []
    for message in inputs:
        decision = decide(saga, state, message, Moment(at, 0.0, "w1"))
        state = decision.state
        events.extend(decision.events)
        records.extend(decision.records)
        token = message.token if isinstance(message, Tick) else token
    redrive = any(isinstance(message, Resume) for message in inputs)
    return Decided(saga, before, state, events, records, token, redrive)


def after(saga: Saga[Any], *inputs: Input, at: int = 0) -> State:
    return fold(saga, NEW, list(inputs), at).after


RUNNING = after(TRIP, START)


BACKOFF = after(TRIP, START, FAILED)
PAUSED = after(TRIP, START, Pause("ann"))


@pytest.mark.parametrize(
    ("before", "inputs", "at", "written"),
    [
        (NEW, [START], 0, True),  # a status, where there was none
        (RUNNING, [YES], 1, False),
        (RUNNING, [NO], 1, True),  # another status
        (RUNNING, [FAILED], 1, False),
        (RUNNING, [Pause("ann")], 1, True),
        (RUNNING, [Cancel("ann")], 1, True),
        (RUNNING, [Resume("ann")], 1, False),
        (RUNNING, [TICK], 31 * SECOND, True),  # a wake-up is handled
        (BACKOFF, [TICK], 11 * SECOND, True),
        (BACKOFF, [YES], 1, False),
        (PAUSED, [YES], 1, False),  # paused before and after
        (PAUSED, [Resume("ann")], 1, True),
    ],
)
def test_the_row_is_written_iff_the_status_changes_or_a_wake_up_is_handled(
    before: State, inputs: list[Input], at: int, written: bool
) -> None:
    made = fold(TRIP, before, inputs, at)
    assert made.events
    assert writes_row(made) is written
    unit = make_unit(made, at, PUSH)
    assert (unit.row is not None) is written
    if unit.row is not None:
        assert unit.wake_at == due(made.after, at)
        assert (unit.row.status, unit.row.revision, unit.row.updated_at) == (made.after.shown_status, TRIP.revision, at)
        assert unit.row.wake_at == unit.wake_at
        assert (unit.wake_at is None) == (unit.row.status in {"completed", "compensated", "paused"})


@pytest.mark.parametrize(
    ("stands", "needed", "brought"),
    [
        (4, 5, False),
        (4, 4, False),
        (5, 4, True),  # the row stands later than the saga is due
        (1, 5, True),  # a wake-up may find the state before due and move the row on while the commit is on its way
        (None, 5, True),
    ],
)
def test_a_wake_up_is_brought_forward_unless_it_cannot_stand_later(
    stands: int | None, needed: int, brought: bool
) -> None:
    before = replace(PAUSED, paused=stands is None, deadline=None if stands is None else stands * SECOND)
    assert due(before, 0) == (None if stands is None else min(stands * SECOND, due(RUNNING, 0) or 0))
    assert stands_early_enough(before, needed * SECOND, 0, SECOND) is not brought


def test_a_unit_appends_all_events_after_those_there_are() -> None:
    made = fold(TRIP, RUNNING, [YES, Reply("hotel", "do", "ok", 1, OK)], 5)
    unit = make_unit(made, 5, PUSH)
    assert (unit.head.stream, unit.head.category, unit.head.version) == ("s", "saga", RUNNING.version + 1)
    assert SAGA_EVENTS.decode(unit.head.events) == made.events
    assert unit.head.count == len(made.events) == made.after.version - RUNNING.version


@pytest.mark.parametrize(("version", "kept"), [(62, False), (63, True), (64, False), (127, True), (1_000, False)])
def test_a_log_that_grows_without_a_step_coming_to_an_end_is_kept_in_snapshots_too(version: int, kept: bool) -> None:
    before = replace(RUNNING, version=version)
    unit = make_unit(fold(TRIP, before, [Pause("ann")], 1), 1, PUSH)
    assert (unit.snapshot is not None) is kept
    if unit.snapshot is not None:
        assert unit.snapshot.version == version + 1


def test_domain_events_are_numbered_on_where_the_saga_left_their_stream() -> None:
    saga = trip(diary("a"), booking("b"), diary("c"), on_started=lambda context: [note("opened"), note("again")])
    first = fold(saga, NEW, [START], 0)
    second = fold(saga, first.after, [Reply("b", "do", "ok", 1, OK)], 1)
    numbered = [
        (each.stream, each.version, each.count) for made in (first, second) for each in make_unit(made, 0, PUSH).others
    ]
    assert numbered == [("diary-1", 1, 3), ("diary-1", 4, 1)]


def test_only_what_was_not_asked_for_yet_is_dispatched_and_everything_on_a_redrive() -> None:
    step = [effect.step for effect in new_effects(fold(TRIP, NEW, [START], 0))]
    assert step == ["flight"]
    assert not new_effects(fold(TRIP, RUNNING, [FAILED], 1))
    assert [effect.step for effect in new_effects(fold(TRIP, RUNNING, [YES], 1))] == ["hotel"]
    assert [getattr(effect, "attempt", 0) for effect in new_effects(fold(TRIP, BACKOFF, [TICK], 11 * SECOND))] == [2]
    assert [effect.step for effect in new_effects(fold(TRIP, RUNNING, [Resume("ann")], 1))] == ["flight"]
    assert not new_effects(fold(TRIP, RUNNING, [Pause("ann")], 1))


INPUTS: st.SearchStrategy[Input] = st.one_of(
    st.builds(
        Reply,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["do", "undo"]),
        st.sampled_from(["ok", "ok", "refused", "failed"]),
        st.integers(1, 2),
        st.just(OK),
    ),
    st.just(TICK),
    st.just(Cancel("ann")),
    st.just(Pause("ann")),
    st.just(Resume("ann")),
)
MIXED = trip(booking("a"), errand("b"), diary("d"), booking("c"))


@given(st.lists(st.tuples(st.lists(INPUTS, min_size=1, max_size=3), st.integers(0, 40 * SECOND)), max_size=12))
def test_the_rows_and_effects_of_any_life_are_enough_to_drive_it(life: list[tuple[list[Input], int]]) -> None:
    """The row is never due later than the state; what a state asks for was dispatched when it began to ask for it."""
    now = 0
    made = fold(MIXED, NEW, [START], now)
    first = make_unit(made, now, PUSH)
    assert first.row is not None
    status, wake_at = first.row.status, first.row.wake_at
    asked = list(new_effects(made))
    for inputs, passed in life:
        now += passed
        made = fold(MIXED, made.after, inputs, now)
        if not made.events:
            continue
        unit = make_unit(made, now, PUSH)
        if unit.row is not None:
            status, wake_at = unit.row.status, unit.row.wake_at
        elif wake_at is not None and unit.wake_at is not None:
            wake_at = min(wake_at, unit.wake_at)  # as a store brings it forward
        asked.extend(new_effects(made))
        needed = due(made.after, now)
        assert status == made.after.shown_status
        assert (wake_at is None) == (needed is None)
        assert wake_at is None or needed is None or wake_at <= needed
        assert set(map(repr, pending(made.after))) <= set(map(repr, asked))


def test_attributes_go_with_the_beginning_only_as_text_in_order() -> None:
    saga = trip(
        booking("flight"),
        attributes={
            "traveller": Attribute(str, lambda context: context.traveller),
            "parts": Attribute(int, lambda context: len(context.codes)),
            "alone": Attribute(bool, lambda _: True),
        },
    )
    first = fold(saga, NEW, [START, YES], 0)
    assert make_unit(first, 0, PUSH).attributes == (("alone", "true"), ("parts", "0"), ("traveller", "ada"))
    assert make_unit(fold(saga, after(saga, START), [YES], 1), 1, PUSH).attributes == ()
    assert make_unit(fold(TRIP, NEW, [START], 0), 0, PUSH).attributes == ()
