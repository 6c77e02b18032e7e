"""A way out of what is blocked: retry, resolve and skip, each counted once and only where it is safe (rules A to E)."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.core.test_author_errors import Fickle
from tests.core.trips import BOOKED, Book, Booked, Trip, Unbook, booking, diary, errand, pivotal, trip

from unwind.core.decide import decide
from unwind.core.effects import SendCommand
from unwind.core.events import (
    ResolvedByHand,
    RetryOrdered,
    SagaCompensated,
    SagaCompleted,
    SagaResumed,
    StepDone,
    StepRetried,
    StepSkipped,
    StepStarted,
    UndoDone,
    UndoRetried,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.messages import (
    NULL,
    Cancel,
    CommandCall,
    Input,
    Moment,
    Pause,
    ResolveStep,
    Resume,
    RetryStep,
    SkipStep,
)
from unwind.core.steps import Kind
from unwind.testing.scenario import (
    START,
    Scenario,
    cancel,
    failed,
    ok,
    pause,
    refused,
    resolve,
    resume,
    retry,
    skip,
    undo_refused,
    undone,
)

Story = Callable[[], Scenario[Trip]]


def undo_blocked() -> Scenario[Trip]:
    return (
        Scenario(trip()).given(Trip()).when(ok("flight", BOOKED), refused("hotel")).when(undo_refused("flight", "no"))
    )


def step_blocked() -> Scenario[Trip]:
    scenario = Scenario(pivotal()).given(Trip()).when(ok("flight", BOOKED), ok("hotel", BOOKED))
    return scenario.when(refused("car", "no cars"))


def guard_blocked() -> Scenario[Trip]:
    saga = trip(booking("flight"), booking("hotel", verdict=ValueError("oops")), booking("car"))
    return Scenario(saga).given(Trip()).when(ok("flight", BOOKED))


BLOCKED = [undo_blocked, step_blocked, guard_blocked]
MENDS = [retry(), resolve(reply=BOOKED), skip(reason="so be it")]


# ------------------------------------------------------------------------------------------------------------- rule A


@pytest.mark.parametrize("act", [Cancel("a"), Pause("a"), Resume("a"), RetryStep("a"), ResolveStep("a"), SkipStep("a")])
@pytest.mark.parametrize("make", [*BLOCKED, lambda: Scenario(trip()).given(Trip())])
def test_an_act_decided_on_another_version_does_nothing(make: Story, act: Input) -> None:
    scenario = make()
    version = scenario.state.version
    for seen in (0, version - 1, version + 1):
        named: Any = replace(act, expected_version=seen)
        scenario.when(named).nothing_happened().then(verdict="conflict")


@pytest.mark.parametrize("make", BLOCKED)
def test_a_button_pressed_twice_acts_once(make: Story) -> None:
    scenario = make()
    click = replace(retry(), expected_version=scenario.state.version)
    scenario.when(click).then(verdict="accepted")
    scenario.when(click).nothing_happened().then(verdict="conflict")


# ------------------------------------------------------------------------------------------------------------- rule B


@pytest.mark.parametrize("act", MENDS)
@pytest.mark.parametrize("make", BLOCKED)
def test_while_paused_nothing_is_mended(make: Story, act: Input) -> None:
    make().when(pause()).when(act).nothing_happened().then(verdict="unfit", status="paused")


@pytest.mark.parametrize("act", MENDS)
def test_what_is_not_blocked_needs_no_mending(act: Input) -> None:
    Scenario(trip()).given(Trip()).when(act).nothing_happened().then(verdict="unfit")
    undo = Scenario(trip()).given(Trip()).when(cancel())
    undo.when(act).nothing_happened().then(verdict="unfit")


@pytest.mark.parametrize("act", [retry("car"), resolve("car", BOOKED), skip("car", "so be it")])
def test_an_act_on_another_step_than_the_blocked_one_does_nothing(act: Input) -> None:
    undo_blocked().when(act).nothing_happened().then(verdict="unfit", status="blocked")


@pytest.mark.parametrize("act", MENDS)
def test_an_ended_saga_is_not_mended(act: Input) -> None:
    Scenario(trip(diary("page"))).given(Trip()).when(act).nothing_happened().then(verdict="ended")


# ------------------------------------------------------------------------------------------------------------- rule C


def test_a_retry_of_a_blocked_undo_begins_a_fresh_attempt() -> None:
    scenario = undo_blocked().at(9).when(retry("flight", actor="bob", reason="the bank is open"))
    scenario.then(
        events=[RetryOrdered(START + 9_000_000, "flight", "undo", "bob", "the bank is open"), UndoRetried],
        effects=[Unbook("flight", ("x1",))],
        status="compensating",
        verdict="accepted",
    )
    assert isinstance(scenario.effects[0], SendCommand)
    assert scenario.effects[0].attempt == 2
    scenario.when(undone("flight")).then(status="compensated")


def test_a_retry_of_a_blocked_step_begins_a_fresh_attempt() -> None:
    scenario = step_blocked().when(retry()).then(events=[RetryOrdered, StepRetried], status="running")
    scenario.when(ok("car", BOOKED)).then(status="completed")


def test_an_old_no_after_a_retry_blocks_again() -> None:
    undo_blocked().when(retry()).when(undo_refused("flight")).then(status="blocked", effects=["flight/undo"])


def test_a_retry_ends_a_backoff_that_nothing_blocks() -> None:
    Scenario(trip()).given(Trip()).when(failed("flight")).when(retry("flight")).then(
        events=[RetryOrdered, StepRetried], effects=["flight/do"]
    )


def test_a_retry_asks_again_what_went_wrong_before_anything_was_sent() -> None:
    verdict = Fickle(ValueError("oops"), "proceed")
    guarded = booking("hotel", guard=verdict)
    scenario = Scenario(trip(booking("flight"), guarded)).given(Trip()).when(ok("flight", BOOKED))
    scenario.then(status="blocked").when(retry("hotel")).then(status="blocked")
    verdict.is_mended = True
    scenario.when(retry("hotel")).then(events=[RetryOrdered, StepStarted], status="running", effects=["hotel/do"])


def test_an_action_is_run_again_by_its_runner_under_the_lease_it_has() -> None:
    scenario = Scenario(trip(errand("visa"))).given(Trip()).when(cancel()).when(ok("visa")).when(undo_refused("visa"))
    scenario.worker = "another"
    [before] = scenario.effects
    scenario.when(retry()).then(events=[RetryOrdered], status="compensating")
    assert scenario.effects == (before,)


def test_a_retry_may_send_another_command_and_keeps_both() -> None:
    other = Book("car", ("by", "phone"))
    scenario = step_blocked().when(retry("car", other))
    scenario.then(events=[RetryOrdered, StepRetried], effects=[other])
    [ordered, _] = scenario.happened
    assert isinstance(ordered, RetryOrdered)
    assert isinstance(ordered.command, CommandCall)
    assert isinstance(ordered.replaced, CommandCall)
    assert b"phone" in bytes(ordered.command.payload)
    assert b"phone" not in bytes(ordered.replaced.payload)
    scenario.when(failed("car")).at(400).then(effects=[other])


def test_an_undo_may_be_sent_otherwise_too() -> None:
    other = Unbook("flight", ("by", "cheque"))
    undo_blocked().when(retry("flight", other)).then(effects=[other])


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (b'{"type":"agency.book","part":5}', "$.part"),
        (b'{"type":"agency.book"}', "part"),
        (b'{"type":"agency.unbook","part":"car"}', "type"),
        (b'{"type":"agency.book","part":"car","more":1}', "more"),
        (b"[]", "object"),
    ],
)
def test_a_command_of_another_shape_is_refused_and_says_where(command: bytes, place: str) -> None:
    scenario = step_blocked()
    message = RetryStep("a", command=Raw(command))
    decision = decide(scenario.saga, scenario.state, message, Moment(scenario.now, 0.0, "w"))
    assert (decision.verdict, decision.events) == ("invalid", ())
    assert place in decision.reason


def test_where_no_command_is_under_way_none_can_be_replaced() -> None:
    guard_blocked().when(retry("hotel", Book("hotel"))).nothing_happened().then(verdict="unfit")


def test_where_the_author_cannot_say_the_type_no_command_is_replaced() -> None:
    execute = Fickle(ValueError("oops"), Book("car"))
    execute.is_mended = True
    saga = trip(booking("hotel", Kind.PIVOT), booking("car", Kind.RETRIABLE, execute=execute))
    scenario = Scenario(saga).given(Trip()).when(ok("hotel", BOOKED)).when(refused("car"))
    execute.is_mended = False
    scenario.when(retry("car", Book("car"))).nothing_happened().then(verdict="unfit")


# ------------------------------------------------------------------------------------------------------------- rule D


def test_an_undo_done_by_hand_counts_as_done_and_the_evidence_is_kept() -> None:
    scenario = undo_blocked().at(9).when(ResolveStep("bob", "", None, "flight", "a cheque was sent", "ticket 7"))
    at = START + 9_000_000
    scenario.then(
        events=[
            ResolvedByHand(at, "flight", "undo", "bob", "a cheque was sent", "ticket 7"),
            UndoDone,
            SagaCompensated,
        ],
        status="compensated",
        effects=[],
    )


def test_a_step_done_by_hand_goes_through_the_authors_function() -> None:
    scenario = step_blocked().when(resolve("car", Booked("by hand")))
    scenario.then(events=[ResolvedByHand, StepDone, SagaCompleted], status="completed")
    assert scenario.context.codes[-1] == "by hand"


def test_a_step_without_the_reply_it_works_with_is_not_resolved() -> None:
    step_blocked().when(resolve("car")).nothing_happened().then(verdict="invalid", status="blocked")


def test_an_undo_that_could_not_even_be_begun_is_resolved() -> None:
    saga = trip(booking("flight", compensate=Fickle(ValueError("oops"), None)), booking("hotel"))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED)).when(refused("hotel")).then(status="blocked")
    scenario.when(resolve("flight")).then(events=[ResolvedByHand, UndoStarted, UndoDone, SagaCompensated])


def test_what_was_never_begun_cannot_have_been_done_by_hand() -> None:
    guard_blocked().when(resolve("hotel", BOOKED)).nothing_happened().then(verdict="unfit")


def unannounced() -> Scenario[Trip]:
    """Everything is undone, but the author's last word raises."""
    saga = trip(booking("flight"), on_compensated=Fickle(ValueError("oops"), []))
    return Scenario(saga).given(Trip()).when(refused("flight")).then(status="blocked")


