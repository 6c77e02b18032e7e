"""Steps that are sagas of their own: what a parent asks of its child, and what a child tells its parent."""

from typing import Any

import pytest
from msgspec import Raw
from tests.core.trips import BOOKED, Booked, Stay, Trip, booking, pivotal, stay, trip

from unwind.core.attributes import Attribute
from unwind.core.decide import decide
from unwind.core.effects import RunSaga, TellParent
from unwind.core.events import (
    CompensationStarted,
    RetryOrdered,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaStarted,
    StepDone,
    StepRefused,
    StepRetried,
    StepStarted,
    TurningRound,
    UndoStarted,
)
from unwind.core.groups import Parallel
from unwind.core.messages import Moment, Pause, Reply, Start, Unwind
from unwind.core.pending import due, pending
from unwind.core.saga import Saga, with_children
from unwind.core.state import NEW, State
from unwind.core.steps import Kind, SagaStep
from unwind.errors import DefinitionError
from unwind.testing.scenario import Scenario, cancel, ok, refused, retry, undone

AT = Moment(1_000, 0.0, "w1")
CHILD = Start("child-1", Raw(b'{"traveller":"ada"}'), parent="saga-1/hotel")


def parent(*more: Any, kind: Kind = Kind.COMPENSATABLE) -> Scenario[Trip]:
    return Scenario(trip(booking("flight"), stay("hotel", kind), *more)).given(Trip()).when(ok("flight", BOOKED))


def told(saga: Saga[Any], *messages: Any, state: State = NEW) -> State:
    for message in messages:
        state = decide(saga, state, message, AT).state
    return state


# ---------------------------------------------------------------------------------------------------------- the parent


def test_a_step_begins_another_saga_and_waits_for_it_without_a_timeout() -> None:
    scenario = parent(booking("car")).then(events=[StepDone, StepStarted], effects=["hotel/do"])
    [effect] = scenario.effects
    assert isinstance(effect, RunSaga)
    assert (effect.saga_id, effect.direction, bytes(effect.context)) == ("saga-1", "do", b'{"code":"begun"}')
    scenario.at(24 * 3600).then(events=[], status="running")


def test_the_completion_of_the_other_saga_is_the_steps() -> None:
    scenario = parent().when(ok("hotel", Booked("room"))).then(events=[StepDone, SagaCompleted])
    scenario.then(context=Trip(codes=("x1", "room")))


def test_the_other_saga_undone_is_a_no() -> None:
    scenario = parent().when(refused("hotel", "room refused: full")).then(effects=["flight/undo"])
    scenario.then(events=[StepRefused, CompensationStarted, UndoStarted])


def test_undoing_the_step_unwinds_the_other_saga_before_what_stands_before_it() -> None:
    scenario = parent(booking("car")).when(ok("hotel", BOOKED)).when(refused("car")).then(effects=["hotel/undo"])
    [effect] = scenario.effects
    assert isinstance(effect, RunSaga)
    assert (effect.step, bytes(effect.context)) == ("hotel", b'{"code":"begun"}'), "undone is what was begun"
    scenario.when(undone("hotel")).then(effects=["flight/undo"])


def test_a_cancel_unwinds_one_that_is_still_at_it() -> None:
    parent().when(cancel()).then(effects=["hotel/undo"]).when(ok("hotel", BOOKED)).nothing_happened()


def test_it_is_looked_after_from_time_to_time_for_its_word_may_be_lost() -> None:
    scenario = parent()
    at = due(scenario.state, scenario.now)
    assert at is not None
    assert 24_000_000 <= at - scenario.now <= 30_000_000


def test_a_branch_that_fails_does_not_wait_for_another_saga() -> None:
    scenario = Scenario(trip(Parallel(stay("hotel"), booking("car")))).given(Trip()).when(refused("car"))
    scenario.then(events=[StepRefused, CompensationStarted, UndoStarted], effects=["hotel/undo"])
    scenario = Scenario(trip(Parallel(stay("hotel"), booking("a"), booking("b")))).given(Trip()).when(refused("a"))
    scenario.then(events=[StepRefused, TurningRound]).when(ok("b", BOOKED)).then(effects=["b/undo", "hotel/undo"])


