"""REST and terminal alike: each route about sagas has its command, each filter and each field of a body its option."""

from typing import Any, get_args

import pytest
import typer
import typer.main
from litestar.handlers import HTTPRouteHandler
from msgspec.structs import fields

from unwind.cli.circuits import circuits
from unwind.cli.dead_letters import dead_letters
from unwind.cli.sagas import sagas
from unwind.cli.workers import workers
from unwind.http.acts import act_routes
from unwind.http.bulk import BulkRequest, bulk_routes
from unwind.http.circuits import circuit_routes
from unwind.http.dead_letters import dead_letter_routes
from unwind.http.filters import SagaFilter
from unwind.http.foresight import foresight_routes
from unwind.http.openapi import docs_of
from unwind.http.sagas import saga_routes
from unwind.http.workers import worker_routes

OTHERWISE = {"signals": "signal"}
"""What is named otherwise than the part of the path that says it."""
SHORTER = {
    "started_from": "from",
    "started_to": "to",
    "expected_version": "expect",
    "expected_count": "expect",
    "dry_run": "dry-run",
    "limit_per_second": "per-second",
    "attributes": "attribute",
}
ROUTES = [*saga_routes, *foresight_routes, *act_routes]
ACTIONS = get_args(BulkRequest.__annotations__["action"])
"""Each has a command in place of a field."""


def named(route: HTTPRouteHandler) -> str:
    """The command of a route: what its path says of sagas; `list` and `show` where it says nothing."""
    [path] = route.paths
    _, _, *rest = path.split("/")
    said = [part for part in rest if "{" not in part]
    return OTHERWISE.get(said[0], said[0]) if said else ("show" if rest else "list")


@pytest.mark.parametrize(("command", "routes"), [(circuits, circuit_routes), (workers, worker_routes)])
def test_what_is_only_looked_at_has_a_command_of_its_own(command: typer.Typer, routes: list[HTTPRouteHandler]) -> None:
    group: Any = typer.main.get_command(command)
    [route] = routes
    assert route.paths == {f"/{group.name}"}
    assert not docs_of(route).parameters
    assert {option.lstrip("-") for parameter in group.params for option in parameter.opts} >= {"url", "json"}


@pytest.mark.parametrize("route", dead_letter_routes, ids=lambda route: route.name or "")
def test_each_route_about_dead_letters_has_its_command(route: HTTPRouteHandler) -> None:
    group: Any = typer.main.get_command(dead_letters)
    [path] = route.paths
    _, of, *act = path.split("/")
    assert of == group.name
    command = group.commands[act[0] if act else "list"]
    docs = docs_of(route)
    asked = {parameter.name for parameter in docs.parameters}
    asked |= {field.name for field in fields(docs.request)} if docs.request is not None else set()
    taken = {name.lstrip("-") for parameter in command.params for name in (*parameter.opts, parameter.name)}
    assert asked | {"url", "json"} <= taken


def options(command: str, *groups: str) -> set[str]:
    group: Any = typer.main.get_command(sagas)
    for name in groups:
        group = group.commands[name]
    return {option.lstrip("-") for parameter in group.commands[command].params for option in parameter.opts}


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_whatever_the_api_takes_the_command_takes(route: HTTPRouteHandler) -> None:
    docs = docs_of(route)
    asked = {parameter.name.partition(".")[0] for parameter in docs.parameters if parameter.place == "query"}
    asked |= {field.name for field in fields(docs.request)} if docs.request not in {None, Any} else set()
    assert {SHORTER.get(name, name) for name in asked} | {"url", "json"} <= options(named(route))


@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_the_api_takes_for_many_sagas_the_command_takes(action: str) -> None:
    asked = {field.name for field in fields(BulkRequest)} - {"action", "filter"}
    asked |= {field.name for field in fields(SagaFilter)}
    assert {SHORTER.get(name, name) for name in asked} | {"url", "json"} <= options(action, "bulk")


def test_runs_for_many_sagas_are_shown_and_stopped_too() -> None:
    others = {path for route in bulk_routes for path in route.paths} - {"/sagas/bulk"}
    assert others == {"/sagas/bulk/{run_id:str}", "/sagas/bulk/{run_id:str}/stop"}
    assert options("show", "bulk") >= {"url", "json"}
    assert options("stop", "bulk") >= {"reason", "url", "json"}
