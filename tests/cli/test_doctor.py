"""`doctor`: each thing that a process needs, made wrong for real, is found and told with what to do."""

import asyncio
import json
import os
import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Server, clean, serving
from tests.eventually import eventually
from typer.testing import CliRunner

from order_saga.main import app as order_saga
from unwind.cli.doctor.databases import LAST, SCARCE, _of_sqlite, of_free_space
from unwind.cli.doctor.findings import Finding
from unwind.cli.doctor.living import examine_living
from unwind.cli.main import app as unwind
from unwind.stores.sqlite.store import SQLiteStore

ROOT = Path(__file__).parents[2]
SECRET = "geheim-und-lang"
ORDER = "order_saga.application.order_saga:order_saga"
CHANGED = """
from order_saga.application.order_saga import order_saga
from unwind import Saga

first = [order_saga.plans[0].step]
other = Saga("other", context=order_saga.context_type, steps=first)
changed = Saga("order_saga", version=1, context=order_saga.context_type, steps=first)
"""


def examined(*arguments: str, app: Any = unwind, **settings: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Its exit code, and of each check the worst that was found."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments], env=without_ours(settings))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert SECRET not in result.output
    told = json.loads(result.stdout)
    order = ["ok", "warning", "failed"]
    assert told["verdict"] == max((each["verdict"] for each in told["findings"]), key=order.index)
    assert all(each["advice"] for each in told["findings"] if each["verdict"] != "ok")
    worst = sorted(told["findings"], key=lambda each: order.index(each["verdict"]))
    return result.exit_code, {each["check"]: each for each in worst}


def without_ours(settings: dict[str, str]) -> dict[str, str | None]:
    ours = clean()
    return {name: None for name in os.environ if name not in ours} | settings


def verdicts(found: dict[str, dict[str, str]]) -> dict[str, str]:
    return {check: each["verdict"] for check, each in found.items()}


def place(server: Server, customer: str) -> str:
    order = {"customer_id": customer, "items": [{"product_id": "product-1", "quantity": 1, "price": 20}]}
    return str(server.http.post("/api/v1/orders", json=order).json()["saga_id"])


def stopped_with(directory: Path, customer: str, status: str) -> Path:
    """The files of a server that has ended with a saga in this status."""
    with serving(directory) as server:
        saga_id = place(server, customer)

        async def ask() -> bool | None:
            return server.http.get(f"/api/v1/sagas/{saga_id}").json()["status"] == status or None

        asyncio.run(eventually(ask, within=20))
        server.stop()
    return directory / "data"


# ---------------------------------------------------------------------------------------------------- settings


def test_nothing_is_wrong_before_the_first_start_and_nothing_is_made(tmp_path: Path) -> None:
    code, found = examined(app=order_saga, UNWIND_DATA_DIR=str(tmp_path / "data"))
    assert code == 0
    assert set(verdicts(found).values()) == {"ok"}
    assert {"settings", "store", "disk", "sqlite", "bus", "inventory database"} <= found.keys()
    assert list(tmp_path.iterdir()) == []


def test_every_unknown_setting_is_told_and_the_rest_examined_all_the_same(tmp_path: Path) -> None:
    code, found = examined(UNWIND_DATA_DIR=str(tmp_path), UNWIND_BSU="x", UNWIND_HOTS="y")
    assert code == 1
    assert found["settings"]["verdict"] == "failed"
    assert "UNWIND_" in found["settings"]["advice"]
    assert found["store"]["verdict"] == "ok"


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": f"mysql://u:{SECRET}@h/d"},
        {"UNWIND_BUS": "nats"},
        {"SERVER_PORT": "many"},
        {"REDIS_ADDR": f"redis://:{SECRET}@host"},
    ],
)
def test_a_value_that_makes_no_sense_ends_the_examination(settings: dict[str, str]) -> None:
    code, found = examined(**settings)
    assert (code, verdicts(found)) == (1, {"settings": "failed"})
    assert next(iter(settings)) in found["settings"]["found"]


