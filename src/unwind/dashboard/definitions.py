"""The definitions that this process knows: each as a graph of its steps, with what was agreed for them."""

from collections.abc import Sequence

from litestar import Response, get
from msgspec import Struct

from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import TheEngine, TheQueries
from unwind.dashboard.shares import TheShares

_WIDTH, _HEIGHT = 190, 102
_ACROSS, _DOWN = 230, 120


class Node(Struct, frozen=True):
    """A step in the graph; places are pixels."""

    plan: StepPlan
    x: int
    y: int


class Edge(Struct, frozen=True):
    """One step comes directly after another."""

    x1: int
    y1: int
    x2: int
    y2: int


class Graph(Struct, frozen=True):
    """A definition, drawn from left to right."""

    name: str
    version: int
    hash: str
    deadline: int | None
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def graph_of(saga: Saga[object]) -> Graph:
    """Each step stands behind the last of those it comes after; what is side by side stands one beneath the other."""
    column: dict[str, int] = {}
    for plan in saga.plans:
        column[plan.name] = max((column[each] + 1 for each in plan.after if each in column), default=0)
    rows: dict[int, int] = {}
    nodes: dict[str, Node] = {}
    for plan in saga.plans:
        at = column[plan.name]
        nodes[plan.name] = Node(plan, at * _ACROSS, rows.get(at, 0) * _DOWN)
        rows[at] = rows.get(at, 0) + 1
    return Graph(
        saga.name,
        saga.version,
        saga.hash,
        saga.deadline,
        tuple(nodes.values()),
        tuple(_edges(nodes)),
        (max(column.values()) * _ACROSS) + _WIDTH + 4,
        (max(rows.values()) * _DOWN),
    )


def _edges(nodes: dict[str, Node]) -> Sequence[Edge]:
    middle = _HEIGHT // 2
    return [
        Edge(nodes[before].x + _WIDTH, nodes[before].y + middle, node.x, node.y + middle)
        for node in nodes.values()
        for before in node.plan.after
        if before in nodes
    ]


@get("/definitions", scope="read")
async def definitions(pages: ThePages, engine: TheEngine, queries: TheQueries, shares: TheShares) -> Response[str]:
    """All definitions, the newest version of each name first, and what became of the steps of sagas that ended last."""
    known = sorted(engine.sagas.values(), key=lambda saga: (saga.name, -saga.version))
    samples = await shares.read(queries, sorted(engine.newest))
    return pages.render("definitions.html", graphs=[graph_of(saga) for saga in known], samples=samples)


definition_routes = [definitions]
