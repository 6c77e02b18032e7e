"""Local actions: who runs them, when another may, and what an undo waits for (rule 10)."""

import pytest
from tests.core.trips import BOOKED, SECONDS, Trip, booking, errand, trip

from unwind.core.decide import decide
from unwind.core.effects import RunAction
from unwind.core.events import (
    ActionTakenOver,
    CompensationStarted,
    SagaCompensated,
    SagaResumed,
    StepDone,
    StepFailed,
    StepRetried,
    StepSettled,
    StepStarted,
    UndoDone,
    UndoStarted,
)
from unwind.core.messages import Moment, Reply, Tick, effect_id
from unwind.core.pending import due, resend_due
from unwind.testing.scenario import START, Scenario, cancel, failed, ok, pause, refused, resume, undo_failed, undone

LEASE = 30
DO, UNDO = effect_id("saga-1", "visa", "do"), effect_id("saga-1", "visa", "undo")


def running() -> Scenario[Trip]:
    return Scenario(trip(booking("flight"), errand("visa"))).given(Trip()).when(ok("flight", BOOKED))


def seconds(number: float) -> int:
    return START + round(number * SECONDS)


def test_an_action_names_its_runner_and_has_no_timeout_in_the_log() -> None:
    scenario = running().then(events=[StepDone, StepStarted], effects=["visa/do"])
    (effect,) = scenario.effects
    assert effect == RunAction("saga-1", "visa", "do", 1, "worker-1", scenario.state.context)
    scenario.at(29.9).nothing_happened()


def test_the_runner_keeps_its_action_however_long_and_is_reminded_of_it_each_lease() -> None:
    scenario = running()
    for leases in (1, 2, 3):
        at = seconds(leases * LEASE)
        assert due(scenario.state, at - 1) == at
        scenario.at(leases * LEASE).nothing_happened().then(effects=["visa/do"])
        assert resend_due(scenario.state, at)


def test_a_silent_runner_is_replaced_when_its_lease_is_over_and_the_takeover_is_an_event() -> None:
    scenario = running()
    scenario.worker = "worker-2"
    scenario.at(29.9).nothing_happened()
    scenario.at(30).then(events=[ActionTakenOver(seconds(30), "visa", "do", "worker-2")])
    (effect,) = scenario.effects
    assert isinstance(effect, RunAction)
    assert (effect.runner, effect.attempt) == ("worker-2", 1)
    scenario.worker = "worker-3"
    scenario.at(59.9).nothing_happened().at(60).then(events=[ActionTakenOver])


def test_nobody_takes_over_an_action_whose_lease_is_kept() -> None:
    scenario = running()
    scenario.worker = "worker-2"
    scenario.at(60, leases={DO: seconds(75)}).nothing_happened()
    scenario.at(90, leases={DO: seconds(75)}).then(events=[ActionTakenOver])


def test_the_next_attempt_is_run_by_whoever_decides_it() -> None:
    scenario = running().when(failed("visa")).then(events=[StepFailed])
    scenario.worker = "worker-2"
    scenario.at(10).then(events=[StepRetried])
    (effect,) = scenario.effects
    assert isinstance(effect, RunAction)
    assert (effect.runner, effect.attempt) == ("worker-2", 2)


@pytest.mark.parametrize("outcome", ["ok", "failed"])
def test_an_undo_waits_until_its_action_has_ended(outcome: str) -> None:
    scenario = running().when(cancel()).then(events=[CompensationStarted], effects=[], status="compensating")
    scenario.when(Reply("visa", "do", outcome, 1))  # type: ignore[arg-type]
    scenario.then(events=[StepSettled, UndoStarted], effects=["visa/undo"])
    scenario.when(undone("visa")).then(events=[UndoDone, UndoStarted], effects=["flight/undo"])


def test_an_action_that_ends_in_a_refusal_needs_no_undo() -> None:
    scenario = running().when(cancel()).when(refused("visa"))
    scenario.then(events=[StepSettled, UndoStarted], effects=["flight/undo"])
    assert scenario.state.targets == ("flight",)