def test_a_service_s_own_setting_is_examined_too(tmp_path: Path) -> None:
    code, found = examined(app=order_saga, UNWIND_DATA_DIR=str(tmp_path), PAYMENT_DATABASE_URL=f"x://{SECRET}")
    assert code == 1
    assert "PAYMENT_DATABASE_URL" in found["settings"]["found"]


def test_a_place_that_is_no_definition_is_a_call_that_makes_no_sense(tmp_path: Path) -> None:
    result = CliRunner().invoke(unwind, ["doctor", "nowhere:saga"], env={"UNWIND_DATA_DIR": str(tmp_path)})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nowhere" in result.stderr


def test_it_is_told_as_a_table_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        unwind, ["doctor"], env=without_ours({"UNWIND_DATA_DIR": str(tmp_path), "UNWIND_X": "1"})
    )
    assert result.exit_code == 1
    heads, first, *_ = result.stdout.splitlines()
    assert heads.split() == ["check", "verdict", "found", "advice"]
    assert first.split()[:2] == ["settings", "failed"]


def test_an_address_that_others_reach_needs_a_key_that_may_be_used(tmp_path: Path) -> None:
    settings = {"UNWIND_DATA_DIR": str(tmp_path), "UNWIND_HOST": "192.0.2.1"}

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(unwind, [*arguments], env=without_ours(settings))
        assert result.exit_code == 0, result.output
        return result.stdout

    run("migrate", "up")
    code, found = examined(**settings)
    assert (code, found["access"]["verdict"]) == (1, "failed")
    key = json.loads(run("keys", "create", "--name", "ada", "--scope", "admin", "--json"))
    assert examined(**settings)[1]["access"]["verdict"] == "ok"
    run("keys", "revoke", key["id"])
    code, found = examined(**settings)
    assert (code, found["access"]["verdict"]) == (1, "failed")


def test_a_collector_that_is_not_there_costs_traces_and_nothing_else(tmp_path: Path) -> None:
    settings = {"UNWIND_DATA_DIR": str(tmp_path)}
    code, found = examined(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **settings)
    assert (code, found["traces"]["verdict"]) == (0, "warning")
    with socket.create_server(("127.0.0.1", 0)) as collector:
        place = f"http://127.0.0.1:{collector.getsockname()[1]}"
        assert verdicts(examined(OTEL_EXPORTER_OTLP_ENDPOINT=place, **settings)[1])["traces"] == "ok"
    assert "traces" not in examined(**settings)[1]


def test_each_check_is_documented_and_no_other() -> None:
    sources = (ROOT / "src" / "unwind" / "cli" / "doctor").glob("*.py")
    named = {name for file in sources for name in re.findall(r'\b(?:ok|warning|failed)\(\s*"(.+?)"', file.read_text())}
    [table] = re.findall(r"\| check \| fails when \|\n(.*?)\n\n", (ROOT / "docs" / "cli.md").read_text(), re.DOTALL)
    told = {name for row in table.splitlines() for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert named | {"migrations", "cache", "disk"} == told


# ---------------------------------------------------------------------------------------------------- files


def test_a_file_of_something_else_is_not_taken_for_a_database(tmp_path: Path) -> None:
    (tmp_path / "unwind.db").write_text("a letter to my aunt, longer than the head of a database " * 20)
    code, found = examined(UNWIND_DATA_DIR=str(tmp_path))
    assert (code, found["store"]["verdict"]) == (1, "failed")


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    code, found = examined(app=order_saga, UNWIND_DATA_DIR=str(tmp_path / "taken" / "data"))
    assert (code, found["store"]["verdict"], found["payment database"]["verdict"]) == (1, "failed", "failed")


def test_a_place_that_cannot_even_be_looked_at_is_told(tmp_path: Path) -> None:
    code, found = examined(app=order_saga, DATABASE_URL=f"sqlite:///{tmp_path}/{'x' * 300}")
    assert (code, found["store"]["verdict"]) == (1, "failed")
    assert "File name too long" in found["store"]["found"]


def test_a_schema_that_is_behind_is_told_with_the_command_that_mends_it(tmp_path: Path) -> None:
    settings = {"UNWIND_DATA_DIR": str(tmp_path)}
    assert CliRunner().invoke(unwind, ["migrate", "up", "--to", "1"], env=without_ours(settings)).exit_code == 0
    code, found = examined(app=order_saga, **settings)
    assert (code, found["migrations"]["verdict"]) == (1, "failed")
    assert found["migrations"]["advice"] == "run: order-saga migrate up"


def test_a_schema_that_is_newer_is_told(tmp_path: Path) -> None:
    settings = {"UNWIND_DATA_DIR": str(tmp_path)}
    assert CliRunner().invoke(unwind, ["migrate", "up"], env=without_ours(settings)).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "unwind.db")) as database, database:
        database.execute("update alembic_version set version_num = '999'")
    code, found = examined(**settings)
    assert (code, found["migrations"]["verdict"]) == (1, "failed")
    assert "newer" in found["migrations"]["found"]


