"""A saga is rehearsed by the machine itself: what its author's code does from here on is found before it happens."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw, Struct
from msgspec.json import encode
from msgspec.structs import replace
from tests.core.test_exhaustive import SAGAS, walked
from tests.core.trips import BOOKED, Booked, Booking, Trip, approval, booking, diary, errand, nap, pivotal, trip

from unwind.core.events import StepDone
from unwind.core.messages import Input
from unwind.core.saga import Saga
from unwind.core.state import State
from unwind.core.steps import Command, Fail, Kind, Outcome, Refused
from unwind.runtime.rehearsal import Finding, Rehearsal, rehearse, rehearse_from_start
from unwind.runtime.replies import Replies
from unwind.testing.scenario import START, Scenario, cancel, failed, ok, pause, refused, undo_refused

MIXED = trip(
    booking("flight"),
    errand("errand"),
    diary("diary"),
    approval("approval"),
    nap("nap"),
    booking("hotel", Kind.PIVOT),
    errand("late", Kind.RETRIABLE),
    approval("later"),
    diary("last", Kind.RETRIABLE),
)


def state_after(saga: Saga[Any], *inputs: Input, context: Any = None, begins: float = 0) -> State:
    return Scenario(saga).given(context or Trip(), begins=begins).when(*inputs).state


def rehearsed(saga: Saga[Any], *inputs: Input, **given: Any) -> Rehearsal:
    return rehearse(saga, state_after(saga, *inputs, **given), Replies(saga), START)


def found(rehearsal: Rehearsal) -> list[tuple[str, str, str, str]]:
    return [(each.severity, each.way, each.step, each.at) for each in rehearsal.findings]


def raising(name: str, method: str, error: Exception, kind: Kind = Kind.COMPENSATABLE) -> Any:
    """A booking whose author made a mistake in one of its functions."""

    def mistaken(*_: object) -> Any:
        raise error

    return booking(name, kind, **{method: mistaken})


# -------------------------------------------------------------------------------------------------------- what is sound


def test_a_sound_saga_comes_to_its_end_and_is_turned_round_at_every_point() -> None:
    # Of three outstanding bookings each may be cancelled and refused.
    assert rehearsed(trip()) == Rehearsal(True, 6, ())
    assert rehearsed(trip(), ok("flight", BOOKED), ok("hotel", BOOKED)) == Rehearsal(True, 2, ())


def test_every_kind_of_step_is_gone_through() -> None:
    played = rehearsed(MIXED)
    assert (played.completes, played.findings) == (True, ())
    # flight, errand: twice each; approval, nap: a cancel; the pivot: a refusal; past it nothing.
    assert played.turns == 7


STANDS: dict[str, tuple[Input, ...]] = {
    "paused": (pause(),),
    "paused after a step": (ok("flight", BOOKED), pause()),
    "in a backoff": (failed("flight"),),
    "paused in a backoff": (failed("flight"), pause()),
    "cancelled": (ok("flight", BOOKED), cancel()),
    "refused": (ok("flight", BOOKED), refused("hotel")),
    "its undo refused": (ok("flight", BOOKED), refused("hotel"), undo_refused("flight")),
    "paused while it is undone": (ok("flight", BOOKED), cancel(), pause()),
}


@pytest.mark.parametrize("name", STANDS)
def test_it_begins_where_the_saga_stands(name: str) -> None:
    played = rehearsed(trip(), *STANDS[name])
    assert (played.completes, played.findings) == (True, ())


@pytest.mark.parametrize("name", SAGAS)
def test_from_every_state_that_a_sound_saga_can_reach_nothing_is_found(name: str) -> None:
    saga, (places, _) = SAGAS[name], walked(name)
    replies = Replies(saga)
    for place in places.values():
        if place.state.live:
            played = rehearse(saga, place.state, replies, place.now)
            assert (played.completes, played.findings) == (True, ()), place


def test_a_saga_that_begins_later_is_begun() -> None:
    assert rehearsed(trip(), begins=3_600) == Rehearsal(True, 7, ())


def test_a_deadline_that_has_passed_hides_nothing() -> None:
    saga = trip(booking("flight"), raising("hotel", "execute", KeyError("rate")), deadline=timedelta(minutes=1))
    state = state_after(saga)
    played = rehearse(saga, state, Replies(saga), START + 3_600 * 1_000_000)
    assert "hotel.execute raised KeyError" in played.findings[0].reason


def test_a_pivot_that_is_blocked_by_its_participant_goes_on_once_that_says_yes() -> None:
    saga = pivotal()
    played = rehearsed(saga, ok("flight", BOOKED), ok("hotel", BOOKED), refused("car"))
    assert played == Rehearsal(True, 0, ())


def test_a_guard_that_turns_the_saga_round_is_no_fault() -> None:
    saga = trip(booking("flight"), booking("hotel", verdict=Fail("full")))
    played = rehearsed(saga)
    assert (played.completes, played.findings) == (True, ())


# ------------------------------------------------------------------------------------------------- an author's mistakes


@pytest.mark.parametrize("method", ["execute", "guard", "when"])
def test_what_raises_going_forward_is_found_before_it_happens(method: str) -> None:
    saga = trip(booking("flight"), booking("hotel"), raising("car", method, KeyError("rate")))
    played = rehearsed(saga)
    assert not played.completes
    [finding] = played.findings
    assert (finding.severity, finding.way, finding.step, finding.at) == ("error", "forward", "car", "hotel, done")
    assert finding.reason == f"car.{method} raised KeyError: 'rate'"


def test_what_raises_going_back_is_found_from_every_point_that_leads_there() -> None:
    saga = trip(booking("flight"), raising("hotel", "compensate", ValueError("no code")), booking("car"))
    played = rehearsed(saga)
    assert played.completes
    [finding] = played.findings
    why = "hotel.compensate raised ValueError: no code"
    assert finding == Finding("error", "back", "hotel", "hotel, outstanding", why, 3)


def test_a_saga_that_is_blocked_by_code_that_was_mended_goes_on() -> None:
    broken = trip(booking("flight"), raising("hotel", "execute", KeyError("rate")))
    mended = trip(booking("flight"), booking("hotel"))
    assert broken.hash == mended.hash
    state = state_after(broken, ok("flight", BOOKED))
    assert state.shown_status == "blocked"
    assert rehearse(mended, state, Replies(mended), START).findings == ()
    [finding] = rehearse(broken, state, Replies(broken), START).findings
    assert (finding.step, finding.at) == ("hotel", "flight, done")


def test_an_undo_that_waits_for_mended_code_is_rehearsed_too() -> None:
    broken = trip(raising("flight", "compensate", KeyError("code")), booking("hotel"))
    state = state_after(broken, ok("flight", BOOKED), refused("hotel"))
    played = rehearse(broken, state, Replies(broken), START)
    assert not played.completes
    assert found(played) == [("error", "back", "flight", "before the undo of flight")]


def test_records_that_raise_at_the_end_are_found() -> None:
    def cancelled(context: Trip) -> Any:
        raise LookupError(context.traveller)

    played = rehearsed(trip(booking("flight"), on_compensated=cancelled))
    [finding] = played.findings
    assert finding.reason == "on_compensated raised LookupError: ada"
    assert (finding.way, finding.times) == ("back", 2)


def test_a_context_that_is_not_understood_any_more_is_found() -> None:
    state = replace(state_after(trip(), ok("flight", BOOKED)), context=Raw(b'{"codes":7}'))
    played = rehearse(trip(), state, Replies(trip()), START)
    assert (played.completes, found(played)) == (False, [("error", "forward", "hotel", "hotel, outstanding")])
    assert "the context raised msgspec.ValidationError" in played.findings[0].reason


# ----------------------------------------------------------------------------------------------------- made-up answers


class Picky(Booking):
    name = "picky"

    def succeeded(self, context: Trip, reply: Booked) -> Trip | Outcome[Trip]:
        return replace(context, codes=(*context.codes, str(int(reply.code))))

    def compensate(self, context: Trip) -> Command:
        return self.execute(context)


def test_an_answer_that_its_author_cannot_take_is_a_warning_and_the_rest_is_rehearsed_all_the_same() -> None:
    saga = trip(Picky(), booking("hotel"))
    played = rehearsed(saga)
    assert played.completes
    [finding] = played.findings
    assert (finding.severity, finding.step, finding.at) == ("warning", "picky", "picky, outstanding")
    assert finding.reason.startswith("could not rehearse its reply: picky.succeeded raised ValueError: invalid literal")
    assert played.turns == 4


def test_after_an_answer_that_could_not_be_made_up_nothing_is_certain() -> None:
    class Needy(Booking):
        name = "needy"

        def execute(self, context: Trip) -> Command:
            return super().execute(replace(context, codes=(context.codes[0],)))

        def compensate(self, context: Trip) -> Command:
            return self.execute(context)

    saga = trip(Picky(), Needy())
    assert [each.severity for each in rehearsed(saga).findings] == ["warning", "warning"]


def test_what_a_step_was_really_answered_is_taken_first() -> None:
    saga = trip(Picky(), booking("hotel"))
    replies = Replies(saga)
    replies.learn([StepDone(0, "picky", 1, Raw(encode(Booked("17"))))])
    replies.learn([StepDone(0, "picky", 1, Raw(encode(Booked("18"))))])
    assert bytes(replies.to(saga.by_name["picky"])[0]) == encode(Booked("17"))
    assert rehearse(saga, state_after(saga), replies, START).findings == ()


class Yes(Struct, frozen=True, tag="yes"):
    code: str


class No(Struct, frozen=True, tag="no"):
    reason: str


def test_of_several_kinds_of_answers_the_one_that_leads_on_is_taken() -> None:
    class Either(Booking):
        name = "either"

        def succeeded(self, context: Trip, reply: Any) -> Trip | Outcome[Trip]:
            if isinstance(reply, No):
                raise TypeError(reply.reason)
            return replace(context, codes=(reply.code,))

        def compensate(self, context: Trip) -> Command:
            return self.execute(context)

    saga = trip(Either())
    plan = replace(saga.by_name["either"], reply_type=No | Yes)
    saga.by_name = {"either": plan}
    assert rehearse(saga, state_after(saga), Replies(saga), START).findings == ()


def test_a_signal_that_can_only_say_no_is_a_warning() -> None:
    class Never(type(approval("never"))):  # type: ignore[misc]
        name = "never"

        def succeeded(self, context: Trip, reply: Booked) -> Any:
            return Refused(reply.code)

    saga = trip(booking("flight"), Never(), booking("hotel"))
    played = rehearsed(saga)
    assert played.completes
    [finding] = played.findings
    assert finding.reason == "could not rehearse its reply: its author turns round at whatever is made up"


def test_a_reply_that_cannot_be_made_up_is_a_warning() -> None:
    class Odd:
        pass

    saga = trip(booking("flight"))
    saga.by_name = {"flight": replace(saga.by_name["flight"], reply_type=Odd)}
    [finding] = rehearse(saga, state_after(saga), Replies(saga), START).findings
    why = "no reply can be made up: how a Odd is made is known to its author only"
    assert finding.reason == f"could not rehearse its reply: {why}"
    replies = Replies(saga)
    replies.learn([StepDone(0, "flight", 1, Raw(b"{}"))])
    assert replies.to(saga.by_name["flight"]) == (Raw(b"{}"),)


# ------------------------------------------------------------------------------------------------------- from the start


def from_start(saga: Saga[Any]) -> Rehearsal:
    return rehearse_from_start(saga, Replies(saga), START)


def test_a_definition_without_sagas_is_rehearsed_with_a_made_up_context() -> None:
    assert from_start(trip()) == Rehearsal(True, 6, ())


def test_what_goes_wrong_with_a_made_up_context_is_a_warning() -> None:
    saga = trip(booking("flight"), raising("hotel", "execute", KeyError("rate")))
    assert [(each.severity, each.step) for each in from_start(saga).findings] == [("warning", "hotel")]


class Adult(Struct, frozen=True):
    age: int = 0

    def __post_init__(self) -> None:
        if self.age < 18:
            raise ValueError("too young")


def test_a_context_that_cannot_be_made_up_is_a_warning() -> None:
    saga: Saga[Any] = Saga("club", context=Adult, steps=[booking("flight")])
    played = from_start(saga)
    assert not played.completes
    assert "could not rehearse: no context can be made up: " in played.findings[0].reason
    assert "too young" in played.findings[0].reason


def test_a_start_that_is_refused_by_its_author_is_a_warning() -> None:
    def begun(context: Trip) -> Any:
        raise LookupError(context.traveller)

    [finding] = from_start(trip(on_started=begun)).findings
    assert finding.reason == "could not rehearse: saga trip: on_started raised LookupError: invented"
