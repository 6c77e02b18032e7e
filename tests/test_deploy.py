"""What is shipped for running it elsewhere: Compose, its Dockerfile, the examples. Without Docker."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from tests.cli.conftest import begun, ready, run
from tests.eventually import eventually
from tests.servers import nats, postgres, valkey

from order_saga.main import application
from order_saga.settings import read_services
from unwind.cli import read_settings
from unwind.errors import SettingsError

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
EXAMPLES = (ROOT / "api_examples.http").read_text()
TAGGED = re.compile(r"[\w/-]+:v?\d+\.\d+\.?\d*[\w.-]*")


def interpolated(text: str) -> str:
    """As Compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE = yaml.safe_load(interpolated((DEPLOY / "compose.yaml").read_text()))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
BOARDS = {
    path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana/provisioning/dashboards").glob("*.json")
}
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())


# --------------------------------------------------------------------------------------------------------- compose.yaml


def test_the_foundations_start_by_themselves_and_the_application_with_its_profile() -> None:
    assert SERVICES.keys() - OURS.keys() == {"postgres", "nats", "redis", "prometheus", "grafana"}
    assert OURS.keys() == {"api", "worker", "inventory", "payment", "shipment"}
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["app"]} == OURS.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_checked_and_waits_only_for_what_is_checked(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["restart"] == "unless-stopped"
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert SERVICES[other]["healthcheck"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_port_is_published_on_the_loopback_only(name: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name].get("ports", []))


def test_the_ports_are_those_that_are_written_everywhere() -> None:
    published = {port.split(":")[1]: name for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert published == {
        "5432": "postgres",
        "4222": "nats",
        "8222": "nats",
        "6379": "redis",
        "9090": "prometheus",
        "3000": "grafana",
        "8080": "api",
    }
    grafana = SERVICES["grafana"]["environment"]
    assert (grafana["GF_SECURITY_ADMIN_USER"], grafana["GF_SECURITY_ADMIN_PASSWORD"]) == ("admin", "admin")


def test_images_are_pinned_to_a_release() -> None:
    foreign = [service["image"] for service in SERVICES.values() if "build" not in service]
    foreign += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(foreign) == 7
    assert [image for image in foreign if not TAGGED.fullmatch(image)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *_ = volume.split(":")
        assert target.startswith("/")
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for given in SERVICES[name].get("build", {}).values():
        assert (DEPLOY / given).exists() or (ROOT / given).exists()


@pytest.mark.parametrize("name", OURS)
def test_the_application_runs_without_rights(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)


def what_is_read(environment: Mapping[str, str]) -> Any:
    try:
        services = read_services(environment).values()
        return read_settings(environment), [(each.database, each.variable) for each in services]
    except SettingsError as error:
        return str(error)


@pytest.mark.parametrize("name", OURS)
def test_each_variable_is_understood_and_makes_a_difference(name: str) -> None:
    environment = OURS[name]["environment"]
    image = dict(re.findall(r"\b((?:UNWIND|SERVER)_\w+)=(\S+)", DOCKERFILE))
    assert image
    read = what_is_read({**image, **environment})
    assert not isinstance(read, str), read
    for variable in environment:
        rest = {other: value for other, value in environment.items() if other != variable}
        assert what_is_read({**image, **rest}) != read, f"{variable} says nothing"


def test_addresses_name_services_of_the_file_at_their_own_ports() -> None:
    inside = {"postgres": "5432", "nats": "4222", "redis": "6379"}
    for service in OURS.values():
        for variable, value in service["environment"].items():
            if variable.endswith(("_URL", "_ADDR")):
                host, _, port = value.rpartition("@")[2].rpartition("//")[2].partition("/")[0].partition(":")
                assert inside[host] == port
    made = re.findall(r"CREATE DATABASE (\w+)", (DEPLOY / "postgres/services.sql").read_text())
    asked = [value.partition("5432/")[2] for service in OURS.values() for value in service["environment"].values()]
    used = {each.partition("?")[0] for each in asked if each}
    assert used == {*made, SERVICES["postgres"]["environment"]["POSTGRES_DB"]}


def test_the_image_is_given_what_it_copies_and_no_more() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [
        path for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for path in line.split()
    ]
    assert rules[0] == "*"
    assert sorted(allowed) == sorted(copied)
    assert all((ROOT / path).exists() for path in copied)
    kept_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for name in ("__pycache__", "unwind.db", "unwind.db-wal", "engine.pyc"):
        assert any(fnmatch(name, rule) for rule in kept_out)


# ----------------------------------------------------------------------------------------- the same processes, for real


def on_real_servers(environment: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container, for the same process outside of one."""
    changed = dict(environment)
    for name, value in environment.items():
        for inside, here in places.items():
            changed[name] = changed[name].replace(inside, here)
        assert changed[name] != value or not name.endswith(("_URL", "_ADDR"))
    return changed


def commands(service: Mapping[str, Any]) -> list[list[str]]:
    """What a container runs, one after the other, without the program's name."""
    if "command" in service:
        return [service["command"]]
    shell, option, line = service["entrypoint"]
    assert (shell, option) == ("sh", "-c")
    return [part.removeprefix("exec ").split()[1:] for part in line.split(" && ")]


@pytest.fixture
def places(open_folder: Path) -> Iterator[dict[str, str]]:
    """Real servers as the file sets them up: its address of each, and where it is here."""
    with (
        postgres.running(open_folder / "postgres") as database,
        nats.running(open_folder / "nats") as bus,
        valkey.running(open_folder / "redis", password="unwind") as redis,
    ):
        asyncio.run(set_up(database.url()))
        yield {
            "@postgres:5432": f"@127.0.0.1:{database.port}",
            "nats:4222": f"127.0.0.1:{bus.port}",
            "redis:6379": redis.address,
        }


async def set_up(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE ROLE unwind LOGIN SUPERUSER PASSWORD 'unwind'")
        await connection.execute("CREATE DATABASE unwind OWNER unwind")
        text = re.sub("--.*", "", (DEPLOY / "postgres/services.sql").read_text())
        for statement in filter(None, map(str.strip, text.split(";"))):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.integration
async def test_the_containers_processes_carry_orders_through(tmp_path: Path, places: dict[str, str]) -> None:
    with ExitStack() as stack:
        running, made = {}, []
        for name, service in OURS.items():
            environment = on_real_servers(service["environment"], places) | {"SERVER_PORT": "0"}
            *before, command = commands(service)
            for once in before:
                done = run(*(word.replace("/keys", str(tmp_path)) for word in once), **environment)
                assert done.returncode == 0, done.stderr
                made += re.findall(r"unwind_\S+", done.stdout)
            process = stack.enter_context(begun(tmp_path, *command, **environment))
            running[name] = stack.enter_context(ready(process))
        assert [server.http.get("/readyz").json()["status"] for server in running.values()] == ["ok"] * len(OURS)

        api = running["api"].http
        assert api.get("/metrics").status_code == 401
        read = {"Authorization": f"Bearer {(tmp_path / 'prometheus').read_text().strip()}"}
        assert api.get("/metrics", headers=read).status_code == 200
        (key,) = made
        api.headers["Authorization"] = f"Bearer {key}"
        order = {"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}]}
        saga = api.post("/api/v1/orders", json=order).json()["saga_id"]

        async def ended() -> str | None:
            status = api.get(f"/api/v1/sagas/{saga}").json()["status"]
            return str(status) if status in {"completed", "compensated"} else None

        assert await eventually(ended, 30) == "completed"
        assert 'saga_completed_total{definition="order_saga"} 1.0' in running["worker"].http.get("/metrics").text


# ------------------------------------------------------------------------------------------------------ what watches it


@pytest.mark.parametrize("board", BOARDS)
def test_panels_have_names_of_their_own_and_do_not_overlap(board: str) -> None:
    panels = BOARDS[board]["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_grafana_finds_the_data_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/files.yaml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    panels = [panel for board in BOARDS.values() for panel in board["panels"]]
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {source["uid"]}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 3
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert str(Path(home).parent) == provider["options"]["path"]
    inside = "/etc/grafana/provisioning"
    assert f"./grafana/provisioning:{inside}:ro" in SERVICES["grafana"]["volumes"]
    assert (provisioning / Path(home).relative_to(inside)).is_file()


def test_prometheus_asks_every_process() -> None:
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    (found,) = jobs["containers"]["dns_sd_configs"]
    assert set(found["names"]) == OURS.keys()
    assert {service["environment"]["SERVER_PORT"] for service in OURS.values()} == {str(found["port"])}


# ------------------------------------------------------------------------------------------------------------- examples


def examples(variables: dict[str, str]) -> Iterator[httpx.Request]:
    """The requests of the file, in order; its variables are filled in when a request's turn comes."""
    head, *parts = re.split(r"^###.*\n", EXAMPLES, flags=re.MULTILINE)
    variables |= dict(re.findall(r"^@(\w+) = (.+)$", head, re.MULTILINE)) | variables
    for part in parts:
        text = re.sub(r"\{\{(\w+)\}\}", lambda found: variables[found[1]], part)
        lines, _, body = text.partition("\n\n")
        first, *headers = lines.strip().splitlines()
        method, url = first.split(" ")
        named = dict(header.split(": ", 1) for header in headers)
        yield httpx.Request(method, url, headers=named, content=body.strip() or None)


@asynccontextmanager
async def orders(folder: Path, **more: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    settings = read_settings({"DATABASE_URL": f"sqlite:///{folder}/unwind.db", **more})
    async with application(settings) as served:
        assert served.app is not None
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served.app), base_url="http://localhost") as client:
            yield client


async def is_blocked(client: httpx.AsyncClient, saga: str) -> bool | None:
    return (await client.get(saga)).json()["status"] == "blocked" or None


async def test_each_example_is_answered_and_each_route_has_one(tmp_path: Path) -> None:
    called = set()
    async with orders(tmp_path) as client:
        variables = {"host": "http://localhost"}
        for request in examples(variables):
            saga, _, act = request.url.path.rpartition("/")
            if act in {"retry", "resolve", "skip"}:
                await eventually(partial(is_blocked, client, saga), within=20)
            response = await client.send(request)
            answers = (
                {409} if "/signals/" in request.url.path else {404} if "/keys/" in request.url.path else {200, 202}
            )
            assert response.status_code in answers, f"{request.method} {request.url}: {response.text}"
            called.add((request.method.lower(), request.url.path))
            if "order_id" in response.text and variables["order_id"].startswith("00000000"):
                variables["order_id"] = response.json()["order_id"]
            if request.url.path.endswith("/bulk") and response.status_code == 202:
                variables["bulk_id"] = response.json()["id"]
        routes = (await client.get("http://localhost/schema/openapi.json")).json()["paths"]
        for path, methods in routes.items():
            pattern = re.compile(re.sub(r"\\{\w+\\}", r"[^/]+", re.escape(path)))
            for method in methods:
                assert any(verb == method and pattern.fullmatch(each) for verb, each in called), f"{method} {path}"


async def test_the_examples_sagas_are_those_of_their_keys(tmp_path: Path) -> None:
    async with orders(tmp_path) as client:
        variables = {"host": "http://localhost"}
        placed = [request for request in examples(variables) if request.url.path == "/api/v1/orders"]
        sagas = [(await client.send(request)).json()["saga_id"] for request in placed]
        assert sagas == [
            variables[name]
            for name in ("saga_id", "refused_saga_id", "slow_saga_id", "blocked_saga_id", "skipped_saga_id")
        ]
        assert UUID(variables["order_id"]).version == 7


# ----------------------------------------------------------------------------------------------------------------- make


def make(target: str, folder: Path, **stubs: str) -> subprocess.CompletedProcess[str]:
    """Run make with these programs, scripts of sh, as the only Docker."""
    for name, script in stubs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "COMPOSE": f"{folder}/docker compose"}
    return subprocess.run(["make", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("stubs", "told"),
    [
        ({}, "is not installed"),
        ({"docker": 'test "$1" = info'}, "install the compose plugin"),
        ({"docker": 'test "$1" = compose'}, "does not reach its service"),
    ],
)
def test_what_is_missing_for_docker_is_told_in_one_line(tmp_path: Path, stubs: dict[str, str], told: str) -> None:
    done = make("docker-up", tmp_path, **stubs)
    line, *rest = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert line.startswith("compose: ")
    assert told in line
    assert "make run" in line
    assert all("docker-up" in other for other in rest)


def test_docker_down_takes_the_application_along(tmp_path: Path) -> None:
    up, down = (make(target, tmp_path, docker='echo "$@"').stdout for target in ("docker-up", "docker-down"))
    assert up == "compose --file deploy/compose.yaml up --detach --build --wait\n"
    assert down == "compose --file deploy/compose.yaml --profile app down\n"