def test_a_disk_that_fills_is_told_in_time() -> None:
    free = [LAST - 1, LAST, SCARCE - 1, SCARCE]
    told = [of_free_space("disk", Path("data"), each).verdict for each in free]
    assert told == ["failed", "warning", "warning", "ok"]


def test_an_sqlite_that_bears_one_writer_only_is_told() -> None:
    assert "only one is let in" in _of_sqlite((3, 45, 0)).found
    assert "only one" not in _of_sqlite((3, 51, 3)).found


# ---------------------------------------------------------------------------------------------------- what is live


def test_a_saga_that_needs_a_person_is_a_warning(tmp_path: Path) -> None:
    data = stopped_with(tmp_path, "customer-closed", "blocked")
    code, found = examined(app=order_saga, UNWIND_DATA_DIR=str(data))
    assert (code, found["blocked"]["verdict"]) == (0, "warning")
    assert found["definitions"]["found"] == "every live saga is known"
    assert examined("--strict", app=order_saga, UNWIND_DATA_DIR=str(data))[0] == 1


def test_sagas_that_nobody_knows_and_nobody_wakes_are_orphans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"UNWIND_DATA_DIR": str(stopped_with(tmp_path, "customer-closed", "blocked"))}
    (tmp_path / "changed_orders.py").write_text(CHANGED)
    monkeypatch.chdir(tmp_path)
    assert verdicts(examined(**settings)[1])["definitions"] == "ok"
    assert examined(ORDER, **settings)[0] == 0
    code, found = examined("changed_orders:other", **settings)
    assert (code, found["definitions"]["verdict"]) == (1, "failed")
    assert "1 live saga of order_saga@1" in found["definitions"]["found"]
    assert (
        "kept its version"
        in CliRunner().invoke(unwind, ["doctor", "changed_orders:changed"], env=without_ours(settings)).stdout
    )

    with closing(sqlite3.connect(tmp_path / "data" / "unwind.db")) as database, database:
        database.execute("update sagas set wake_at = wake_at - 3600000000 where wake_at is not null")
    code, found = examined(ORDER, **settings)
    assert (code, found["wake-ups"]["verdict"]) == (1, "failed")
    assert "overdue" in found["wake-ups"]["found"]


@pytest.mark.parametrize(("ahead", "told"), [(0, "agree"), (90, "behind the database"), (-90, "ahead of the database")])
async def test_a_clock_that_differs_is_told(ahead: int, told: str) -> None:
    store = SQLiteStore.in_memory(now=lambda: (1_000_000 + ahead) * 1_000_000)
    try:
        clock: Finding = (await examine_living(store, None, lambda: 1_000_000 * 1_000_000))[0]
    finally:
        await store.close()
    assert clock.check == "clock"
    assert told in clock.found
    assert clock.verdict == ("warning" if ahead else "ok")


def test_a_server_at_work_is_examined_without_disturbing_it(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        code, found = examined(app=order_saga, UNWIND_DATA_DIR=str(tmp_path / "data"))
        assert (code, set(verdicts(found).values())) == (0, {"ok"})
        place(server, "customer-1")
        assert server.http.get("/readyz").status_code == 200