def test_a_context_that_cannot_be_begun_with_blocks_the_parent() -> None:
    class Careless(Stay):
        name = "hotel"

        def begin(self, context: Trip) -> Any:
            return "a room"

    scenario = Scenario(trip(Careless())).given(Trip()).then(events=[SagaStarted, SagaBlocked], status="blocked")
    assert scenario.state.blocked is not None
    assert "the context it returned" in scenario.state.blocked.reason


def test_an_opening_that_raises_blocks_the_parent_where_somebody_sees_it() -> None:
    def broken(_: Trip) -> list[Any]:
        raise ValueError("oops")

    class Careless(SagaStep[Trip, Trip]):
        name = "hotel"
        saga = Saga("opening", context=Trip, steps=[booking("a")], on_started=broken)

        def begin(self, context: Trip) -> Trip:
            return context

    scenario = Scenario(trip(Careless())).given(Trip()).then(events=[SagaStarted, SagaBlocked], status="blocked")
    assert scenario.state.blocked is not None
    assert "opening.on_started raised ValueError: oops" in scenario.state.blocked.reason


def test_one_that_is_the_pivot_turns_the_parent_round() -> None:
    parent(kind=Kind.PIVOT).when(refused("hotel")).then(effects=["flight/undo"])


def test_a_retry_asks_the_other_saga_again_and_takes_no_command() -> None:
    class Fickle(Stay):
        name = "hotel"
        broken = True

        def succeeded(self, context: Trip, reply: Booked) -> Trip:
            if self.broken:
                raise ValueError("oops")
            return context

    step = Fickle()
    scenario = Scenario(trip(step)).given(Trip()).when(ok("hotel", BOOKED)).then(status="blocked")
    scenario.when(retry("hotel", Booked("other"))).then(verdict="unfit", events=[])
    scenario.when(retry()).then(events=[RetryOrdered, StepRetried], effects=["hotel/do"])
    step.broken = False
    scenario.when(ok("hotel", BOOKED)).then(status="completed")


def test_attributes_that_raise_block_the_parent_where_somebody_sees_it() -> None:
    """Found by an attack: the child was never begun, and nobody was told."""

    class Careless(SagaStep[Trip, Trip]):
        name = "hotel"
        saga = Saga(
            "named", context=Trip, steps=[booking("a")], attributes={"code": Attribute(str, lambda _: "x" * 300)}
        )

        def begin(self, context: Trip) -> Trip:
            return context

    scenario = Scenario(trip(Careless())).given(Trip()).then(events=[SagaStarted, SagaBlocked], status="blocked")
    assert scenario.state.blocked is not None
    assert "code" in scenario.state.blocked.reason
    started = decide(Careless.saga, NEW, CHILD, AT)
    assert (started.verdict, started.state.status) == ("accepted", "running"), "what has begun goes without"


def test_after_the_pivot_no_saga_is_a_step_for_it_may_end_undone() -> None:
    with pytest.raises(DefinitionError, match="may end undone"):
        trip(booking("flight", Kind.PIVOT), stay("hotel", Kind.RETRIABLE))


# ----------------------------------------------------------------------------------------------------------- the child


def test_a_child_tells_its_parent_that_it_is_completed_and_with_what() -> None:
    state = told(trip(booking("a")), CHILD, Reply("a", "do", "ok", 1, Raw(b'{"code":"x1"}')))
    context = Raw(b'{"traveller":"ada","codes":["x1"]}')
    assert pending(state) == (TellParent("saga-1", "hotel", True, context, ""),)


def test_a_child_that_was_undone_says_why() -> None:
    state = told(trip(booking("a")), CHILD, Reply("a", "do", "refused", 1, reason="full"))
    assert pending(state) == (TellParent("saga-1", "hotel", False, CHILD.context, "a refused: full"),)


