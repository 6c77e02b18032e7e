"""Rule 15: an attempt at a participant that answers nobody is parked, not spent."""

from datetime import timedelta

import pytest
from tests.core.trips import BOOKED, Booked, Trip, booking, errand, pivotal, trip

from unwind.core.decide import decide
from unwind.core.effects import SendCommand
from unwind.core.events import (
    AttemptParked,
    AttemptReleased,
    CompensationStarted,
    ResolvedByHand,
    RetryOrdered,
    SagaBlocked,
    SagaCompensated,
    SagaResumed,
    StepDone,
    StepFailed,
    StepRefused,
    StepRetried,
    StepStarted,
    StepUnknown,
    UndoFailed,
    UndoStarted,
)
from unwind.core.messages import Moment, Tick
from unwind.core.parking import LEAST, MOST
from unwind.core.pending import due, outstanding, pending, probes, resend_due
from unwind.core.steps import SECOND, Retry
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
    undo_failed,
    undo_refused,
    undone,
)

AGENCY = ["agency"]
FOR_GOOD = START + 10**9 * SECOND


def begun() -> Scenario[Trip]:
    return Scenario(trip()).given(Trip())


def parked() -> Scenario[Trip]:
    """At its first step, at 30 s, until 90 s."""
    return begun().at(30, silent=AGENCY).then(events=[AttemptParked(START + 30 * SECOND, "flight", "do", at(90))])


def undo_parked() -> Scenario[Trip]:
    return begun().when(ok("flight", BOOKED)).when(cancel()).at(30, silent=AGENCY)


def at(seconds: int) -> int:
    return START + seconds * SECOND


def test_an_attempt_at_a_silent_participant_is_parked_and_nobody_is_asked() -> None:
    scenario = parked().then(effects=[], status="running")
    assert scenario.state.runs[0].attempt.number == 1
    assert due(scenario.state, scenario.now) == at(90)
    assert not outstanding(scenario.state)
    assert not pending(scenario.state)
    assert not resend_due(scenario.state, scenario.now)


def test_however_long_it_is_silent_no_attempt_is_spent() -> None:
    scenario = parked().at(24 * 3600, silent=AGENCY)
    assert {type(event) for event in scenario.happened} == {AttemptParked}
    assert len(scenario.happened) == 24 * 60 - 1, "one event for each time that it is parked"
    assert scenario.state.runs[0].attempt.number == 1


def test_an_attempt_that_is_let_go_has_its_whole_time_again() -> None:
    scenario = parked().at(90).then(events=[AttemptReleased(at(90), "flight", "do")], effects=["flight/do"])
    assert scenario.state.runs[0].attempt.expires == at(120)
    scenario.at(119).nothing_happened()
    scenario.at(120).then(events=[StepFailed])


def test_it_need_not_wait_where_its_participant_is_back() -> None:
    scenario = parked()
    for held, back in (({}, ("flight",)), ({"saga-1/flight/do": FOR_GOOD}, ("flight", "hotel"))):
        tick = Tick(0, held=held, back=frozenset(f"saga-1/{step}/do" for step in back))
        decision = decide(scenario.saga, scenario.state, tick, Moment(at(31), 0.0, "w"))
        assert decision.events == (AttemptReleased(at(31), "flight", "do"),)
    tick = Tick(0, back=frozenset(("saga-1/hotel/do",)))
    assert decide(scenario.saga, scenario.state, tick, Moment(at(31), 0.0, "w")).events == ()


def test_what_is_parked_can_be_asked_for_all_the_same() -> None:
    asked = ("saga-1/flight/do",)
    [effect] = probes(parked().state, asked)
    assert isinstance(effect, SendCommand)
    assert (effect.step, effect.direction, effect.attempt) == ("flight", "do", 1)
    assert probes(begun().state, asked) == ()
    assert probes(parked().at(90).state, asked) == ()
    assert probes(parked().when(pause()).state, asked) == probes(parked().state, ()) == ()


def test_one_that_is_let_go_in_vain_is_parked_again() -> None:
    scenario = parked().at(90).at(120, silent=AGENCY).then(events=[AttemptParked], effects=[])
    assert scenario.state.runs[0].attempt.number == 1


def test_another_service_that_is_silent_parks_nobody() -> None:
    begun().at(30, silent=["elsewhere"]).then(events=[StepFailed])


def test_before_its_time_nothing_is_parked_nor_let_go() -> None:
    begun().at(29, silent=AGENCY).nothing_happened()
    scenario = parked()
    for held in ({}, {"saga-1/flight/do": FOR_GOOD}):
        tick = Tick(0, held=held)
        assert decide(scenario.saga, scenario.state, tick, Moment(at(89), 0.0, "w")).events == ()


