"""What holds for every definition, in every state, whatever comes in."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from tests.core.chance import TRIED
from tests.core.reference import SECOND, Beside, Each, Node, Part, Reference, before
from tests.core.trips import TWICE, Guarded, Trip, approval, booking, diary, errand, nap, stay, trip

from unwind.core.codec import SAGA_EVENTS, fold, read_snapshot, take_snapshot
from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.effects import RunAction, RunSaga, SendCommand, TellParent
from unwind.core.events import (
    CompensationStarted,
    Event,
    SagaCompensated,
    SagaCompleted,
    StepDone,
    StepRefused,
    StepSettled,
    StepSkipped,
    StepStarted,
    UndoDone,
    UndoSkipped,
    UndoStarted,
)
from unwind.core.evolve import evolve
from unwind.core.groups import ForEach, OfItem, Parallel
from unwind.core.messages import (
    Cancel,
    Input,
    Moment,
    Pause,
    Reply,
    ResolveStep,
    Resume,
    RetryStep,
    Signal,
    SkipStep,
    Start,
    Tick,
    Unwind,
    effect_id,
)
from unwind.core.pending import due, pending, resend_due
from unwind.core.saga import Saga
from unwind.core.state import NEW, State, StepRun
from unwind.core.steps import SKIP, Fail, Kind

GUARDS: dict[str, Any] = {"skip": SKIP, "fail": Fail("no"), "raise": ValueError("oops")}
SHAPES = {"command": booking, "saga": stay, "action": errand, "record": diary, "signal": approval, "sleep": nap}
DIRECTIONS: tuple[Any, ...] = ("do", "undo")
OUTCOMES: Any = ("ok", "refused", "failed")
GOOD, BAD, NO = Raw(b'{"code":"x"}'), Raw(b"null"), Raw(b'{"code":"no"}')


@cache
def step(part: Part) -> Any:
    guard = {} if part.guard == "none" else {"verdict": GUARDS[part.guard]}
    retry, undo_retry = replace(TWICE, attempts=part.attempts), replace(TWICE, attempts=part.undo_attempts)
    more: dict[str, Any] = {"on_timeout": part.late} if part.shape == "signal" else {}
    return SHAPES[part.shape](part.name, Kind(part.kind), retry=retry, undo_retry=undo_retry, **guard, **more)


class Keyed(OfItem[str]):
    """Mixed in: a step that is done for each item."""


def placed(node: Node, *, item: bool = False) -> Any:
    """A node as an author declares it."""
    match node:
        case Part():
            made = step(node)
            return type(type(made).__name__, (Keyed, type(made)), {})() if item else made
        case Beside(branches):
            return Parallel(*([placed(one, item=item) for one in branch] for branch in branches))
        case Each(head, body, at_once):
            return each(head, [placed(one, item=True) for one in body], at_once)


def each(head: Part, steps: Any, at_once: int) -> Any:
    bases = (ForEach,) if head.guard == "none" else (Guarded, ForEach)
    attributes = {} if head.guard == "none" else {"verdict": GUARDS[head.guard]}
    group = type("Group", bases, attributes)
    return group(head.name, steps, items=lambda _: {key: key for key in head.keys}, of=str, at_once=at_once)


@cache
def definition(nodes: tuple[Node, ...], deadline: int | None) -> Saga[Trip]:
    lasts = None if deadline is None else timedelta(microseconds=deadline)
    return trip(*(placed(node) for node in nodes), deadline=lasts)


ANY = ["command", "command", "command", "action", "record", "signal", "sleep", "saga", "saga"]


@st.composite
def definitions(draw: st.DrawFn, *, flat: bool = False) -> tuple[tuple[Node, ...], int | None]:
    length = draw(st.integers(1, 4 if flat else 3))
    pivot = draw(st.integers(0, 5))
    names: Iterator[str] = (f"s{number}" for number in count())

    def part(kind: str) -> Part:
        return Part(
            next(names),
            draw(st.sampled_from(PLACED[kind])),
            kind,
            draw(st.sampled_from(["none"] * 8 + ["skip", "skip", "fail", "raise"])),
            draw(st.integers(1, 3)),
            draw(st.integers(1, 2)),
            draw(st.sampled_from(["turn_round", "skip"])),
        )

    def sequence(kind: str, depth: int, *, item: bool) -> tuple[Node, ...]:
        return tuple(node(kind, depth, item=item) for _ in range(draw(st.sampled_from([1, 1, 2]))))

    def node(kind: str, depth: int, *, item: bool = False) -> Node:
        drawn = "part" if flat or kind == "pivot" or depth == 0 else draw(st.sampled_from(["part", "beside", "each"]))
        if drawn == "beside":
            return Beside(tuple(sequence(kind, depth - 1, item=item) for _ in range(draw(st.sampled_from([2, 2, 3])))))
        if drawn == "each" and not item:
            guard = draw(st.sampled_from(["none"] * 8 + ["skip", "fail", "raise"]))
            keys = draw(st.sampled_from([(), ("x",), ("x", "y"), ("x", "y"), ("x", "y", "z")]))
            head = Part(next(names), "each", "compensatable", guard, 1, 1, keys=keys)
            return Each(head, sequence(kind, depth - 1, item=True), draw(st.sampled_from([1, 2, 9])))
        return part(kind)

    kinds = [
        "compensatable" if place < pivot else "pivot" if place == pivot else "retriable" for place in range(length)
    ]
    nodes = tuple(node(kind, 2) for kind in kinds)
    return nodes, draw(st.sampled_from([None, None, 45 * SECOND, 400 * SECOND]))


PLACED = {"compensatable": ANY, "pivot": [*ANY[:5], "saga"], "retriable": ANY[:7]}
"""What may stand there."""
MOVES = ["answer"] * 5 + ["wake"] * 3 + ["tick", "forge", "forge", "cancel", "pause", "resume", "resume", "start"]
MOVES += ["retry", "resolve", "skip", "signal", "signal", "dark", "dark", "dark", "unwind"]
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 5), st.integers(0, 4)), max_size=40)
PAUSES = (0, SECOND, 10 * SECOND, 31 * SECOND, 301 * SECOND, 5000 * SECOND)


class Story:
    """The machine and its reference, side by side."""

    def __init__(self, nodes: tuple[Node, ...], deadline: int | None) -> None:
        self.saga = definition(nodes, deadline)
        self.model = Reference(nodes, deadline)
        self.names = [leaf.name for leaf in self.model.leaves]
        self.state, self.now, self.worker = NEW, 1_000 * SECOND, "w0"
        self.log: list[Event] = []
        self.states: list[State] = [NEW]
        self.sent: dict[str, bytes] = {}

    def feed(self, message: Input) -> Decision:
        before, moment = self.state, Moment(self.now, 0.25, self.worker)
        decision = decide(self.saga, before, message, moment)
        assert decision == decide(self.saga, before, message, moment), "the same input must give the same decision"
        if not before.live and before.status != "new" and not isinstance(message, Unwind):
            assert not decision.events, "an ended saga is silent"
        for event in decision.events:
            self.log.append(event)
            self.states.append(evolve(self.states[-1], event))
        assert self.states[-1] == decision.state
        self.state = decision.state
        self.model.feed(message, self.now, self.worker)
        self.check(decision, before)
        return decision

    def check(self, decision: Decision, before: State) -> None:
        state = self.state
        assert seen(state) == self.model.view(), "the machine and the rules disagree"
        assert fold([(before.version + 1, SAGA_EVENTS.encode(decision.events))], before) == state
        assert read_snapshot(take_snapshot(state)) == state
        assert state.version == len(self.log)
        self.check_effects()
        self.check_wake_up()

    def check_effects(self) -> None:
        effects = pending(self.state)
        names = [effect_id(effect.saga_id, effect.step, getattr(effect, "direction", "do")) for effect in effects]
        assert len(set(names)) == len(names)
        assert len(names) <= 1 or not self.saga.flat, "steps go one after another"
        assert effects == pending(self.state)
        for name, effect in zip(names, effects, strict=True):
            if isinstance(effect, SendCommand):
                assert self.sent.setdefault(name, bytes(effect.command.payload)) == bytes(effect.command.payload)
            elif isinstance(effect, RunSaga):
                assert bytes(effect.context) == b'{"code":"begun"}', "undone is what was begun"
            elif isinstance(effect, RunAction):
                assert effect.runner, "an action has a runner"

    def check_wake_up(self) -> None:
        """Nothing live sleeps for ever, and no wake-up is in vain: it writes an event or sends something again."""
        at = due(self.state, self.now)
        assert (at is None) == (self.state.paused or not self.state.live)
        if at is None:
            return
        woken = max(at, self.now)
        assert woken - self.now <= 400 * SECOND
        after = decide(self.saga, self.state, Tick(0), Moment(woken, 0.25, "w9"))
        assert after.events or resend_due(self.state, woken)
        again = due(after.state, woken)
        assert again is None or again > woken

    def move(self, kind: str, one: int, two: int) -> Input | None:
        step = self.names[(one + two) % len(self.names)]
        match kind:
            case "answer":
                effects = [effect for effect in pending(self.state) if not isinstance(effect, TellParent)]
                return self.answer(effects[one % len(effects)], two) if effects else None
            case "forge":
                outcome, name = OUTCOMES[two % 3], "nobody" if one == 5 else step
                return Reply(name, "undo" if two > 2 else "do", outcome, one % 4, (GOOD, BAD)[one % 2])
            case "wake":
                self.worker = f"w{two % 2}"
                self.now = max(self.now, due(self.state, self.now) or 0)
                return Tick(self.now)
            case "dark":
                self.now = max(self.now, due(self.state, self.now) or 0) + PAUSES[one] // 10
                dark = self.dark(self.now + PAUSES[two])
                if one == two:
                    return Tick(self.now, back=frozenset(dark))
                return Tick(self.now, held=dark if two else {"saga-1/x/do": self.now})
            case "tick":
                self.worker = f"w{two % 2}"
                self.now += PAUSES[one]
                held = {effect_id("saga-1", name, "do"): self.now + PAUSES[two] for name in self.names}
                return Tick(self.now, held if two else {}, self.dark(self.now + PAUSES[two]) if one % 2 else {})
            case "unwind":
                return Unwind(Start("saga-1", Raw(b"{}")))
            case "start":
                return Start("saga-1", Raw(b"{}"))
            case "cancel":
                return Cancel("a")
            case "pause":
                return Pause("a")
            case "signal":
                return Signal(step, (GOOD, GOOD, NO, BAD, GOOD)[two])
            case "retry":
                return RetryStep("a", step=("", step)[two % 2])
            case "resolve":
                return ResolveStep("a", step=("", step)[two % 2], evidence="e", reply=(GOOD, BAD)[one % 2])
            case "skip":
                return SkipStep("a", step=("", step)[two % 2])
            case _:
                return Resume("a")

    def dark(self, until: int) -> dict[str, int]:
        """Nobody answers anything, but for every third effect."""
        asked = [effect_id("saga-1", name, way) for name in self.names for way in DIRECTIONS]
        return {effect: until for number, effect in enumerate(asked) if number % 3 != 2}

    def answer(self, effect: SendCommand | RunAction | RunSaga, two: int) -> Reply:
        outcome = OUTCOMES[max(0, two - 2)]
        return Reply(effect.step, effect.direction, outcome, getattr(effect, "attempt", 1), GOOD)


def seen(state: State) -> Any:
    def of(run: StepRun) -> Any:
        return run.step, run.status, run.attempt.number, run.parked if run.status == "outstanding" else 0

    undos, steps = [of(undo) for undo in state.undos], [of(run) for run in state.runs]
    alarms = [(block.step, block.direction) for block in state.blocks] if state.live else []
    flags = state.paused and state.live, state.turning is not None, state.pivoted
    return state.status, steps, list(state.targets), undos, alarms, *flags, list(state.left)


def check_log(model: Reference, log: list[Event]) -> None:
    turned = [place for place, event in enumerate(log) if isinstance(event, CompensationStarted)]
    forward = [place for place, event in enumerate(log) if isinstance(event, StepStarted | StepSkipped)]
    assert len(turned) <= 1
    assert not turned or all(place < turned[0] for place in forward), "no step starts once the saga has turned round"
    started = [event.step for event in log if isinstance(event, StepStarted)]
    done = [event.step for event in log if isinstance(event, StepDone)]
    skipped = [event.step for event in log if isinstance(event, StepSkipped)]
    refused = {event.step for event in log if isinstance(event, StepRefused)}
    refused |= {event.step for event in log if isinstance(event, StepSettled) and event.outcome == "refused"}
    undone = [event.step for event in log if isinstance(event, UndoDone | UndoSkipped)]
    settled = {event.step: place for place, event in enumerate(log) if isinstance(event, StepSettled)}
    over = {event.step: place for place, event in enumerate(log) if isinstance(event, UndoStarted)}
    assert all(place < over.get(name, len(log)) for name, place in settled.items()), "settled before it is undone"
    waits = {name for name, part in model.part.items() if part.waits}
    owed = [name for name in reversed(started) if name not in refused | waits]
    assert len(set(undone)) == len(undone), "each once"
    assert set(undone) <= set(owed), "nothing but what may have happened"
    for place, name in enumerate(undone):
        early = [other for other in owed if before(model.leaf[name].path, model.leaf[other].path)]
        assert set(early) <= set(undone[:place]), "in reverse order"
    if isinstance(log[-1], SagaCompleted):
        assert sorted(done + skipped) == sorted(set(done + skipped)), "each step done once, or skipped"
        assert all(model.over(leaf) for leaf in model.leaves), "all of them"
        assert not turned
    if isinstance(log[-1], SagaCompensated):
        assert sorted(undone) == sorted(owed), "compensated: nothing is left"


@settings(TRIED, max_examples=1_000)
@given(definitions() | definitions(flat=True), moves, st.sampled_from([0, 0, 0, 20 * SECOND]))
def test_the_machine_keeps_its_laws(
    drawn: tuple[tuple[Node, ...], int | None], drawn_moves: list[Any], later: int
) -> None:
    story = Story(*drawn)
    story.feed(Start("saga-1", Raw(b"{}"), begin_at=later and story.now + later))
    for kind, one, two in drawn_moves:
        message = story.move(kind, one, two)
        if message is not None:
            story.feed(message)
    check_log(story.model, story.log)
    data = SAGA_EVENTS.encode(story.log)
    for version, state in enumerate(story.states):
        assert fold([(1, SAGA_EVENTS.encode(SAGA_EVENTS.decode(data)[:version]))]) == state, "replay of any prefix"
