"""No state is a trap: all reachable states of small sagas, under every input, without chance."""

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from tests.core.trips import Trip, approval, booking, errand, nap, trip
from tests.core.walk import YES, Place, Way, walk

from unwind.core.codec import SAGA_EVENTS, fold
from unwind.core.decide import decide
from unwind.core.events import CompensationStarted, StepSkipped, StepStarted
from unwind.core.messages import Moment, Reply, Resume, Signal, Tick
from unwind.core.pending import due, pending, resend_due
from unwind.core.rules import waiting
from unwind.core.saga import Saga
from unwind.core.steps import Kind

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
AT = Moment(0, 0.0, "w1")
STATES = {
    "one step": 152,
    "one pivot": 21,
    "one action": 409,
    "two steps": 768,
    "a step and an action": 1578,
    "a step and the pivot": 258,
    "the pivot and a step": 59,
    "an approval": 10,
    "a step and an approval": 602,
    "a step, an approval and a step": 1218,
    "an approval after the pivot": 71,
    "a step and a sleep": 192,
    "a step, a sleep and an approval": 722,
    "three steps": 2632,
    "three steps, the second the pivot": 334,
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


def ends(saga: Saga[Trip], place: Place) -> bool:
    """Resumes what is paused, answers yes to what is asked, and wakes what waits."""
    state, now = place.state, place.now
    for _ in range(30):
        if not state.live:
            return True
        effects, at = pending(state), due(state, now)
        if state.paused:
            state = decide(saga, state, Resume("a"), Moment(now, 0.0, "w1")).state
        elif effects:
            reply = Reply(effects[0].step, effects[0].direction, "ok", effects[0].attempt, YES)
            state = decide(saga, state, reply, Moment(now, 0.0, "w1")).state
        elif (waits := waiting(state)) is not None and decide(saga, state, Signal(waits.step, YES), AT).events:
            state = decide(saga, state, Signal(waits.step, YES), Moment(now, 0.0, "w1")).state
        else:
            assert at is not None
            now = max(now, at)
            state = decide(saga, state, Tick(0), Moment(now, 0.0, "w1")).state
    return False


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
        if before.status in {"completed", "compensated"}:
            assert not way.events
        if before.status == "compensating":
            assert not any(isinstance(event, CompensationStarted | StepStarted | StepSkipped) for event in way.events)
        if before.pivoted and before.status == "running" and after.status in {"compensating", "compensated"}:
            assert isinstance(way.message, Reply)
            assert way.message.outcome == "refused"
        if before.paused:
            begun = [event for event in way.events if isinstance(event, StepStarted)]
            assert not begun or isinstance(way.message, Resume)
