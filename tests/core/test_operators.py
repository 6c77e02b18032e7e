"""What operators do: pause, resume, cancel, in whatever a saga is doing (rule 8)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.core.trips import BOOKED, SECONDS, Trip, booking, errand, pivotal, trip

from unwind.core.decide import decide
from unwind.core.events import (
    CompensationStarted,
    SagaBlocked,
    SagaCompleted,
    SagaPaused,
    SagaResumed,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepStarted,
    UndoDone,
    UndoStarted,
)
from unwind.core.messages import Cancel, Moment, Tick
from unwind.core.pending import due
from unwind.testing.scenario import (
    START,
    Scenario,
    cancel,
    failed,
    ok,
    pause,
    refused,
    resume,
    undo_failed,
    undo_refused,
    undone,
)

Story = Callable[[], Scenario[Trip]]


def outstanding() -> Scenario[Trip]:
    return Scenario(trip()).given(Trip())


def in_a_backoff() -> Scenario[Trip]:
    return outstanding().when(failed("flight"))


def undoing() -> Scenario[Trip]:
    return outstanding().when(cancel())


def undo_in_a_backoff() -> Scenario[Trip]:
    return undoing().when(undo_failed("flight"))


def blocked() -> Scenario[Trip]:
    return undoing().when(undo_refused("flight"))


def past_the_pivot() -> Scenario[Trip]:
    return Scenario(pivotal()).given(Trip()).when(ok("flight", BOOKED))


ANYWHERE = [outstanding, in_a_backoff, undoing, undo_in_a_backoff, blocked, past_the_pivot]


@pytest.mark.parametrize("make", ANYWHERE)
def test_a_paused_saga_asks_for_nothing_and_is_never_due(make: Story) -> None:
    scenario = make().when(pause("bob", "audit"))
    scenario.then(events=[SagaPaused(START, "bob", "audit")], effects=[], status="paused", verdict="accepted")
    assert due(scenario.state, scenario.now) is None
    late = Moment(START + 10**15, 0.0, "w")
    assert decide(scenario.saga, scenario.state, Tick(0), late).events == ()


@pytest.mark.parametrize("make", ANYWHERE)
def test_pausing_twice_is_pausing_once(make: Story) -> None:
    make().when(pause()).when(pause()).nothing_happened().then(verdict="accepted", status="paused")


@pytest.mark.parametrize("make", ANYWHERE)
def test_resume_drives_what_is_outstanding_and_says_who_did(make: Story) -> None:
    scenario = make().when(pause()).at(1000).when(resume("bob", "audit over"))
    assert scenario.happened[0] == SagaResumed(START + 1000 * SECONDS, "bob", "audit over")
    assert len(scenario.effects) == 1
    assert scenario.state.shown_status in {"running", "compensating"}
    wake = due(scenario.state, scenario.now)
    assert wake is not None
    assert wake > scenario.now


@pytest.mark.parametrize("make", ANYWHERE)
def test_resume_needs_no_pause(make: Story) -> None:
    scenario = make().when(resume()).then(verdict="accepted")
    assert isinstance(scenario.happened[0], SagaResumed)
    assert len(scenario.effects) == 1


def test_resume_restarts_the_clock_of_the_attempt() -> None:
    scenario = outstanding().at(29).when(pause()).at(500).when(resume())
    scenario.at(529.9).nothing_happened().at(530).then(events=[StepFailed])


def test_resume_ends_a_backoff() -> None:
    in_a_backoff().when(resume()).then(events=[SagaResumed, StepRetried], effects=["flight/do"])


def test_a_yes_is_recorded_while_paused_and_the_next_step_waits_for_resume() -> None:
    scenario = outstanding().when(pause()).when(ok("flight", BOOKED))
    scenario.then(events=[StepDone], effects=[], status="paused")
    scenario.when(resume()).then(events=[SagaResumed, StepStarted], effects=["hotel/do"], status="running")


def test_the_last_yes_is_recorded_while_paused_and_the_saga_completes_on_resume() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).when(pause(), ok("flight", BOOKED))
    scenario.then(status="paused").when(resume()).then(events=[SagaResumed, SagaCompleted], status="completed")


def test_a_refusal_is_recorded_while_paused_and_no_undo_begins_before_resume() -> None:
    scenario = outstanding().when(ok("flight", BOOKED), pause()).when(refused("hotel"))
    scenario.then(events=[StepRefused, CompensationStarted], effects=[], status="paused")
    scenario.at(1000).nothing_happened()
    scenario.when(resume()).then(events=[SagaResumed, UndoStarted], effects=["flight/undo"], status="compensating")


def test_a_failure_is_recorded_while_paused_and_retried_on_resume() -> None:
    scenario = outstanding().when(pause()).when(failed("flight")).then(events=[StepFailed], status="paused")
    scenario.at(1000).nothing_happened().when(resume()).then(events=[SagaResumed, StepRetried])


def test_a_confirmed_undo_is_recorded_while_paused_and_the_next_waits_for_resume() -> None:
    scenario = outstanding().when(ok("flight", BOOKED), cancel(), pause()).when(undone("hotel"))
    scenario.then(events=[UndoDone], effects=[], status="paused")
    scenario.when(resume()).then(events=[SagaResumed, UndoStarted], effects=["flight/undo"])


def test_a_refused_undo_is_recorded_while_paused() -> None:
    undoing().when(pause()).when(undo_refused("flight")).then(events=[SagaBlocked], status="paused", effects=[])


def test_an_action_that_ends_while_paused_and_turned_round_is_recorded() -> None:
    scenario = Scenario(trip(booking("flight"), errand("visa"))).given(Trip()).when(ok("flight", BOOKED), cancel())
    scenario.when(pause(), ok("visa")).then(effects=[], status="paused")
    scenario.when(resume()).then(events=[SagaResumed, UndoStarted], effects=["visa/undo"])


def test_cancel_lifts_the_pause_of_a_running_saga() -> None:
    scenario = outstanding().when(pause()).when(cancel())
    scenario.then(events=[CompensationStarted, UndoStarted], effects=["flight/undo"], status="compensating")


@pytest.mark.parametrize("make", [undoing, blocked])
def test_cancel_lifts_the_pause_of_a_compensating_saga(make: Story) -> None:
    scenario = make().when(pause()).when(Cancel("bob", "go on"))
    scenario.then(events=[SagaResumed(START, "bob", "go on")], effects=["flight/undo"], status="compensating")


@pytest.mark.parametrize("make", [undoing, undo_in_a_backoff, blocked])
def test_a_cancel_of_what_is_being_undone_already_says_so_and_changes_nothing(make: Story) -> None:
    make().when(cancel("bob", "go on")).nothing_happened().then(verdict="undoing")


def test_cancel_lifts_the_pause_of_a_saga_that_turned_round_meanwhile() -> None:
    scenario = outstanding().when(ok("flight", BOOKED), pause(), refused("hotel")).when(cancel())
    scenario.then(events=[SagaResumed, UndoStarted], effects=["flight/undo"], verdict="accepted")


def test_a_saga_paused_past_the_pivot_cannot_be_cancelled_and_stays_paused() -> None:
    past_the_pivot().when(pause()).when(cancel()).nothing_happened().then(verdict="past_pivot", status="paused")


def test_a_saga_resumed_after_its_deadline_begins_nothing_but_its_undoing() -> None:
    saga = pivotal(deadline=timedelta(seconds=20))
    scenario = Scenario(saga).given(Trip()).when(pause(), ok("flight", BOOKED)).at(60).when(resume())
    scenario.then(events=[SagaResumed, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_an_outstanding_step_resumed_after_the_deadline_is_undone_at_the_next_wake_up() -> None:
    scenario = Scenario(trip(deadline=timedelta(seconds=20))).given(Trip()).when(pause()).at(60).when(resume())
    assert due(scenario.state, scenario.now) == START + 20 * SECONDS
    scenario.at(60).then(events=[CompensationStarted, UndoStarted])


def test_a_blocked_saga_before_the_pivot_still_has_its_deadline() -> None:
    careless = booking("hotel", verdict=ValueError("oops"))
    saga = trip(booking("flight"), careless, deadline=timedelta(seconds=400))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED)).then(status="blocked")
    scenario.at(399).nothing_happened().at(400).then(events=[CompensationStarted, UndoStarted], status="compensating")
