"""The rules of the house that no linter knows: sizes, names, what may be caught, what the application may import."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import unwind

ROOT = Path(__file__).parent.parent
FUNCTION_LINES = 60
FILE_LINES = 400
BANNED_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers", "common"}
MARKS = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X)\b")
PUBLIC = {"unwind", "unwind.dashboard", "unwind.http", "unwind.cli", "unwind.testing", "unwind.bootstrap"}
EXPORTED = {f"unwind.{name}" for name in unwind.__all__}
# Shell modules that may catch everything, each with its reason. It may only shrink: an entry no longer needed fails.
CATCH_ALL: dict[str, str] = {
    "src/unwind/cli/definitions.py": "an author's module may raise anything when it is imported; it is told in a line",
    "src/unwind/core/author.py": "the author's pure functions may raise anything; it blocks their saga and no other",
    "src/unwind/runtime/actions.py": "the author's actions may raise anything; it is a failed attempt",
    "src/unwind/runtime/participant.py": "an author's handler may raise anything; it must not take its batch along",
    "src/unwind/runtime/participant_service.py": "the author's `prepare` may raise anything; it is a failed attempt",
}


class Module(NamedTuple):
    """One Python file of the repository."""

    path: str
    lines: list[str]
    tree: ast.Module
    nodes: list[ast.AST]

    def under(self, *folders: str) -> bool:
        return self.path.startswith(folders)


Rule = Callable[[Module], Iterator[tuple[int, str]]]


@cache
def modules() -> list[Module]:
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "*.py"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    texts = {path: (ROOT / path).read_text() for path in listed if path and (ROOT / path).is_file()}
    trees = {path: ast.parse(text, path) for path, text in texts.items()}
    return [Module(path, texts[path].splitlines(), tree, list(ast.walk(tree))) for path, tree in trees.items()]


def short(module: Module) -> Iterator[tuple[int, str]]:
    if module.under("src/", "apps/") and len(module.lines) > FILE_LINES:
        yield len(module.lines), f"a file of more than {FILE_LINES} lines"
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not module.under("tests/", "benchmarks/"):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines, more than {FUNCTION_LINES}"


def named_and_introduced(module: Module) -> Iterator[tuple[int, str]]:
    if banned := BANNED_NAMES & set(Path(module.path).with_suffix("").parts):
        yield 1, f"a name that says nothing: {banned.pop()}"
    if not (ast.get_docstring(module.tree, clean=False) or "").split("\n")[0].strip():
        yield 1, "no docstring that says on its first line what the module is for"


def finished(module: Module) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(module.lines, 1):
        if mark := MARKS.search(line):
            yield number, f"{mark[0]}: do it now, or file an issue"


def calls(module: Module) -> Iterator[tuple[int, str]]:
    for call in (node for node in module.nodes if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name == "print" and module.under("src/unwind/") and not module.under("src/unwind/cli", "src/unwind/testing"):
            yield call.lineno, "print in the library: log it"
        yields = ast.unparse(call) == "asyncio.sleep(0)"
        if module.under("tests/") and name.split(".")[-1] == "sleep" and not yields:
            yield call.lineno, "a test that sleeps: wait for the event, or move the clock"
        if module.under("src/unwind/core/") and name.split(".")[-1] in {"now", "utcnow", "today"}:
            yield call.lineno, "the core has no clock: time comes in as data"


def catches(module: Module) -> Iterator[tuple[int, str]]:
    for handler in (node for node in module.nodes if isinstance(node, ast.ExceptHandler)):
        caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        broad = any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in caught)
        if broad and module.path not in CATCH_ALL:
            yield handler.lineno, "catches everything: name the exceptions, or list the module in CATCH_ALL"
        if all(ast.unparse(statement) in {"pass", "..."} for statement in handler.body):
            yield handler.lineno, "a swallowed exception: handle it, or say contextlib.suppress"


def public(module: Module) -> Iterator[tuple[int, str]]:
    for node in module.nodes if module.under("apps/") else ():
        names = []
        if isinstance(node, ast.Import):
            names = [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "unwind":
            names = [(alias.lineno, f"unwind.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.lineno, node.module or "")]
        for line, name in names:
            if name.split(".")[0] == "unwind" and name not in PUBLIC | EXPORTED:
                yield line, f"{name} is not public"


@pytest.mark.parametrize("rule", [short, named_and_introduced, finished, calls, catches, public])
def test_tidy(rule: Rule) -> None:
    assert modules(), "git lists no Python file"
    found = [f"{module.path}:{line}: {what}" for module in modules() for line, what in rule(module)]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_no_module_is_listed_as_catching_everything_without_need() -> None:
    blind = re.compile(r"except(?:\s*:|.*\b(?:Base)?Exception\b)")
    needed = {module.path for module in modules() if any(blind.search(line) for line in module.lines)}
    assert CATCH_ALL.keys() <= needed
