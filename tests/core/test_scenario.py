"""The kit for tests of sagas: it sees what happens, and it says so when that is not what was expected."""

from typing import Any

import pytest
from tests.core.trips import BOOKED, Book, Booked, Noted, Trip, Unbook, booking, diary, errand, trip

from unwind.core.events import SagaCompleted, SagaStarted, StepDone, StepStarted
from unwind.testing.scenario import START, Scenario, failed, ok, refused, undo_failed, undo_refused, undone


def test_a_whole_saga_reads_as_a_story() -> None:
    (
        Scenario(trip())
        .given(Trip("grace"))
        .then(effects=[Book("flight")], status="running")
        .when(ok("flight", Booked("f1")))
        .then(effects=[Book("hotel", ("f1",))], context=Trip("grace", ("f1",)))
        .at(70)
        .then(status="compensating", effects=[Unbook("hotel", ("f1",))])
        .when(undone("hotel"), undone("flight"))
        .then(status="compensated", effects=[])
    )


def test_events_may_be_given_whole_or_by_type() -> None:
    scenario = Scenario(trip(diary("page"))).given(Trip())
    scenario.then(records=[Noted("page done")])
    assert scenario.happened == scenario.log
    scenario.then(events=[SagaStarted, StepStarted, StepDone, type(scenario.log[3]), SagaCompleted(START)])


def test_a_reply_is_for_the_attempt_in_progress_unless_told() -> None:
    scenario = Scenario(trip()).given(Trip()).when(failed("flight")).at(10)
    scenario.when(failed("flight", attempt=1)).nothing_happened()
    scenario.when(failed("flight")).then(status="compensating")
    scenario.when(undo_failed("flight")).at(20).when(undo_failed("flight", attempt=1)).nothing_happened()
    scenario.when(undo_refused("flight")).then(status="blocked")
    scenario.when(refused("yacht"), undone("yacht")).nothing_happened()


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": [StepDone]},
        {"events": [SagaStarted, StepStarted, StepDone]},
        {"events": [SagaStarted, SagaCompleted(START)]},
        {"effects": []},
        {"effects": ["hotel/do"]},
        {"effects": [Book("hotel")]},
        {"effects": [Book("flight"), Book("hotel")]},
        {"records": [Noted("x")]},
        {"status": "completed"},
        {"context": Trip("eve")},
        {"verdict": "exists"},
    ],
    ids=str,
)
def test_what_is_not_as_expected_is_said(wrong: dict[str, Any]) -> None:
    scenario = Scenario(trip()).given(Trip())
    with pytest.raises(AssertionError, match=f"{next(iter(wrong))}\n  expected: .*\n  happened: "):
        scenario.then(**wrong)


def test_something_that_happened_is_not_nothing() -> None:
    with pytest.raises(AssertionError, match="events"):
        Scenario(trip()).given(Trip()).nothing_happened()


def test_a_saga_that_cannot_start_says_why() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        Scenario(trip(on_started=lambda context: [1 / 0])).given(Trip())


def test_time_goes_forward_only() -> None:
    with pytest.raises(ValueError, match="time goes forward only"):
        Scenario(trip()).given(Trip()).at(5).at(4)


def test_an_action_is_named_not_compared() -> None:
    scenario = Scenario(trip(errand("visa"))).given(Trip()).then(effects=["visa/do"])
    with pytest.raises(AssertionError, match="visa/do"):
        scenario.then(effects=[Book("visa")])


def test_the_context_is_the_author_s() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip("grace")).when(ok("flight", BOOKED))
    assert scenario.context == Trip("grace", ("x1",))
