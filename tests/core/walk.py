"""Walks through every state that a small saga can reach, by every input, at the times that matter."""

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Raw, Struct
from tests.core.trips import Trip

from unwind.core.decide import decide
from unwind.core.events import Event
from unwind.core.messages import Cancel, Input, Moment, Pause, Reply, Resume, Signal, Start, Tick, Unwind
from unwind.core.pending import due, outstanding
from unwind.core.rules import waiting
from unwind.core.saga import Saga
from unwind.core.state import NEW, State, StepRun
from unwind.core.steps import Kind

KEYS = ("x", "y")
EFFECTS = [f"saga-1/{step}{item}/{way}" for step in "abc" for item in ("", "[x]", "[y]") for way in ("do", "undo")]
"""All that a saga can ask for which is walked through: its steps are a, b and c."""
YES, NO = Raw(b'{"code":"x"}'), Raw(b'{"code":"no"}')
OUTCOMES: tuple[Literal["ok", "refused", "failed"], ...] = ("ok", "refused", "failed")
DIRECTIONS: tuple[Literal["do", "undo"], ...] = ("do", "undo")


class Place(Struct, frozen=True):
    """One state, reached at one time."""

    state: State
    now: int


class Way(Struct, frozen=True):
    """What one input does in one place."""

    before: State
    message: Input
    events: tuple[Event, ...]
    after: Place


def shape(state: State) -> Any:
    """What makes two states the same to the machine: everything but the clock and the count of events."""

    def of(run: StepRun) -> Any:
        return (run.step, run.status, run.attempt.number, run.attempt.runner, run.parked > 0)

    blocked = tuple((block.step, block.direction) for block in state.blocks)
    undos = tuple(of(undo) for undo in state.undos)
    runs = tuple(of(run) for run in state.runs)
    heard = tuple((signal.step, bytes(signal.payload)) for signal in state.signals)
    flags = state.paused, state.pivoted, state.turning is not None
    return heard, state.status, runs, state.targets, undos, blocked, flags, tuple(listed.step for listed in state.items)


def every_step(saga: Saga[Trip]) -> Iterator[str]:
    """Every step by name, and for each item; the items are the same in every saga that is walked through."""
    for plan in saga.plans:
        yield plan.name
        if plan.each:
            yield from (f"{plan.name}[{key}]" for key in KEYS)


def inputs(saga: Saga[Trip], attempts: tuple[int, ...]) -> Iterator[Input]:
    """Every input, forged ones among them."""
    yield from (Start("saga-1", Raw(b"{}")), Cancel("a"), Pause("a"), Resume("a"))
    if not any(plan.kind is Kind.PIVOT for plan in saga.plans):
        yield Unwind(Start("saga-1", Raw(b"{}")))
    for step in every_step(saga):
        plan = saga.template(step)
        if plan is not None and plan.shape == "signal":
            yield from (Signal(step, YES), Signal(step, NO))
    for step in every_step(saga):
        for direction in DIRECTIONS:
            for outcome in OUTCOMES:
                yield from (Reply(step, direction, outcome, attempt, YES) for attempt in attempts)


def times(place: Place) -> Iterator[int]:
    """When a wake-up may come: now, when it is due, when an attempt's time is up, and long after every deadline."""
    at = due(place.state, place.now)
    yield place.now
    if at is not None:
        yield max(at, place.now)
        yield max(place.now, *(run.attempt.expires or 0 for _, run in outstanding(place.state)), 0)
        yield max(place.state.deadline or 0, at, place.now)


def walk(saga: Saga[Trip], attempts: tuple[int, ...] = (1, 2, 3)) -> tuple[dict[Any, Place], list[Way]]:
    """Every reachable state, by shape, and every way that leads on from each."""
    places: dict[Any, Place] = {shape(NEW): Place(NEW, 1_000_000)}
    ways: list[Way] = []
    todo = list(places.values())
    every = list(inputs(saga, attempts))
    while todo:
        place = todo.pop()
        for message, now, worker in steps_on(every, place):
            decision = decide(saga, place.state, message, Moment(now, 0.0, worker))
            after = Place(decision.state, now)
            ways.append(Way(place.state, message, decision.events, after))
            if places.setdefault(shape(after.state), after) is after:
                todo.append(after)
    return places, ways


def steps_on(every: list[Input], place: Place) -> Iterator[tuple[Input, int, str]]:
    """Each input with its time and the worker that decides it."""
    yield from ((message, place.now, "w1") for message in every)
    yield from ((Tick(0), now, worker) for now in times(place) for worker in ("w1", "w2"))
    yield from ((Tick(0, held=dict.fromkeys(EFFECTS, now)), now, "w1") for now in times(place))
    yield Tick(0, back=frozenset(EFFECTS)), place.now, "w1"


def ends(saga: Saga[Trip], place: Place) -> bool:
    """Resumes what is paused, answers yes to what is asked, and wakes what waits."""
    state, now = place.state, place.now
    for _ in range(30):
        if not state.live:
            return True
        asked, at = outstanding(state), due(state, now)
        if state.paused:
            state = decide(saga, state, Resume("a"), Moment(now, 0.0, "w1")).state
        elif asked:
            direction, run = asked[0]
            reply = Reply(run.step, direction, "ok", run.attempt.number, YES)
            state = decide(saga, state, reply, Moment(now, 0.0, "w1")).state
        elif (waits := waiting(state)) and decide(saga, state, Signal(waits[0].step, YES), Moment(0, 0.0, "w1")).events:
            state = decide(saga, state, Signal(waits[0].step, YES), Moment(now, 0.0, "w1")).state
        else:
            assert at is not None
            now = max(now, at)
            state = decide(saga, state, Tick(0), Moment(now, 0.0, "w1")).state
    return False
