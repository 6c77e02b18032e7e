"""The HTTP application: routes put together, and what holds for every request, whoever answers it."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import Message, Receive, Scope, Send
from uuid_utils import uuid7

from unwind.errors import NotFoundError
from unwind.http.access import Guard, guarded_by, identified_by, scopes_in
from unwind.http.acts import act_routes
from unwind.http.bodies import BODY_LIMIT
from unwind.http.bulk import bulk_routes
from unwind.http.circuits import circuit_routes
from unwind.http.dead_letters import dead_letter_routes
from unwind.http.documentation import documentation_routes
from unwind.http.filters import documented
from unwind.http.foresight import foresight_routes
from unwind.http.health import health_routes
from unwind.http.keys import key_routes
from unwind.http.openapi import ATTRIBUTE, ATTRIBUTES, About, docs_of, document
from unwind.http.problems import FieldError, answer, invalid
from unwind.http.rate_limits import limited_by
from unwind.http.sagas import Shows, saga_routes
from unwind.http.tracing import Traced
from unwind.http.workers import worker_routes
from unwind.ports import RateLimiter
from unwind.queues import OperatedBus
from unwind.roster import Roster
from unwind.runtime.bulk import Bulk
from unwind.runtime.engine import Engine
from unwind.runtime.keyring import Keyring
from unwind.runtime.queries import Queries
from unwind.runtime.readiness import Checks
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.tracing import Tracing

PREFIX = "/api/v1"
Fails = Callable[[Request[Any, Any, Any], Exception], Response[Any]]
"""Makes an answer of an error."""

_SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`: by that a browser keeps from us which page sent a form, and such forms are refused.
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guarded:
    """Gives every request an id and every response its security headers, also those that no route made.

    A route that sets one of them itself is believed.
    """

    def __init__(self, inner: Litestar, tracing: Tracing | None = None) -> None:
        """Wraps an application."""
        self.inner = inner
        self._serve = inner if tracing is None else Traced(inner, tracing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.inner(scope, receive, send)
            return
        request_id = str(uuid7())
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        added = [*_SECURITY, (b"x-request-id", request_id.encode())]

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in added if each[0] not in own)]
            await send(message)

        await self._serve(scope, receive, send_guarded)


def only_documented_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Refuse query parameters that the route does not document."""
    if connection.scope.get("method") == "OPTIONS":
        return  # answered by the framework, for every path alike
    known = {parameter.name for parameter in docs_of(handler).parameters if parameter.place == "query"}
    takes_attributes = ATTRIBUTES.name in known
    unknown = [
        name
        for name in dict.fromkeys(connection.query_params)
        if name not in known and not (takes_attributes and name.startswith(ATTRIBUTE))
    ]
    if unknown:
        allowed = f"; allowed are {', '.join(sorted(known))}" if known else ""
        raise invalid(*(FieldError(name[:100], f"there is no such query parameter{allowed}") for name in unknown[:10]))


def create_app(
    about: About,
    engine: Engine,
    queries: Queries,
    checks: Checks,
    *,
    routes: Sequence[HTTPRouteHandler] = (),
    shows: Shows | None = None,
    provide: Mapping[str, Any] | None = None,
    limiter: RateLimiter | None = None,
    bulk: Bulk | None = None,
    keys: Keyring | None = None,
    bus: OperatedBus | None = None,
    roster: Roster | None = None,
    pages: Sequence[Router] = (),
    tracing: Tracing | None = None,
) -> Guarded:
    """The application: everything about sagas in general, and the author's own `routes` under `/api/v1`.

    Routes may ask for `engine`, `queries`, and what `provide` adds, by parameter name. `checks` decide `/readyz`;
    `shows` says how the contexts of a definition, `name` or `name@version`, are shown; `limiter` counts the calls under
    `/api/v1`; `bulk` carries out what is asked for many sagas at once: without it there are no routes for that.
    `bus` is what dead letters are on, `roster` where workers say that they are there: without them there are no routes
    for those either.
    `keys` tell who calls: without them, or as long as there are none, only callers on this machine are served. Each
    route says with `scope="read"` (or `start`, `operate`, `admin`, `open`) who may call it; else DefinitionError.
    `pages` are for people, beside the API and not part of it: they may ask for what routes may ask for. A path where
    nothing is they answer to a browser.
    `tracing` tells of calls; without it nothing is told.
    """
    given = {
        "engine": engine,
        "queries": queries,
        "checks": checks,
        "shows": shows or {},
        "telemetry": engine.telemetry,
        "bulk": bulk,
        "keys": keys,
        "bus": bus,
        "roster": roster,
        **(provide or {}),
    }
    about_sagas = [*saga_routes, *foresight_routes, *act_routes, *circuit_routes]
    in_api = [*about_sagas, *(bulk_routes if bulk else ()), *(key_routes if keys else ())]
    in_api += [*(dead_letter_routes if bus else ()), *(worker_routes if roster else ()), *routes]
    described = [(PREFIX + path, route) for route in in_api for path in sorted(route.paths)]
    described += [(path, route) for route in health_routes for path in sorted(route.paths)]
    documentation = documentation_routes(
        document(about, described, PREFIX if limiter else None, documented(engine.searchable))
    )
    identify = identified_by(keys)
    limits = [limited_by(limiter, identify)] if limiter else []
    api = Router(PREFIX, route_handlers=in_api, guards=[only_documented_parameters], middleware=limits)
    served: list[Router | HTTPRouteHandler] = [api, *health_routes, *documentation, *pages]
    return _guarded(served, given, [guarded_by(identify)], tracing, _failing(pages))


def create_watch_app(checks: Checks, telemetry: Telemetry) -> Guarded:
    """What a process that answers nobody's questions about sagas still tells: alive, ready, and its figures.

    To everybody who reaches it: there is nothing to be steered, and no saga is named.
    """
    return _guarded(health_routes, {"checks": checks, "telemetry": telemetry})


def _guarded(
    routes: Sequence[Router | HTTPRouteHandler],
    given: Mapping[str, Any],
    guards: Sequence[Guard] = (),
    tracing: Tracing | None = None,
    fails: Fails = answer,
) -> Guarded:
    app = Litestar(
        routes,
        guards=list(guards),
        dependencies={name: Provide(_always(value), sync_to_thread=False) for name, value in given.items()},
        exception_handlers={Exception: fails},
        request_max_body_size=BODY_LIMIT,
        openapi_config=None,
        logging_config=None,
    )
    # All of them, also those that no documentation is made of: a route that does not say who may call it is not served.
    deque(scopes_in(app), maxlen=0)
    return Guarded(app, tracing)


def _failing(pages: Sequence[Router]) -> Fails:
    """How errors are answered: a browser at a path where nothing is, beside the API, as the pages answer it."""
    shown = next((router.exception_handlers[Exception] for router in pages if router.exception_handlers), None)

    def fails(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        lost = isinstance(error, NotFoundException) and not request.scope["path"].startswith(f"{PREFIX}/")
        if shown is not None and lost and "text/html" in request.headers.get("accept", ""):
            return shown(request, NotFoundError("nothing is served at this address"))
        return answer(request, error)

    return fails


def _always(value: object) -> Callable[[], object]:
    return lambda: value
