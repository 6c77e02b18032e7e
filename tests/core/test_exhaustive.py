"""No state is a trap: all reachable states of small sagas, under every input, without chance."""

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from tests.core.trips import Trip, approval, booking, errand, nap, parcels, stay, trip
from tests.core.walk import KEYS, Place, Way, ends, walk

from unwind.core.codec import SAGA_EVENTS, fold
from unwind.core.decide import decide
from unwind.core.events import CompensationStarted, StepSkipped, StepStarted
from unwind.core.groups import Parallel
from unwind.core.messages import Moment, Reply, Resume, Tick, Unwind
from unwind.core.pending import due, resend_due
from unwind.core.saga import Saga
from unwind.core.steps import Kind, Retry

HOUR = timedelta(hours=1)
SAGAS: dict[str, Saga[Trip]] = {
    "one step": trip(booking("a"), deadline=HOUR),
    "one pivot": trip(booking("a", Kind.PIVOT), deadline=HOUR),
    "one action": trip(errand("a"), deadline=HOUR),
    "two steps": trip(booking("a"), booking("b"), deadline=HOUR),
    "a step and an action": trip(booking("a"), errand("b"), deadline=HOUR),
    "a step and the pivot": trip(booking("a"), booking("b", Kind.PIVOT), deadline=HOUR),
    "the pivot and a step": trip(booking("a", Kind.PIVOT), booking("b", Kind.RETRIABLE), deadline=HOUR),
    "an approval": trip(approval("a"), deadline=HOUR),
    "a step and an approval": trip(booking("a"), approval("b"), deadline=HOUR),
    "a step, an approval and a step": trip(booking("a"), approval("b"), booking("c"), deadline=HOUR),
    "an approval after the pivot": trip(booking("a", Kind.PIVOT), approval("b"), deadline=HOUR),
    "a step and a sleep": trip(booking("a"), nap("b"), deadline=HOUR),
    "a step, a sleep and an approval": trip(booking("a"), nap("b"), approval("c"), deadline=HOUR),
    "three steps": trip(booking("a"), booking("b"), booking("c"), deadline=HOUR),
    "three steps, the second the pivot": trip(
        booking("a"), booking("b", Kind.PIVOT), booking("c", Kind.RETRIABLE), deadline=HOUR
    ),
}
ONCE: Any = {"retry": Retry.none(), "undo_retry": Retry.none()}
a, b, c = (booking(name, **ONCE) for name in "abc")
SAGAS |= {
    "two steps side by side": trip(Parallel(a, booking("b")), deadline=HOUR),
    "a step beside an action": trip(Parallel(a, errand("b", **ONCE)), deadline=HOUR),
    "a step beside an approval": trip(Parallel(booking("a"), approval("b")), deadline=HOUR),
    "a step beside a sleep, and a step": trip(Parallel(booking("a"), nap("b")), c, deadline=HOUR),
    "a step, and two beside each other": trip(a, Parallel(b, c), deadline=HOUR),
    "two beside each other, and a step": trip(Parallel(a, b), c, deadline=HOUR),
    "a step beside a sequence of two": trip(Parallel(a, [b, c]), deadline=HOUR),
    "three side by side": trip(Parallel(a, b, c), deadline=HOUR),
    "the pivot, and two beside each other": trip(
        booking("a", Kind.PIVOT), Parallel(booking("b", Kind.RETRIABLE), booking("c", Kind.RETRIABLE)), deadline=HOUR
    ),
    "a step that is a saga": trip(stay("a", **ONCE), deadline=HOUR),
    "a step, and one that is a saga": trip(a, stay("b", **ONCE), deadline=HOUR),
    "a step beside one that is a saga": trip(Parallel(a, stay("b", **ONCE)), deadline=HOUR),
    "a saga that is the pivot, and a step": trip(stay("a", Kind.PIVOT), booking("b", Kind.RETRIABLE), deadline=HOUR),
    "a step for each of two": trip(parcels(a, of=KEYS), deadline=HOUR),
    "a step for each of two, one at a time": trip(parcels(a, of=KEYS, at_once=1), deadline=HOUR),
    "a step for none, and a step": trip(parcels(booking("a"), of=()), booking("b"), deadline=HOUR),
    "a step for each of two, and a step": trip(parcels(a, of=KEYS), b, deadline=HOUR),
}
AT = Moment(0, 0.0, "w1")
STATES = {
    "one step": 165,
    "one pivot": 21,
    "one action": 410,
    "two steps": 829,
    "a step and an action": 1591,
    "a step and the pivot": 270,
    "the pivot and a step": 59,
    "an approval": 11,
    "a step and an approval": 639,
    "a step, an approval and a step": 1303,
    "an approval after the pivot": 71,
    "a step and a sleep": 241,
    "a step, a sleep and an approval": 759,
    "three steps": 2837,
    "three steps, the second the pivot": 346,
    "two steps side by side": 2464,
    "a step beside an action": 1724,
    "a step beside an approval": 553,
    "a step beside a sleep, and a step": 538,
    "a step, and two beside each other": 722,
    "two beside each other, and a step": 706,
    "a step beside a sequence of two": 1612,
    "three side by side": 6449,
    "the pivot, and two beside each other": 439,
    "a step that is a saga": 27,
    "a step, and one that is a saga": 95,
    "a step beside one that is a saga": 393,
    "a saga that is the pivot, and a step": 55,
    "a step for each of two": 521,
    "a step for each of two, one at a time": 178,
    "a step for none, and a step": 165,
    "a step for each of two, and a step": 706,
}


@cache
def walked(name: str) -> tuple[dict[Any, Place], list[Way]]:
    return walk(SAGAS[name])


@pytest.mark.parametrize("name", SAGAS)
def test_the_machine_has_exactly_so_many_states(name: str) -> None:
    places, _ = walked(name)
    assert len(places) == STATES[name]


@pytest.mark.parametrize("name", SAGAS)
def test_from_every_state_a_saga_ends_once_everything_is_answered_yes(name: str) -> None:
    places, _ = walked(name)
    for place in places.values():
        if place.state.status != "new":
            assert ends(SAGAS[name], place), place


@pytest.mark.parametrize("name", SAGAS)
def test_every_live_state_wakes_up_and_no_wake_up_is_in_vain(name: str) -> None:
    places, _ = walked(name)
    for place in places.values():
        at = due(place.state, place.now)
        assert (at is None) == (place.state.paused or not place.state.live)
        if at is not None:
            woken = max(at, place.now)
            after = decide(SAGAS[name], place.state, Tick(0), Moment(woken, 0.0, "w2"))
            assert after.events or resend_due(place.state, woken)


@pytest.mark.parametrize("name", SAGAS)
def test_every_way_is_legal(name: str) -> None:
    _, ways = walked(name)
    for way in ways:
        before, after = way.before, way.after.state
        assert after.version == before.version + len(way.events)
        assert fold([(before.version + 1, SAGA_EVENTS.encode(way.events))], before) == after
        if before.status in {"completed", "compensated"} and not isinstance(way.message, Unwind):
            assert not way.events
        if before.status == "compensating":
            assert not any(isinstance(event, CompensationStarted | StepStarted | StepSkipped) for event in way.events)
        if before.pivoted and before.status == "running" and after.status in {"compensating", "compensated"}:
            assert isinstance(way.message, Reply)
            assert way.message.outcome == "refused"
        if before.paused:
            begun = [event for event in way.events if isinstance(event, StepStarted)]
            assert not begun or isinstance(way.message, Resume)
