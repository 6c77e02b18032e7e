"""The point of no return: what holds while the pivot is outstanding, and after it (rule 6)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.core.trips import BOOKED, SECONDS, Trip, booking, diary, pivotal, trip

from unwind.core.events import (
    CompensationStarted,
    SagaBlocked,
    SagaCompleted,
    SagaResumed,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepSkipped,
    StepStarted,
    UndoStarted,
)
from unwind.core.steps import SKIP, Fail, Kind, Retry
from unwind.testing.scenario import START, Scenario, cancel, failed, ok, refused, resume

CAP = Retry().cap // SECONDS
Story = Callable[[], Scenario[Trip]]


def at_the_pivot() -> Scenario[Trip]:
    return Scenario(pivotal(deadline=timedelta(seconds=100))).given(Trip()).when(ok("flight", BOOKED))


def after_the_pivot() -> Scenario[Trip]:
    return at_the_pivot().when(ok("hotel", BOOKED)).then(events=[StepDone, StepStarted], effects=["car/do"])


def test_until_the_pivot_is_started_there_is_a_way_back() -> None:
    Scenario(pivotal()).given(Trip()).when(cancel()).then(verdict="accepted", effects=["flight/undo"])


@pytest.mark.parametrize("make", [at_the_pivot, after_the_pivot])
def test_from_the_pivot_on_nobody_can_cancel(make: Story) -> None:
    scenario = make()
    scenario.when(cancel()).nothing_happened().then(verdict="past_pivot", status="running")


@pytest.mark.parametrize("make", [at_the_pivot, after_the_pivot])
def test_from_the_pivot_on_the_deadline_turns_nothing_round(make: Story) -> None:
    scenario = make()
    scenario.at(29.9)
    before = scenario.state.status, scenario.state.targets
    scenario.at(10_000)
    assert (scenario.state.status, scenario.state.targets) == before
    assert scenario.state.shown_status == "blocked"


def test_a_pivot_is_never_given_up_but_a_person_is_asked() -> None:
    scenario = at_the_pivot().when(failed("hotel")).then(events=[StepFailed])
    scenario.at(10).then(events=[StepRetried]).when(failed("hotel", "down"))
    blocked = SagaBlocked(START + 10 * SECONDS, "hotel", "do", "attempt 2 failed: down", CAP * SECONDS)
    scenario.then(events=[blocked], status="blocked", effects=["hotel/do"])
    scenario.at(20 * CAP).nothing_happened().then(effects=["hotel/do"])
    scenario.when(failed("hotel")).nothing_happened()
    scenario.when(ok("hotel", BOOKED)).then(events=[StepDone, StepStarted], status="running")


def test_a_silent_pivot_is_tried_again_like_one_that_fails() -> None:
    at_the_pivot().at(30).then(events=[StepFailed]).at(70).then(events=[StepRetried, SagaBlocked], status="blocked")


@pytest.mark.parametrize("how", ["at once", "in a backoff", "when blocked"])
def test_a_refused_pivot_turns_the_saga_round(how: str) -> None:
    scenario = at_the_pivot()
    if how != "at once":
        scenario.when(failed("hotel"))
    if how == "when blocked":
        scenario.at(10).when(failed("hotel")).then(status="blocked")
    scenario.when(refused("hotel", "full")).then(
        events=[StepRefused, CompensationStarted, UndoStarted], effects=["flight/undo"], status="compensating"
    )


@pytest.mark.parametrize("how", ["at once", "in a backoff"])
def test_a_refusal_after_the_pivot_blocks_until_the_step_says_yes(how: str) -> None:
    scenario = after_the_pivot()
    if how == "in a backoff":
        scenario.when(failed("car"))
    scenario.when(refused("car", "no cars"))
    scenario.then(events=[SagaBlocked(START, "car", "do", "no cars", CAP * SECONDS, True)], status="blocked")
    scenario.when(refused("car"), failed("car")).nothing_happened()
    scenario.at(3 * CAP).then(effects=["car/do"], status="blocked")
    scenario.when(ok("car", BOOKED)).then(events=[StepDone, SagaCompleted], status="completed")


def test_a_step_after_the_pivot_is_retried_and_then_asks_for_a_person() -> None:
    scenario = after_the_pivot().when(failed("car")).at(10).when(failed("car"))
    scenario.then(events=[SagaBlocked], status="blocked", effects=["car/do"])
    scenario.when(resume()).then(events=[SagaResumed], status="running", effects=["car/do"])
    scenario.when(failed("car")).then(events=[SagaBlocked])


def test_a_guard_that_fails_after_the_pivot_blocks_and_is_asked_again() -> None:
    fickle = booking("car", Kind.RETRIABLE, verdict=Fail("no licence"))
    saga = trip(booking("flight"), booking("hotel", Kind.PIVOT), fickle)
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED), ok("hotel", BOOKED))
    reason = "car.guard said fail after the pivot: no licence"
    scenario.then(status="blocked", effects=[])
    assert scenario.happened[-1] == SagaBlocked(START, "car", "do", reason, CAP * SECONDS)
    scenario.at(3 * CAP).nothing_happened()
    type(fickle).verdict = "proceed"
    scenario.at(4 * CAP).then(events=[StepStarted], effects=["car/do"], status="running")


def test_a_pivot_that_is_refused_by_its_guard_turns_the_saga_round() -> None:
    saga = trip(booking("flight"), booking("hotel", Kind.PIVOT, verdict=Fail("too dear")))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED))
    scenario.then(events=[StepDone, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_past_a_skipped_pivot_there_is_only_forward_for_what_follows_has_no_undo() -> None:
    saga = trip(booking("flight"), booking("hotel", Kind.PIVOT, verdict=SKIP), booking("car", Kind.RETRIABLE))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED))
    scenario.then(events=[StepDone, StepSkipped, StepStarted], effects=["car/do"])
    scenario.when(cancel()).then(verdict="past_pivot")
    scenario.when(refused("car")).then(events=[SagaBlocked], status="blocked")
    scenario.when(ok("car", BOOKED)).then(status="completed")


def test_a_pivot_that_only_records_is_passed_at_once() -> None:
    saga = trip(booking("flight"), diary("page", Kind.PIVOT), booking("car", Kind.RETRIABLE))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED)).then(effects=["car/do"])
    scenario.when(cancel()).then(verdict="past_pivot")


def test_a_deadline_that_passed_before_the_pivot_keeps_it_from_starting() -> None:
    scenario = at_the_pivot()
    assert scenario.state.pivoted
    late = Scenario(pivotal(deadline=timedelta(seconds=5))).given(Trip()).at(4.9).when(ok("flight", BOOKED))
    assert late.state.pivoted
    Scenario(pivotal(deadline=timedelta(seconds=5))).given(Trip()).at(5).then(status="compensating")
