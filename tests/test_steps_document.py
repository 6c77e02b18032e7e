"""docs/steps.md: its tables are what the code declares, with the same defaults, and its examples run as it shows."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from tests.test_readme import blocks

from unwind import ActionCall, ForEach, HandlerCall, Retry, Saga
from unwind.core import groups, plans, saga, steps

TEXT = (Path(__file__).parent.parent / "docs" / "steps.md").read_text()
NOTHING = inspect.Parameter.empty
CLASSES = (
    steps.Step,
    steps.CommandStep,
    steps.ActionStep,
    steps.RecordStep,
    steps.SagaStep,
    steps.SignalStep,
    steps.SleepStep,
)
NEEDED = {(cls.__name__, method) for cls, _, method in plans._BASES if method is not None}
NAMES = {**vars(groups), **vars(saga), **vars(steps)}
"""What the tables may speak of: type variables of the steps' module win."""


def tables(head: str) -> list[list[tuple[str, ...]]]:
    """The tables with this head, row by row, each cell without its backticks."""
    bodies = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", row)[1:-1] for row in body.splitlines()] for body in bodies]
    return [[tuple(cell.strip().strip("`").replace("\\|", "|") for cell in row) for row in body] for body in split]


def table(head: str) -> list[tuple[str, ...]]:
    [only] = tables(head)
    return only


def meant(expression: str, module: Any = steps) -> Any:
    return eval(expression, {**NAMES, **vars(module), "Saga": Saga})  # noqa: S307 - a document of our own


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if name not in {"self", "cls"}}


def test_every_attribute_of_a_step_stands_there_with_its_type_and_default() -> None:
    declared = {
        (cls.__name__, name): (get_args(hint)[0] if get_args(hint) else Any, vars(cls).get(name, ""))
        for cls in CLASSES
        for name, hint in get_type_hints(cls).items()
        if name in vars(cls).get("__annotations__", {}) and get_origin(hint) is ClassVar
    }
    shown = {
        (of, name): (Any if kind == "Saga" else meant(kind), meant(default) if default else "")
        for name, of, kind, default, _ in table("attribute | of | type | default | meaning")
    }
    assert shown == declared


def test_every_method_of_a_step_stands_there_with_what_it_takes_and_answers() -> None:
    declared = {
        (cls.__name__, f"{name}({', '.join(arguments(method))})"): (
            inspect.signature(method).return_annotation,
            (cls.__name__, name) in NEEDED,
            inspect.iscoroutinefunction(method),
        )
        for cls in CLASSES
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    shown = {
        (of, call): (meant(answer), needed == "yes", meaning.startswith("async: "))
        for call, of, answer, needed, meaning in table("method | of | answers | needed | meaning")
    }
    assert shown == declared


def test_every_way_to_retry_stands_there_with_its_defaults() -> None:
    shown = {}
    for call, _ in table("retry | attempts"):
        tree = ast.parse(call, mode="eval").body
        assert isinstance(tree, ast.Call)
        given: dict[str, Any] = {ast.unparse(name): NOTHING for name in tree.args}
        given |= {str(each.arg): meant(ast.unparse(each.value)) for each in tree.keywords}
        shown[ast.unparse(tree.func)] = given
    makers = {name: getattr(Retry, name) for name, each in vars(Retry).items() if isinstance(each, staticmethod)}
    assert shown == {
        f"Retry.{name}": {argument: each.default for argument, each in arguments(make).items()}
        for name, make in makers.items()
    }


def test_every_argument_of_a_saga_and_of_a_group_for_items_stands_there() -> None:
    shown = tables("argument | type | default | meaning")
    for (made, module), rows in zip(((ForEach, groups), (Saga, saga)), shown, strict=True):
        told = {name: (meant(kind, module), meant(said) if said else NOTHING) for name, kind, said, _ in rows}
        declared = {
            name: (meant(kind, module) if isinstance(kind := each.annotation, str) else kind, each.default)
            for name, each in arguments(made).items()
        }
        assert told == declared


def test_all_that_an_action_and_a_handler_are_told_stands_there() -> None:
    [told] = re.findall(
        r"^\* `call` of an action has (.*) of a handler also (.*)$", TEXT.replace("\n  ", " "), re.MULTILINE
    )
    action, more = (re.findall(r"`(\w+)`", part) for part in told)
    assert set(action) == set(ActionCall.__struct_fields__)
    assert {*action, *more} - {"prepare"} == set(HandlerCall.__struct_fields__)


def test_the_examples_are_a_program_that_prints_what_is_shown(tmp_path: Path) -> None:
    program = "\n\n".join(text for language, text in blocks(TEXT) if language == "python")
    [output] = [text for language, text in blocks(TEXT) if language == "text"]
    (tmp_path / "orders.py").write_text(program)
    ran = subprocess.run([sys.executable, "orders.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (output, "")
