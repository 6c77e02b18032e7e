"""What one event changed: the context and the state before and after it, line by line. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from unwind.core.events import Event
from unwind.core.messages import NULL
from unwind.core.state import State
from unwind.dashboard.words import pretty, readable
from unwind.runtime.instants import instant

AROUND = 2
"""Lines that did not change and are shown around those that did."""
MOST = 200
"""Lines of one comparison that are shown."""
_LONGEST = 240
"""Characters of a line."""
_PATIENCE = 200_000
"""Pairs of lines that are compared at most: beyond that all between the first and the last change counts as changed."""
_ELSEWHERE = {
    *("context", "saga_id", "version", "definition", "definition_version", "definition_hash"),
    *("request_hash", "correlation_id", "traceparent", "outcomes", "streams"),
}
"""Of a state: what has a place of its own on the page, or never changes."""
_INSTANTS = {"at", "expires", "retry_at", "parked", "silent", "since", "deadline", "begin_at", "started_at", "ended_at"}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Line(Struct, frozen=True):
    """A line of a comparison; `gap` stands for those that are left out."""

    kind: Literal["same", "gone", "new", "gap"]
    text: str


class Change(Struct, frozen=True):
    """What an event brought."""

    event: str
    """`step started`, with the step."""
    context: tuple[Line, ...]
    """Empty: it did not change."""
    state: tuple[Line, ...]


def changed(event: Event, before: tuple[Raw, State], after: tuple[Raw, State]) -> Change:
    """Each of the two: the context as it is shown, and the state."""
    name = _WORD.sub(" ", type(event).__name__).lower()
    step = getattr(event, "step", "")
    old, new = (pretty(context) if bytes(context) != bytes(NULL) else "" for context, _ in (before, after))
    return Change(f"{name}: {step}" if step else name, compared(old, new), compared(_told(before[1]), _told(after[1])))


def compared(before: str, after: str) -> tuple[Line, ...]:
    """The lines that differ, with some around them; empty where none do."""
    if before == after:
        return ()
    old, new = before.split("\n"), after.split("\n")
    lines = list(_joined(_parts(old, new), old, new))
    shown = [Line(line.kind, f"{line.text[:_LONGEST]}…" if len(line.text) > _LONGEST else line.text) for line in lines]
    left = len(shown) - MOST
    return (*shown[:MOST], *([Line("gap", f"… {left} more lines")] if left > 0 else []))


Part = tuple[bool, int, int, int, int]
"""Whether it is the same; from, to in what was; from, to in what is."""


def _parts(old: Sequence[str], new: Sequence[str]) -> list[Part]:
    first, last = 0, 0
    while first < min(len(old), len(new)) and old[first] == new[first]:
        first += 1
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    mine, other = old[first : len(old) - last], new[first : len(new) - last]
    if len(mine) * len(other) > _PATIENCE:
        middle: list[Part] = [(False, first, len(old) - last, first, len(new) - last)]
    else:
        found = SequenceMatcher(None, mine, other, autojunk=False).get_opcodes()
        middle = [(tag == "equal", first + a, first + b, first + c, first + d) for tag, a, b, c, d in found]
    return [(True, 0, first, 0, first), *middle, (True, len(old) - last, len(old), len(new) - last, len(new))]


def _joined(parts: Sequence[Part], old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    for number, (same, begin, end, from_, to) in enumerate(parts):
        if not same:
            yield from (Line("gone", text) for text in old[begin:end])
            yield from (Line("new", text) for text in new[from_:to])
            continue
        head = 0 if number == 0 else min(AROUND, end - begin)
        tail = 0 if number == len(parts) - 1 else min(AROUND, end - begin - head)
        yield from (Line("same", text) for text in old[begin : begin + head])
        if (left := end - begin - head - tail) > 0:
            yield Line("gap", f"… {left} the same")
        yield from (Line("same", text) for text in old[end - tail : end])


def _told(state: State) -> str:
    """A state as JSON for people: instants in words, commands by their names."""
    built = msgspec.json.decode(msgspec.json.encode(state))
    kept = {name: _worded(name, value) for name, value in built.items() if name not in _ELSEWHERE}
    return readable(msgspec.json.format(msgspec.json.encode(kept), indent=2).decode()) if kept else ""


def _worded(name: str, value: Any) -> Any:
    if name in _INSTANTS and isinstance(value, int):
        return instant(value) if value else value
    if name == "command" and isinstance(value, Mapping):
        return f"{value.get('name')} to {value.get('service')}"
    if isinstance(value, Mapping):
        return {key: _worded(key, each) for key, each in value.items() if key != "payload"}
    return [_worded("", each) for each in value] if isinstance(value, list) else value