def test_the_failure_of_an_older_attempt_does_not_end_the_wait() -> None:
    scenario = running().when(failed("visa")).at(10).when(cancel()).then(effects=[])
    scenario.when(failed("visa", attempt=1)).nothing_happened()
    scenario.when(failed("visa", attempt=2)).then(events=[StepSettled, UndoStarted])


def test_an_undo_waits_no_longer_than_the_lease_of_its_action() -> None:
    scenario = running().when(cancel())
    assert due(scenario.state, scenario.now) == seconds(LEASE)
    scenario.at(29.9).nothing_happened().at(30).then(events=[UndoStarted], effects=["visa/undo"])


def test_an_undo_waits_while_the_lease_of_its_action_is_kept() -> None:
    scenario = running().when(cancel())
    scenario.at(60, leases={DO: seconds(75)}).nothing_happened().then(effects=[])
    scenario.at(90, leases={DO: seconds(75)}).then(events=[UndoStarted])


def test_the_end_of_an_action_whose_undo_has_begun_changes_nothing() -> None:
    scenario = running().when(cancel()).at(30).when(ok("visa")).nothing_happened().then(effects=["visa/undo"])
    scenario.when(undone("visa")).then(effects=["flight/undo"])


def test_the_end_of_an_action_that_is_undone_changes_nothing_either() -> None:
    scenario = running().when(cancel()).at(30).when(pause(), undone("visa")).then(effects=[])
    scenario.when(ok("visa")).nothing_happened()


def test_an_action_that_is_not_running_holds_nothing_back() -> None:
    running().when(failed("visa"), cancel()).then(effects=["visa/undo"])
    running().when(ok("visa")).then(status="completed")


def test_resuming_does_not_prolong_the_wait_for_an_action() -> None:
    scenario = running().when(cancel()).at(20).when(pause(), resume()).then(effects=[])
    scenario.at(30).then(events=[UndoStarted])


def test_resuming_does_not_protect_a_runner_that_is_gone() -> None:
    scenario = running().when(pause()).at(100).when(resume())
    scenario.worker = "worker-2"
    scenario.then(events=[SagaResumed]).at(120).then(events=[ActionTakenOver])


def test_a_silent_runner_of_an_undo_is_replaced_as_well() -> None:
    scenario = running().when(failed("visa"), cancel())
    scenario.worker = "worker-2"
    scenario.at(30, leases={UNDO: seconds(40)}).nothing_happened()
    scenario.at(60).then(events=[ActionTakenOver(seconds(60), "visa", "undo", "worker-2")])
    (effect,) = scenario.effects
    assert isinstance(effect, RunAction)
    assert (effect.runner, effect.direction) == ("worker-2", "undo")


def test_a_blocked_undo_of_an_action_whose_runner_is_gone_finds_another() -> None:
    scenario = running().when(failed("visa"), cancel(), undo_failed("visa")).at(10).when(undo_failed("visa"))
    scenario.then(status="blocked")
    scenario.worker = "worker-2"
    scenario.at(310).then(events=[ActionTakenOver], status="blocked", effects=["visa/undo"])


def test_an_action_s_result_is_mapped_like_a_reply() -> None:
    visa = errand("visa", succeeded=lambda self, context, reply: Trip(codes=(reply["code"],)))
    Scenario(trip(visa)).given(Trip()).when(ok("visa", {"code": "v"})).then(context=Trip(codes=("v",)))


def test_an_action_s_failed_undo_is_done_at_last() -> None:
    scenario = Scenario(trip(errand("visa"))).given(Trip()).when(failed("visa"), cancel(), undo_failed("visa")).at(10)
    scenario.when(undone("visa")).then(events=[UndoDone, SagaCompensated], status="compensated")


def test_only_a_wake_up_knows_the_leases_so_only_it_ends_the_wait() -> None:
    scenario = running().when(cancel())
    late = Moment(seconds(500), 0.0, "worker-2")
    assert decide(scenario.saga, scenario.state, cancel(), late).events == ()
    assert [type(event) for event in decide(scenario.saga, scenario.state, Tick(0), late).events] == [UndoStarted]
