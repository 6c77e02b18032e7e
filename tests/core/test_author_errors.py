"""What the author's functions may do wrong: it blocks one saga, whatever it is, and never raises (rule 9)."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw, Struct
from tests.core.trips import BOOKED, Booking, Noted, Trip, booking, diary, note, trip

from unwind.core.author import LONGEST_REASON
from unwind.core.codec import SAGA_EVENTS
from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.events import (
    CompensationStarted,
    Record,
    SagaBlocked,
    SagaCompensated,
    SagaResumed,
    StepDone,
    StepStarted,
    UndoDone,
    UndoStarted,
)
from unwind.core.messages import Moment, Start
from unwind.core.pending import due
from unwind.core.saga import Saga
from unwind.core.state import NEW
from unwind.core.steps import Command, CommandStep, Fail, Kind, Outcome
from unwind.testing.scenario import START, Scenario, cancel, ok, refused, resume, undone

CAP = 300


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Untagged(Command, frozen=True):
    pass


class Nameless(Command, frozen=True, tag="agency"):
    pass


class Unsendable(Command, frozen=True, tag="agency.fail"):
    what: object


class Mistyped(Command, frozen=True, tag="agency.stay"):
    nights: int


class Unreadable(Command, frozen=True, tag="agency.choose"):
    what: Noted | Trip


class Fickle:
    """An author's function that goes wrong until it is mended."""

    def __init__(self, wrong: Any, right: Any) -> None:
        self.wrong, self.right, self.is_mended = wrong, right, False

    def __call__(self, *_: Any) -> Any:
        answer = self.right if self.is_mended else self.wrong
        if isinstance(answer, BaseException):
            raise answer
        return answer


def function(fickle: Fickle) -> Any:
    return lambda self, *args: fickle(*args)


def blocked(scenario: Scenario[Trip]) -> SagaBlocked:
    event = scenario.happened[-1]
    assert isinstance(event, SagaBlocked)
    scenario.then(status="blocked")
    return event


BAD_COMMANDS = [
    ValueError("oops"),
    None,
    "book it",
    Untagged(),
    Nameless(),
    Unsendable(object),
    Unsendable("\ud800"),
    Mistyped("three"),  # type: ignore[arg-type]
    Unreadable(Trip()),
]


@pytest.mark.parametrize("wrong", BAD_COMMANDS, ids=repr)
def test_a_wrong_command_blocks_before_the_step_is_started_and_is_asked_for_again(wrong: object) -> None:
    fickle = Fickle(wrong, Booking.execute(booking("hotel"), Trip()))
    scenario = Scenario(trip(booking("flight"), booking("hotel", execute=function(fickle)))).given(Trip())
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, SagaBlocked], effects=[])
    assert blocked(scenario).reason.startswith("hotel.execute")
    assert due(scenario.state, scenario.now) == START + CAP * 1_000_000
    scenario.at(10 * CAP).nothing_happened()
    fickle.is_mended = True
    scenario.at(11 * CAP).then(events=[StepStarted], effects=["hotel/do"], status="running")


@pytest.mark.parametrize("wrong", BAD_COMMANDS, ids=repr)
def test_a_wrong_undo_blocks_and_holds_back_the_undos_before_it(wrong: object) -> None:
    fickle = Fickle(wrong, Booking.execute(booking("hotel"), Trip()))
    scenario = Scenario(trip(booking("flight"), booking("hotel", compensate=function(fickle)))).given(Trip())
    scenario.when(ok("flight", BOOKED), cancel())
    scenario.then(events=[StepDone, StepStarted, CompensationStarted, SagaBlocked], effects=[])
    assert blocked(scenario).reason.startswith("hotel.compensate")
    scenario.at(10 * CAP).nothing_happened()
    scenario.when(resume()).then(events=[SagaResumed, SagaBlocked])
    fickle.is_mended = True
    scenario.when(resume()).then(events=[SagaResumed, UndoStarted], effects=["hotel/undo"], status="compensating")


def test_a_command_that_does_not_fit_its_own_type_is_told_by_command_and_field() -> None:
    wrong = Fickle(Mistyped("three"), None)  # type: ignore[arg-type]
    scenario = Scenario(trip(booking("hotel", execute=function(wrong)))).given(Trip())
    assert blocked(scenario).reason == (
        "hotel.execute made a Mistyped that does not fit its own type: Expected `int`, got `str` - at `$.nights`"
    )