def test_where_nothing_is_left_to_undo_nothing_is_resolved() -> None:
    unannounced().when(resolve()).nothing_happened().then(verdict="unfit")


def test_the_late_answer_to_what_was_resolved_changes_nothing() -> None:
    scenario = undo_blocked().when(resolve("flight"))
    scenario.when(undone("flight")).nothing_happened().when(undo_refused("flight")).nothing_happened()


# ------------------------------------------------------------------------------------------------------------- rule E


def test_a_skipped_undo_is_named_as_left_undone_and_those_before_it_go_on() -> None:
    scenario = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED), ok("hotel", BOOKED)).when(refused("car"))
    scenario.when(undo_refused("hotel")).when(skip("hotel", "worth less than the fee", actor="bob"))
    scenario.then(
        events=[UndoSkipped(START, "hotel", "bob", "worth less than the fee"), UndoStarted], effects=["flight/undo"]
    )
    scenario.when(undone("flight")).then(status="compensated")
    assert scenario.state.left == ("hotel",)


def test_a_step_that_was_not_begun_is_skipped() -> None:
    scenario = guard_blocked().when(skip("hotel", "closed"))
    scenario.then(events=[StepSkipped(START, "hotel", "closed", actor="alice"), StepStarted], effects=["car/do"])
    scenario.when(refused("car")).then(effects=["flight/undo"])


