"""The way forward: starting, replies, failures, guards, skips, deadlines (rules 1, 2, 3 and 7 of the machine)."""

from datetime import timedelta

import pytest
from msgspec import Raw
from tests.core.trips import BOOKED, SECONDS, Booked, Trip, Unbook, booking, diary, errand, note, trip

from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.effects import SendCommand
from unwind.core.events import (
    CompensationStarted,
    DomainRecorded,
    SagaCompensated,
    SagaCompleted,
    SagaStarted,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepSkipped,
    StepStarted,
    StepUnknown,
    UndoStarted,
)
from unwind.core.messages import Cancel, Input, Moment, Pause, Reply, Resume, Start, Tick
from unwind.core.state import NEW
from unwind.core.steps import PROCEED, SKIP, CommandStep, Fail, Outcome, Verdict
from unwind.testing.scenario import START, Scenario, cancel, failed, ok, pause, refused, undone

OUTSIDERS: list[Input] = [
    Reply("flight", "do", "ok", 1),
    Reply("flight", "undo", "ok", 1),
    Tick(0),
    Cancel("bob"),
    Pause("bob"),
    Resume("bob"),
]


def test_steps_go_one_after_another_and_the_last_completes_the_saga() -> None:
    (
        Scenario(trip(booking("flight"), booking("hotel")))
        .given(Trip())
        .then(events=[SagaStarted, StepStarted], effects=["flight/do"], status="running")
        .when(ok("flight", Booked("f")))
        .then(events=[StepDone, StepStarted], effects=["hotel/do"], context=Trip(codes=("f",)))
        .when(ok("hotel", Booked("h")))
        .then(events=[StepDone, SagaCompleted], effects=[], status="completed", context=Trip(codes=("f", "h")))
    )


def test_the_command_names_its_service() -> None:
    effect = Scenario(trip()).given(Trip()).effects[0]
    assert isinstance(effect, SendCommand)
    assert (effect.command.service, effect.command.name) == ("agency", "agency.book")


def test_a_saga_starts_once() -> None:
    scenario = Scenario(trip()).given(Trip()).when(Start("saga-1", Raw(b'{"traveller":"eve"}'), "other"))
    scenario.nothing_happened().then(verdict="exists", context=Trip("ada"))


def test_the_start_pins_definition_request_and_trace() -> None:
    saga = trip(version=3, deadline=timedelta(minutes=1))
    start = Start("s", Raw(b"{}"), "hash", "order-7", "00-abc")
    state = decide(saga, NEW, start, Moment(5, 0.0, "w")).state
    assert (state.definition, state.definition_version, state.definition_hash) == ("trip", 3, saga.hash)
    assert (state.request_hash, state.correlation_id, state.traceparent) == ("hash", "order-7", "00-abc")
    assert (state.started_at, state.deadline) == (5, 5 + 60 * SECONDS)


def test_a_saga_that_is_not_correlated_is_correlated_with_itself() -> None:
    assert Scenario(trip()).given(Trip()).state.correlation_id == "saga-1"


@pytest.mark.parametrize("message", OUTSIDERS, ids=lambda message: type(message).__name__)
def test_before_its_start_a_saga_ignores_everything(message: Input) -> None:
    assert decide(trip(), NEW, message, Moment(0, 0.0, "w")) == Decision(NEW, verdict="ignored")


@pytest.mark.parametrize("end", ["completed", "compensated"])
@pytest.mark.parametrize("message", OUTSIDERS, ids=lambda message: type(message).__name__)
def test_an_ended_saga_is_silent(message: Input, end: str) -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip())
    scenario.when(ok("flight", BOOKED) if end == "completed" else refused("flight"))
    assert scenario.state.status == end
    before = scenario.state
    asked = isinstance(message, Cancel | Pause | Resume)
    scenario.when(message).nothing_happened().then(verdict="ended" if asked else "ignored")
    assert scenario.state == before


def test_a_refusal_turns_the_saga_round_at_once_however_many_attempts_are_left() -> None:
    (
        Scenario(trip())
        .given(Trip())
        .when(ok("flight", BOOKED), refused("hotel", "full"))
        .then(events=[StepDone, StepStarted, StepRefused, CompensationStarted, UndoStarted], status="compensating")
    )