BAD_GUARDS = [KeyError("x"), UnprintableError(), RecursionError(), None, True, "maybe", Fail]


@pytest.mark.parametrize("wrong", BAD_GUARDS, ids=repr)
def test_a_wrong_guard_blocks_even_at_the_first_step(wrong: object) -> None:
    fickle = Fickle(wrong, "proceed")
    scenario = Scenario(trip(booking("flight", guard=function(fickle)))).given(Trip())
    assert blocked(scenario).reason.startswith("flight.guard")
    scenario.at(CAP).nothing_happened()
    fickle.is_mended = True
    scenario.when(resume()).then(events=[SagaResumed, StepStarted], status="running")


def test_a_saga_blocked_by_its_author_can_be_cancelled() -> None:
    scenario = Scenario(trip(booking("flight", verdict=ValueError("oops")))).given(Trip()).when(cancel())
    scenario.then(events=[CompensationStarted, SagaCompensated], status="compensated")


ENCODING = "encoding the context"

BAD_CONTEXTS = [
    ValueError("oops"),
    None,
    7,
    Trip(traveller=5),  # type: ignore[arg-type]
    Outcome(object),
    Outcome(Trip(), ["page"]),  # type: ignore[list-item]
    Outcome(Trip(), 5),  # type: ignore[arg-type]
    Outcome(Trip(), [Record("", "diary", Noted("x"))]),
    Outcome(Trip(), [Record("diary", 5, Noted("x"))]),  # type: ignore[arg-type]
    Outcome(Trip(), [Record("diary", "diary", "text")]),  # type: ignore[arg-type]
    Outcome(Trip(), [Record("diary", "diary", Noted("\ud800"))]),
]


@pytest.mark.parametrize("wrong", BAD_CONTEXTS, ids=repr)
def test_a_wrong_mapping_blocks_and_is_asked_again_with_the_reply_that_comes_again(wrong: object) -> None:
    fickle = Fickle(wrong, Trip(codes=("f",)))
    scenario = Scenario(trip(booking("flight", succeeded=function(fickle)))).given(Trip()).when(ok("flight", BOOKED))
    scenario.then(events=[SagaBlocked], effects=["flight/do"], context=Trip())
    assert blocked(scenario).reason.startswith(("flight.succeeded", "the context that `succeeded` returned", ENCODING))
    scenario.when(ok("flight", BOOKED)).nothing_happened()
    scenario.at(CAP).nothing_happened().then(effects=["flight/do"])
    fickle.is_mended = True
    scenario.when(ok("flight", BOOKED)).then(status="completed", context=Trip(codes=("f",)))


def test_a_step_blocked_by_its_mapping_can_still_be_refused() -> None:
    scenario = Scenario(trip(booking("flight", succeeded=lambda *_: 7))).given(Trip()).when(ok("flight", BOOKED))
    scenario.when(refused("flight")).then(status="compensated")


def test_a_reply_of_the_wrong_shape_blocks() -> None:
    scenario = Scenario(trip()).given(Trip()).when(ok("flight", {"kode": "x"}))
    assert blocked(scenario).reason.startswith("its reply raised")


def test_a_reply_to_a_step_that_declares_none_is_told_as_that() -> None:
    class Walk(CommandStep[Trip, None]):
        name = "walk"
        kind = Kind.PIVOT

        def execute(self, context: Trip) -> Command:
            return Booking.execute(booking("walk"), context)

        def succeeded(self, context: Trip, reply: None) -> Trip:
            return context

    scenario = Scenario(trip(Walk())).given(Trip())
    scenario.when(ok("walk", BOOKED))
    assert blocked(scenario).reason.startswith("it got a reply, and declares that it gets none: in place of None write")


@pytest.mark.parametrize("wrong", BAD_CONTEXTS, ids=repr)
def test_a_step_that_records_wrongly_blocks_before_it_is_started(wrong: object) -> None:
    fickle = Fickle(wrong, Outcome(Trip()))
    scenario = Scenario(trip(booking("flight"), diary("page", record=function(fickle)))).given(Trip())
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, SagaBlocked], records=[])
    assert blocked(scenario).reason.startswith(("page.record", "the context that `record` returned", ENCODING))
    fickle.is_mended = True
    scenario.at(CAP).then(status="completed")


