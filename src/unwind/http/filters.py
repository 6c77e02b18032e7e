"""Which sagas a request is about: the same conditions in a query string and in a body, right or refused by name."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import msgspec
from litestar import Request
from litestar.datastructures import MultiDict
from msgspec import Meta, Struct
from msgspec.structs import replace

from unwind.core.attributes import MAX_TEXT, Value, as_text, misfit
from unwind.core.state import ShownStatus
from unwind.http.openapi import ATTRIBUTE, ATTRIBUTES, Parameter
from unwind.http.problems import FieldError, invalid
from unwind.ports import Query
from unwind.runtime.searchable import Searchable

STATUSES = get_args(ShownStatus)
MAX_ID = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Instant = Annotated[datetime, Meta(tz=True)]
_instant = {"type": "string", "format": "date-time"}

FILTERS = (
    Parameter(
        "status",
        "Only sagas of these statuses; repeat it or separate by commas.",
        {"type": "array", "items": {"type": "string", "enum": list(STATUSES)}},
    ),
    Parameter("definition", "Only sagas of this definition.", {"type": "string", "minLength": 1, "maxLength": MAX_ID}),
    Parameter(
        "text",
        "Only sagas whose id, correlation id or value of some attribute begins with this, to the letter.",
        {"type": "string", "minLength": 1, "maxLength": MAX_ID},
    ),
    Parameter("started_from", "Only sagas started at this instant or later.", _instant),
    Parameter("started_to", "Only sagas started before this instant.", _instant),
    ATTRIBUTES,
)
"""Conditions in a query string; they are joined by *and*."""


class SagaFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Which sagas. Conditions are joined by *and*."""

    status: Annotated[tuple[ShownStatus, ...], Meta(min_length=1)] | None = None
    """One of these."""
    definition: Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | None = None
    started_from: Instant | None = None
    """Started at this instant or later."""
    started_to: Instant | None = None
    """Started before this instant."""
    attributes: dict[str, Annotated[str, Meta(max_length=MAX_TEXT)] | int | bool] = {}
    """Name → value, of those that definitions declare."""
    text: Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | None = None
    """What the id, the correlation id or the value of some attribute begins with, to the letter."""


def query_of(given: SagaFilter, known: Searchable, field: str = "filter") -> Query:
    """The conditions of a body. Raises RequestError for an attribute that nothing has."""
    asked = {name: as_text(value) for name, value in given.attributes.items()}
    return Query(
        statuses=tuple(dict.fromkeys(given.status or ())),
        definition=given.definition or "",
        text=given.text or "",
        started_from=_micros(given.started_from),
        started_to=_micros(given.started_to),
        attributes=_attributes(asked, known, f"{field}.attributes."),
    )


class Given:
    """The query parameters of a request, each of which is right or refused by name."""

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self._all: MultiDict[Any] | Any = request.query_params

    def query(self, known: Searchable) -> Query:
        """The conditions."""
        return Query(
            statuses=self._statuses(),
            definition=self._text("definition"),
            text=self._text("text"),
            started_from=self._instant("started_from"),
            started_to=self._instant("started_to"),
            attributes=self._attributes(known),
        )

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be given once. Raises RequestError."""
        values = self._all.getall(name, [])
        if len(values) > 1:
            raise invalid(FieldError(name, "give it once"))
        return values[0] if values else None

    def number(self, name: str, most: int, what: str = "") -> int | None:
        """A whole number from 1 to `most`. Raises RequestError."""
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= len(str(most)) and 1 <= int(value) <= most):
            raise invalid(FieldError(name, f"give a whole number from 1 to {most}{what}"))
        return int(value)

    def _statuses(self) -> tuple[str, ...]:
        statuses = [status for value in self._all.getall("status", []) for status in value.split(",")]
        if unknown := [status for status in statuses if status not in STATUSES]:
            raise invalid(FieldError("status", f"{unknown[0]!r:.40} is none of {', '.join(STATUSES)}"))
        return tuple(dict.fromkeys(statuses))

    def _text(self, name: str) -> str:
        value = self.one(name)
        if value is not None and not (1 <= len(value) <= MAX_ID and value.isprintable()):
            raise invalid(FieldError(name, f"give 1 to {MAX_ID} printable characters"))
        return value or ""

    def _instant(self, name: str) -> int | None:
        value = self.one(name)
        if value is None:
            return None
        try:
            return _micros(msgspec.convert(value, Instant))
        except msgspec.ValidationError as error:
            raise invalid(
                FieldError(name, "give an RFC 3339 instant, e.g. 2026-11-23T10:00:00Z (write + as %2B)")
            ) from error

    def _attributes(self, known: Searchable) -> tuple[tuple[str, str], ...]:
        names = [name for name in dict.fromkeys(self._all) if name.startswith(ATTRIBUTE)]
        asked = {name.removeprefix(ATTRIBUTE): self.one(name) or "" for name in names}
        return _attributes(asked, known, ATTRIBUTE)


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - _EPOCH) // timedelta(microseconds=1)


def _attributes(asked: Mapping[str, str], known: Searchable, field: str) -> tuple[tuple[str, str], ...]:
    wrong = [
        FieldError(f"{field}{name}"[:100], why) for name, text in asked.items() if (why := _refused(name, text, known))
    ]
    if wrong:
        raise invalid(*wrong[:10])
    return tuple(asked.items())


def _refused(name: str, text: str, known: Searchable) -> str:
    """Why nothing can be found by this; empty: something may be."""
    kinds = known.attributes.get(name)
    if kinds is None:
        names = ", ".join(known.attributes)
        return f"no definition has such an attribute; there are {names}" if names else "no definition has attributes"
    reasons = [misfit(kind, text) for kind in kinds]
    return " or ".join(sorted(reasons)) if all(reasons) else ""


_SCHEMAS: Mapping[type[Value], Mapping[str, Any]] = {
    str: {"type": "string", "maxLength": MAX_TEXT},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
}


def documented(known: Searchable) -> Callable[[Sequence[Parameter]], Sequence[Parameter]]:
    """How a document names the attributes: each that is known as a parameter of its own."""
    each = [
        replace(ATTRIBUTES, name=f"{ATTRIBUTE}{name}", schema=_SCHEMAS[next(iter(kinds))] if len(kinds) == 1 else {})
        for name, kinds in known.attributes.items()
    ]

    def expand(parameters: Sequence[Parameter]) -> Sequence[Parameter]:
        return [made for parameter in parameters for made in (each if parameter is ATTRIBUTES else [parameter])]

    return expand
