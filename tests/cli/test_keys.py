"""`keys`, as typed: made, listed, revoked in the database itself; and what a key does for other commands."""

import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.cli.conftest import Start, clean, run
from tests.eventually import eventually
from typer.testing import CliRunner, Result

from order_saga.main import app as order_saga
from unwind import access
from unwind.cli.keys import keys as group
from unwind.cli.main import app as unwind
from unwind.http.keys import key_routes
from unwind.stores.sqlite.guard import hold_file

pytestmark = pytest.mark.integration  # the programs themselves, as processes

TOKEN = re.compile(r"unwind_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "unwind.db"


def keys(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(unwind, ["keys", *arguments], env=clean(DATABASE_URL=f"sqlite:///{path}"))


def made(path: Path, name: str = "ada", scope: str = "admin", *more: str) -> str:
    result = keys(path, "create", "--name", name, "--scope", scope, *more)
    assert result.exit_code == 0, result.stderr
    assert TOKEN.fullmatch(result.stdout.strip())
    return result.stdout.strip()


def listed(path: Path) -> list[dict[str, Any]]:
    result = keys(path, "list", "--json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["keys"]
    return found


# --------------------------------------------------------------------------------------------- made, listed, revoked


def test_a_key_is_shown_once_and_alone_on_stdout(path: Path) -> None:
    result = keys(path, "create", "--name", "ada", "--scope", "operate")
    token = result.stdout.strip()
    assert (result.exit_code, bool(TOKEN.fullmatch(token))) == (0, True)
    key_id = token.split("_")[1]
    assert result.stderr == f"{key_id} for ada, scope operate; keep it now: it is not shown again\n"
    for shown in (keys(path, "list"), keys(path, "list", "--json")):
        assert shown.exit_code == 0
        assert key_id in shown.stdout
        assert token not in shown.output
        assert access.digest_of(token) not in shown.output


def test_while_another_process_writes_the_file_it_says_what_to_do(path: Path) -> None:
    made(path)
    with hold_file(path, (3, 40, 1)):
        for command in (("create", "--name", "eve", "--scope", "read"), ("revoke", listed(path)[0]["id"])):
            refused = keys(path, *command)
            assert (refused.exit_code, refused.stdout) == (2, "")
            assert "Stop the application, run this command again, then start it" in refused.stderr
    assert [key["name"] for key in listed(path)] == ["ada"]


def test_json_has_the_key_once_too(path: Path) -> None:
    result = keys(path, "create", "--name", "ada", "--scope", "read", "--days", "30", "--json")
    told = json.loads(result.stdout)
    assert TOKEN.fullmatch(told["key"])
    [shown] = listed(path)
    assert shown == {name: value for name, value in told.items() if name != "key"} | {"state": "active"}
    assert shown["expires_at"] > shown["created_at"]


def test_a_revoked_key_stays_listed(path: Path) -> None:
    first, other = made(path).split("_")[1], made(path, "ада", "read").split("_")[1]
    for _ in range(2):
        ended = keys(path, "revoke", first)
        assert (ended.exit_code, ended.stdout) == (0, f"{first} is revoked\n")
    assert {key["id"]: key["state"] for key in listed(path)} == {first: "revoked", other: "active"}
    assert json.loads(keys(path, "revoke", other, "--json").stdout) == {"id": other, "state": "revoked"}


def test_for_the_start_of_a_container_one_is_made_only_if_there_was_never_one(path: Path) -> None:
    token = made(path, "ada", "admin", "--if-none")
    keys(path, "revoke", token.split("_")[1])
    for more, said in ((), ""), (("--json",), "null\n"):
        again = keys(path, "create", "--name", "eve", "--scope", "admin", "--if-none", *more)
        assert (again.exit_code, again.stdout, again.stderr) == (0, said, "there is a key already: none was made\n")
    assert [key["name"] for key in listed(path)] == ["ada"]


def test_a_key_goes_into_a_file_that_has_none_yet(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "prometheus"
    create = ("create", "--name", "prometheus", "--scope", "read", "--file", str(file))
    first = keys(path, *create)
    token = file.read_text().strip()
    assert (first.exit_code, first.stdout, bool(TOKEN.fullmatch(token))) == (0, "", True)
    assert first.stderr == f"{token.split('_')[1]} for prometheus, scope read; it is in {file}\n"
    assert file.stat().st_mode & 0o137 == 0
    again = keys(path, *create)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "there is a key already: none was made\n")
    assert file.read_text().strip() == token
    told = keys(path, *create[:-1], str(tmp_path / "other"), "--json")
    assert "key" not in json.loads(told.stdout)
    assert (tmp_path / "other").read_text().strip() not in told.output
    nowhere = keys(path, *create[:-1], str(tmp_path / "no" / "where"))
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)
    assert "--file: " in nowhere.stderr
    assert len(listed(path)) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "--name", "a b", "--scope", "read"], 2, "unwind: --name: 'a b' cannot be the name of a key"),
        (["create", "--name", "anonymous", "--scope", "read"], 2, "unwind: --name: 'anonymous' cannot be"),
        (["create", "--name", "ada", "--scope", "root"], 2, "Invalid value for '--scope'"),
        (["create", "--name", "ada", "--scope", "read", "--days", "0"], 2, "Invalid value for '--days'"),
        (["create", "--scope", "read"], 2, "Missing option '--name'"),
        (["revoke", "00000000"], 1, "unwind: there is no key '00000000'; `keys list` shows their ids\n"),
        (["revoke", ""], 1, "unwind: there is no key ''"),
    ],
)
def test_what_makes_no_sense_is_told(path: Path, arguments: list[str], code: int, said: str) -> None:
    made(path)
    result = keys(path, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert len(listed(path)) == 1


def test_a_database_that_cannot_be_asked_is_told_without_its_password(path: Path) -> None:
    missing = keys(path, "list")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"unwind: there is no database {path}")
    away = clean(DATABASE_URL="postgres://nobody:secret@127.0.0.1:1/sagas?sslmode=disable")
    for arguments in (["list"], ["revoke", "00000000"], ["create", "--name", "ada", "--scope", "read"]):
        failed = CliRunner().invoke(unwind, ["keys", *arguments], env=away)
        assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
        assert failed.stderr.startswith("unwind: PostgreSQL at 127.0.0.1:1/sagas cannot be reached: ")
        assert "secret" not in failed.stderr