BAD_RECORDS = [ValueError("oops"), 5, ["page"], [Record("diary", "diary", Noted("\ud800"))]]


@pytest.mark.parametrize("wrong", [*BAD_RECORDS, None, Trip()], ids=repr)
def test_a_record_taken_back_wrongly_blocks_before_it_is_recorded(wrong: object) -> None:
    fickle = Fickle(Outcome(Trip(), wrong) if isinstance(wrong, list) else wrong, Outcome(Trip(), [note("back")]))
    scenario = Scenario(trip(diary("page", compensate=function(fickle)), booking("flight"))).given(Trip())
    scenario.when(refused("flight")).then(effects=[], records=[])
    assert blocked(scenario).reason.startswith("page.compensate")
    fickle.is_mended = True
    scenario.at(CAP).then(status="compensated", records=[note("back").event])
    assert [type(event) for event in scenario.happened[:2]] == [UndoStarted, UndoDone]


@pytest.mark.parametrize("wrong", [*BAD_RECORDS, None], ids=repr)
def test_wrong_records_at_the_end_block_the_end_only(wrong: object) -> None:
    fickle = Fickle(wrong, [note("stays")])
    scenario = Scenario(trip(booking("flight"), on_compensated=fickle)).given(Trip()).when(cancel(), undone("flight"))
    assert blocked(scenario).reason.startswith("on_compensated")
    scenario.at(CAP).nothing_happened().then(effects=[])
    fickle.is_mended = True
    scenario.when(resume()).then(status="compensated", records=[note("stays").event])


@pytest.mark.parametrize("wrong", [*BAD_RECORDS, None], ids=repr)
def test_wrong_records_at_the_start_refuse_the_start(wrong: object) -> None:
    answer = begin(trip(on_started=Fickle(wrong, [])), b"{}")
    assert (answer.state, answer.events, answer.verdict) == (NEW, (), "author_error")
    assert answer.reason.startswith("saga trip: on_started")


@pytest.mark.parametrize("context", [b"null", b"[]", b'{"traveller":5}', b"{", b'{"traveller":"\xff"}'])
def test_a_context_of_the_wrong_shape_refuses_the_start(context: bytes) -> None:
    answer = begin(trip(), context)
    assert (answer.state, answer.verdict) == (NEW, "author_error")
    assert answer.reason.startswith("saga trip: the context raised")


def begin(saga: Saga[Trip], context: bytes) -> Decision:
    return decide(saga, NEW, Start("saga-1", Raw(context)), Moment(0, 0.0, "w"))


def test_a_list_of_records_may_be_an_iterator() -> None:
    def leaves(context: Trip) -> Any:
        yield note("leaves")

    Scenario(trip(on_started=leaves)).given(Trip()).then(records=[note("leaves").event])


def test_an_iterator_that_raises_while_it_is_read_refuses_the_start() -> None:
    def leaves(context: Trip) -> Iterator[Record]:
        yield note("leaves")
        raise ValueError("oops")

    assert begin(trip(on_started=leaves), b"{}").verdict == "author_error"


@pytest.mark.parametrize("said", ["\ud800", "x" * 10_000_000, 5])
def test_what_an_author_says_is_stored_whatever_it_is(said: Any) -> None:
    for verdict in (Fail(said), ValueError(said)):
        scenario = Scenario(trip(booking("flight", verdict=verdict))).given(Trip())
        event = next(event for event in scenario.happened if isinstance(event, CompensationStarted | SagaBlocked))
        assert event.reason
        assert len(event.reason) <= LONGEST_REASON
        assert SAGA_EVENTS.decode(SAGA_EVENTS.encode([event])) == [event]


def test_a_step_written_for_another_context_blocks_when_it_is_asked() -> None:
    class Other(Struct, frozen=True):
        name: str

    scenario = Scenario(Saga("trip", context=Other, steps=[booking("flight", verdict="proceed")])).given(Other("x"))
    scenario.then(status="blocked")
