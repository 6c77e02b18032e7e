"""The way back: what is undone, in which order, how long it is tried, and when a person is asked (rules 4 and 5)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.core.trips import BOOKED, SECONDS, Booked, Trip, Unbook, booking, diary, note, trip

from unwind.core.events import (
    CompensationStarted,
    DomainRecorded,
    SagaBlocked,
    SagaCompensated,
    SagaResumed,
    StepRefused,
    UndoDone,
    UndoFailed,
    UndoRetried,
    UndoStarted,
)
from unwind.core.messages import Reply
from unwind.core.pending import due, resend_due
from unwind.core.steps import Retry
from unwind.testing.scenario import (
    START,
    Scenario,
    cancel,
    failed,
    ok,
    refused,
    resume,
    undo_failed,
    undo_refused,
    undone,
)

CAP = Retry().cap // SECONDS
Story = Callable[[], Scenario[Trip]]


def compensating() -> Scenario[Trip]:
    return Scenario(trip(booking("flight"))).given(Trip()).when(cancel())


def blocked_by_refusal() -> Scenario[Trip]:
    return compensating().when(undo_refused("flight", "too late"))


def blocked_by_failures() -> Scenario[Trip]:
    return compensating().when(undo_failed("flight")).at(10).when(undo_failed("flight", "still down"))


def test_everything_is_undone_in_exact_reverse_order_one_after_the_other() -> None:
    (
        Scenario(trip())
        .given(Trip())
        .when(ok("flight", Booked("f")), ok("hotel", Booked("h")), refused("car"))
        .then(effects=[Unbook("hotel", ("f", "h"))])
        .when(undone("flight"))
        .nothing_happened()
        .when(undone("hotel"))
        .then(events=[UndoDone, UndoStarted], effects=[Unbook("flight", ("f", "h"))])
        .when(undone("flight"))
        .then(events=[UndoDone, SagaCompensated], effects=[], status="compensated")
    )


def test_a_refused_step_is_not_undone() -> None:
    scenario = Scenario(trip()).given(Trip()).when(refused("flight"))
    scenario.then(events=[StepRefused, CompensationStarted(START, "refused", (), "flight", "no"), SagaCompensated])


def done(scenario: Scenario[Trip]) -> None:
    scenario.when(ok("hotel", BOOKED), refused("car"))


def outstanding(scenario: Scenario[Trip]) -> None:
    scenario.when(cancel())


def in_a_backoff(scenario: Scenario[Trip]) -> None:
    scenario.when(failed("hotel"), cancel())


def unknown(scenario: Scenario[Trip]) -> None:
    scenario.when(failed("hotel")).at(10).when(failed("hotel"))


@pytest.mark.parametrize("comes_to_be", [done, outstanding, in_a_backoff, unknown])
def test_undone_is_every_started_step_that_may_have_had_its_effect(
    comes_to_be: Callable[[Scenario[Trip]], None],
) -> None:
    scenario = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED))
    comes_to_be(scenario)
    scenario.then(effects=["hotel/undo"]).when(undone("hotel")).then(effects=["flight/undo"])


@pytest.mark.parametrize("outcome", ["ok", "refused", "failed"])
def test_a_late_reply_to_a_step_that_is_being_undone_does_nothing(outcome: str) -> None:
    late = Reply("flight", "do", outcome, 1)  # type: ignore[arg-type]
    compensating().when(late).nothing_happened().then(effects=["flight/undo"])


def test_an_undo_that_fails_is_retried_with_the_same_command() -> None:
    scenario = compensating()
    [before] = scenario.state.undos
    scenario.when(undo_failed("flight", "down"))
    scenario.then(events=[UndoFailed(START, "flight", 1, START + 10 * SECONDS, "down")], effects=[])
    scenario.at(10).then(events=[UndoRetried], effects=["flight/undo"])
    [after] = scenario.state.undos
    assert before is not None
    assert after is not None
    assert (after.command, after.attempt.number) == (before.command, 2)


def test_a_silent_undo_is_retried_and_then_blocks() -> None:
    scenario = compensating().at(30).then(events=[UndoFailed]).at(40).then(events=[UndoRetried])
    scenario.at(70).then(events=[SagaBlocked], status="blocked", effects=["flight/undo"])


@pytest.mark.parametrize("attempt", [2, 9])
def test_a_failed_undo_counts_only_for_the_attempt_in_progress(attempt: int) -> None:
    compensating().when(undo_failed("flight", attempt=attempt)).nothing_happened()


def test_a_failed_undo_in_a_backoff_is_a_duplicate() -> None:
    compensating().when(undo_failed("flight")).when(undo_failed("flight")).nothing_happened()


def test_an_undo_confirmed_in_a_backoff_or_by_an_older_attempt_is_done() -> None:
    compensating().when(undo_failed("flight"), undone("flight")).then(status="compensated")
    compensating().when(undo_failed("flight")).at(10).when(undone("flight", attempt=1)).then(status="compensated")


def test_after_its_attempts_an_undo_asks_for_a_person_once() -> None:
    blocked = SagaBlocked(START + 10 * SECONDS, "flight", "undo", "attempt 2 failed: still down", CAP * SECONDS)
    scenario = blocked_by_failures().then(events=[blocked], status="blocked")
    scenario.when(undo_failed("flight"), undo_refused("flight")).nothing_happened()


def test_a_refused_undo_asks_for_a_person_at_once() -> None:
    blocked = SagaBlocked(START, "flight", "undo", "too late", CAP * SECONDS, True)
    blocked_by_refusal().then(events=[blocked], status="blocked")


@pytest.mark.parametrize("make", [blocked_by_refusal, blocked_by_failures])
def test_a_blocked_saga_is_tried_again_at_the_cap_for_ever_and_without_an_event(make: Story) -> None:
    scenario = make()
    state, since = scenario.state, scenario.now
    for tries in (1, 2, 50):
        at = since + tries * CAP * SECONDS
        assert due(state, at - 1) == at
        assert resend_due(state, at)
        assert not resend_due(state, since + CAP * SECONDS - 1)
        scenario.at((at - START) / SECONDS).nothing_happened().then(effects=["flight/undo"], status="blocked")


@pytest.mark.parametrize("make", [blocked_by_refusal, blocked_by_failures])
def test_a_blocked_undo_that_succeeds_after_all_sets_the_saga_free(make: Story) -> None:
    scenario = make()
    scenario.when(undone("flight", attempt=1)).then(events=[UndoDone, SagaCompensated], status="compensated")


def test_an_undo_refused_in_a_backoff_blocks_and_is_still_tried_again() -> None:
    scenario = compensating().when(undo_failed("flight"), undo_refused("flight"))
    scenario.then(events=[UndoFailed, SagaBlocked], effects=[], status="blocked")
    scenario.at(CAP).then(events=[UndoRetried], effects=["flight/undo"], status="blocked")
    scenario.at(5 * CAP).nothing_happened().then(effects=["flight/undo"])


def test_a_blocked_undo_holds_back_the_undos_before_it() -> None:
    scenario = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED), ok("hotel", BOOKED), refused("car"))
    scenario.when(undo_refused("hotel")).at(10 * CAP).then(effects=["hotel/undo"], status="blocked")
    assert scenario.state.targets == ("hotel", "flight")
    scenario.when(undone("hotel")).then(effects=["flight/undo"], status="compensating")


def test_resume_retries_a_blocked_undo_now_and_asks_again_when_that_fails() -> None:
    scenario = blocked_by_failures().when(resume())
    scenario.then(events=[SagaResumed], effects=["flight/undo"], status="compensating")
    scenario.when(undo_failed("flight")).then(events=[SagaBlocked], status="blocked")
    scenario.when(resume()).at(39.9).nothing_happened().at(40).then(events=[SagaBlocked])


def test_resume_of_a_blocked_saga_in_a_backoff_begins_the_next_attempt() -> None:
    scenario = compensating().when(undo_failed("flight"), undo_refused("flight"), resume())
    scenario.then(events=[UndoFailed, SagaBlocked, SagaResumed, UndoRetried], effects=["flight/undo"])


def test_cancelling_what_is_being_undone_changes_nothing_and_is_no_error() -> None:
    compensating().when(cancel()).nothing_happened().then(verdict="undoing", status="compensating")
    blocked_by_refusal().when(cancel()).nothing_happened().then(verdict="undoing", status="blocked")


def test_a_cancelled_saga_says_who_wanted_it() -> None:
    scenario = Scenario(trip()).given(Trip()).when(cancel("bob", "changed my mind"))
    turn = CompensationStarted(START, "cancelled", ("flight",), "flight", "changed my mind", "bob")
    scenario.then(events=[turn, UndoStarted], verdict="accepted")


def test_a_step_that_only_records_is_taken_back_in_one_decision() -> None:
    scenario = Scenario(trip(diary("page"), booking("flight"))).given(Trip()).when(refused("flight"))
    scenario.then(
        events=[StepRefused, CompensationStarted, UndoStarted, UndoDone, DomainRecorded, SagaCompensated],
        records=[note("page undone").event],
        status="compensated",
    )


def test_an_undo_has_its_own_timeout_and_its_resend_fits_into_it() -> None:
    quick = booking("flight", undo_timeout=timedelta(seconds=4))
    [undo] = Scenario(trip(quick)).given(Trip()).when(cancel()).state.undos
    assert undo is not None
    assert (undo.attempt.expires, undo.attempt.resend) == (START + 4 * SECONDS, 2 * SECONDS)
