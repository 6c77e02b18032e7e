"""Settings that make no sense for several processes, or that the servers refuse: one line, exit code 2, no secret."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import run
from tests.servers import nats, postgres

pytestmark = pytest.mark.integration  # the programs themselves, as processes

PASSWORD = "s3cret-w0rd"
NATS = "nats://127.0.0.1:4222"
POSTGRES = f"postgres://app:{PASSWORD}@127.0.0.1:5432/orders"
PARTS = (("api",), ("worker",), ("participant", "payment"))


def check_refused(told: str, *command: str, **settings: str) -> None:
    """One line that says this, no more and no secret, and exit code 2."""
    result = run(*command, **{"SERVER_PORT": "0", **settings})
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert re.fullmatch(r"order-saga[ a-z]*: [^\n]+\n", result.stderr), result.stderr
    assert told in result.stderr
    assert PASSWORD not in result.stderr


@pytest.mark.parametrize("command", PARTS)
def test_several_processes_need_a_bus_that_they_share(command: tuple[str, ...]) -> None:
    check_refused("UNWIND_BUS: ", *command, DATABASE_URL=POSTGRES)
    check_refused("UNWIND_BUS: ", *command, DATABASE_URL=POSTGRES, NATS_URL=NATS, UNWIND_BUS="memory")


@pytest.mark.parametrize("command", [("api",), ("worker",)])
def test_several_processes_need_a_store_that_they_share(command: tuple[str, ...]) -> None:
    check_refused("DATABASE_URL: ", *command, NATS_URL=NATS)
    check_refused("DATABASE_URL: ", *command, NATS_URL=NATS, DATABASE_URL="sqlite:///orders.db")


def test_a_service_must_be_one_of_the_three() -> None:
    assert run("participant", "kitchen").returncode == 2
    assert run("participant").returncode == 2


@pytest.fixture(scope="module")
def guarded(servers_folder: Path) -> Iterator[str]:
    """A PostgreSQL server that asks for a password; its URL with it."""
    with postgres.running(servers_folder / "guarded", password=PASSWORD) as server:
        yield server.url()


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats.running(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.mark.integration
@pytest.mark.parametrize("command", ["api", "worker", "serve"])
def test_what_is_wrong_with_the_database_is_told(guarded: str, bus: str, command: str, tmp_path: Path) -> None:
    place = urlsplit(guarded).netloc.rpartition("@")[2]
    given = {"NATS_URL": bus, "UNWIND_DATA_DIR": str(tmp_path)}
    for url, told in (
        (guarded.replace(PASSWORD, "wrong"), f"DATABASE_URL: {place}"),
        (guarded.replace("/postgres?", "/missing?"), "no such database"),
        (guarded, "migrate up"),
        (guarded.replace("disable", "sometimes"), "DATABASE_URL: "),
        (guarded.replace(":" + PASSWORD, ""), "DATABASE_URL: "),
        (guarded.replace("127.0.0.1:", "127.0.0.1:x"), "DATABASE_URL: "),
    ):
        check_refused(told, command, DATABASE_URL=url, **given)


@pytest.mark.integration
def test_what_is_wrong_with_a_service_s_database_is_told(guarded: str, bus: str) -> None:
    for url, told in (
        (guarded.replace(PASSWORD, "wrong"), "PAYMENT_DATABASE_URL: "),
        (guarded.replace("/postgres?", "/missing?"), "no such database"),
        (guarded.replace("disable", "sometimes"), "PAYMENT_DATABASE_URL: "),
    ):
        check_refused(told, "participant", "payment", NATS_URL=bus, PAYMENT_DATABASE_URL=url)


@pytest.mark.integration
def test_nats_without_jetstream_is_told(tmp_path: Path, postgres_url: str) -> None:
    assert run("migrate", "up", DATABASE_URL=postgres_url).returncode == 0
    with nats.running(tmp_path, jetstream=False) as server:
        for command in PARTS:
            given = {"DATABASE_URL": postgres_url, "NATS_URL": server.url, "UNWIND_DATA_DIR": str(tmp_path / "data")}
            check_refused("JetStream", *command, **given)


@pytest.mark.integration
def test_nats_that_refuses_the_password_is_told(tmp_path: Path) -> None:
    with nats.running(tmp_path, extra=["--user", "app", "--pass", PASSWORD]) as server:
        for user in ("", "app:wrong@"):
            url = server.url.replace("//", f"//{user}")
            given = {"NATS_URL": url, "UNWIND_DATA_DIR": str(tmp_path / "data")}
            check_refused("NATS_URL: ", "participant", "payment", **given)
