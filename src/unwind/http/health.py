"""Routes that tell machines how this process is: alive, ready, and its figures."""

import asyncio
from typing import Literal

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from unwind.errors import UnwindError
from unwind.http.openapi import Answer, Docs
from unwind.runtime.readiness import Check, Checks
from unwind.runtime.telemetry import Telemetry

_PATIENCE = 2.0
"""Seconds a dependency has to answer."""
_METRICS = "text/plain; version=0.0.4"


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckResult(Struct, frozen=True):
    """How one dependency is; `error` says what is wrong. Degraded: work goes on without it, at a price."""

    status: Literal["ok", "degraded", "unavailable"]
    error: str | None = None


class Readiness(Struct, frozen=True):
    """Whether work can be taken on, dependency by dependency."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, CheckResult]


_ALIVE = Docs((Answer(200, "It does", Alive),), tag="health")


@get("/health", docs=_ALIVE, scope="open")
async def health() -> Alive:
    """Whether the process answers."""
    return Alive()


@get("/livez", docs=_ALIVE, scope="open")
async def livez() -> Alive:
    """Whether the process answers; for orchestrators."""
    return Alive()


@get(
    "/readyz",
    docs=Docs(
        (
            Answer(200, "Every dependency that is needed can be worked with", Readiness),
            Answer(503, "At least one cannot", Readiness),
        ),
        tag="health",
    ),
    scope="open",
)
async def readyz(checks: NamedDependency[SkipValidation[Checks]]) -> Response[Readiness]:
    """Whether work can be taken on."""
    names = list(checks)
    results = dict(zip(names, await asyncio.gather(*(_check(checks[name]) for name in names)), strict=True))
    good = all(result.status != "unavailable" for result in results.values())
    return Response(Readiness("ok" if good else "unavailable", results), status_code=200 if good else 503)


async def _check(check: Check) -> CheckResult:
    missing: Literal["degraded", "unavailable"] = "unavailable" if check.needed else "degraded"
    try:
        await asyncio.wait_for(check.probe(), _PATIENCE)
    except TimeoutError:
        return CheckResult(missing, f"no answer within {_PATIENCE:g} s")
    except UnwindError as error:
        return CheckResult(missing, str(error))
    return CheckResult("ok")


@get(
    "/metrics",
    docs=Docs((Answer(200, "Text exposition format", media_type="text/plain"),), tag="health"),
    scope="read",
)
async def metrics(telemetry: NamedDependency[SkipValidation[Telemetry]]) -> Response[bytes]:
    """Figures for Prometheus."""
    return Response(await telemetry.scrape(), media_type=_METRICS)


health_routes = [health, livez, readyz, metrics]
