"""Which sagas a list is about: conditions as they stand in the address, so that a list can be kept and sent on."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import get_args
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace

from unwind.core.attributes import misfit
from unwind.core.state import ShownStatus
from unwind.dashboard.requests import AnyRequest
from unwind.errors import InputError
from unwind.ports import Query
from unwind.runtime.searchable import Searchable

STATUSES: tuple[str, ...] = get_args(ShownStatus)
LIVE = tuple(status for status in STATUSES if status not in {"completed", "compensated"})
PAGE = 50
_MAX_TEXT = 255
_MAX_MICROS = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Filter(Struct, frozen=True):
    """The conditions as they were given; empty ones are none."""

    status: tuple[str, ...] = ()
    definition: str = ""
    started_from: str = ""
    """An instant; without a zone it is UTC, as the browser's field for it has it."""
    started_to: str = ""
    attribute: str = ""
    value: str = ""
    text: str = ""
    """What the id, the correlation id or the value of some attribute begins with."""
    before: str = ""
    """Where the page begins: `instant.id` of the last saga of the page before."""

    @property
    def cheap(self) -> bool:
        """Whether what fits can be counted without looking at every saga there ever was."""
        return bool(self.started_from or self.attribute or self.text or (self.status and set(self.status) <= set(LIVE)))

    @property
    def everything(self) -> bool:
        """Whether there is no condition."""
        return replace(self, before="") == Filter()

    def address(self, path: str = "/sagas", /, **changes: str | tuple[str, ...]) -> str:
        """A page about these conditions, but for the changes; without `before` the list begins at its beginning."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "before"} | changes
        pairs = [(name, each) for name, value in given.items() for each in _all(value) if each]
        return f"{path}?{urlencode(pairs)}" if pairs else path

    def query(self, known: Searchable) -> Query:
        """The conditions for a store. Raises InputError naming what is wrong."""
        if unknown := [status for status in self.status if status not in STATUSES]:
            raise InputError(f"status: {unknown[0]!r:.40} is none of {', '.join(STATUSES)}", "status")
        return Query(
            statuses=self.status,
            definition=self.definition,
            started_from=_instant("started_from", self.started_from),
            started_to=_instant("started_to", self.started_to),
            before=_place(self.before),
            limit=PAGE,
            attributes=self._attributes(known),
            text=self.text,
        )

    def _attributes(self, known: Searchable) -> tuple[tuple[str, str], ...]:
        if not self.attribute:
            return ()
        kinds = known.attributes.get(self.attribute)
        if kinds is None:
            names = ", ".join(known.attributes) or "none"
            raise InputError(f"attribute: no definition has {self.attribute!r:.80}; there are {names}", "attribute")
        reasons = [misfit(kind, self.value) for kind in kinds]
        if all(reasons):
            raise InputError(f"value: {' or '.join(sorted(reasons))}", "value")
        return ((self.attribute, self.value),)


def read_filter(request: AnyRequest, *beside: str) -> Filter:
    """The conditions in an address, which may say what is named `beside` them.

    Raises InputError for what no condition can be; also for one that there is not: without it more would be meant.
    """
    given = request.query_params
    allowed = Filter.__struct_fields__
    if unknown := [name for name in given if name not in allowed and name not in beside]:
        raise InputError(f"{unknown[0]!r:.80}: there is no such condition; there are {', '.join(allowed)}", unknown[0])
    statuses = tuple(dict.fromkeys(each for each in given.getall("status", []) if each))
    texts: Mapping[str, str] = {name: (given.get(name) or "").strip() for name in Filter.__struct_fields__[1:]}
    for name, text in texts.items():
        if len(text) > _MAX_TEXT or not text.isprintable():
            raise InputError(f"{name}: give at most {_MAX_TEXT} printable characters", name)
    return Filter(statuses, **texts)


def _all(value: str | tuple[str, ...]) -> Iterator[str]:
    yield from (value,) if isinstance(value, str) else value


def _instant(name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
        at = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        return (at - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: give an instant, e.g. 2026-11-23T10:00", name) from error


def _place(text: str) -> tuple[int, str] | None:
    if not text:
        return None
    at, _, saga_id = text.partition(".")
    if not (at.isascii() and at.isdigit() and saga_id) or int(at) > _MAX_MICROS:
        raise InputError("before: follow the link to the next page as it is", "before")
    return int(at), saga_id
