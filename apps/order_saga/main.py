"""The `order-saga` command: serve the orders, audit what came of them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from unwind.bootstrap import Embedded, new_id, open_worker, participant_file
from unwind.cli import Served, complain, serve as serve_application, version_of
from unwind.settings import Settings, read_settings

from order_saga.application.context import show_context
from order_saga.application.order_saga import order_saga
from order_saga.audit import audit as audit_files, render
from order_saga.participants import inventory, payment, shipment

PROGRAM = "order-saga"
DESCRIPTION = (
    "Takes orders and carries each through reserving the goods, taking the payment, creating the shipment and completing "
    "the order; or undoes it completely."
)

app = typer.Typer(name=PROGRAM, add_completion=False, no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {version_of(PROGRAM)}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Orders as durable sagas: completed, or completely undone."""


@asynccontextmanager
async def application(settings: Settings) -> AsyncIterator[Served]:
    """The whole application, running: the engine, the three services, the API."""
    # Late: `audit` needs no web framework.
    from unwind.http import About, create_app  # noqa: PLC0415

    from order_saga.api import order_routes  # noqa: PLC0415

    services = [Embedded(each, schema) for each, schema in SERVICES]
    async with open_worker(settings, [order_saga], services) as worker:
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


SERVICES = tuple((module.participant, module.SCHEMA) for module in (inventory, payment, shipment))
