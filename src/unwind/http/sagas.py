"""Routes that look at sagas: one, its history, a list, how many there are."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from unwind.census import Tally
from unwind.errors import NotFoundError
from unwind.http.filters import FILTERS, MAX_ID, Given
from unwind.http.openapi import Answer, Docs, Parameter
from unwind.http.problems import FieldError, invalid
from unwind.runtime.engine import Engine
from unwind.runtime.foresight import view_at
from unwind.runtime.history import ActEntry, HistoryEntry
from unwind.runtime.queries import Queries, SagaSummary, SagaView

AnyRequest = Request[Any, Any, Any]
TheEngine = NamedDependency[SkipValidation[Engine]]
TheQueries = NamedDependency[SkipValidation[Queries]]
Shows = Mapping[str, Callable[[Raw], Raw]]
"""Name of a definition, or `name@version` → how its stored contexts are shown."""
TheShows = NamedDependency[SkipValidation[Shows]]

MAX_PAGE = 200
MAX_VERSION = 2**31 - 1
"""More events than any saga has."""
_PAGE = 50


class SagaHistory(Struct, frozen=True):
    """Every attempt and every compensation attempt, in the order in which they began."""

    saga_id: str
    history: tuple[HistoryEntry, ...]
    acts: tuple[ActEntry, ...]
    """What happened to the saga as a whole: turning round, being blocked, operators' acts."""


class SagaList(Struct, frozen=True):
    """Sagas, newest first; pass `next_cursor` as `cursor` to get the following page."""

    sagas: tuple[SagaSummary, ...]
    next_cursor: str | None


_cursor = Decoder(tuple[Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)], str])

LIST_PARAMETERS = (
    *FILTERS,
    Parameter("limit", "Sagas on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": _PAGE}),
    Parameter("cursor", "`next_cursor` of the page before.", {"type": "string"}),
)

AT = Parameter(
    "at", "Show the saga as it stood after this version.", {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
)


class AmountSum(Struct, frozen=True):
    """What one attribute of the sagas of one definition comes to."""

    definition: str
    attribute: str
    sum: Annotated[Raw, msgspec.Meta(extra_json_schema={"type": "integer"})]


class SagaCount(Struct, frozen=True):
    """How many sagas there are."""

    count: int
    by_status: dict[str, int]
    amounts: tuple[AmountSum, ...]
    """Of definitions that name an attribute to be added up; in its own unit."""


def counted(tallies: Iterable[Tally], amounts: Mapping[str, str]) -> SagaCount:
    """The tallies together, but for amounts: two definitions may count theirs in two currencies."""
    by_status: dict[str, int] = {}
    sums: dict[str, int] = {}
    for tally in tallies:
        by_status[tally.status] = by_status.get(tally.status, 0) + tally.count
        if tally.amount is not None:
            sums[tally.definition] = sums.get(tally.definition, 0) + tally.amount
    added = (AmountSum(name, amounts[name], Raw(str(total).encode())) for name, total in sorted(sums.items()))
    return SagaCount(sum(by_status.values()), dict(sorted(by_status.items())), tuple(added))


def known(saga_id: str) -> str:
    """An id that a store may be asked for."""
    if len(saga_id) > MAX_ID or not saga_id.isprintable():
        raise NotFoundError("there is no such saga")
    return saga_id


def look(description: str, body: type, *parameters: Parameter) -> Docs:
    """What a route says of itself that shows one saga."""
    return Docs((Answer(200, description, body),), (404, 422, 503), parameters=parameters)


_LIST = Docs((Answer(200, "A page of sagas", SagaList),), (422, 503), parameters=LIST_PARAMETERS)


_COUNT = Docs((Answer(200, "How many there are", SagaCount),), (422, 503), parameters=FILTERS)


@get("/sagas", docs=_LIST, scope="read")
async def list_sagas(request: AnyRequest, queries: TheQueries, engine: TheEngine) -> SagaList:
    """List sagas, newest first."""
    given = Given(request)
    query = given.query(engine.searchable)
    page = await queries.find(
        replace(query, before=_read_cursor(given.one("cursor")), limit=given.number("limit", MAX_PAGE) or _PAGE)
    )
    return SagaList(page.sagas, None if page.next is None else _write_cursor(page.next))


@get("/sagas/count", docs=_COUNT, scope="read")
async def count_sagas(request: AnyRequest, queries: TheQueries, engine: TheEngine) -> SagaCount:
    """Count sagas.

    Takes the conditions of the list. Without one on an attribute or on the start, every saga there ever was is counted.
    """
    found = engine.searchable
    return counted(await queries.count(Given(request).query(found), found.amounts), found.amounts)


@get("/sagas/{saga_id:str}", docs=look("The saga as it is now, or was", SagaView, AT), scope="read")
async def show_saga(saga_id: FromPath[str], request: AnyRequest, queries: TheQueries, shows: TheShows) -> SagaView:
    """Show a saga, as it is now or as it stood after one of its versions.

    A version that does not exist yet is not found; the answer says which is the newest.
    """
    version = Given(request).number("at", MAX_VERSION, ": a saga's `version`")
    view = await (queries.show(known(saga_id)) if version is None else view_at(queries, known(saga_id), version))
    show = shows.get(f"{view.definition}@{view.definition_version}") or shows.get(view.definition)
    return view if show is None else replace(view, context=show(view.context))


@get("/sagas/{saga_id:str}/history", docs=look("All attempts and acts", SagaHistory), scope="read")
async def saga_history(saga_id: FromPath[str], queries: TheQueries) -> SagaHistory:
    """Show how a saga came to where it is."""
    history = await queries.history(known(saga_id))
    return SagaHistory(saga_id, history.entries, history.acts)


saga_routes = [list_sagas, count_sagas, show_saga, saga_history]

# -------------------------------------------------------------------------------------------------------------- cursors


def _write_cursor(place: tuple[int, str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(value: str | None) -> tuple[int, str] | None:
    wrong = FieldError("cursor", "give a next_cursor as it was answered")
    if value is None:
        return None
    try:
        started_at, saga_id = _cursor.decode(urlsafe_b64decode(value.encode() + b"=" * (-len(value) % 4)))
    except (NotBase64, ValueError) as error:
        raise invalid(wrong) from error
    if not saga_id.isprintable():
        raise invalid(wrong)
    return started_at, saga_id