def test_past_the_pivot_a_step_is_skipped_and_its_late_answer_changes_nothing() -> None:
    scenario = (
        step_blocked().when(skip("car", "by train")).then(events=[StepSkipped, SagaCompleted], status="completed")
    )
    scenario.when(ok("car", BOOKED)).nothing_happened()


def test_a_skipped_pivot_counts_as_passed() -> None:
    saga = trip(booking("flight"), booking("hotel", Kind.PIVOT), booking("car", Kind.RETRIABLE))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED)).when(failed("hotel")).at(10)
    scenario.when(failed("hotel")).then(status="blocked")
    scenario.when(skip("hotel", "a tent will do")).then(events=[StepSkipped, StepStarted], effects=["car/do"])
    scenario.when(cancel()).nothing_happened().then(verdict="past_pivot")


def test_what_may_have_happened_is_not_forgotten() -> None:
    saga = trip(booking("flight", succeeded=Fickle(ValueError("oops"), Trip())), booking("hotel"))
    scenario = Scenario(saga).given(Trip()).when(ok("flight", BOOKED)).then(status="blocked")
    scenario.when(skip("flight", "never mind")).nothing_happened().then(verdict="unfit")
    scenario.when(cancel()).then(effects=["flight/undo"])


def test_a_last_word_that_cannot_be_said_is_skipped() -> None:
    unannounced().when(skip(reason="nobody listens")).then(
        events=[SagaResumed, SagaCompensated], records=[], status="compensated"
    )


def test_an_undo_that_was_resumed_is_not_mended_until_it_is_blocked_again() -> None:
    scenario = undo_blocked().when(resume()).then(status="compensating")
    scenario.when(resolve("flight")).nothing_happened().then(verdict="unfit")
    scenario.when(undo_refused("flight")).when(resolve("flight")).then(status="compensated")


def test_a_reply_of_nothing_does_for_a_step_that_asks_for_none() -> None:
    saga = trip(booking("hotel", Kind.PIVOT), errand("visa", Kind.RETRIABLE))
    scenario = Scenario(saga).given(Trip()).when(ok("hotel", BOOKED)).when(refused("visa", "closed"))
    scenario.when(resolve("visa")).then(events=[ResolvedByHand, StepDone, SagaCompleted])
    assert scenario.happened[1].reply == NULL  # type: ignore[union-attr]
