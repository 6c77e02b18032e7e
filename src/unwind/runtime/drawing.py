"""Draws a definition: its steps from left to right, what is agreed for each, and the way back beneath. SVG."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from msgspec import Struct

from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.steps import Kind
from unwind.runtime.situation import spoken

_WIDTH, _HEIGHT = 246, 96
_ACROSS, _DOWN = 286, 142
_MARGIN, _LINE, _TIP = 2, 20, 5
_LONGEST = 32
"""Characters that fit into a line of a node."""
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24; } .step { font-weight: 700; }
.node rect { fill: #f6f8fa; stroke: #57606a; } .node.pivot rect { stroke: #9c0d25; stroke-width: 3; }
.node.retriable rect { stroke: #0f5a2c; stroke-width: 2; } .edge { stroke: #57606a; stroke-width: 1.5; }
.tip { fill: #57606a; } .back { stroke: #9a6a2f; fill: none; stroke-dasharray: 5 4; } .back-tip { fill: #9a6a2f; }
@media (prefers-color-scheme: dark) { svg { background: #14171b; } text { fill: #e6e8eb; }
.node rect { fill: #1c2127; stroke: #a4adb8; } .edge { stroke: #a4adb8; } .tip { fill: #a4adb8; } }
"""
"""Of a drawing that stands alone; on a page the page's own sheet says it."""


class Node(Struct, frozen=True):
    """A step in the graph; places are pixels, of its upper left corner."""

    plan: StepPlan
    x: int
    y: int


class Graph(Struct, frozen=True):
    """A definition, laid out."""

    name: str
    version: int
    hash: str
    deadline: int | None
    nodes: tuple[Node, ...]
    ways: tuple[tuple[Node, Node], ...]
    """One step, and one that comes directly after it."""
    backs: tuple[tuple[Node, Node], ...]
    """A step whose undo comes first, and the one that is undone directly after it."""
    width: int
    height: int

    @property
    def svg(self) -> str:
        """As a part of a page that has a sheet for it."""
        return _svg(self, "")

    @property
    def file(self) -> str:
        """As a file of its own."""
        return f"{_svg(self, _STYLE)}\n"


def graph_of(saga: Saga[Any]) -> Graph:
    """Each step stands behind the last of those it comes after; what is side by side stands one beneath the other.

    A branch keeps to its row, as far as there is room in it.
    """
    column: dict[str, int] = {}
    row: dict[str, int] = {}
    free: dict[int, int] = {}
    for plan in saga.plans:
        before = [each for each in plan.after if each in column]
        at = max((column[each] + 1 for each in before), default=0)
        column[plan.name] = at
        row[plan.name] = max(free.get(at, 0), min((row[each] for each in before), default=0))
        free[at] = row[plan.name] + 1
    nodes = {plan.name: Node(plan, column[plan.name] * _ACROSS, row[plan.name] * _DOWN) for plan in saga.plans}
    return Graph(
        saga.name,
        saga.version,
        saga.hash,
        saga.deadline,
        tuple(nodes.values()),
        tuple((nodes[each], node) for node in nodes.values() for each in node.plan.after if each in nodes),
        tuple((nodes[last], nodes[first]) for last, first in undo_order(saga.plans)),
        max(column.values()) * _ACROSS + _WIDTH + 2 * _MARGIN,
        max(free.values()) * _DOWN,
    )


def undo_order(plans: Sequence[StepPlan]) -> Iterator[tuple[str, str]]:
    """Each step that can be undone, with those that are undone directly after it: the nearest before it that can."""
    by_name = {plan.name: plan for plan in plans}

    def nearest(plan: StepPlan) -> Iterator[str]:
        for name in plan.after:
            before = by_name.get(name)
            if before is not None:
                yield from [name] if undone(before) else nearest(before)

    for plan in plans:
        if undone(plan):
            yield from ((plan.name, each) for each in dict.fromkeys(nearest(plan)))


def undone(plan: StepPlan) -> bool:
    """Whether there is something to undo of it, on the way back."""
    return plan.undoable and plan.kind is Kind.COMPENSATABLE


# --------------------------------------------------------------------------------------------------------------- words


