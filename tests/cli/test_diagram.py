"""`diagram`, as typed: a definition drawn for a document, and its exit codes."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from order_saga.application.order_saga import order_saga as definition
from order_saga.main import app as order_saga
from unwind.cli.main import app as unwind
from unwind.runtime.drawing import graph_of
from unwind.runtime.mermaid import mermaid

OURS = "order_saga.application.order_saga:order_saga"
TWO = """
from order_saga.application.order_saga import order_saga
from unwind import Saga

print("this is no part of a picture")
newer = Saga("order_saga", version=2, context=order_saga.context_type, steps=[order_saga.plans[0].step])
both = [order_saga, newer]
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "two_orders.py").write_text(TWO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "two_orders:both"


def diagram(*arguments: str) -> Result:
    return CliRunner().invoke(unwind, ["diagram", *arguments])


def test_mermaid_is_what_is_drawn_unless_asked_otherwise() -> None:
    assert diagram(OURS).stdout == mermaid(definition)
    assert CliRunner().invoke(order_saga, ["diagram"]).stdout == mermaid(definition)


def test_an_svg_is_a_file_of_its_own() -> None:
    for drawn in (diagram("--format", "svg", OURS), CliRunner().invoke(order_saga, ["diagram", "--format", "svg"])):
        assert drawn.stdout == graph_of(definition).file
        assert ET.fromstring(drawn.stdout).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314


def test_several_are_charts_one_after_the_other_and_no_svg(two: str) -> None:
    assert diagram(two).stdout.count("flowchart LR") == 2
    refused = diagram("--format", "svg", two)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "an SVG shows one" in refused.stderr
    told = json.loads(diagram("--format", "svg", "--json", two).stdout)["diagrams"]
    assert [(each["definition"], each["version"], each["format"]) for each in told] == [
        ("order_saga", 1, "svg"),
        ("order_saga", 2, "svg"),
    ]
    assert all(each["drawing"].startswith("<svg ") for each in told)


def test_what_is_no_definition_is_told_in_a_line() -> None:
    refused = diagram("nowhere:saga")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("unwind: nowhere:saga: there is no module")