@pytest.mark.parametrize(("said", "kept"), [(0, at(30) + LEAST), (at(100), at(100)), (FOR_GOOD, at(30) + MOST)])
def test_whatever_a_worker_says_it_is_parked_for_a_second_to_five_minutes(said: int, kept: int) -> None:
    state, saga = begun().state, trip()
    tick = Tick(0, held={"saga-1/flight/do": said})
    decision = decide(saga, state, tick, Moment(at(30), 0.0, "w"))
    assert decision.events == (AttemptParked(at(30), "flight", "do", kept),)


def test_an_answer_counts_while_it_is_parked() -> None:
    parked().when(ok("flight", BOOKED)).then(events=[StepDone, StepStarted], effects=["hotel/do"])
    parked().when(refused("flight")).then(events=[StepRefused, CompensationStarted, SagaCompensated])
    scenario = parked().when(failed("flight")).then(events=[StepFailed])
    scenario.at(40).then(events=[StepRetried], effects=["flight/do"])
    assert scenario.state.runs[0].parked == 0


def test_an_undo_is_parked_too() -> None:
    scenario = undo_parked().then(events=[AttemptParked(at(30), "hotel", "undo", at(90))], effects=[])
    scenario.at(90).then(events=[AttemptReleased(at(90), "hotel", "undo")], effects=["hotel/undo"])
    assert due(undo_parked().state, at(30)) == at(90)
    undo_parked().when(undone("hotel")).then(effects=["flight/undo"])
    scenario = undo_parked().when(undo_failed("hotel")).then(events=[UndoFailed])
    scenario.at(40).then(effects=["hotel/undo"])


def test_the_sagas_deadline_does_not_wait() -> None:
    scenario = Scenario(trip(deadline=timedelta(seconds=50))).given(Trip()).at(30, silent=AGENCY)
    assert due(scenario.state, scenario.now) == at(50)
    scenario.at(50, silent=AGENCY).then(events=[CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_operators_do_with_it_what_they_do_with_one_that_is_outstanding() -> None:
    parked().when(cancel()).then(events=[CompensationStarted, UndoStarted], effects=["flight/undo"])
    scenario = parked().when(resume()).then(events=[SagaResumed], effects=["flight/do"])
    assert scenario.state.runs[0].attempt.expires == at(60)
    scenario = parked().when(pause()).at(500, silent=AGENCY).nothing_happened()
    scenario.when(resume()).then(effects=["flight/do"]).at(529).nothing_happened()
    undo_parked().when(resume()).then(effects=["hotel/undo"])


def test_a_person_may_end_it_where_the_participant_never_comes_back() -> None:
    scenario = parked().when(retry("flight")).then(events=[RetryOrdered, StepRetried], effects=["flight/do"])
    scenario.at(59, silent=AGENCY).nothing_happened()
    parked().when(resolve("flight", BOOKED)).then(events=[ResolvedByHand, StepDone, StepStarted])
    parked().when(skip("flight")).then(verdict="unfit")
    undo_parked().when(resolve("hotel")).then(effects=["flight/undo"])
    undo_parked().when(skip("hotel")).then(effects=["flight/undo"])
    undo_parked().when(retry("hotel")).then(effects=["hotel/undo"])
    undo_parked().when(pause(), retry("hotel")).then(verdict="unfit")
    past = Scenario(pivotal()).given(Trip()).when(ok("flight", BOOKED), ok("hotel", BOOKED))
    past.at(30, silent=AGENCY).when(skip("car", "no car")).then(status="completed")


def test_what_needs_a_person_is_not_parked_but_tried_at_the_cap() -> None:
    scenario = parked().when(ok("flight")).then(events=[SagaBlocked], effects=["flight/do"], status="blocked")
    scenario.at(1_000, silent=AGENCY).nothing_happened().when(ok("flight", BOOKED)).then(status="running")
    last = undo_parked().when(undo_failed("hotel")).at(40).when(undo_failed("hotel")).then(status="blocked")
    last.at(1_000, silent=AGENCY).nothing_happened()


def test_a_refused_undo_is_not_parked_any_more() -> None:
    undo_parked().when(undo_refused("hotel")).then(events=[SagaBlocked], effects=["hotel/undo"])


def test_the_last_attempt_is_parked_as_the_first_is() -> None:
    scenario = Scenario(trip(booking("a", retry=Retry.none()))).given(Trip())
    scenario.at(3_600, silent=AGENCY).then(effects=[], status="running")
    scenario.at(3_700).then(effects=["a/undo"], status="compensating")
    assert [type(event) for event in scenario.happened][:2] == [AttemptReleased, StepUnknown]


def test_actions_are_nobodys_to_park() -> None:
    scenario = Scenario(trip(errand("a"))).given(Trip())
    scenario.at(300, silent=["agency", "a", ""])
    assert not any(isinstance(event, AttemptParked) for event in scenario.log)


def test_a_signal_for_what_is_parked_changes_nothing() -> None:
    parked().when(ok("hotel", Booked("h"))).nothing_happened()