def test_there_is_an_end_to_how_many_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["unwind.cli.keys"], "MOST_KEYS", 1)
    made(path)
    full = keys(path, "create", "--name", "eve", "--scope", "read")
    assert (full.exit_code, full.stdout) == (2, "")
    assert "there are 1 keys already" in full.stderr


def test_the_application_has_it_too_under_its_own_name(path: Path) -> None:
    environment = clean(DATABASE_URL=f"sqlite:///{path}")
    missing = CliRunner().invoke(order_saga, ["keys", "list"], env=environment)
    assert missing.stderr.startswith("order-saga: ")


def test_each_route_about_keys_has_its_command() -> None:
    command: Any = typer.main.get_command(group)
    assert {"list" if path == "/keys" else path.rpartition("/")[2] for route in key_routes for path in route.paths} == {
        "list",
        "revoke",
    }
    assert command.commands.keys() == {"create", "list", "revoke"}


# -------------------------------------------------------------------------------------------------- processes with keys


@pytest.fixture
def token(path: Path) -> str:
    return made(path)


def test_an_address_for_others_is_not_listened_on_without_a_key(tmp_path: Path) -> None:
    for variable in ("UNWIND_HOST", "SERVER_HOST"):
        refused = run("serve", SERVER_PORT="0", UNWIND_DATA_DIR=str(tmp_path), **{variable: "0.0.0.0"})  # noqa: S104
        assert (refused.returncode, refused.stdout) == (2, "")
        [line] = refused.stderr.splitlines()
        assert line.startswith(
            f"order-saga: {variable}: '0.0.0.0' is reached from other machines, and there is no API key"
        )
        assert "unwind keys create" in line


