"""The plan says what would happen: whoever cancels for real sees exactly what it announced."""

from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import Raw
from tests.core.chance import TRIED
from tests.core.reference import SECOND, Node
from tests.core.test_laws import Story, definitions, moves
from tests.core.trips import Book, Trip, booking, diary, errand, pivotal, trip
from tests.core.walk import walk

from unwind.core.decide import decide
from unwind.core.effects import SendCommand
from unwind.core.events import UndoStarted
from unwind.core.foresight import Plan, cancel_refused, foresee
from unwind.core.messages import Cancel, CommandCall, Moment, Pause, Reply, Start, Tick
from unwind.core.pending import due, pending
from unwind.core.plans import key_of
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.core.steps import Command

YES = Raw(b'{"code":"x1"}')
OVER = Moment(1_000 * SECOND, 0.0, "w1")


class BrokenError(Exception):
    """An author's mistake."""


def moved(saga: Saga[Trip], *messages: Any, state: State = NEW) -> State:
    """The saga after a start and these inputs."""
    for message in (Start("saga-1", Raw(b"{}")), *messages) if state is NEW else messages:
        state = decide(saga, state, message, OVER).state
    return state


def ok(step: str, outcome: Any = "ok", direction: Any = "do") -> Reply:
    return Reply(step, direction, outcome, 1, YES, "no" if outcome == "refused" else "")


def told(plan: Plan) -> list[tuple[str, CommandCall | None]]:
    return [(undo.step, undo.command) for undo in plan.undo]


def cancelled_for_real(saga: Saga[Trip], state: State, now: int) -> tuple[list[tuple[str, CommandCall | None]], bool]:
    """The undos of a saga that is cancelled, each with what was sent; and whether it came to its end.

    Every undo is answered with a yes, and an action that still runs never ends: its lease does.
    """
    seen: dict[str, CommandCall | None] = {}
    seen |= {undo.step: None if undo.child else undo.command for undo in state.undos}
    decision = decide(saga, state, Cancel("ada"), Moment(now, 0.5, "w7"))
    for _ in range(50):
        seen |= {
            event.step: None if event.child else event.command
            for event in decision.events
            if isinstance(event, UndoStarted)
        }
        state = decision.state
        if state.status == "compensated":
            return list(seen.items()), True
        message: Any = Tick(0)
        if state.undos:
            for effect in pending(state):
                assert not isinstance(effect, SendCommand) or effect.command == seen[effect.step], "what is sent"
            message = Reply(state.undos[0].step, "undo", "ok", 9)
        else:
            now = max(now, due(state, now) or 0)
        decision = decide(saga, state, message, Moment(now, 0.5, "w7"))
    return list(seen.items()), False


def stands_before(saga: Saga[Trip], one: str, other: str) -> bool:
    (first, item), (second, key) = key_of(one), key_of(other)
    same_group = saga.by_name[first].each == saga.by_name[second].each != ""
    return first in saga.by_name[second].before and (not same_group or item == key)


def check(saga: Saga[Trip], state: State, now: int) -> None:
    plan = foresee(saga, state, now)
    verdict = decide(saga, state, Cancel("ada"), Moment(now, 0.5, "w7")).verdict
    assert plan.cancel_possible == (verdict == "accepted") == (plan.cancel_refused_because == "")
    assert bool(cancel_refused(state)) == (verdict in {"ended", "past_pivot", "undoing"})
    blind = foresee(None, state, now)
    assert (blind.cancel_possible, blind.past_undoing) == (plan.cancel_possible, plan.past_undoing)
    owed = [undo.step for undo in plan.undo]
    assert sorted(undo.step for undo in blind.undo) == sorted(owed), "what is to be undone is in the log"
    assert not saga.flat or [undo.step for undo in blind.undo] == owed, "the order too"
    if verdict in {"ended", "past_pivot"}:
        assert plan.undo == ()
        return
    undone, ended = cancelled_for_real(saga, state, now)
    held = [undo for undo in plan.undo if undo.note.startswith(("held", "it cannot"))]
    announced = [undo for undo in told(plan) if undo[0] not in {step.step for step in held}]
    assert sorted(undone) == sorted(announced)
    assert not saga.flat or undone == announced, "branches keep their own time"
    assert ended == (not held and not plan.note)
    for place, name in enumerate(owed):
        assert not any(stands_before(saga, name, other) for other in owed[place:]), "in reverse order"
    left = [step.step for step in plan.ahead]
    assert not saga.flat or left == [name for name in saga.by_name if name in left]
    assert len(set(left)) == len(left)
    assert not set(left) & {run.step for run in state.runs if run.status not in {"outstanding", "backoff"}}


@settings(TRIED, max_examples=500)
@given(definitions(), moves)
def test_a_real_cancel_undoes_what_the_plan_announced_in_every_state(
    drawn: tuple[tuple[Node, ...], int | None], drawn_moves: list[Any]
) -> None:
    story = Story(*drawn)
    story.feed(Start("saga-1", Raw(b"{}")))
    check(story.saga, story.state, story.now)
    for kind, one, two in drawn_moves:
        message = story.move(kind, one, two)
        if message is not None:
            story.feed(message)
            check(story.saga, story.state, story.now)


