"""The `order-saga` command: serve the orders, in one process or in several; audit what came of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from order_saga.application.context import show_context
from order_saga.application.order_saga import order_saga
from order_saga.audit import AuditError, render, render_json
from order_saga.audit import audit as audit_books
from order_saga.load import load
from order_saga.settings import database_of, databases_of, read_services
from unwind.bootstrap import Embedded, Worker, new_id, open_participants, open_worker
from unwind.cli import (
    AsJson,
    Drawn,
    Format,
    Program,
    Served,
    Settings,
    answering,
    complain,
    draw,
    examine_and_tell,
    keys,
    migrate,
    read_settings,
    version_of,
)
from unwind.cli import serve as serve_application

PROGRAM = "order-saga"
DESCRIPTION = (
    "Takes orders and carries each through reserving the goods, taking the payment, creating the shipment and "
    "completing the order; or undoes it completely."
)
READINESS = "readiness: {address}/readyz"

# Plain tracebacks: the pretty ones may show the values of variables, and passwords are among them.
app = typer.Typer(name=PROGRAM, cls=Program, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(migrate)
app.add_typer(keys)


class Service(StrEnum):
    """The services of an order."""

    INVENTORY = "inventory"
    PAYMENT = "payment"
    SHIPMENT = "shipment"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {version_of(PROGRAM)}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Orders as durable sagas: completed, or completely undone."""


# ------------------------------------------------------------------------------------------------------ what can be run


def _answering(worker: Worker) -> Served:
    """The API of a process for sagas."""
    # Late: what answers no orders needs no web framework.
    from order_saga.api import order_routes  # noqa: PLC0415
    from order_saga.order_form import ORDER_LINKS, ORDER_TEMPLATES, order_pages  # noqa: PLC0415
    from order_saga.order_page import order_of  # noqa: PLC0415
    from unwind.dashboard import Dashboard  # noqa: PLC0415
    from unwind.http import About  # noqa: PLC0415

    return answering(
        worker,
        About("Orders", version_of(PROGRAM), DESCRIPTION),
        routes=order_routes,
        shows={order_saga.name: show_context},
        provide={"new_id": new_id},
        dashboard=Dashboard(
            "Orders",
            routes=order_pages,
            links=ORDER_LINKS,
            templates=ORDER_TEMPLATES,
            related=order_of,
            trace_url=worker.trace_url,
        ),
    )


@asynccontextmanager
async def application(settings: Settings, environment: Mapping[str, str] | None = None) -> AsyncIterator[Served]:
    """The whole application in one process: the engine, the three services, the API."""
    services = read_services(environment or {})
    async with open_worker(settings, [order_saga], list(services.values())) as worker:
        yield _answering(worker)


@asynccontextmanager
async def api_only(settings: Settings) -> AsyncIterator[Served]:
    """The API: it begins orders and shows them, workers carry them on."""
    async with open_worker(settings, [order_saga], role="api") as worker:
        yield _answering(worker)


@asynccontextmanager
async def worker_only(settings: Settings) -> AsyncIterator[Served]:
    """The engine: it carries orders on, and takes none."""
    from unwind.http import create_watch_app  # noqa: PLC0415

    async with open_worker(settings, [order_saga], role="worker") as worker:
        watch = create_watch_app(worker.checks, worker.engine.telemetry)
        yield Served(watch, worker.service.failed, READINESS)


@asynccontextmanager
async def service_only(settings: Settings, service: Embedded) -> AsyncIterator[Served]:
    """One of the three services."""
    from unwind.http import create_watch_app  # noqa: PLC0415

    async with open_participants(settings, [service]) as hosted:
        watch = create_watch_app(hosted.checks, hosted.telemetry)
        # Without its variable it is a file, also beside an engine on a server: whoever starts it is to see that.
        yield Served(watch, hosted.service.failed, READINESS, database=database_of(service, settings))


# ------------------------------------------------------------------------------------------------------------- commands


@app.command()
def serve() -> None:
    """Take orders over HTTP and carry them through, everything in this process, until told to stop.

    Settings come from the environment: SERVER_PORT, UNWIND_HOST (or SERVER_HOST), DATABASE_URL, NATS_URL, REDIS_ADDR,
    REDIS_PASSWORD, UNWIND_BUS, UNWIND_DATA_DIR, UNWIND_LOG_LEVEL, UNWIND_LOG_FORMAT, UNWIND_MAX_WAITING,
    UNWIND_RATE_LIMIT, UNWIND_RATE_BURST, OTEL_EXPORTER_OTLP_ENDPOINT, UNWIND_TRACE_URL;
    INVENTORY_DATABASE_URL, PAYMENT_DATABASE_URL, SHIPMENT_DATABASE_URL.
    """
    serve_application(PROGRAM, os.environ, partial(application, environment=os.environ))


@app.command()
def api() -> None:
    """Take and show orders over HTTP; `worker` processes carry them through. Needs PostgreSQL, and NATS or Redis."""
    serve_application(f"{PROGRAM} api", os.environ, api_only)


@app.command()
def worker() -> None:
    """Carry orders through that `api` processes have taken; any number may run. Listens only if SERVER_PORT is set."""
    serve_application(f"{PROGRAM} worker", os.environ, worker_only, port=None)


@app.command()
def participant(service: Annotated[Service, typer.Argument(help="Which of the three.")]) -> None:
    """Run one of the three services, on a database of its own. Listens only if SERVER_PORT is set."""
    program = f"{PROGRAM} participant {service}"
    with complain(program):
        chosen = read_services(os.environ)[service]
    serve_application(program, os.environ, partial(service_only, service=chosen), port=None)


@app.command()
def audit(
    allow_live: Annotated[
        bool, typer.Option("--allow-live", help="Orders may be under way: list them, and compare no totals.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: what was counted, what is under way, what is wrong.")
    ] = False,
) -> None:
    """Compare the saga log with what the three services really did; exits with 1 when they do not agree."""
    with complain(PROGRAM):
        settings = read_settings(os.environ)
        services = [database_of(each, settings) for each in read_services(os.environ).values()]
    try:
        report = asyncio.run(audit_books(settings.database, *services, allow_live=allow_live))
    except AuditError as error:
        typer.echo(f"{PROGRAM}: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(render_json(report) if as_json else render(report))
    if not report.clean:
        raise typer.Exit(1)


@app.command()
def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings as seriously as failures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Examine settings, databases, schema, bus, cache, clocks and live orders; say what to do where one is not right.

    Nothing is made, migrated or written. Exits with 0 when nothing has failed, 1 when something has.
    """
    examine_and_tell(PROGRAM, os.environ, [order_saga], databases_of, strict=strict, as_json=as_json)


@app.command()
def diagram(form: Drawn = Format.MERMAID, as_json: AsJson = False) -> None:
    """Draw the order saga: steps, kinds, timeouts and retries, and the way back, in which undos come in reverse."""
    draw([order_saga], form, as_json=as_json)


app.command()(load)
