"""The `order-saga` command: serve the orders, audit what came of them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from order_saga.application.context import show_context
from order_saga.application.order_saga import order_saga
from order_saga.audit import AuditError, render
from order_saga.audit import audit as audit_files
from order_saga.participants import inventory, payment, shipment
from unwind.bootstrap import Embedded, new_id, open_worker, participant_file
from unwind.cli import Served, Settings, complain, read_settings, version_of
from unwind.cli import serve as serve_application

PROGRAM = "order-saga"
SERVICES = (
    Embedded(inventory.inventory, inventory.SCHEMA),
    Embedded(payment.payment, payment.SCHEMA),
    Embedded(shipment.shipment, shipment.SCHEMA),
)
DESCRIPTION = (
    "Takes orders and carries each through reserving the goods, taking the payment, creating the shipment and "
    "completing the order; or undoes it completely."
)

app = typer.Typer(name=PROGRAM, add_completion=False, no_args_is_help=True)


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


@asynccontextmanager
async def application(settings: Settings) -> AsyncIterator[Served]:
    """The whole application, running: the engine, the three services, the API."""
    # Late: `audit` needs no web framework.
    from order_saga.api import order_routes  # noqa: PLC0415
    from unwind.http import About, create_app  # noqa: PLC0415

    async with open_worker(settings, [order_saga], SERVICES) as worker:
        yield Served(
            create_app(
                About("Orders", version_of(PROGRAM), DESCRIPTION),
                worker.engine,
                worker.queries,
                worker.checks,
                routes=order_routes,
                shows={order_saga.name: show_context},
                provide={"new_id": new_id},
            ),
            worker.service.failed,
        )


@app.command()
def serve() -> None:
    """Take orders over HTTP until told to stop.

    Settings come from the environment: SERVER_PORT, UNWIND_HOST (or SERVER_HOST), DATABASE_URL, UNWIND_DATA_DIR,
    UNWIND_LOG_LEVEL, UNWIND_LOG_FORMAT, UNWIND_MAX_WAITING.
    """
    serve_application(PROGRAM, os.environ, application)


@app.command()
def audit(
    allow_live: Annotated[
        bool, typer.Option("--allow-live", help="Orders may be under way: list them, and compare no totals.")
    ] = False,
) -> None:
    """Compare the saga log with what the three services really did; exits with 1 when they do not agree."""
    with complain(PROGRAM):
        settings = read_settings(os.environ)
    files = (participant_file(settings, each.participant.service) for each in SERVICES)
    try:
        report = audit_files(settings.database, *files, allow_live=allow_live)
    except AuditError as error:
        typer.echo(f"{PROGRAM}: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(render(report))
    if not report.clean:
        raise typer.Exit(1)