def test_a_failure_is_retried_after_the_policy_s_delay_with_the_same_command() -> None:
    scenario = Scenario(trip()).given(Trip())
    first = scenario.effects[0]
    scenario.when(failed("flight", "timeout at the airline"))
    failure = StepFailed(START, "flight", 1, START + 10 * SECONDS, "timeout at the airline")
    scenario.then(events=[failure], effects=[], status="running")
    scenario.at(9.9).nothing_happened().at(10).then(events=[StepRetried])
    (second,) = scenario.effects
    assert isinstance(first, SendCommand)
    assert isinstance(second, SendCommand)
    assert (first.attempt, second.attempt, second.command) == (1, 2, first.command)


def test_when_attempts_are_used_up_the_step_is_unknown_and_is_undone_itself() -> None:
    scenario = Scenario(trip()).given(Trip()).when(failed("flight")).at(10).when(failed("flight", "gone"))
    compensation = CompensationStarted(START + 10 * SECONDS, "unknown", ("flight",), "flight", "gone")
    scenario.then(events=[StepUnknown, compensation, UndoStarted], effects=[Unbook("flight")])


def test_silence_is_an_attempt_that_failed() -> None:
    scenario = Scenario(trip()).given(Trip()).at(29.9).nothing_happened()
    scenario.at(30).then(events=[StepFailed(START + 30 * SECONDS, "flight", 1, START + 40 * SECONDS, *LATE)])
    scenario.at(69.9).then(events=[StepRetried]).at(70).then(events=[StepUnknown, CompensationStarted, UndoStarted])


LATE = ("no answer in time", True)


def test_a_timeout_told_by_a_runner_is_recorded_as_one() -> None:
    reply = Reply("flight", "do", "failed", 1, reason="took too long", timed_out=True)
    scenario = Scenario(trip(errand("flight"))).given(Trip()).when(reply)
    scenario.then(events=[StepFailed(START, "flight", 1, START + 10 * SECONDS, "took too long", True)])


def test_an_ok_from_an_older_attempt_counts() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).when(failed("flight")).at(10)
    scenario.when(ok("flight", BOOKED, attempt=1)).then(status="completed")


def test_an_ok_in_a_backoff_counts() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).when(failed("flight"))
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, SagaCompleted])


def test_a_refusal_counts_whatever_the_attempt_also_in_a_backoff() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).when(failed("flight"), refused("flight", attempt=7))
    scenario.then(events=[StepFailed, StepRefused, CompensationStarted, SagaCompensated])


@pytest.mark.parametrize("attempt", [1, 3])
def test_a_failure_counts_only_for_the_attempt_in_progress(attempt: int) -> None:
    scenario = Scenario(trip()).given(Trip()).when(failed("flight")).at(10)
    scenario.when(failed("flight", attempt=attempt)).nothing_happened()


def test_a_failure_in_a_backoff_is_a_duplicate() -> None:
    Scenario(trip()).given(Trip()).when(failed("flight")).when(failed("flight")).nothing_happened()


@pytest.mark.parametrize(
    "reply",
    [
        ok("flight", BOOKED),
        refused("flight"),
        failed("flight"),
        undone("flight"),
        ok("car", BOOKED),
        undone("hotel"),
        ok("yacht", BOOKED),
        undone("yacht"),
    ],
    ids=lambda reply: f"{reply.step}-{reply.direction}-{reply.outcome}",
)
def test_late_duplicate_early_and_foreign_replies_do_nothing(reply: Reply) -> None:
    scenario = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED))
    scenario.when(reply).nothing_happened().then(verdict="ignored", effects=["hotel/do"])


def test_a_resend_is_no_attempt_and_leaves_no_event() -> None:
    scenario = Scenario(trip()).given(Trip())
    before = scenario.state
    scenario.at(5).nothing_happened()
    assert scenario.state == before


def test_a_step_without_a_mapping_leaves_the_context_and_takes_any_reply() -> None:
    silent = booking("flight", succeeded=CommandStep.succeeded)
    scenario = Scenario(trip(silent)).given(Trip()).when(ok("flight", {"whatever": 1}))
    scenario.then(events=[StepDone(START, "flight", 1, Raw(b'{"whatever":1}')), SagaCompleted], context=Trip())


def test_an_outcome_carries_domain_events_of_several_streams() -> None:
    def succeeded(self: object, context: Trip, reply: Booked) -> Outcome[Trip]:
        return Outcome(context, [note("a"), note("b")])

    scenario = Scenario(trip(booking("flight", succeeded=succeeded), diary("page"))).given(Trip())
    scenario.when(ok("flight", BOOKED))
    scenario.then(
        events=[StepDone, DomainRecorded, StepStarted, StepDone, DomainRecorded, SagaCompleted],
        records=[note("a").event, note("b").event, note("page done").event],
    )
    assert scenario.state.streams == (("diary-1", 3),)


