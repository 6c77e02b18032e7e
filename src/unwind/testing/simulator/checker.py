"""Judges a schedule: every commit, claim and move as it happens, and the effects when all is over."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from unwind.core.barrier import TOMBSTONE
from unwind.core.codec import SAGA_EVENTS
from unwind.core.events import (
    CompensationStarted,
    Event,
    StepDone,
    StepFailed,
    StepRefused,
    StepUnknown,
    UndoDone,
    UndoFailed,
)
from unwind.ports import EVENTS, REPLIES, Claimed, Committed, Message, Move, Query, Unit
from unwind.runtime.families import child_id
from unwind.stores.inline import run_inline
from unwind.testing.simulator.definitions import every_step
from unwind.testing.simulator.laws import LIVE, Law, Model

if TYPE_CHECKING:
    from unwind.testing.simulator.process import Process
    from unwind.testing.simulator.world import World

SECOND = 1_000_000
CLAIM_PUSH = SECOND * 3 // 2
"""By how much a claim moves a wake-up in simulated workers."""
LAG = SECOND // 10
"""By how much a worker that was never frozen may misjudge the store's time."""
SLACK = SECOND * 6 // 10
"""By how much a wake-up may be late beside a claim: what is on its way when it is judged."""


class Checker:
    """What really happened, and whether it was lawful."""

    def __init__(self, world: "World") -> None:
        """Nothing has happened."""
        self.world = world
        self.models: dict[str, Model] = {}
        self.notes: dict[str, set[str]] = defaultdict(set)
        """Domain events handed to the bus, by saga."""
        self._failures: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        self._answered: set[str] = set()
        self._last_claim: dict[str, int] = {}
        self._claimed_at_version: dict[tuple[str, int], int] = {}

    def committed(self, units: Sequence[Unit], committed: Committed, process: "Process") -> None:
        """Judge what a process has just written."""
        for unit in units:
            saga_id = unit.head.stream
            if saga_id not in committed.won:
                self.world.counts["conflicts"] += 1
                continue
            model = self.models.setdefault(saga_id, Model(self.world.relatives[saga_id].saga))
            if unit.head.version != model.version + 1:
                self.world.violate("gap_or_overlap_in_the_log", saga_id, f"{unit.head.version} after {model.version}")
            for event in SAGA_EVENTS.decode(unit.head.events):
                self.world.trace("  event", saga_id, event)
                self.world.counts[type(event).__name__] += 1
                self._check_spent(process, model, event)
                try:
                    model.apply(event, self._failures[saga_id])
                except Law as law:
                    self.world.violate(str(law), saga_id, repr(event))
                self._check_relatives(saga_id, model, event)
            self._check_wake(saga_id, "commit")

    def _check_relatives(self, saga_id: str, model: Model, event: Event) -> None:
        """A step that is a saga is over as that saga is; and that is unwound only when the step is being undone."""
        if isinstance(event, CompensationStarted) and event.cause == "unwound":
            owner, _, step = self.world.relatives[saga_id].parent.rpartition("/")
            if step not in self.models[owner].undos:
                self.world.violate("unwound_without_need", saga_id)
        if not isinstance(event, StepDone | StepRefused | UndoDone) or event.step in model.by_hand:
            return
        if model.plan(event.step).shape == "saga":
            child = self.models.get(child_id(saga_id, event.step))
            wanted = "completed" if isinstance(event, StepDone) else "compensated"
            if child is None or child.status != wanted:
                self.world.violate("over_otherwise_than_its_saga", saga_id, repr(event))

    def _check_spent(self, process: "Process", model: Model, event: Event) -> None:
        """While a worker's circuit is open it spends no attempt at that service for want of an answer."""
        engine = self.world.engines.get(process.name)
        if engine is None or not isinstance(event, StepFailed | StepUnknown | UndoFailed) or not event.timed_out:
            return
        if model.turning:  # it is undone in any case
            return
        if process.frozen_until:  # it has lost its sense of time, and what it saw first is not to be told from outside
            return
        run = (model.undos if isinstance(event, UndoFailed) else model.steps).get(event.step)
        for circuit in engine.loop.circuits():
            silent = circuit.stage == "open" and circuit.since is not None and circuit.since + LAG < event.at
            if silent and run is not None and circuit.service == run.get("service"):
                self.world.violate("attempt_spent_while_nobody_answers", process.name, repr(event))

    def claimed(self, claimed: Claimed) -> None:
        """Remember when wake-ups were claimed."""
        for saga_id in claimed.tokens:
            self._last_claim[saga_id] = claimed.now
            self._claimed_at_version[saga_id, claimed.tokens[saga_id]] = self.models[saga_id].version
            self.world.counts["claims"] += 1

    def moved(self, moves: Sequence[Move]) -> None:
        """Judge moved wake-ups."""
        for move in moves:
            if move.version < self._claimed_at_version.get((move.id, move.token), 0):
                self.world.violate("wake_up_decided_on_a_log_older_than_its_claim", move.id, str(move))
            self._check_wake(move.id, "move")

    def _check_wake(self, saga_id: str, where: str) -> None:
        """No saga may be woken later than it is due by more than one claim."""
        model = self.models[saga_id]
        latest = model.latest_wake(self.world.now())
        if latest is None:
            return
        row = next(iter(run_inline(self.world.store.find(Query(ids=(saga_id,))))), None)
        allowed = max(latest, self._last_claim.get(saga_id, 0) + CLAIM_PUSH, self.world.now()) + SLACK
        if row is None or row.wake_at is None:
            self.world.violate("no_wake_up", saga_id, where)
        elif row.wake_at > allowed:
            self.world.violate("late_wake_up", saga_id, where, f"{(row.wake_at - allowed) / SECOND:.2f} s")

    def published(self, topic: str, messages: Sequence[Message]) -> None:
        """Note what was really reported and published."""
        if topic == REPLIES:
            for message in messages:
                if message.outcome == "failed":
                    self._failures[message.saga_id].add((message.step, message.direction, message.attempt))
                elif message.id in self._answered:
                    self.world.counts["absorbed"] += 1
                elif message.payload == TOMBSTONE.payload:
                    self.world.counts["tombstones"] += 1
                self._answered.add(message.id)
        elif topic.startswith(EVENTS):
            for message in messages:
                self.notes[message.id.partition("/")[0].removeprefix("log-")].add(message.id)

    def acknowledged(self, messages: Sequence[Message]) -> None:
        """A yes that is acknowledged has been counted: nothing waits for it any more, unless for a person."""
        for message in messages:
            model = self.models.get(message.saga_id)
            if message.outcome != "ok" or model is None or (message.step, message.direction) in model.blocks:
                continue
            if message.direction == "undo":
                run = model.undos.get(message.step)
            else:
                run = model.steps.get(message.step) if model.status == "running" else None
            if run is not None and run["st"] in {"out", "backoff"}:
                self.world.violate("answer_that_counts_not_counted", message.id)

    def judge_the_end(self) -> None:
        """Each ended saga's effects are exactly what its end says."""
        for error in self.world.loop.errors:
            if error.get("exception") is not None:
                self.world.violate("unhandled", repr(error["exception"]))
        for saga_id, relative in self.world.relatives.items():
            model = self.models.get(saga_id)
            if model is None:
                continue
            self._check_found(saga_id)
            if model.status in LIVE:
                continue
            self.world.counts[f"children_{model.status}" if relative.parent else model.status] += 1
            want = 1 if model.status == "completed" else 0
            for step in every_step(relative.saga):
                plan = model.plan(step)
                if plan.shape not in {"command", "action"}:
                    continue
                effects = self._effects(saga_id, step, plan.shape)
                if step in model.by_hand:
                    self._check_once(saga_id, step, effects)
                    continue
                happened = step in model.every_step() and model.steps.get(step, {}).get("st") != "skipped"
                self._check_effects(saga_id, step, effects, want if happened else 0)
            self._check_undo_order(saga_id, model)
            self._check_notes(saga_id, model)

    def _check_found(self, saga_id: str) -> None:
        """What was accepted can be found by what it was accepted with, whatever became of it."""
        if not self.models[saga_id].notes:  # it was unwound before it began, and so never will
            return
        name = self.world.relatives[saga_id].stream
        found = run_inline(self.world.store.find(Query(attributes=(("saga", name),))))
        if [row.id for row in found] != [saga_id]:
            self.world.violate("not_found_by_its_attribute", saga_id, str(found))

    def _effects(self, saga_id: str, step: str, shape: str) -> Sequence[str]:
        if shape == "action":
            return self.world.actions.effects.get((saga_id, step), ())
        return [what for service in self.world.services.values() for what in service.effects(saga_id, step)]

    def _check_once(self, saga_id: str, step: str, effects: Sequence[str]) -> bool:
        do, undo = effects.count("do"), effects.count("undo")
        if do > 1 or undo > 1:
            self.world.violate("effect_twice", saga_id, step, f"{do} done, {undo} undone")
        return do <= 1 and undo <= 1

    def _check_effects(self, saga_id: str, step: str, effects: Sequence[str], want: int) -> None:
        do, undo = effects.count("do"), effects.count("undo")
        if not self._check_once(saga_id, step, effects):
            return
        if do - undo > want:
            self.world.violate("effect_left_over", saga_id, step, f"{do} done, {undo} undone")
        elif do - undo < want:
            self.world.violate("effect_missing", saga_id, step, f"{do} done, {undo} undone")

    def _check_undo_order(self, saga_id: str, model: Model) -> None:
        undone = sorted(
            (at, step)
            for service in self.world.services.values()
            for (owner, step, direction), at in service.database.state.times.items()
            # What a person took over may have been on its way to its participant all the same.
            if owner == saga_id and direction == "undo" and step not in model.by_hand
        )
        steps = [step for _, step in undone]
        if any(model.stands_before(one, other) for place, one in enumerate(steps) for other in steps[place + 1 :]):
            self.world.violate("effects_undone_out_of_order", saga_id, str(undone))

    def _check_notes(self, saga_id: str, model: Model) -> None:
        name = self.world.relatives[saga_id].stream
        stream = f"log-{name}"
        stored = run_inline(self.world.store.load({stream: 0})).streams.get(stream)
        numbers = [
            version + offset
            for version, events in (stored.commits if stored else ())
            for offset in range(len(msgspec.json.decode(events)))
        ]
        if numbers != list(range(1, model.notes + 1)):
            self.world.violate("domain_events_do_not_agree", saga_id, f"{numbers} against {model.notes}")
        missing = {f"{stream}/{number}" for number in numbers} - self.notes[name]
        if missing:
            self.world.violate("domain_events_not_published", saga_id, str(sorted(missing)))
