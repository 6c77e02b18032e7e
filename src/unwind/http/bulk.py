"""Routes by which operators act on many sagas at once: with a preview, a limit per second, and how far it came."""

from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Meta, Struct, field
from msgspec.json import Decoder

from unwind.http.access import actor_of
from unwind.http.acts import ActRequest, given_reason, printable
from unwind.http.bodies import read_json
from unwind.http.filters import SagaFilter, query_of
from unwind.http.openapi import Answer, Docs
from unwind.http.problems import BULK_COUNT, FieldError, RequestError, invalid
from unwind.http.sagas import AmountSum, AnyRequest, SagaCount, TheEngine, counted, known
from unwind.runtime.bulk import Action, Bulk, BulkRun, Order, Preview
from unwind.runtime.engine import Engine

TheBulk = NamedDependency[SkipValidation[Bulk]]
FASTEST = 1_000
USUAL = 10
"""Acts per second."""


class BulkRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One act on all sagas that a filter fits, and that it may be of use for."""

    action: Action
    filter: SagaFilter = field(default_factory=SagaFilter)
    all: bool = False
    """Every saga: needed where the filter is empty."""
    reason: Annotated[str, Meta(max_length=1000)] = ""
    """Kept in the history of each."""
    dry_run: bool = False
    """Only tell what it would apply to."""
    limit_per_second: Annotated[int, Meta(ge=1, le=FASTEST)] = USUAL
    expected_count: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    """Begin only if it would apply to so many; 409 otherwise."""


class BulkPreview(Struct, frozen=True):
    """What a run would meet, as things are now."""

    action: Action
    matched: SagaCount
    """All that the filter fits."""
    applies_to: int
    """Those among them that it would be tried on: not those that have ended, say. Each may still refuse."""
    amounts: tuple[AmountSum, ...]
    """Of what it would be tried on."""


_request = Decoder(BulkRequest)
_RUN = Docs((Answer(200, "How far it has come", BulkRun),), (404, 503))
_BEGIN = Docs(
    (
        Answer(200, "A dry run: what it would apply to", BulkPreview),
        Answer(202, "It has begun", BulkRun, headers={"Location": "Where to follow it"}),
    ),
    (400, 409, 413, 415, 422, 503),
    request=BulkRequest,
)
_HALT = Docs(
    (Answer(202, "It ends before its next act", BulkRun),),
    (400, 404, 413, 415, 422, 503),
    request=ActRequest,
    request_required=False,
)


@post("/sagas/bulk", status_code=202, docs=_BEGIN, scope="operate")
async def act_in_bulk(request: AnyRequest, engine: TheEngine, bulk: TheBulk) -> Response[Any]:
    """Cancel, resume or retry many sagas.

    One after another, the oldest first, at most `limit_per_second`; each as a single act is, with its reason. One that
    has moved on meanwhile is refused, never forced. With `dry_run` nothing is done: the answer tells what it would
    apply to, and `expected_count` makes the run that follows hold only for that.
    """
    given = await read_json(request, _request)
    printable(reason=given.reason)
    _check_filter(given)
    query = query_of(given.filter, engine.searchable)
    preview = await bulk.preview(given.action, query)
    if given.dry_run:
        return Response(_shown(given.action, preview, engine), status_code=200)
    if given.expected_count not in {None, preview.applies_to}:
        reason = f"it would apply to {preview.applies_to} sagas now, not {given.expected_count}; look again"
        raise RequestError(BULK_COUNT, reason, FieldError("expected_count", reason))
    order = Order(given.action, query, actor_of(request), given.reason, given.limit_per_second, given.expected_count)
    progress = await bulk.begin(order, preview)
    return Response(progress, status_code=202, headers={"Location": f"/api/v1/sagas/bulk/{progress.id}"})


@get("/sagas/bulk/{run_id:str}", docs=_RUN, scope="read")
async def show_bulk_run(run_id: FromPath[str], bulk: TheBulk) -> BulkRun:
    """Show how far a bulk run has come.

    Only the process that took it knows: another one answers 404.
    """
    return bulk.progress(known(run_id))


@post("/sagas/bulk/{run_id:str}/stop", status_code=202, docs=_HALT, scope="operate")
async def stop_bulk_run(run_id: FromPath[str], request: AnyRequest, bulk: TheBulk) -> BulkRun:
    """End a bulk run before its next act.

    What it has done stays done. Only the process that took it knows it: another one answers 404.
    """
    given = await given_reason(request)
    return bulk.halt(known(run_id), given.reason)


def _check_filter(given: BulkRequest) -> None:
    empty = given.filter == SagaFilter()
    if empty and not given.all:
        raise invalid(FieldError("filter", 'it names no sagas: give a condition, or "all": true for every saga'))
    if given.all and not empty:
        raise invalid(FieldError("all", "every saga, or those that a filter fits: give one of the two"))


def _shown(action: Action, preview: Preview, engine: Engine) -> BulkPreview:
    amounts = engine.searchable.amounts
    applicable = counted(preview.applicable, amounts)
    return BulkPreview(action, counted(preview.matched, amounts), applicable.count, applicable.amounts)


bulk_routes = [act_in_bulk, show_bulk_run, stop_bulk_run]
