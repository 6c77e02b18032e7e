"""A definition as a Mermaid flowchart: the way there in full lines, the way back in dotted ones."""

from collections.abc import Iterator
from typing import Any

import msgspec

from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.steps import Kind
from unwind.runtime.drawing import undo_order, undone, words_of
from unwind.runtime.situation import spoken

_FORMS = {
    "command": ("[", "]"),
    "action": ("[", "]"),
    "record": ("[/", "/]"),
    "signal": ("{{", "}}"),
    "sleep": ("([", "])"),
    "each": ("[[", "]]"),
    "saga": ("[[", "]]"),
}
"""How the shapes of steps are drawn."""


def mermaid(saga: Saga[Any]) -> str:
    """The text of the chart, with a line end."""
    return "\n".join(_lines(saga)) + "\n"


def _lines(saga: Saga[Any]) -> Iterator[str]:
    ids = {plan.name: f"s{number}" for number, plan in enumerate(saga.plans, 1)}
    deadline = "" if saga.deadline is None else f", deadline {spoken(saga.deadline)}"
    yield "---"
    yield f"title: {msgspec.json.encode(f'{saga.name} version {saga.version}{deadline}').decode()}"
    yield "---"
    yield "flowchart LR"
    yield "    start((start))"
    for plan in saga.plans:
        if not plan.each:
            yield f"    {_node(ids, plan)}"
    for group in dict.fromkeys(plan.each for plan in saga.plans if plan.each):
        yield f'    subgraph each{ids[group]}["{_text(f"for each of {group}")}"]'
        yield from (f"        {_node(ids, plan)}" for plan in saga.plans if plan.each == group)
        yield "    end"
    yield "    completed((completed))"
    followed = {name for plan in saga.plans for name in plan.after}
    for plan in saga.plans:
        for name in plan.after or ("",):
            yield f"    {ids.get(name, 'start')} --> {ids[plan.name]}"
    for plan in saga.plans:
        if plan.name not in followed:
            yield f"    {ids[plan.name]} --> completed"
    yield from _way_back(saga, ids)
    for kind in (Kind.PIVOT, Kind.RETRIABLE):
        of_kind = ",".join(ids[plan.name] for plan in saga.plans if plan.kind is kind)
        if of_kind:
            yield f"    classDef {kind} stroke-width:{3 if kind is Kind.PIVOT else 2}px"
            yield f"    class {of_kind} {kind}"


def _way_back(saga: Saga[Any], ids: dict[str, str]) -> Iterator[str]:
    order = list(undo_order(saga.plans))
    undoable = [plan.name for plan in saga.plans if undone(plan)]
    if not undoable:
        return
    yield "    compensated((compensated))"
    for last, first in order:
        yield f"    {ids[last]} -. undo .-> {ids[first]}"
    not_last = {last for last, _ in order}
    for name in undoable:
        if name not in not_last:
            yield f"    {ids[name]} -. undo .-> compensated"


def _node(ids: dict[str, str], plan: StepPlan) -> str:
    opening, closing = _FORMS[plan.shape]
    lines = "<br/>".join(_text(line) for line in (plan.name, *words_of(plan)) if line)
    return f'{ids[plan.name]}{opening}"{lines}"{closing}'


def _text(text: str) -> str:
    """Signs that mean something to Mermaid, or to the HTML it makes, by their numbers."""
    return "".join(each if each.isalnum() or each in " _-.,:[]()@+" else f"#{ord(each)};" for each in text)
