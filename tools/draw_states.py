"""Draws the state machine from the code: `python -m tools.draw_states` writes docs/state-machine.md.

Nothing here knows the machine. Small sagas are walked through all their states by every input; what was seen is drawn.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tests.core.trips import Trip, booking, diary, errand, trip
from tests.core.walk import walk

from unwind.core.evolve import evolve
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.core.steps import SKIP, Fail, Kind

TARGET = Path(__file__).parent.parent / "docs" / "state-machine.md"
LABELS_TO_A_LINE = 3

_OF_UNDO = {"outstanding": "undoing", "backoff": "undo_backoff"}
Edge = tuple[str, str, str]


def _sagas() -> list[Saga[Trip]]:
    """Between them they do everything that a saga can do."""
    return [
        trip(booking("a"), booking("b", Kind.PIVOT), booking("c", Kind.RETRIABLE)),
        trip(booking("a"), errand("b")),
        trip(diary("a"), booking("b", verdict=SKIP), booking("c", verdict=Fail("no"))),
        trip(booking("a", verdict=ValueError("oops"))),
    ]


def saga_status(state: State) -> str:
    """As the API shows it."""
    return state.shown_status


def step_status(step: str) -> Callable[[State], str]:
    """What has become of one step, and of its undo."""

    def status(state: State) -> str:
        run = state.run(step)
        if run is None:
            return "waiting"
        undo = state.undo_of(step)
        if undo is not None:
            return "undo_parked" if undo.parked else _OF_UNDO[undo.status]
        turned = state.status in {"compensating", "compensated"}
        if turned and run.status not in {"refused", "skipped"} and step not in state.targets:
            return "undone"
        return "parked" if run.parked else run.status

    return status


def edges(sagas: Iterable[Saga[Trip]], statuses: Callable[[Saga[Trip]], list[Callable[[State], str]]]) -> set[Edge]:
    """Each change of status with the event that makes it."""
    seen: set[Edge] = set()
    for saga in sagas:
        _, ways = walk(saga)
        for way in ways:
            state = way.before
            for event in way.events:
                after = evolve(state, event)
                for status in statuses(saga):
                    seen.add((status(state), type(event).__name__, status(after)))
                state = after
    return {edge for edge in seen if edge[0] != edge[2]}


def diagram(drawn: set[Edge], first: str) -> str:
    """A Mermaid state diagram."""
    labels: dict[tuple[str, str], list[str]] = {}
    for before, event, after in sorted(drawn):
        labels.setdefault((before, after), []).append(event)
    last = sorted({after for _, _, after in drawn} - {before for before, _, _ in drawn})
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}: {_joined(events)}" for (before, after), events in labels.items()]
    lines += [f"    {status} --> [*]" for status in last]
    return "\n".join([*lines, "```"])


def _joined(events: list[str]) -> str:
    rows = [events[place : place + LABELS_TO_A_LINE] for place in range(0, len(events), LABELS_TO_A_LINE)]
    return "<br/>".join(", ".join(row) for row in rows)


def document() -> str:
    """The whole page."""
    sagas = _sagas()
    of_sagas = edges(sagas, lambda _: [saga_status])
    of_steps = edges(sagas, lambda saga: [step_status(step) for step in saga.by_name])
    return f"""# The state machine

Drawn from the code by `python -m tools.draw_states`; a test keeps it true. Each arrow carries the events that lead
along it.

## A saga

*Paused* and *blocked* are flags beside the status; callers see them in its place. A saga that is both is shown as
paused.

{diagram(of_sagas, NEW.shown_status)}

## A step

What becomes of one step and of its undo. *Waiting*: the steps before it are not done.

{diagram(of_steps, "waiting")}
"""


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(document(), encoding="utf-8")
    print(f"wrote {TARGET.name}")
