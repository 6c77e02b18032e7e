"""Questions put to a state: what is shown, what is current, what is in flight, and when it must be woken."""

from functools import reduce

import pytest
from tests.core.trips import BOOKED, SECONDS, Trip, booking, diary, errand, trip

from unwind.core.events import UndoFailed, UndoRetried
from unwind.core.evolve import evolve
from unwind.core.messages import Attempt
from unwind.core.pending import due, outstanding, pending, resend_due
from unwind.core.state import NEW, State, StepRun
from unwind.core.steps import Retry
from unwind.testing.scenario import START, Scenario, cancel, failed, ok, pause, refused, undo_failed, undone

FAR = START + 10**15


def started() -> Scenario[Trip]:
    return Scenario(trip()).given(Trip())


def seconds(number: float) -> int:
    return START + round(number * SECONDS)


def test_a_saga_that_does_not_exist_is_pending_and_never_due() -> None:
    assert (NEW.shown_status, NEW.live, NEW.current_step()) == ("pending", False, None)
    assert (due(NEW, 0), pending(NEW)) == (None, ())


def test_paused_hides_blocked_and_an_ended_saga_is_neither() -> None:
    careless = Scenario(trip(booking("flight", verdict=ValueError("oops")))).given(Trip()).then(status="blocked")
    careless.when(pause()).then(status="paused").when(cancel()).then(status="compensated")


def test_the_current_step_is_the_one_being_done_or_undone() -> None:
    scenario = started()
    assert scenario.state.current_step() == "flight"
    scenario.when(ok("flight", BOOKED))
    assert scenario.state.current_step() == "hotel"
    scenario.when(cancel())
    assert scenario.state.current_step() == "hotel"
    scenario.when(undone("hotel"))
    assert scenario.state.current_step() == "flight"
    scenario.when(pause(), undone("flight"))
    assert scenario.state.current_step() is None


def test_between_two_undos_the_current_step_is_the_next_to_undo() -> None:
    scenario = started().when(ok("flight", BOOKED), cancel(), pause(), undone("hotel"))
    assert (scenario.state.undos, scenario.state.current_step()) == ((), "flight")


def test_a_run_is_found_by_its_step() -> None:
    state = started().when(ok("flight", BOOKED)).state
    flight = state.run("flight")
    assert flight is not None
    assert (flight.status, state.run("car")) == ("done", None)


def test_an_ended_saga_is_never_due_and_asks_for_nothing() -> None:
    state = started().when(refused("flight")).state
    assert (due(state, FAR), pending(state), outstanding(state), resend_due(state, FAR)) == (None, (), [], False)


@pytest.mark.parametrize(("now", "at"), [(0, 5), (4.9, 5), (5, 10), (26, 30), (31, 30)])
def test_an_outstanding_command_is_due_at_its_next_resend_or_its_timeout(now: float, at: float) -> None:
    assert due(started().state, seconds(now)) == seconds(at)


def test_a_resend_is_due_from_the_first_interval_on() -> None:
    state = started().state
    assert not resend_due(state, seconds(4.9))
    assert resend_due(state, seconds(5))


def test_a_backoff_is_due_at_its_end_and_asks_for_nothing_before() -> None:
    state = started().when(failed("flight")).state
    assert (due(state, seconds(3)), pending(state)) == (seconds(10), ())
    state = started().when(cancel(), undo_failed("flight")).state
    assert (due(state, seconds(3)), pending(state)) == (seconds(10), ())


def test_a_retry_without_a_delay_is_due_at_once() -> None:
    scenario = Scenario(trip(booking("flight", retry=Retry(2)))).given(Trip()).when(failed("flight"))
    assert due(scenario.state, scenario.now) == scenario.now
    scenario.at(0).then(effects=["flight/do"])


def test_a_state_in_between_the_events_of_one_decision_is_due_now() -> None:
    """It is never stored, but shown to whoever goes back in time."""
    story = Scenario(trip(diary("c"), errand("d"))).given(Trip())
    for number in range(1, len(story.log) + 1):
        at = story.log[number - 1].at
        assert due(reduce(evolve, story.log[:number], NEW), at) is not None
    assert [type(event).__name__ for event in story.log[:3]] == ["SagaStarted", "StepStarted", "StepDone"]
    assert due(reduce(evolve, story.log[:2], NEW), 7) == 7


def test_a_saga_that_could_go_on_by_itself_is_due_now() -> None:
    """No decision leaves such a state; a log that was written otherwise must still wake up."""
    done = StepRun("flight", "done", Attempt(1))
    assert due(State("s", 3, "running", runs=(done,)), 7) == 7
    assert due(State("s", 3, "compensating", runs=(done,), targets=("flight",)), 7) == 7
    assert due(State("s", 3, "compensating"), 7) == 7


def test_undo_events_without_an_undo_leave_none() -> None:
    assert evolve(NEW, UndoFailed(1, "a", 1, 2)).undos == ()
    assert evolve(NEW, UndoRetried(1, "a", Attempt(1))).undos == ()


def test_domain_events_are_counted_stream_by_stream() -> None:
    scenario = Scenario(trip(diary("a"), diary("b"), booking("c"))).given(Trip())
    assert scenario.state.streams == (("diary-1", 2),)
    scenario.when(cancel(), undone("c"))
    assert scenario.state.streams == (("diary-1", 4),)
