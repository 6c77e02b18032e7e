"""The commands that end by themselves: versions, help, audit."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.cli.conftest import clean
from typer.testing import CliRunner

from order_saga.main import app as order_saga
from unwind.cli.main import app as unwind
from unwind.cli.terminal import complain
from unwind.settings import is_loopback


def test_both_commands_tell_their_version() -> None:
    for name, app in (("unwind", unwind), ("order-saga", order_saga)):
        result = CliRunner().invoke(app, ["--version"])
        assert result.exit_code == 0
        assert result.output.startswith(f"{name} ")


def test_help_names_the_commands_and_the_settings() -> None:
    result = CliRunner().invoke(order_saga, ["--help"])
    assert "serve" in result.output
    assert "audit" in result.output
    assert "SERVER_PORT" in CliRunner().invoke(order_saga, ["serve", "--help"]).output
    assert "Durable sagas" in CliRunner().invoke(unwind, []).output


@pytest.mark.parametrize(
    ("program", "arguments", "choices"),
    [
        (unwind, ["diagram", "a:b", "--format", "png"], "'mermaid', 'svg'"),
        (unwind, ["keys", "create", "--name", "x", "--scope", "png"], "'read', 'start', 'operate', 'admin'"),
        (order_saga, ["participant", "png"], "'inventory', 'payment', 'shipment'"),
    ],
)
def test_a_value_that_is_no_choice_is_told_in_words(program: typer.Typer, arguments: list[str], choices: str) -> None:
    told = CliRunner().invoke(program, arguments, env={"COLUMNS": "200"})
    assert told.exit_code == 2
    assert f": 'png' is not one of {choices}" in told.stderr


def test_an_audit_of_nothing_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(order_saga, ["audit"], env=clean(UNWIND_DATA_DIR=str(tmp_path)))
    assert result.exit_code == 2
    assert "does not exist" in result.output


@pytest.mark.parametrize(
    ("package", "extra"), [("asyncpg", "postgres"), ("nats", "nats"), ("redis", "redis"), ("opentelemetry", "tracing")]
)
def test_a_missing_extra_is_named(package: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, complain("unwind"):
        raise ModuleNotFoundError(name=f"{package}.pool")
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"install unwind[{extra}]\n")


def test_any_other_missing_module_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), complain("unwind"):
        raise ModuleNotFoundError(name="unwind.gone")


def test_an_audit_needs_no_web_framework() -> None:
    program = "import sys, order_saga.main; print('litestar' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("192.0.2.1", False), ("::", False)],
)
def test_only_loopback_counts_as_closed_to_the_network(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
