"""What a process for sagas answers over HTTP: the API, routes of one's own, and the dashboard."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unwind.cli.serve import Served

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from unwind.bootstrap import Worker
    from unwind.dashboard import Dashboard
    from unwind.http import About
    from unwind.http.sagas import Shows


def answering(
    worker: "Worker",
    about: "About",
    *,
    routes: "Sequence[HTTPRouteHandler]" = (),
    dashboard: "Dashboard | None" = None,
    shows: "Shows | None" = None,
    provide: Mapping[str, Any] | None = None,
) -> Served:
    """All that `worker` can answer, with keys, limits, bulk acts, dead letters and workers; what `serve` is given.

    `routes`, `shows` and `provide` are those of `create_app`. Without a `dashboard` there are no pages.
    """
    from unwind.http import create_app

    app = create_app(
        about,
        worker.engine,
        worker.queries,
        worker.checks,
        routes=routes,
        shows=shows,
        provide=provide,
        limiter=worker.limiter,
        bulk=worker.bulk,
        keys=worker.keys,
        bus=worker.bus,
        roster=worker.roster,
        pages=[] if dashboard is None else [dashboard.router],
        tracing=worker.tracing,
    )
    if dashboard is None:
        return Served(app, worker.service.failed)
    page = "dashboard: {address}/, documentation: {address}/docs"
    return Served(app, worker.service.failed, page, dashboard.stop)
