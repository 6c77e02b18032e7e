"""The route that tells which participants answer, as far as this process has seen."""

from typing import Literal

from litestar import get
from msgspec import Struct

from unwind.http.openapi import Answer, Docs
from unwind.http.sagas import TheEngine
from unwind.runtime.circuits import CircuitView
from unwind.runtime.instants import instant_or_none


class CircuitShown(Struct, frozen=True):
    """One participant."""

    service: str
    state: Literal["closed", "ramp", "open"]
    """Closed: it answers. Open: it answers nobody, and attempts at it are parked. Ramp: it answers again."""
    since: str | None
    """When it came to this state; null: it never was in another."""
    answers: int
    """Since the process began."""
    answered_at: str | None
    unanswered: int
    """Commands in a row that were not answered in time."""
    opened: int
    """How often it has opened since the process began."""
    parked: int
    """Sagas that this process has parked, and whose time has not come."""
    next_probe_at: str | None
    """While it is open: when the next command may go, at the earliest."""
    per_second: int | None
    """During the ramp: how many commands are let go."""


class CircuitList(Struct, frozen=True):
    """What one process knows. It is an opinion, not shared and not stored: another process may see it otherwise."""

    worker: str
    hears_answers: bool
    """False: this process leaves answers to the workers and knows nothing; ask their `/metrics`."""
    circuits: tuple[CircuitShown, ...]
    """Of every participant that the process has had to do with, by name."""


_LIST = Docs((Answer(200, "What this process knows of who answers", CircuitList),), (422,))


@get("/circuits", docs=_LIST, scope="read")
async def list_circuits(engine: TheEngine) -> CircuitList:
    """List the participants of sagas: who answers, who does not and since when, and how many sagas wait for that."""
    return CircuitList(engine.worker, engine.carries_on, tuple(map(_shown, engine.circuits())))


def _shown(view: CircuitView) -> CircuitShown:
    return CircuitShown(
        view.service,
        view.stage,
        instant_or_none(view.since),
        view.answers,
        instant_or_none(view.answered_at),
        view.unanswered,
        view.opened,
        view.parked,
        instant_or_none(view.next_probe),
        view.per_second,
    )


circuit_routes = [list_circuits]