def words_of(plan: StepPlan) -> tuple[str, str, str]:
    """What a step is, what is agreed for it, and what becomes of it on the way back; the last two may be empty."""
    kinds = [_shape(plan), *([] if plan.kind is Kind.COMPENSATABLE else [str(plan.kind)])]
    if plan.guarded or plan.conditional:
        kinds.append("conditional")
    return ", ".join(kinds), _policy(plan), _way_back(plan)


def _shape(plan: StepPlan) -> str:
    if plan.shape == "each":
        return "for each item"
    return f"{plan.shape} for each of {plan.each}" if plan.each else plan.shape


_UNTIL = {Kind.PIVOT: "until it answers", Kind.RETRIABLE: "until it succeeds"}
"""From the point of no return on, nothing is given up."""


def _policy(plan: StepPlan) -> str:
    match plan.shape:
        case "command" | "action":
            return f"{spoken(plan.timeout)}, {_UNTIL.get(plan.kind) or _attempts(plan.retry.attempts)}"
        case "signal":
            return f"{spoken(plan.timeout)}, then {'goes on' if plan.on_timeout == 'skip' else 'turns round'}"
        case "sleep":
            return "until a time of its own" if plan.duration is None else spoken(plan.duration)
        case _:
            return ""


def _way_back(plan: StepPlan) -> str:
    if plan.kind is Kind.PIVOT:
        return "no way back from here"
    if not undone(plan):
        return ""
    if plan.shape in {"record", "saga"}:
        return "undone"
    return f"undone: {spoken(plan.undo_timeout)}, {_attempts(plan.undo_retry.attempts)}"


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


# ----------------------------------------------------------------------------------------------------------------- SVG


def _svg(graph: Graph, style: str) -> str:
    title = escape(f"{graph.name} version {graph.version}: its steps, what comes after what, and the way back")
    about = f'width="{graph.width}" height="{graph.height}" viewBox="0 0 {graph.width} {graph.height}"'
    alone = ' xmlns="http://www.w3.org/2000/svg"' if style else ""
    parts = [f'<svg{alone} class="graph" {about} role="img" aria-label="{title}">', f"<title>{title}</title>"]
    if style:
        parts.append(f"<style>{style}</style>")
    parts += [_forward(before, after) for before, after in graph.ways]
    parts += [_backward(last, first) for last, first in graph.backs]
    parts += [_drawn(node) for node in graph.nodes]
    return "\n".join([*parts, "</svg>"])


def _forward(before: Node, after: Node) -> str:
    x1, y1 = before.x + _WIDTH, before.y + _HEIGHT // 2
    x2, y2 = after.x, after.y + _HEIGHT // 2
    tip = f'<polygon class="tip" points="{x2},{y2} {x2 - 2 * _TIP},{y2 - _TIP} {x2 - 2 * _TIP},{y2 + _TIP}"/>'
    return f'<line class="edge" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>{tip}'


def _backward(last: Node, first: Node) -> str:
    """Beneath the nodes; to be told from the way there."""
    x1, y1 = last.x + _WIDTH // 3, last.y + _HEIGHT
    x2, y2 = first.x + 2 * _WIDTH // 3, first.y + _HEIGHT + 2 * _TIP
    low = max(y1, y2) + (_DOWN - _HEIGHT) // 2
    tip = f'<polygon class="back-tip" points="{x2},{y2 - 2 * _TIP} {x2 - _TIP},{y2} {x2 + _TIP},{y2}"/>'
    return f'<path class="back" d="M {x1} {y1} C {x1} {low}, {x2} {low}, {x2} {y2}"/>{tip}'


def _drawn(node: Node) -> str:
    plan = node.plan
    box = f'<rect x="{node.x + 1}" y="{node.y + 1}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" rx="6"/>'
    lines = [f'<tspan class="step">{escape(_cut(plan.name))}</tspan>', *(escape(_cut(each)) for each in words_of(plan))]
    texts = (
        f'<text x="{node.x + 10}" y="{node.y + 4 + number * _LINE}">{line}</text>'
        for number, line in enumerate(filter(None, lines), 1)
    )
    return f'<g class="node {plan.kind}">{box}{"".join(texts)}</g>'


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