def test_a_saga_of_its_own_tells_nobody() -> None:
    state = told(trip(booking("a")), Start("saga-1", Raw(b"{}")), Reply("a", "do", "refused", 1))
    assert pending(state) == ()


def test_a_completed_child_is_undone_when_its_step_is() -> None:
    saga = trip(booking("a"))
    state = told(saga, CHILD, Reply("a", "do", "ok", 1, Raw(b'{"code":"x1"}')))
    decision = decide(saga, state, Unwind(CHILD), AT)
    assert [type(event) for event in decision.events] == [CompensationStarted, UndoStarted]
    assert (decision.state.status, decision.state.ended_at) == ("compensating", None)
    state = told(saga, Reply("a", "undo", "ok", 1), state=decision.state)
    assert pending(state) == (TellParent("saga-1", "hotel", False, state.context, REASON),)


REASON = "unwound: the step that it is the doing of is undone"


def test_a_child_that_never_began_never_will() -> None:
    decision = decide(trip(), NEW, Unwind(CHILD), AT)
    assert [type(event) for event in decision.events] == [SagaStarted, CompensationStarted, SagaCompensated]
    late = decide(trip(), decision.state, CHILD, AT)
    assert (late.events, late.verdict) == ((), "exists")
    assert pending(late.state) == (TellParent("saga-1", "hotel", False, CHILD.context, REASON),)


def test_a_child_that_is_being_undone_or_was_goes_on_as_it_is() -> None:
    saga = trip(booking("a"))
    for state in (
        told(saga, CHILD, Reply("a", "do", "refused", 1)),
        told(saga, CHILD, Unwind(CHILD)),
        told(pivotal(), CHILD, *(Reply(step, "do", "ok", 1, Raw(b'{"code":"x"}')) for step in ("flight", "hotel"))),
    ):
        bound = pivotal() if state.pivoted else saga
        assert decide(bound, state, Unwind(CHILD), AT).events == ()


def test_unwinding_lifts_a_pause() -> None:
    scenario = Scenario(trip()).given(Trip())
    paused = told(scenario.saga, Pause("ada"), state=scenario.state)
    assert paused.paused
    assert not told(scenario.saga, Unwind(CHILD), state=paused).paused


# --------------------------------------------------------------------------------------------------------- definitions


def test_a_child_with_a_point_of_no_return_cannot_be_the_doing_of_a_step_that_is_undone() -> None:
    class Final(SagaStep[Trip, Trip]):
        name = "hotel"
        saga = pivotal()

        def begin(self, context: Trip) -> Trip:
            return context

    with pytest.raises(DefinitionError, match="saga trip cannot be undone once its pivot 'hotel' was begun"):
        trip(booking("flight"), Final())
    final = type("Final", (Final,), {"kind": Kind.PIVOT})()
    assert trip(booking("flight"), final).children == (Final.saga,)


def test_a_step_without_its_saga_is_refused() -> None:
    class Empty(SagaStep[Trip, Trip]):
        name = "hotel"

        def begin(self, context: Trip) -> Trip:
            return context

    with pytest.raises(DefinitionError, match="give it the Saga that it begins"):
        trip(Empty())


def test_a_parent_is_bound_to_the_definition_of_its_child() -> None:
    class Other(Stay):
        name = "hotel"
        saga = Saga("stay", version=2, context=Booked, steps=[Stay.saga.plans[0].step])

    assert trip(stay("hotel")).hash != trip(Other()).hash


def test_children_come_with_their_parents_each_once() -> None:
    saga = trip(booking("flight"), stay("hotel"), stay("motel"))
    assert with_children([saga]) == with_children([saga, Stay.saga]) == [saga, Stay.saga]


def test_what_a_step_does_not_say_is_told_from_what_it_need_not_say() -> None:
    class Plain(SagaStep[Trip, Trip]):
        name = "hotel"
        saga = Saga("plain", context=Trip, steps=[booking("a")])

    with pytest.raises(NotImplementedError):
        Plain().begin(Trip())
    assert Plain().succeeded(Trip("bob"), Trip("eve")) == Trip("bob")
