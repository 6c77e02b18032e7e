"""Sagas that are accepted now and begin later."""

from datetime import timedelta

from tests.core.trips import Trip, booking, trip

from unwind.core.events import (
    CompensationStarted,
    DomainRecorded,
    SagaCompensated,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    StepStarted,
)
from unwind.core.pending import due
from unwind.core.saga import Saga
from unwind.testing.scenario import START, Scenario, cancel, ok, pause, refused, resume

SECOND = 1_000_000
HOUR = 3_600


def scheduled(saga: Saga[Trip] | None = None) -> Scenario[Trip]:
    return Scenario(saga or trip(booking("flight"))).given(Trip(), begins=HOUR)


def test_nothing_is_done_before_the_time() -> None:
    scheduled().then(events=[SagaStarted], effects=[], status="pending").at(HOUR - 1).nothing_happened()


def test_the_first_step_begins_at_the_time() -> None:
    scheduled().at(HOUR).then(events=[StepStarted], effects=["flight/do"], status="running")


def test_it_sleeps_until_then_in_one_go() -> None:
    assert due(scheduled().state, START) == START + HOUR * SECOND


def test_a_time_that_has_passed_means_at_once() -> None:
    Scenario(trip()).given(Trip(), begins=-5).then(events=[SagaStarted, StepStarted], status="running")


def test_what_the_saga_records_at_its_start_is_recorded_when_it_is_accepted() -> None:
    from tests.core.trips import note  # noqa: PLC0415 - of this test only

    scheduled(trip(booking("flight"), on_started=lambda _: [note("hello")])).then(events=[SagaStarted, DomainRecorded])


def test_the_deadline_counts_from_the_beginning() -> None:
    scenario = scheduled(trip(booking("flight", timeout=timedelta(hours=9)), deadline=timedelta(minutes=5)))
    scenario.at(HOUR + 299).then(status="running").at(HOUR + 300).then(status="compensating")


def test_a_cancel_before_the_time_ends_it_and_nothing_was_done() -> None:
    scheduled().when(cancel()).then(events=[CompensationStarted, SagaCompensated], status="compensated")


def test_a_pause_outlasts_the_time_and_a_resume_does_not_hasten_it() -> None:
    scheduled().when(pause(), resume()).then(events=[SagaPaused, SagaResumed], status="pending", effects=[])
    scenario = scheduled().when(pause()).at(2 * HOUR).nothing_happened().then(status="paused")
    scenario.when(resume()).then(events=[SagaResumed, StepStarted], status="running")


def test_an_answer_to_what_was_never_asked_does_nothing() -> None:
    scheduled().when(ok("flight")).nothing_happened().when(refused("flight")).nothing_happened()
