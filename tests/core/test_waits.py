"""Steps that wait, for a signal or for time; and steps that only some sagas need."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.core.trips import BOOKED, Approval, Booked, Booking, Trip, approval, booking, nap, trip

from unwind.core.events import (
    CompensationStarted,
    RetryOrdered,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaResumed,
    SignalReceived,
    StepDone,
    StepRefused,
    StepSkipped,
    StepStarted,
    StepUnknown,
    UndoStarted,
)
from unwind.core.messages import Signal
from unwind.core.pending import due, outstanding
from unwind.core.saga import Saga
from unwind.core.steps import Kind, Refused, SignalStep, SleepStep
from unwind.errors import DefinitionError
from unwind.testing.scenario import (
    START,
    Scenario,
    cancel,
    ok,
    pause,
    refused,
    resolve,
    resume,
    retry,
    signal,
    skip,
    undone,
)

YES, NO = Booked("b-1"), Booked("no")


def waiting(**attributes: Any) -> Scenario[Trip]:
    """A flight is booked, and the boss is asked."""
    saga = trip(booking("flight"), approval("boss", **attributes), booking("car"))
    return Scenario(saga).given(Trip()).when(ok("flight", BOOKED))


def past_the_pivot(**attributes: Any) -> Scenario[Trip]:
    saga = trip(booking("flight", Kind.PIVOT), approval("boss", Kind.RETRIABLE, **attributes))
    return Scenario(saga).given(Trip()).when(ok("flight", BOOKED))


def test_a_step_waits_for_its_signal_and_asks_nobody() -> None:
    waiting().then(events=[StepDone, StepStarted], effects=[], status="running")


def test_a_signal_ends_the_wait_and_its_word_goes_into_the_context() -> None:
    scenario = waiting().when(signal("boss", YES)).then(events=[SignalReceived, StepDone, StepStarted])
    scenario.then(context=Trip(codes=("x1", "b-1")), effects=["car/do"], verdict="accepted")


def test_a_signal_that_says_no_turns_the_saga_round_and_the_wait_itself_needs_no_undo() -> None:
    scenario = waiting().when(signal("boss", NO))
    scenario.then(events=[SignalReceived, StepRefused, CompensationStarted, UndoStarted], effects=["flight/undo"])
    scenario.when(undone("flight")).then(status="compensated")


def test_a_signal_that_comes_before_its_step_is_kept_for_it() -> None:
    scenario = Scenario(trip(booking("flight"), approval("boss"))).given(Trip()).when(signal("boss", YES))
    scenario.then(events=[SignalReceived], effects=["flight/do"])
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, StepStarted, StepDone, SagaCompleted])
    scenario.then(context=Trip(codes=("x1", "b-1")))


def test_an_early_no_turns_the_saga_round_as_soon_as_its_step_comes() -> None:
    scenario = Scenario(trip(booking("flight"), approval("boss"))).given(Trip()).when(signal("boss", NO))
    scenario.when(ok("flight", BOOKED)).then(status="compensating", effects=["flight/undo"])


def test_a_repeated_signal_counts_once() -> None:
    scenario = waiting().when(signal("boss", YES, signal_id="s-1"), signal("boss", YES, signal_id="s-1"))
    scenario.then(events=[SignalReceived, StepDone, StepStarted], verdict="accepted")


def test_another_signal_for_the_same_step_is_refused() -> None:
    scenario = waiting().when(signal("boss", YES, signal_id="s-1"))
    scenario.when(signal("boss", YES, signal_id="s-2")).nothing_happened().then(verdict="unfit")
    scenario.when(signal("boss", NO, signal_id="s-1")).nothing_happened().then(verdict="unfit")


def test_signals_without_an_id_are_told_apart_by_what_they_say() -> None:
    scenario = waiting().when(signal("boss", YES)).when(signal("boss", YES)).then(events=[], verdict="accepted")
    scenario.when(signal("boss", NO)).nothing_happened().then(verdict="unfit")


@pytest.mark.parametrize("step", ["flight", "nobody"])
def test_a_signal_that_no_step_waits_for_is_refused(step: str) -> None:
    waiting().when(signal(step, YES)).nothing_happened().then(verdict="unfit")


def test_a_definition_without_signals_refuses_every_signal() -> None:
    Scenario(trip(booking("flight"))).given(Trip()).when(signal("boss", YES)).then(verdict="unfit")


def test_a_signal_that_does_not_fit_its_type_is_refused() -> None:
    waiting().when(signal("boss", {"code": 7})).nothing_happened().then(verdict="invalid")


def test_a_saga_that_is_being_undone_or_has_ended_hears_no_signal() -> None:
    scenario = waiting().when(cancel()).when(signal("boss", YES)).nothing_happened().then(verdict="unfit")
    scenario.when(undone("flight")).when(signal("boss", YES)).nothing_happened().then(verdict="ended")


def test_a_saga_that_does_not_exist_hears_nothing() -> None:
    Scenario(trip(approval("boss"))).when(signal("boss", YES)).nothing_happened().then(verdict="ignored")


def test_a_step_that_is_over_hears_no_signal() -> None:
    scenario = waiting(on_timeout="skip").at(30).when(signal("boss", YES))
    scenario.nothing_happened().then(verdict="unfit", effects=["car/do"])


def test_no_signal_in_time_turns_the_saga_round() -> None:
    scenario = waiting().at(29).nothing_happened().at(30)
    scenario.then(events=[StepUnknown, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_no_signal_in_time_may_mean_to_go_on_without_it() -> None:
    waiting(on_timeout="skip").at(30).then(events=[StepSkipped, StepStarted], effects=["car/do"])


def test_the_saga_sleeps_until_the_wait_is_over() -> None:
    state = waiting().state
    assert due(state, START) == START + 30_000_000
    assert not outstanding(state)


def test_a_signal_is_recorded_while_paused_and_nothing_new_begins() -> None:
    scenario = waiting().when(pause()).when(signal("boss", YES)).then(events=[SignalReceived, StepDone], effects=[])
    scenario.when(resume()).then(effects=["car/do"])


def test_a_pause_holds_back_the_end_of_the_wait() -> None:
    scenario = waiting().at(20).when(pause()).at(500).nothing_happened().when(resume()).at(529).then(events=[])
    scenario.at(530).then(status="compensating")


def test_past_the_pivot_a_no_blocks_and_another_signal_may_take_its_place() -> None:
    scenario = past_the_pivot().when(signal("boss", NO)).then(events=[SignalReceived, SagaBlocked], status="blocked")
    scenario.when(signal("boss", NO)).nothing_happened().then(verdict="accepted")
    scenario.when(signal("boss", YES)).then(status="completed", context=Trip(codes=("x1", "b-1")))


def test_past_the_pivot_no_signal_in_time_blocks_and_a_late_one_still_counts() -> None:
    scenario = past_the_pivot().at(30).then(events=[SagaBlocked]).at(700).nothing_happened()
    scenario.when(signal("boss", YES)).then(status="completed")


def test_a_person_may_leave_out_a_wait_at_any_moment() -> None:
    waiting().when(skip("boss", "he is on holiday")).then(events=[StepSkipped, StepStarted], effects=["car/do"])
    past_the_pivot().at(30).when(skip("boss")).then(status="completed")
    Scenario(trip(nap("rest"))).given(Trip()).when(skip()).then(status="completed")


def test_a_person_may_say_what_a_blocked_signal_should_have_said() -> None:
    scenario = past_the_pivot().at(30).when(resolve("boss", NO)).nothing_happened().then(verdict="invalid")
    scenario.when(resolve("boss", YES)).then(status="completed", context=Trip(codes=("x1", "b-1")))


def test_a_retry_of_a_blocked_wait_asks_again() -> None:
    past_the_pivot().when(signal("boss", NO)).when(retry()).then(events=[RetryOrdered, SagaBlocked], status="blocked")
    scenario = (
        past_the_pivot().at(40).then(status="blocked").when(retry()).then(events=[RetryOrdered], status="running")
    )
    scenario.at(69).nothing_happened().at(70).then(events=[SagaBlocked])


@pytest.mark.parametrize("again", [retry, resume])
def test_a_signal_that_was_no_use_is_asked_again_when_a_person_says_so(again: Callable[[], Any]) -> None:
    class Mended(Approval):
        name = "boss"
        timeout = timedelta(days=7)
        broken = True

        def succeeded(self, context: Trip, reply: Booked) -> Trip | Refused:
            if self.broken:
                raise ValueError("oops")
            return context if reply == YES else Refused("no")

    for word, end in ((YES, SagaCompleted), (NO, SagaCompensated)):
        step = Mended()
        scenario = Scenario(trip(step)).given(Trip()).when(signal("boss", word)).then(status="blocked")
        step.broken = False
        assert isinstance(scenario.when(again()).log[-1], end)


def test_a_sleep_that_ended_during_a_pause_ends_with_it() -> None:
    scenario = Scenario(trip(nap("rest"), booking("car"))).given(Trip()).when(pause()).at(100)
    scenario.when(resume()).then(events=[SagaResumed, StepDone, StepStarted], effects=["car/do"])


def test_a_forged_answer_does_not_end_a_wait() -> None:
    waiting().when(ok("boss", YES)).nothing_happened().when(refused("boss")).nothing_happened()


def test_what_the_author_gets_wrong_blocks_and_is_asked_again() -> None:
    class Fickle(Approval):
        name = "boss"
        asked = 0

        def succeeded(self, context: Trip, reply: Booked) -> Trip:
            Fickle.asked += 1
            if Fickle.asked < 3:
                raise ValueError("oops")
            return context

    scenario = Scenario(trip(Fickle())).given(Trip()).when(signal("boss", YES))
    scenario.then(events=[SignalReceived, SagaBlocked], status="blocked")
    scenario.at(300).then(events=[], status="blocked").at(600).then(status="completed")


def test_what_the_author_gets_wrong_about_an_early_signal_blocks_too() -> None:
    class Broken(Approval):
        name = "boss"

        def succeeded(self, context: Trip, reply: Booked) -> Trip:
            raise ValueError("oops")

    saga = trip(booking("flight"), Broken())
    scenario = Scenario(saga).given(Trip()).when(signal("boss", YES)).when(ok("flight", BOOKED))
    scenario.then(events=[StepDone, StepStarted, SagaBlocked], status="blocked")


def test_a_wait_that_is_over_is_not_asked_again_while_the_next_step_cannot_begin() -> None:
    class Broken(Booking):
        name = "car"
        kind = Kind.PIVOT

        def execute(self, context: Trip) -> Any:
            raise ValueError("oops")

    scenario = Scenario(trip(approval("boss"), Broken())).given(Trip()).when(signal("boss", YES))
    scenario.then(events=[SignalReceived, StepDone, SagaBlocked]).at(700).nothing_happened().then(status="blocked")


def test_a_command_step_cannot_say_no_after_its_yes() -> None:
    class Confused(Booking):
        name = "flight"
        kind = Kind.PIVOT

        def succeeded(self, context: Trip, reply: Booked) -> Any:
            return Refused("no")

    Scenario(trip(Confused())).given(Trip()).when(ok("flight", BOOKED)).then(status="blocked")


# --------------------------------------------------------------------------------------------------------------- sleep


def test_a_sleep_lets_time_pass_and_asks_nobody() -> None:
    scenario = Scenario(trip(nap("rest"), booking("car"))).given(Trip()).then(effects=[])
    scenario.at(29).nothing_happened().at(30).then(events=[StepDone, StepStarted], effects=["car/do"])


def test_a_sleep_goes_on_while_the_saga_is_paused() -> None:
    scenario = Scenario(trip(nap("rest"), booking("car"))).given(Trip()).when(pause()).at(100).nothing_happened()
    scenario.when(resume()).at(100).then(effects=["car/do"])


def until(instant: Any) -> Saga[Trip]:
    class Rest(SleepStep[Trip]):
        name = "rest"

        def until(self, context: Trip) -> datetime:
            return instant  # type: ignore[no-any-return]

    return trip(Rest())


def test_a_sleep_may_last_until_an_instant() -> None:
    scenario = Scenario(until(datetime.fromtimestamp(START // 1_000_000 + 3_600, UTC))).given(Trip())
    scenario.at(3_599).nothing_happened().at(3_600).then(status="completed")


def test_an_instant_that_has_passed_means_at_once() -> None:
    Scenario(until(datetime(2001, 1, 1, tzinfo=UTC))).given(Trip()).then(status="completed")


@pytest.mark.parametrize("instant", [datetime(2030, 1, 1), "tomorrow"])  # noqa: DTZ001 - that is the mistake
def test_an_instant_needs_its_time_zone(instant: Any) -> None:
    Scenario(until(instant)).given(Trip()).then(status="blocked")


# ----------------------------------------------------------------------------------------------------------- condition


def conditional(answer: Any) -> Saga[Trip]:
    class Extra(Booking):
        name = "extra"
        kind = Kind.PIVOT

        def when(self, context: Trip) -> bool:
            return answer  # type: ignore[no-any-return]

    return trip(Extra())


def test_a_step_whose_condition_does_not_hold_is_skipped_and_never_failed() -> None:
    Scenario(conditional(answer=False)).given(Trip()).then(status="completed")
    Scenario(conditional(answer=True)).given(Trip()).then(effects=["extra/do"])


def test_a_condition_must_be_true_or_false() -> None:
    Scenario(conditional("maybe")).given(Trip()).then(status="blocked")


# --------------------------------------------------------------------------------------------------------- definitions


def test_a_step_that_waits_may_stand_anywhere_without_an_undo() -> None:
    saga = trip(approval("a"), nap("b"), booking("c", Kind.PIVOT), approval("d"), nap("e", Kind.RETRIABLE))
    assert [plan.waits for plan in saga.plans] == ["signal", "sleep", "", "signal", "sleep"]


@pytest.mark.parametrize(
    ("step", "mend"),
    [
        (lambda: approval("a", Kind.PIVOT), "it is no point of no return"),
        (lambda: approval("a", on_timeout="panic"), "say 'turn_round' or 'skip'"),
        (lambda: nap("a", duration=None), "give either a `duration`, or `until`"),
        (lambda: nap("a", until=lambda *_: None), "give either a `duration`, or `until`"),
        (lambda: nap("a", duration=timedelta(0)), "duration"),
        (lambda: approval("a", timeout=timedelta(days=9_999)), "timeout"),
    ],
)
def test_a_wait_that_cannot_work_is_refused_when_it_is_built(step: Any, mend: str) -> None:
    with pytest.raises(DefinitionError, match=mend):
        trip(step())


def test_waits_are_part_of_what_running_sagas_are_bound_to() -> None:
    assert trip(nap("a")).hash != trip(nap("a", duration=timedelta(seconds=31))).hash
    assert trip(approval("a")).hash != trip(approval("a", on_timeout="skip")).hash


def test_a_signal_step_that_says_nothing_takes_whatever_comes() -> None:
    class Ping(SignalStep[Trip, Any]):
        name = "ping"

    Scenario(trip(Ping())).given(Trip()).when(Signal("ping")).then(status="completed", context=Trip())