def test_a_step_that_only_records_is_done_in_the_decision_that_starts_it() -> None:
    scenario = Scenario(trip(diary("page"))).given(Trip())
    scenario.then(
        events=[SagaStarted, StepStarted, StepDone, DomainRecorded, SagaCompleted],
        records=[note("page done").event],
        effects=[],
    )


def test_a_step_that_only_records_may_change_the_context() -> None:
    page = diary("page", record=lambda self, context: Outcome(Trip("grace")))
    Scenario(trip(page)).given(Trip()).then(context=Trip("grace"), status="completed")


def test_the_first_and_the_last_transaction_may_carry_domain_events() -> None:
    saga = trip(
        booking("flight"),
        on_started=lambda context: [note(f"{context.traveller} leaves")],
        on_compensated=lambda context: [note(f"{context.traveller} stays")],
    )
    scenario = Scenario(saga).given(Trip())
    scenario.then(events=[SagaStarted, DomainRecorded, StepStarted], records=[note("ada leaves").event])
    scenario.when(refused("flight"))
    scenario.then(
        events=[StepRefused, CompensationStarted, DomainRecorded, SagaCompensated], records=[note("ada stays").event]
    )


def test_a_guard_may_let_a_step_go_ahead_or_skip_it() -> None:
    scenario = Scenario(trip(booking("flight", verdict=PROCEED), booking("hotel", verdict=SKIP))).given(Trip())
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, StepSkipped, SagaCompleted], status="completed")


def test_a_guard_may_turn_the_saga_round_and_what_was_skipped_is_not_undone() -> None:
    steps = [booking("flight"), booking("hotel", verdict=SKIP), booking("car", verdict=Fail("no licence"))]
    scenario = Scenario(trip(*steps)).given(Trip()).when(ok("flight", BOOKED))
    turn = CompensationStarted(START, "guard", ("flight",), "car", "no licence")
    scenario.then(events=[StepDone, StepSkipped, turn, UndoStarted], effects=["flight/undo"])


def test_a_guard_sees_the_context_as_the_steps_before_left_it() -> None:
    seen: list[Trip] = []

    def guard(self: object, context: Trip) -> Verdict:
        seen.append(context)
        return PROCEED

    careful = booking("hotel", guard=guard)
    Scenario(trip(booking("flight"), careful)).given(Trip()).when(ok("flight", Booked("f")))
    assert seen == [Trip(codes=("f",))]


def test_a_passed_deadline_turns_the_saga_round() -> None:
    scenario = Scenario(trip(deadline=timedelta(seconds=20))).given(Trip()).when(ok("flight", BOOKED))
    turn = CompensationStarted(
        START + 20 * SECONDS, "deadline", ("hotel", "flight"), "hotel", "the saga's deadline passed"
    )
    scenario.at(19.9).nothing_happened().at(20).then(events=[turn, UndoStarted], effects=["hotel/undo"])


def test_no_step_begins_after_the_deadline_even_before_the_saga_is_woken_by_it() -> None:
    saga = trip(deadline=timedelta(seconds=20))
    state = Scenario(saga).given(Trip()).state
    late = decide(saga, state, ok("flight", BOOKED), Moment(START + 21 * SECONDS, 0.0, "w"))
    assert [type(event) for event in late.events] == [StepDone, CompensationStarted, UndoStarted]


def test_a_saga_whose_last_step_answers_after_the_deadline_is_complete() -> None:
    saga = trip(booking("flight"), deadline=timedelta(seconds=20))
    state = Scenario(saga).given(Trip()).state
    assert decide(saga, state, ok("flight", BOOKED), Moment(START + 21 * SECONDS, 0.0, "w")).state.status == "completed"


def test_a_compensating_saga_has_no_deadline() -> None:
    scenario = Scenario(trip(deadline=timedelta(seconds=20))).given(Trip()).when(cancel()).at(25)
    scenario.nothing_happened().then(status="compensating", effects=["flight/undo"])


def test_a_paused_saga_lets_its_deadline_pass() -> None:
    scenario = Scenario(trip(deadline=timedelta(seconds=20))).given(Trip()).when(pause()).at(1000)
    scenario.nothing_happened().then(status="paused")


def test_jitter_spreads_the_first_resend_and_leaves_the_timeout() -> None:
    still = Scenario(trip()).given(Trip()).state.runs[0].attempt
    moved = Scenario(trip(), jitter=0.5).given(Trip()).state.runs[0].attempt
    assert (still.resend, moved.resend) == (5 * SECONDS, 4_500_000)
    assert still.expires == moved.expires == START + 30 * SECONDS
