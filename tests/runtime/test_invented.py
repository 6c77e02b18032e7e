"""Values that are made up fit their type, whatever it asks for; where none can be made up, it is said why."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Raw, Struct

from unwind.runtime.invented import InventionError, inventions

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 3


class Inner(Struct, frozen=True):
    code: str
    note: str | None = None


class Tagged(Struct, tag="inventory.reserved", rename="camel"):
    reservation_id: str
    parts: list[Inner] = []


class Other(Struct, tag="inventory.postponed"):
    until: Annotated[datetime, Meta(tz=True)]


class Listed(Struct, array_like=True, tag="x"):
    first: int
    second: str = "s"


class Tree(Struct):
    name: str
    children: list["Tree"]
    parent: "Tree | None" = None


class Endless(Struct):
    again: "Endless"


class Box(Struct, Generic[T]):
    content: T


@dataclass
class Plain:
    when: date
    price: Decimal = Decimal(0)


class Typed(TypedDict):
    here: int
    perhaps: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Currency(Struct):
    name: str

    def __post_init__(self) -> None:
        if len(self.name) != 3:
            raise ValueError("three letters")


class Opaque:
    pass


WHOLE = (
    *(type(None), bool, int, float, str, bytes, datetime, date, time, timedelta, UUID, Decimal, Any, Raw),
    *(Colour, Size, Literal["a", "b"], str | None, int | str, list, dict, set[int], frozenset[str], tuple[int, ...]),
    *(tuple[int, str], list[Inner], dict[str, Inner], dict[int, str], Mapping[UUID, int], Sequence[int]),
    *(Inner, Tagged, Tagged | Other, Listed, Tree, Box[int], Plain, Typed, Pair, Inner | None),
    *(Annotated[int, Meta(ge=5)], Annotated[int, Meta(gt=5, lt=7)], Annotated[int, Meta(le=-3)]),
    *(Annotated[int, Meta(ge=10, multiple_of=7)], Annotated[float, Meta(gt=0, lt=1)], Annotated[float, Meta(ge=2)]),
    *(Annotated[str, Meta(min_length=20)], Annotated[str, Meta(max_length=2)], Annotated[str, Meta(pattern="^[A-Z]$")]),
    *(Annotated[list[int], Meta(min_length=3)], Annotated[datetime, Meta(tz=False)], Annotated[time, Meta(tz=True)]),
    Annotated[str, Meta(title="t")],
)


@pytest.mark.parametrize("wanted", WHOLE, ids=str)
def test_what_is_made_up_fits_and_is_always_the_same(wanted: Any) -> None:
    made = inventions(wanted)
    assert made == inventions(wanted)
    for document in made:
        msgspec.json.decode(document, type=wanted)


def documents(wanted: Any) -> list[Any]:
    return [msgspec.json.decode(document) for document in inventions(wanted)]


def test_it_comes_with_all_that_may_be_there_and_with_the_least() -> None:
    full = {
        "type": "inventory.reserved",
        "reservationId": "invented",
        "parts": [{"code": "invented", "note": "invented"}],
    }
    assert documents(Tagged) == [full, {"type": "inventory.reserved", "reservationId": "invented"}]
    assert documents(str | None) == ["invented", None]


def test_of_a_union_there_is_one_of_each_kind() -> None:
    assert [each["type"] for each in documents(Tagged | Other)] == [
        "inventory.reserved",
        "inventory.postponed",
        "inventory.reserved",
    ]


def test_where_anything_goes_there_is_nothing_and_an_object() -> None:
    assert documents(Any) == [None, {}]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Endless, "again: .* it has no end"),
        (Currency, "three letters"),
        (Opaque, "how a Opaque is made is known to its author only"),
        (Annotated[str, Meta(pattern="^q{7}$")], r"no text was found that has the form '\^q\{7\}\$'"),
        (Annotated[int, Meta(gt=1, lt=2)], "no number was found within its bounds"),
        (list[Any] | set[int], "not a type that is understood"),
        (Box["Missing"], "not a type that is understood"),  # type: ignore[name-defined]
        (Annotated[list[Endless], Meta(min_length=1)], "it has no end"),
        (Endless | Annotated[str, Meta(pattern="^q{7}$")], "it has no end"),
    ],
    ids=str,
)
def test_what_cannot_be_made_up_says_why(wanted: Any, why: str) -> None:
    with pytest.raises(InventionError, match=why):
        inventions(wanted)


def test_what_need_not_be_there_is_left_out_where_it_cannot_be_made_up() -> None:
    class Holder(Struct):
        name: str
        opaque: Opaque | None = None
        many: list[Endless] = []

    assert documents(Holder) == [{"name": "invented", "opaque": None, "many": []}, {"name": "invented"}]
