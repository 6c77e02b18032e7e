"""Definitions as pictures: every step with what is agreed for it, the way there, and the way back in reverse."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.core.trips import approval, booking, diary, errand, nap, parcels, stay, trip

from order_saga.application.order_saga import order_saga
from unwind.core.groups import Parallel
from unwind.core.steps import SKIP, Kind, Retry
from unwind.runtime.drawing import Graph, graph_of, undo_order, words_of
from unwind.runtime.mermaid import mermaid

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SVG = "{http://www.w3.org/2000/svg}"
EVERY_SHAPE = trip(
    booking("flight", retry=Retry.fixed(3, timedelta(seconds=1)), timeout=timedelta(minutes=2), verdict=SKIP),
    Parallel([errand("visa"), nap("rest")], [stay("stay")]),
    parcels(booking("pack"), of=("red", "blue")),
    approval("boss"),
    approval("late", on_timeout="skip"),
    booking("go", Kind.PIVOT),
    booking("tell", Kind.RETRIABLE),
    diary("note", Kind.RETRIABLE),
)


def words(saga: Any) -> dict[str, tuple[str, str, str]]:
    return {plan.name: words_of(plan) for plan in saga.plans}


def texts(graph: Graph) -> list[list[str]]:
    """The lines of each node of its SVG, which must be XML."""
    root = ET.fromstring(graph.file)  # noqa: S314 - our own
    return [["".join(text.itertext()) for text in node.iter(f"{SVG}text")] for node in root.iter(f"{SVG}g")]


def test_the_picture_in_the_documentation_is_the_order_saga_s() -> None:
    [shown] = re.findall(r"```mermaid\n(.*?)```", DOCS, re.DOTALL)
    assert shown == mermaid(order_saga)


def test_each_step_tells_what_it_is_what_is_agreed_and_what_becomes_of_it_on_the_way_back() -> None:
    told = words(EVERY_SHAPE)
    assert told["flight"] == ("command, conditional", "2 minutes, 3 attempts", "undone: 30 s, 2 attempts")
    assert told["visa"][0] == "action"
    assert told["rest"] == ("sleep", "30 s", "")
    assert told["stay"] == ("saga", "", "undone")
    assert told["parcels"] == ("for each item", "", "")
    assert told["pack"][0] == "command for each of parcels"
    assert told["boss"] == ("signal", "30 s, then turns round", "")
    assert told["late"] == ("signal", "30 s, then goes on", "")
    assert told["go"] == ("command, pivot", "30 s, until it answers", "no way back from here")
    assert told["tell"] == ("command, retriable", "30 s, until it succeeds", "")
    assert told["note"] == ("record, retriable", "", "")


def test_undos_come_in_reverse_and_pass_over_what_cannot_be_undone() -> None:
    assert list(undo_order(order_saga.plans)) == [
        ("process_payment", "reserve_inventory"),
        ("create_shipment", "process_payment"),
    ]
    order = set(undo_order(EVERY_SHAPE.plans))
    assert order == {("visa", "flight"), ("stay", "flight"), ("pack", "visa"), ("pack", "stay")}


def test_side_by_side_stands_one_beneath_the_other_and_a_branch_keeps_its_row() -> None:
    graph = graph_of(trip(Parallel([booking("a"), booking("b")], [booking("c"), booking("d")]), booking("e")))
    at = {node.plan.name: (node.x, node.y) for node in graph.nodes}
    assert at["a"][0] == at["c"][0] < at["b"][0] == at["d"][0] < at["e"][0]
    assert at["a"][1] == at["b"][1] == at["e"][1] < at["c"][1] == at["d"][1]
    assert len(set(at.values())) == 5
    assert all(x < graph.width and y < graph.height for x, y in at.values())


def test_the_svg_says_the_same_whatever_a_step_is_called() -> None:
    wild = trip(booking("<b>&\"'"), booking("long " * 20))
    [[name, *rest], [long, *_]] = texts(graph_of(wild))
    assert name == "<b>&\"'"
    assert rest == [each for each in words_of(wild.plans[0]) if each]
    assert long.endswith("…")
    drawn = texts(graph_of(EVERY_SHAPE))
    assert [lines[0] for lines in drawn] == [plan.name for plan in EVERY_SHAPE.plans]
    root = ET.fromstring(graph_of(order_saga).file)  # noqa: S314
    assert len(list(root.iter(f"{SVG}line"))) == 3
    assert len(list(root.iter(f"{SVG}path"))) == 2
    assert "<style>" not in graph_of(order_saga).svg


def test_the_chart_groups_what_is_done_for_each_item_and_knows_no_sign_of_ours() -> None:
    chart = mermaid(EVERY_SHAPE)
    group = re.search(r'subgraph \w+\["for each of parcels"\]\n(.*?)\n    end', chart, re.DOTALL)
    assert group is not None
    assert "pack" in group[1]
    assert chart.count("-. undo .->") == 5  # four from step to step, and the first one's to the end
    assert "classDef pivot" in chart
    wild = mermaid(trip(booking('end"<&;#')))
    assert 's1["end#34;#60;#38;#59;#35;<br/>' in wild
    assert "compensated" not in mermaid(trip(booking("go", Kind.PIVOT)))