@pytest.mark.parametrize(
    "saga",
    [trip(), pivotal(), trip(errand("taxi"), booking("hotel")), trip(diary("note"), errand("taxi"), booking("hotel"))],
)
def test_it_holds_in_every_state_that_a_small_saga_can_reach(saga: Saga[Trip]) -> None:
    places, _ = walk(saga)
    checked = [place for place in places.values() if place.state.status != "new"]
    assert len(checked) > 50
    for place in checked:
        check(saga, place.state, place.now)


def test_what_is_left_has_the_frozen_command_first_and_then_forecasts() -> None:
    plan = foresee(trip(), moved(trip(), ok("flight")), 0)
    assert [(step.step, step.progress, step.forecast) for step in plan.ahead] == [
        ("hotel", "outstanding", False),
        ("car", "waiting", True),
    ]
    sent, forecast = (step.command for step in plan.ahead)
    assert sent == CommandCall("agency", "agency.book", Raw(b'{"type":"agency.book","part":"hotel","codes":["x1"]}'))
    assert forecast is not None
    assert bytes(forecast.payload) == b'{"type":"agency.book","part":"car","codes":["x1"]}'


def test_a_step_in_its_backoff_says_so_and_an_undo_too() -> None:
    plan = foresee(trip(), moved(trip(), ok("flight", "failed")), 0)
    assert plan.ahead[0].progress == "backoff"
    undoing = moved(trip(), ok("flight"), Cancel("ada"), ok("hotel", "failed", "undo"))
    undo = foresee(trip(), undoing, 0).undo
    assert [(each.step, each.progress) for each in undo] == [("hotel", "backoff"), ("flight", "waiting")]
    assert foresee(None, undoing, 0).undo[0] == type(undo[0])("hotel", None, "backoff", undo[0].command)


def test_an_author_s_exception_in_a_forecast_is_a_note() -> None:
    class Raising(type(booking("car"))):  # type: ignore[misc]
        def execute(self, context: Trip) -> Command:
            if context.codes != ("x1", "x1"):
                raise BrokenError("the hotel is not known")
            return Book(self.name)

    saga = trip(booking("flight"), booking("hotel"), Raising())
    (_, _, car) = foresee(saga, moved(saga), 0).ahead
    assert car.command is None
    assert "car.execute raised" in car.note
    assert "the hotel is not known" in car.note


def test_an_undo_that_cannot_be_begun_holds_back_the_others_and_says_why() -> None:
    class Raising(type(booking("hotel"))):  # type: ignore[misc]
        def compensate(self, context: Trip) -> Command:
            raise BrokenError("no such code")

    saga = trip(booking("flight"), Raising(), booking("car"))
    plan = foresee(saga, moved(saga, ok("flight"), ok("hotel")), 0)
    assert [(undo.step, undo.note) for undo in plan.undo] == [
        ("car", ""),
        ("hotel", "it cannot be begun"),
        ("flight", "held back by hotel"),
    ]
    assert "no such code" in plan.note


def test_an_end_that_cannot_be_recorded_is_noted() -> None:
    def on_compensated(context: Trip) -> Any:
        raise BrokenError("no diary")

    saga = trip(on_compensated=on_compensated)
    plan = foresee(saga, moved(saga), 0)
    assert [undo.step for undo in plan.undo] == ["flight"]
    assert "no diary" in plan.note


def test_an_action_that_runs_is_undone_after_its_end() -> None:
    saga = trip(booking("flight"), errand("taxi"))
    (taxi, flight) = foresee(saga, moved(saga, ok("flight")), 0).undo
    assert (taxi.shape, taxi.command) == ("action", None)
    assert "once it has ended" in taxi.note
    assert flight.command is not None
    assert bytes(flight.command.payload) == b'{"type":"agency.unbook","part":"flight","codes":["x1"]}'


def test_past_the_pivot_nothing_can_be_undone_and_the_reason_is_said() -> None:
    begun = foresee(pivotal(), moved(pivotal(), ok("flight")), 0)
    assert not begun.cancel_possible
    assert "hotel" in begun.cancel_refused_because
    assert "only a refusal" in begun.cancel_refused_because
    assert begun.past_undoing == ("flight", "hotel")
    over = foresee(pivotal(), moved(pivotal(), ok("flight"), ok("hotel")), 0)
    assert "past its point of no return" in over.cancel_refused_because
    assert over.past_undoing == ("flight", "hotel", "car")
    assert [step.step for step in over.ahead] == ["car"]


def test_an_ended_saga_has_nothing_ahead() -> None:
    completed = foresee(trip(), moved(trip(), ok("flight"), ok("hotel"), ok("car")), 0)
    assert (completed.ahead, completed.undo) == ((), ())
    assert completed.past_undoing == ("flight", "hotel", "car")
    assert completed.cancel_refused_because == "it has ended: it is completed"
    undone = foresee(trip(), moved(trip(), ok("flight", "refused")), 0)
    assert (undone.ahead, undone.undo, undone.past_undoing) == ((), (), ())


def test_without_the_definition_it_tells_what_is_in_the_log() -> None:
    running = moved(trip(), ok("flight"), Pause("ada"))
    plan = foresee(None, running, 0)
    assert not plan.definition_known
    assert "does not know" in plan.note
    assert [(step.step, step.kind, step.shape, step.guarded) for step in plan.ahead] == [("hotel", None, None, None)]
    assert plan.ahead[0].command == foresee(trip(), running, 0).ahead[0].command
    assert [(undo.step, undo.command) for undo in plan.undo] == [("hotel", None), ("flight", None)]
    turned = moved(trip(), Cancel("ada"), state=running)
    assert foresee(None, turned, 0).ahead == ()