def test_with_a_key_it_is_and_who_has_it_is_the_actor(path: Path, token: str, start: Start) -> None:
    server = start(UNWIND_HOST="0.0.0.0", UNWIND_LOG_LEVEL="debug")  # noqa: S104
    order = {"customer_id": "customer-closed", "items": [{"product_id": "product-slow", "quantity": 1, "price": 5}]}
    assert server.http.post("/api/v1/orders", json=order).status_code == 401
    assert server.http.get("/livez").status_code == 200
    server.http.headers["Authorization"] = f"Bearer {token}"
    saga = server.http.post("/api/v1/orders", json=order).json()["saga_id"]
    claimed = server.http.post(f"/api/v1/sagas/{saga}/pause", json={"actor": "somebody else"})
    assert claimed.status_code == 422
    assert server.http.post(f"/api/v1/sagas/{saga}/pause", json={"reason": "wait"}).status_code == 202
    [act] = [act for act in server.http.get(f"/api/v1/sagas/{saga}/history").json()["acts"] if act["act"] == "paused"]
    assert (act["actor"], act["reason"]) == ("ada", "wait")
    code, errors = server.stop()
    assert code == 0
    assert token not in errors
    assert path.exists()


@pytest.mark.integration
async def test_on_a_server_keys_are_made_and_revoked_while_processes_run(postgres_url: str, start: Start) -> None:
    def said(*arguments: str) -> str:
        result = run(*arguments, DATABASE_URL=postgres_url)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    unready = run("keys", "list", DATABASE_URL=postgres_url)
    assert (unready.returncode, "run: unwind migrate up" in unready.stderr) == (2, True)
    said("migrate", "up")
    server = start(DATABASE_URL=postgres_url)
    assert server.http.get("/api/v1/sagas").status_code == 200
    token = said("keys", "create", "--name", "ada", "--scope", "read")

    async def answered(status: int, **headers: str) -> bool | None:
        return server.http.get("/api/v1/sagas", headers=headers).status_code == status or None

    key = {"Authorization": f"Bearer {token}"}
    assert await eventually(partial(answered, 401), within=5)
    assert await answered(200, **key)
    said("keys", "revoke", token.split("_")[1])
    assert await eventually(partial(answered, 401, **key), within=5)
    server.stop()


@pytest.fixture
def environment(token: str, start: Start) -> Iterator[dict[str, str]]:
    """For commands that call a process with keys; without the key."""
    server = start()
    yield clean(UNWIND_URL=server.url)
    server.stop()


def test_the_commands_send_the_key_and_never_show_it(environment: dict[str, str], token: str) -> None:
    for arguments in (["sagas", "list"], ["circuits"], ["sagas", "cancel", "nobody"]):
        none = CliRunner().invoke(unwind, arguments, env=environment)
        assert none.exit_code == 1
        assert "this needs an API key" in none.stderr
        assert none.stderr.endswith("unwind:   UNWIND_API_KEY gives the key to be sent\n")
        wrong = CliRunner().invoke(unwind, arguments, env=environment | {"UNWIND_API_KEY": f"{token}x"})
        assert wrong.exit_code == 1
        assert token not in wrong.output + wrong.stderr
    for arguments in (["sagas", "list"], ["circuits"]):
        good = CliRunner().invoke(unwind, arguments, env=environment | {"UNWIND_API_KEY": f" {token}\n"})
        assert good.exit_code == 0, good.stderr
        assert token not in good.output + good.stderr


def test_a_key_that_cannot_be_sent_is_told_and_not_shown(environment: dict[str, str]) -> None:
    for given in ("ключ", "two\nlines"):
        result = CliRunner().invoke(unwind, ["sagas", "list"], env=environment | {"UNWIND_API_KEY": given})
        assert result.exit_code == 2
        assert result.stderr == "unwind: UNWIND_API_KEY has signs in it that no key has; copy it once more\n"


def test_while_a_process_has_the_file_open_keys_are_listed(path: Path, token: str, start: Start) -> None:
    server = start()
    assert [key["id"] for key in listed(path)] == [token.split("_")[1]]
    admin = {"Authorization": f"Bearer {token}"}
    ended = server.http.post(f"/api/v1/keys/{token.split('_')[1]}/revoke", headers=admin)
    assert ended.status_code == 200
    assert server.http.get("/api/v1/keys", headers=admin).status_code == 401
    server.stop()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select count(*) from api_keys where revoked_at is not null").fetchone() == (1,)
