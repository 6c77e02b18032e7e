"""What sagas can be found by: declared with the definition, computed once, wrong only where the caller hears it."""

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from msgspec import Raw
from tests.core.trips import Trip, booking, trip

from unwind.core.attributes import MAX_ATTRIBUTES, MAX_NAME, MAX_TEXT, MOST, Attribute, as_text, misfit
from unwind.core.codec import SAGA_EVENTS
from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.events import SagaStarted
from unwind.core.messages import Moment, Start
from unwind.core.saga import Saga
from unwind.core.state import NEW
from unwind.errors import DefinitionError

Declared: Any = Attribute
"""As those write who let nobody check their types."""


class Class(StrEnum):
    FIRST = "first"


class Size(IntEnum):
    LARGE = 3


def found_by(**attributes: Attribute[Trip, Any]) -> Saga[Trip]:
    return trip(booking("flight"), attributes=attributes)


def started(saga: Saga[Trip], context: bytes = b'{"traveller":"ada"}') -> Decision:
    return decide(saga, NEW, Start("s", Raw(context)), Moment(1, 0.0, "w"))


def attributes_of(saga: Saga[Trip]) -> dict[str, Any] | None:
    [event, *_] = started(saga).events
    assert isinstance(event, SagaStarted)
    return event.attributes


def giving(kind: Any, value: object) -> Saga[Trip]:
    return found_by(it=Declared(kind, lambda _: value))


# ------------------------------------------------------------------------------------------------------------- declared


@pytest.mark.parametrize(
    ("attributes", "mend"),
    [
        ({"no name": Declared(str, str)}, "attribute 'no name': the name must be an identifier"),
        ({"é": Declared(str, str)}, "must be an identifier of at most 64 ASCII characters"),
        ({"x" * (MAX_NAME + 1): Declared(str, str)}, "at most 64"),
        ({"a": str}, r"attribute 'a': declare it as Attribute\(str, lambda"),
        ({"a": Declared(float, str)}, "with str, int or bool"),
        ({"a": Declared(str, "traveller")}, "declare it as"),
        ({"a": Declared(bool, str, amount=True)}, "an amount is added up: make it an int"),
        ({n: Declared(int, str, amount=True) for n in "ab"}, "a and b are both its amount; it has one"),
        ({f"a{n}": Declared(str, str) for n in range(MAX_ATTRIBUTES + 1)}, "17 attributes; at most 16"),
    ],
)
def test_a_wrong_declaration_is_refused_when_it_is_built(attributes: Any, mend: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^saga trip.*{mend}"):
        trip(booking("flight"), attributes=attributes)


def test_they_are_no_part_of_what_running_sagas_are_bound_to() -> None:
    assert found_by(traveller=Attribute(str, lambda trip: trip.traveller)).hash == trip(booking("flight")).hash


# ------------------------------------------------------------------------------------------------------------- computed


def test_they_are_computed_from_the_start_context_and_recorded_with_the_beginning() -> None:
    saga = found_by(
        traveller=Attribute(str, lambda trip: trip.traveller),
        parts=Attribute(int, lambda trip: len(trip.codes)),
        alone=Attribute(bool, lambda trip: trip.traveller != "bob"),
        coupon=Attribute(str, lambda _: None),
        fare=Attribute(str, lambda _: Class.FIRST),
        size=Attribute(int, lambda _: Size.LARGE),
    )
    expected = {"traveller": "ada", "parts": 0, "alone": True, "fare": "first", "size": 3}
    assert attributes_of(saga) == expected
    events = started(saga).events
    assert SAGA_EVENTS.decode(SAGA_EVENTS.encode(events)) == list(events)


@pytest.mark.parametrize("saga", [trip(booking("flight")), found_by(it=Attribute(str, lambda _: None))])
def test_a_saga_without_any_records_none(saga: Saga[Trip]) -> None:
    assert b"attributes" not in SAGA_EVENTS.encode(started(saga).events)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(str, ""), (str, "x" * MAX_TEXT), (str, "a\n'日本"), (int, -MOST), (int, MOST), (bool, False)],
)
def test_what_fits_is_kept(kind: type, value: object) -> None:
    assert attributes_of(giving(kind, value)) == {"it": value}


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (str, "x" * (MAX_TEXT + 1), "it has 256 characters; at most 255 are allowed"),
        (str, "a\0", "a NUL or half a pair of surrogates"),
        (str, "\ud800", "a NUL or half a pair of surrogates"),
        (str, 1, "it is of type int, not str as declared"),
        (int, "1", "it is of type str, not int as declared"),
        (int, 1.0, "it is of type float, not int as declared"),
        (int, True, "it is of type bool, not int as declared"),
        (int, MOST + 1, "it does not fit into 64 bits"),
        (int, -MOST - 1, "it does not fit into 64 bits"),
        (bool, 1, "it is of type int, not bool as declared"),
    ],
)
def test_what_does_not_fit_is_the_caller_s_to_hear_and_nothing_begins(kind: type, value: object, why: str) -> None:
    decision = started(giving(kind, value))
    assert (decision.events, decision.state, decision.verdict) == ((), NEW, "author_error")
    assert decision.reason == f"attribute 'it' gave what is no attribute: {why}" or why in decision.reason


def test_what_raises_is_the_caller_s_to_hear_and_nothing_begins() -> None:
    decision = started(found_by(it=Attribute(str, lambda trip: trip.codes[7])))
    assert (decision.events, decision.verdict) == ((), "author_error")
    assert decision.reason == "saga trip: attribute 'it' raised IndexError: tuple index out of range"


def test_they_are_asked_for_once() -> None:
    """A saga that has begun can never be blocked by them."""
    asked: list[str] = []
    saga = found_by(it=Attribute(str, lambda trip: asked.append(trip.traveller)))
    state = started(saga).state
    decide(saga, state, Start("s", Raw(b"{}")), Moment(2, 0.0, "w"))
    assert asked == ["ada"]


# -------------------------------------------------------------------------------------------------------------- as text


def test_values_are_asked_for_as_they_are_stored() -> None:
    assert [as_text(value) for value in ("x", 7, -7, 0, True, False)] == ["x", "7", "-7", "0", "true", "false"]


@pytest.mark.parametrize(
    ("kind", "fit", "unfit"),
    [
        (bool, ["true", "false"], ["", "True", "1"]),
        (int, ["0", "7", "-7", "10"], ["", "-", "07", "-0", "+7", "1.0", "7 ", "٣", "--7"]),
        (str, ["", "x" * MAX_TEXT], ["x" * (MAX_TEXT + 1)]),
    ],
)
def test_a_value_that_nothing_can_have_is_told(kind: Any, fit: list[str], unfit: list[str]) -> None:
    tell: Callable[[str], str] = lambda text: misfit(kind, text)  # noqa: E731
    assert [tell(text) for text in fit] == [""] * len(fit)
    assert all(tell(text).startswith("give ") for text in unfit)
