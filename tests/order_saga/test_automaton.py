"""The audit's reference automaton and the engine's core: two readings of the same rules, compared on random stories."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from order_saga.application.context import OrderContext
from order_saga.application.order_saga import order_saga
from order_saga.audit.automaton import Automaton, RejectedError
from order_saga.domain.order import OrderItem
from unwind.core.codec import SAGA_EVENTS
from unwind.core.decide import decide
from unwind.core.events import Event
from unwind.core.messages import (
    Cancel,
    Direction,
    Input,
    Moment,
    Pause,
    Reply,
    ResolveStep,
    Resume,
    RetryStep,
    SkipStep,
    Start,
    Tick,
)
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.core.steps import (
    PROCEED,
    SKIP,
    ActionCall,
    ActionStep,
    Command,
    CommandStep,
    Fail,
    Kind,
    Outcome,
    RecordStep,
    Retry,
    Verdict,
)

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
ASKING = ("asked", "turned", "after", "reserve_inventory", "process_payment", "create_shipment")
DARK = Tick(0, held={f"saga-1/{step}/{way}": START for step in ASKING for way in ("do", "undo")})
"""A wake-up while nobody answers; what is parked is parked for a second."""


class Ask(Command, frozen=True, tag="service.ask"):
    """Something."""


class Plan(Struct, frozen=True):
    """What the guards say, by step."""

    verdicts: dict[str, str] = {}


def verdict(plan: Plan, step: str) -> Verdict:
    verdicts: dict[str, Verdict] = {"proceed": PROCEED, "skip": SKIP, "fail": Fail("no")}
    return verdicts[plan.verdicts.get(step, "proceed")]


class Asked(CommandStep[Plan, Any]):
    name = "asked"
    retry = Retry.fixed(2, timedelta(seconds=1))
    undo_retry = Retry.fixed(2, timedelta(seconds=1))

    def guard(self, context: Plan) -> Verdict:
        return verdict(context, self.name)

    def execute(self, context: Plan) -> Command:
        return Ask()

    def compensate(self, context: Plan) -> Command:
        return Ask()


class Acted(ActionStep[Plan, Any]):
    name = "acted"
    retry = Retry.fixed(2, timedelta(seconds=1))

    def guard(self, context: Plan) -> Verdict:
        return verdict(context, self.name)

    async def run(self, context: Plan, call: ActionCall) -> Any:
        return None

    async def compensate(self, context: Plan, call: ActionCall) -> None:
        return None


class Noted(RecordStep[Plan]):
    name = "noted"

    def record(self, context: Plan) -> Outcome[Plan]:
        return Outcome(context)

    def compensate(self, context: Plan) -> Outcome[Plan]:
        return Outcome(context)


class Turned(Asked):
    name = "turned"
    kind = Kind.PIVOT


class After(Asked):
    name = "after"
    kind = Kind.RETRIABLE


EVERYTHING: Saga[Any] = Saga(
    "everything",
    context=Plan,
    steps=[Asked(), Acted(), Noted(), Turned(), After()],
    deadline=timedelta(minutes=2),
)
ORDERS: Saga[Any] = order_saga
ORDER = OrderContext("o-1", "c-1", (OrderItem("p-1", 1, 1),), 1)
REPLIES: dict[str, Raw] = {
    "reserve_inventory": Raw(b'{"type":"inventory.reserved","reservation_id":"r"}'),
    "process_payment": Raw(b'{"type":"payment.processed","payment_id":"p"}'),
    "create_shipment": Raw(b'{"type":"shipment.created","shipment_id":"s"}'),
}


Answered = Literal["ok", "refused", "failed"]
Happening = tuple[int, Input | Answered]
"""The seconds that pass, then an input; an outcome alone stands for the reply that is awaited."""


def by_hand(step: str) -> ResolveStep:
    return ResolveStep("a", evidence="seen", step=step, reply=REPLIES[step])


def happenings(saga: Saga[Any]) -> st.SearchStrategy[Happening]:
    outcomes: st.SearchStrategy[Answered] = st.sampled_from(["ok", "ok", "ok", "refused", "failed"])
    strays = st.builds(
        reply,
        st.sampled_from([plan.name for plan in saga.plans]),
        st.sampled_from(["do", "undo"]),
        outcomes,
        st.integers(1, 3),
    )
    acts: st.SearchStrategy[Input] = st.sampled_from(
        [
            Cancel("a"),
            Pause("a"),
            Resume("a"),
            Tick(0),
            Tick(0),
            DARK,
            DARK,
            RetryStep("a"),
            SkipStep("a"),
            *map(by_hand, REPLIES),
        ]
    )
    return st.tuples(st.sampled_from([0, 0, 0, 1, 31]), st.one_of(outcomes, outcomes, strays, acts))


def reply(step: str, direction: Direction, outcome: Answered, attempt: int) -> Reply:
    return Reply(step, direction, outcome, attempt, REPLIES.get(step, Raw(b"null")), "because")


def awaited(state: State, outcome: Answered) -> Input:
    """The reply to what is under way; where nothing is, another look at the clock."""
    if state.undos:
        return reply(state.undos[0].step, "undo", outcome, state.undos[0].attempt.number)
    if state.runs and state.runs[-1].status == "outstanding":
        return reply(state.runs[-1].step, "do", outcome, state.runs[-1].attempt.number)
    return Tick(0)


def told(saga: Saga[Any], context: object, story: Sequence[Happening]) -> tuple[State, list[Event]]:
    """What the engine makes of a story; after half a minute's silence another worker goes on."""
    now, worker = START, 1
    begin = Start("saga-1", Raw(msgspec.json.encode(context)), definition_hash=saga.hash)
    state, events = NEW, list[Event]()
    for seconds, happening in [(0, begin), *story]:
        now += seconds * SECOND
        worker += seconds > 30
        message = awaited(state, happening) if isinstance(happening, str) else happening
        decision = decide(saga, state, message, Moment(now, 0.5, f"worker-{worker}"))
        state = decision.state
        events += decision.events
    return state, events


