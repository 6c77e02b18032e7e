"""Routes that look at sagas: one, its history, a list."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from unwind.core.state import ShownStatus
from unwind.errors import NotFoundError
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

STATUSES = get_args(ShownStatus)
MAX_PAGE = 200
MAX_VERSION = 2**31 - 1
"""More events than any saga has."""
_PAGE = 50
_MAX_ID = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


Instant = Annotated[datetime, msgspec.Meta(tz=True)]

_cursor = Decoder(tuple[Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)], str])
_instant = {"type": "string", "format": "date-time"}

LIST_PARAMETERS = (
    Parameter(
        "status",
        "Only sagas of these statuses; repeat it or separate by commas.",
        {"type": "array", "items": {"type": "string", "enum": list(STATUSES)}},
    ),
    Parameter("definition", "Only sagas of this definition.", {"type": "string", "minLength": 1, "maxLength": _MAX_ID}),
    Parameter("started_from", "Only sagas started at this instant or later.", _instant),
    Parameter("started_to", "Only sagas started before this instant.", _instant),
    Parameter("limit", "Sagas on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": _PAGE}),
    Parameter("cursor", "`next_cursor` of the page before.", {"type": "string"}),
)

AT = Parameter(
    "at", "Show the saga as it stood after this version.", {"type": "integer", "minimum": 1, "maximum": MAX_VERSION}
)


def known(saga_id: str) -> str:
    """An id that a store may be asked for."""
    if len(saga_id) > _MAX_ID or not saga_id.isprintable():
        raise NotFoundError("there is no such saga")
    return saga_id


def look(description: str, body: type, *parameters: Parameter) -> Docs:
    """What a route says of itself that shows one saga."""
    return Docs((Answer(200, description, body),), (404, 422, 503), parameters=parameters)


_LIST = Docs((Answer(200, "A page of sagas", SagaList),), (422, 503), parameters=LIST_PARAMETERS)


@get("/sagas", docs=_LIST)
async def list_sagas(request: AnyRequest, queries: TheQueries) -> SagaList:
    """List sagas, newest first."""
    given = _Given(request)
    page = await queries.find(
        statuses=given.statuses(),
        definition=given.text("definition"),
        started_from=given.instant("started_from"),
        started_to=given.instant("started_to"),
        before=given.cursor(),
        limit=given.limit(),
    )
    return SagaList(page.sagas, None if page.next is None else _write_cursor(page.next))


@get("/sagas/{saga_id:str}", docs=look("The saga as it is now, or was", SagaView, AT))
async def show_saga(saga_id: FromPath[str], request: AnyRequest, queries: TheQueries, shows: TheShows) -> SagaView:
    """Show a saga, as it is now or as it stood after one of its versions.

    A version that does not exist yet is not found; the answer says which is the newest.
    """
    version = _Given(request).version()
    view = await (queries.show(known(saga_id)) if version is None else view_at(queries, known(saga_id), version))
    show = shows.get(f"{view.definition}@{view.definition_version}") or shows.get(view.definition)
    return view if show is None else replace(view, context=show(view.context))


@get("/sagas/{saga_id:str}/history", docs=look("All attempts and acts", SagaHistory))
async def saga_history(saga_id: FromPath[str], queries: TheQueries) -> SagaHistory:
    """Show how a saga came to where it is."""
    history = await queries.history(known(saga_id))
    return SagaHistory(saga_id, history.entries, history.acts)


saga_routes = [list_sagas, show_saga, saga_history]

# ---------------------------------------------------------------------------------------------------- query parameters


def _write_cursor(place: tuple[int, str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


class _Given:
    """The query parameters of a list, each of which is right or refused by name."""

    def __init__(self, request: AnyRequest) -> None:
        self._all = request.query_params

    def _one(self, name: str) -> str | None:
        values = self._all.getall(name, [])
        if len(values) > 1:
            raise invalid(FieldError(name, "give it once"))
        return values[0] if values else None

    def statuses(self) -> tuple[str, ...]:
        statuses = [status for value in self._all.getall("status", []) for status in value.split(",")]
        if unknown := [status for status in statuses if status not in STATUSES]:
            raise invalid(FieldError("status", f"{unknown[0]!r:.40} is none of {', '.join(STATUSES)}"))
        return tuple(dict.fromkeys(statuses))

    def text(self, name: str) -> str:
        value = self._one(name)
        if value is not None and not (1 <= len(value) <= _MAX_ID and value.isprintable()):
            raise invalid(FieldError(name, f"give 1 to {_MAX_ID} printable characters"))
        return value or ""

    def instant(self, name: str) -> int | None:
        value = self._one(name)
        if value is None:
            return None
        try:
            parsed = msgspec.convert(value, Instant)
            return (parsed - _EPOCH) // timedelta(microseconds=1)
        except msgspec.ValidationError as error:
            raise invalid(
                FieldError(name, "give an RFC 3339 instant, e.g. 2026-11-23T10:00:00Z (write + as %2B)")
            ) from error

    def limit(self) -> int:
        value = self._one("limit")
        if value is None:
            return _PAGE
        if not (value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= MAX_PAGE):  # noqa: PLR2004
            raise invalid(FieldError("limit", f"give a whole number from 1 to {MAX_PAGE}"))
        return int(value)

    def version(self) -> int | None:
        value = self._one("at")
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and 1 <= int(value) <= MAX_VERSION):  # noqa: PLR2004
            raise invalid(FieldError("at", f"give a whole number from 1 to {MAX_VERSION}: a saga's `version`"))
        return int(value)

    def cursor(self) -> tuple[int, str] | None:
        value = self._one("cursor")
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
