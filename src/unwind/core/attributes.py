"""What sagas can be found by: attributes that a definition declares, each a pure function of the start context."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

from unwind.errors import DefinitionError

C = TypeVar("C")
V = TypeVar("V", str, int, bool)

Value = str | int | bool
MAX_ATTRIBUTES = 16
"""Of one definition: each is a row beside the saga's."""
MAX_NAME = 64
MAX_TEXT = 255
"""Characters of a text. Longer ones are no way to find a saga, and no database indexes them for long."""
MOST = 2**63 - 1
"""The largest number that a database holds."""
_KINDS = {str: "a text", int: "a whole number", bool: "true or false"}


class Attribute(Struct, Generic[C, V], frozen=True):
    """One thing by which sagas are found.

        attributes={"customer_id": Attribute(str, lambda order: order.customer_id)}

    `of` is asked once, with the context that the saga starts with; it is pure. None: this saga has no such attribute.
    """

    kind: type[V]
    """`str`, `int` or `bool`."""
    of: Callable[[C], V | None]
    amount: bool = False
    """Of one `int` of a definition: what a preview adds up, such as an order's total in minor units."""


def check_attributes(saga: str, attributes: Mapping[str, Attribute[Any, Any]]) -> None:
    """Raises DefinitionError naming the attribute and the mend."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise DefinitionError(f"saga {saga}: it has {len(attributes)} attributes; at most {MAX_ATTRIBUTES} are allowed")
    declared: Mapping[str, object] = attributes
    for name, attribute in declared.items():
        where = f"saga {saga}, attribute {name!r}"
        if not (name.isascii() and name.isidentifier() and len(name) <= MAX_NAME):
            raise DefinitionError(f"{where}: the name must be an identifier of at most {MAX_NAME} ASCII characters")
        if not isinstance(attribute, Attribute) or attribute.kind not in _KINDS or not callable(attribute.of):
            raise DefinitionError(f"{where}: declare it as Attribute(str, lambda context: …), with str, int or bool")
        if attribute.amount and attribute.kind is not int:
            raise DefinitionError(f"{where}: an amount is added up: make it an int, e.g. of minor units")
    amounts = [name for name, attribute in attributes.items() if attribute.amount]
    if len(amounts) > 1:
        raise DefinitionError(f"saga {saga}: {' and '.join(amounts)} are both its amount; it has one")


def checked_value(kind: type[Value], value: object) -> Value:
    """The value as it is stored. Raises ValueError for what is not of its kind, or too large to be found by."""
    if kind is str and isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"it has {len(value)} characters; at most {MAX_TEXT} are allowed")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("it holds a NUL or half a pair of surrogates, which no database stores")
        return str.__str__(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        if not -MOST <= value <= MOST:
            raise ValueError("it does not fit into 64 bits")
        return int(value)
    raise ValueError(f"it is of type {type(value).__name__}, not {kind.__name__} as declared")


def as_text(value: Value) -> str:
    """A value as it is stored beside the saga's row, and asked for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def misfit(kind: type[Value], text: str) -> str:
    """Why no value of that kind is written so; empty: one may be."""
    if kind is bool:
        fits = text in {"true", "false"}
    elif kind is int:
        digits = text.removeprefix("-")
        fits = digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0") and text != "-0"
    else:
        fits = len(text) <= MAX_TEXT
    return "" if fits else f"give {_KINDS[kind]}"