def read(events: Sequence[Event]) -> Automaton:
    automaton = Automaton("saga-1")
    automaton.read(json.loads(SAGA_EVENTS.encode(events)))
    return automaton


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from([plan.name for plan in EVERYTHING.plans]), st.sampled_from(["skip", "fail"])),
    st.lists(happenings(EVERYTHING), max_size=25),
)
def test_whatever_the_engine_writes_is_legal(verdicts: dict[str, str], story: list[Happening]) -> None:
    state, events = told(EVERYTHING, Plan(verdicts), story)
    automaton = read(events)
    assert automaton.shown_status == state.shown_status
    assert list(automaton.targets) == list(state.targets)


@settings(max_examples=200, deadline=None)
@given(st.lists(happenings(ORDERS), max_size=25))
def test_whatever_the_engine_writes_about_orders_is_legal(story: list[Happening]) -> None:
    state, events = told(ORDERS, ORDER, story)
    automaton = read(events)
    assert automaton.shown_status == state.shown_status
    assert tuple(automaton.streams.items()) == state.streams


@settings(max_examples=200, deadline=None)
@given(st.lists(happenings(ORDERS), max_size=25), st.data())
def test_an_event_told_twice_is_not_legal(story: list[Happening], data: st.DataObject) -> None:
    _, events = told(ORDERS, ORDER, story)
    repeatable = {"saga_resumed/1", "domain_recorded/1", "retry_ordered/1"}
    places = [place for place, event in enumerate(events) if event.__struct_config__.tag not in repeatable]
    place = data.draw(st.sampled_from(places))
    with pytest.raises(RejectedError):
        read([*events[: place + 1], *events[place:]])


def test_a_saga_that_has_not_begun_is_new() -> None:
    assert Automaton("saga-1").shown_status == "new"


def test_an_action_that_is_taken_over_and_settles_while_the_saga_turns_round_is_legal() -> None:
    story: list[Happening] = [(0, "ok"), (31, Tick(0)), (0, Cancel("a")), (0, "refused"), (0, "ok")]
    state, events = told(EVERYTHING, Plan(), story)
    names = [str(event.__struct_config__.tag) for event in events]
    assert {"action_taken_over/1", "step_settled/1"} <= set(names)
    assert read(events).shown_status == state.shown_status == "compensated"


def test_an_outage_is_legal_and_costs_no_attempt() -> None:
    dark: list[Happening] = [(31, DARK), (31, DARK), (31, Tick(0))]
    state, events = told(ORDERS, ORDER, [*dark, (0, "ok"), *dark, (0, "refused"), *dark, (0, "ok")])
    names = [str(event.__struct_config__.tag) for event in events]
    assert (names.count("attempt_parked/1"), names.count("attempt_released/1")) == (6, 3)
    assert not {"step_failed/1", "undo_failed/1"} & set(names)
    assert read(events).shown_status == state.shown_status == "compensated"


def test_an_order_without_a_hitch_is_legal() -> None:
    state, events = told(ORDERS, ORDER, [(0, "ok")] * 3)
    assert read(events).shown_status == state.shown_status == "completed"
