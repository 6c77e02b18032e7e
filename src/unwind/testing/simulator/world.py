"""One schedule: a few sagas and processes, all that can go wrong until it heals, and the laws at every commit."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from unwind.buses.memory import MemoryBus
from unwind.core.barrier import TOMBSTONE
from unwind.core.codec import SAGA_EVENTS
from unwind.errors import NotFoundError, OverloadedError, StateError, UnavailableError
from unwind.ports import EVENTS, REPLIES, Claimed, Committed, Message, Move, Query, Unit
from unwind.runtime.engine import Engine
from unwind.runtime.limits import Limits
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.publisher import Publisher
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.inline import run_inline
from unwind.stores.memory import MemoryStore
from unwind.testing.faults import Faults as BusFaults
from unwind.testing.faults import FaultyBus
from unwind.testing.simulator.definitions import OUTSIDE, SERVICES, SimContext, definition
from unwind.testing.simulator.laws import LIVE, Law, Model
from unwind.testing.simulator.outside import ActionsOutside
from unwind.testing.simulator.outside import Service as SimService
from unwind.testing.simulator.ports import SimBus, SimParticipantStore, SimStore
from unwind.testing.simulator.process import CURRENT, Process, ProcessLoop
from unwind.testing.simulator.virtual_time import Stalled, VirtualClock

SECOND = 1_000_000
EPOCH = 1_700_000_000 * SECOND
HEAL = 40.0
"""Until then things go wrong, in seconds; afterwards everything must come to its end."""
END = 600.0
SETTLES = 10.0
"""So long after the faults, participants still refuse undos and steps past the pivot."""
GRACE = 20.0
"""After the last saga's end, for what is still on its way to do damage."""
PATIENCE = 12.0
"""How long a client waits for an answer, in seconds: its process may be gone."""
STEPS = 300_000
CLAIM_PUSH = SECOND * 3 // 2
SLACK = SECOND * 6 // 10
"""By how much a wake-up may be late beside a claim: jitter of a tick that is on its way."""

LIMITS = Limits(
    batch=8,
    claim=4,
    claim_push=CLAIM_PUSH,
    sweep=SECOND * 9 // 10,
    actions_watch=SECOND // 2,
    publish_idle=4 * SECOND,
    retry_pause=SECOND // 10,
    suspect_pause=SECOND,
)


class Faults(Struct, frozen=True):
    """How likely each kind of fault is in this schedule: each is off in half of them."""

    kill: float
    freeze: float
    drop: float
    duplicate: float
    delay: float
    reorder: float
    refuse: float
    fail: float
    commit_fails: float
    commit_unknown: float

    @staticmethod
    def drawn(rng: random.Random) -> "Faults":
        """A swarm: faults on and off and of different strength from seed to seed."""

        def rate(most: float) -> float:
            return rng.choice((0.0, 0.0, rng.random() * most, most))

        return Faults(*(rate(most) for most in (0.02, 0.01, 0.35, 0.4, 0.3, 0.2, 0.1, 0.3, 0.1, 0.1)))


class World:
    """Everything outside the processes: store, bus, participants' databases, clients, operators, and the checker."""

    def __init__(self, seed: int, *, trace: bool = False) -> None:
        """Draw the schedule of that seed."""
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.loop = ProcessLoop()
        self.clock = VirtualClock(self.loop)
        self.faults = Faults.drawn(rng)
        self.store = MemoryStore(self.now)
        self.counts: Counter[str] = Counter()
        self.violations: list[tuple[str, ...]] = []
        self.tracing = trace
        self.models: dict[str, Model] = {}
        self.failures: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        self.last_claim: dict[str, int] = {}
        self.claimed_at_version: dict[tuple[str, int], int] = {}
        self.undos: dict[str, list[str]] = defaultdict(list)
        self.answered: set[str] = set()
        self.notes: dict[str, set[str]] = defaultdict(set)
        """Domain events handed to the bus, by saga."""
        stock = rng.choice((1, 2, 50))
        self.sagas = {f"s{index}": definition(rng.randrange(400)) for index in range(rng.choice((1, 1, 2, 3)))}
        faults = self.faults
        self.bus = FaultyBus(
            MemoryBus(self.clock, ack_wait=4 * SECOND),
            rng,
            self.clock,
            BusFaults(faults.drop, faults.duplicate, faults.delay, faults.reorder, faults.refuse, spread=8 * SECOND),
        )
        self.services = {name: SimService(self, name, stock) for name in SERVICES}
        self.actions = ActionsOutside(self)
        self.refused = self._drawn(0.1)
        self.undo_refused = self._drawn(0.08)
        self.engines: dict[str, Engine] = {}
        self.lives: Counter[str] = Counter()
        self.outside_tasks: list[asyncio.Task[Any]] = []

    def _drawn(self, share: float) -> set[tuple[str, str]]:
        return {
            (saga_id, plan.name)
            for saga_id, saga in self.sagas.items()
            for plan in saga.plans
            if self.rng.random() < share
        }

    # --------------------------------------------------------------------------------------------------------- the run

    def run(self) -> "World":
        """Run to the end and judge it."""
        OUTSIDE.act = self.actions.act  # type: ignore[method-assign]
        try:
            self.loop.run(self._main(), until=END, steps=STEPS)
        except Stalled as stalled:
            for saga_id in self.sagas:
                model = self.models.get(saga_id)
                if model is None or model.status in LIVE:
                    self.violate("stuck", saga_id, model.status if model else "never started", str(stalled))
        self._final()
        self.counts["steps"] = self.loop.steps
        self.loop.close()
        return self

    async def _main(self) -> None:
        for index in range(self.rng.choice((1, 2, 2, 3))):
            self._boot(f"w{index}")
        for name in SERVICES:
            self._boot(name)
        for saga_id in self.sagas:
            self._spawn(self._client(saga_id))
            self._draw_acts(saga_id)
        self.loop.call_later(HEAL, setattr, self.bus, "faults", BusFaults())
        while not self._over():
            await self.loop.pause(1)

    def _over(self) -> bool:
        models = [self.models.get(saga_id) for saga_id in self.sagas]
        if any(model is None or model.status in LIVE for model in models):
            return False
        last = max(model.ended_at for model in models if model is not None)
        if self.now() < last + GRACE * SECOND:
            return False
        return all(len(self.notes[saga_id]) >= model.notes for saga_id, model in self.models.items())

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self.outside_tasks.append(self.loop.create_task(work))

    # ------------------------------------------------------------------------------------------------------- processes

    def _boot(self, name: str) -> None:
        self.lives[name] += 1
        process = Process(self, name)
        token = CURRENT.set(process)
        try:
            self.loop.create_task(self._participate(process) if name in self.services else self._work(process))
        finally:
            CURRENT.reset(token)

    def reboot(self, process: Process) -> None:
        """A killed process comes back after a while."""
        self.engines.pop(process.name, None)
        self.loop.call_later(self.rng.uniform(0.2, 6.0), self._boot, process.name, context=None)

    async def _work(self, process: Process) -> None:
        store, bus = SimStore(process), SimBus(process, self.bus)
        engine = Engine(
            store,
            bus,
            list(dict.fromkeys(self.sagas.values())),
            clock=self.clock,
            worker=f"{process.name}.{self.lives[process.name]}",
            new_id=lambda: f"fresh-{self.rng.random()}",
            jitter=self.rng.random,
            limits=LIMITS,
        )
        publisher = Publisher(store, bus, self.clock, LIMITS) if process.name == "w0" else None
        service = Service(engine, Sweeper(engine, store, self.clock), publisher)
        await service.start()
        self.engines[process.name] = engine
        error = await service.failed
        self.violate("worker_failed", process.name, repr(error))

    async def _participate(self, process: Process) -> None:
        service = self.services[process.name]
        store = SimParticipantStore(process, service.database)
        running = ParticipantService(service.participant, SimBus(process, self.bus), store, clock=self.clock)
        await running.start()

    # -------------------------------------------------------------------------------------------- clients and operators

    def _engine(self) -> Engine | None:
        names = sorted(self.engines)
        return self.engines[self.rng.choice(names)] if names else None

    async def _client(self, saga_id: str) -> None:
        """Starts its saga, and repeats the call until it is accepted."""
        await asyncio.sleep(self.rng.random() * 3)
        while True:
            engine = self._engine()
            if engine is not None:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await engine.start(
                            self.sagas[saga_id], SimContext(saga_id), saga_id=saga_id, request_hash=saga_id
                        )
                    return
                except (UnavailableError, OverloadedError, TimeoutError):
                    self.counts["starts_repeated"] += 1
            await asyncio.sleep(1 + self.rng.random() * 3)

    def _draw_acts(self, saga_id: str) -> None:
        rng = self.rng
        if rng.random() < 0.35:
            self._spawn(self._act(rng.random() * 15, saga_id, "cancel"))
        if rng.random() < 0.2:
            self._spawn(self._act(rng.random() * 10, saga_id, "pause"))
            self._spawn(self._act(10 + rng.random() * 20, saga_id, "resume"))
        if rng.random() < 0.2:
            self._spawn(self._act(rng.random() * 20, saga_id, "resume"))
        self._spawn(self._operate(saga_id))

    async def _act(self, delay: float, saga_id: str, what: str) -> None:
        await asyncio.sleep(delay)
        engine = self._engine()
        if engine is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await getattr(engine, what)(saga_id, actor="client")
            self.counts[what] += 1
        except (StateError, NotFoundError, UnavailableError, TimeoutError):
            self.counts[f"{what}_refused"] += 1

    async def _operate(self, saga_id: str) -> None:
        """After the faults, somebody looks at what is paused or blocked and resumes it."""
        await asyncio.sleep(HEAL + 20)
        while True:
            model = self.models.get(saga_id)
            if model is not None and model.status in LIVE and (model.paused or model.blocked):
                await self._act(0, saga_id, "resume")
            await asyncio.sleep(15)

    # ----------------------------------------------------------------------------------------------- what is going on

    def now(self) -> int:
        """The store's time."""
        return EPOCH + int(self.loop.time() * SECOND)

    @property
    def faulty(self) -> bool:
        """Whether things still go wrong."""
        return self.loop.time() < HEAL

    @property
    def settled(self) -> bool:
        """Whether the participants have come round too: what must happen is not refused any more."""
        return self.loop.time() >= HEAL + SETTLES

    def chance(self, rate: float) -> bool:
        """Whether a fault of that rate strikes now."""
        return self.rng.random() < rate and self.faulty

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] += 1

    def trace(self, *what: object) -> None:
        """Shown when a schedule is traced."""
        if self.tracing:
            print(f"{self.loop.time():8.3f}", *what)

    def violate(self, law: str, *details: str) -> None:
        """A law is broken."""
        self.violations.append((law, *details))
        self.trace("!!!", law, *details)

    # --------------------------------------------------------------------------------------------------------- checks

    def committed(self, units: Sequence[Unit], committed: Committed) -> None:
        """Judge what has just been written."""
        for unit in units:
            saga_id = unit.head.stream
            if saga_id not in committed.won:
                self.counts["conflicts"] += 1
                continue
            model = self.models.setdefault(saga_id, Model(self.sagas[saga_id]))
            if unit.head.version != model.version + 1:
                self.violate("gap_or_overlap_in_the_log", saga_id, f"{unit.head.version} after {model.version}")
            for event in SAGA_EVENTS.decode(unit.head.events):
                self.trace("  event", saga_id, event)
                self.counts[type(event).__name__] += 1
                try:
                    model.apply(event, self.failures[saga_id])
                except Law as law:
                    self.violate(str(law), saga_id, repr(event))
            self._check_wake(saga_id, "commit")

    def claimed(self, claimed: Claimed) -> None:
        """Remember when wake-ups were claimed."""
        for saga_id in claimed.tokens:
            self.last_claim[saga_id] = claimed.now
            self.claimed_at_version[saga_id, claimed.tokens[saga_id]] = self.models[saga_id].version
            self.counts["claims"] += 1

    def moved(self, moves: Sequence[Move]) -> None:
        """Judge moved wake-ups."""
        for move in moves:
            if move.version < self.claimed_at_version.get((move.id, move.token), 0):
                self.violate("wake_up_decided_on_a_log_older_than_its_claim", move.id, str(move))
            self._check_wake(move.id, "move")

    def _check_wake(self, saga_id: str, where: str) -> None:
        """No saga may be woken later than it is due by more than one claim."""
        model = self.models[saga_id]
        latest = model.latest_wake(self.now())
        if latest is None:
            return
        row = next(iter(run_inline(self.store.find(Query(ids=(saga_id,))))), None)
        allowed = max(latest, self.last_claim.get(saga_id, 0) + CLAIM_PUSH, self.now()) + SLACK
        if row is None or row.wake_at is None:
            self.violate("no_wake_up", saga_id, where)
        elif row.wake_at > allowed:
            self.violate("late_wake_up", saga_id, where, f"{(row.wake_at - allowed) / SECOND:.2f} s")

    def published(self, topic: str, messages: Sequence[Message]) -> None:
        """Note what was really reported and published."""
        if topic == REPLIES:
            for message in messages:
                if message.outcome == "failed":
                    self.failures[message.saga_id].add((message.step, message.direction, message.attempt))
                elif message.id in self.answered:
                    self.counts["absorbed"] += 1
                elif message.payload == TOMBSTONE.payload:
                    self.counts["tombstones"] += 1
                self.answered.add(message.id)
        elif topic.startswith(EVENTS):
            for message in messages:
                self.notes[message.id.partition("/")[0].removeprefix("log-")].add(message.id)

    def _final(self) -> None:
        for error in self.loop.errors:
            if error.get("exception") is not None:
                self.violate("unhandled", repr(error["exception"]))
        for saga_id, saga in self.sagas.items():
            model = self.models.get(saga_id)
            if model is None or model.status in LIVE:
                continue
            self.counts[model.status] += 1
            want = 1 if model.status == "completed" else 0
            for plan in saga.plans:
                if plan.shape == "record":
                    continue
                effects = self._effects(saga_id, plan.name, plan.shape)
                self._check_effects(
                    saga_id, plan.name, effects, 0 if model.steps.get(plan.name, {}).get("st") == "skipped" else want
                )
            self._check_undo_order(saga_id, saga)
            self._check_notes(saga_id, model)

    def _effects(self, saga_id: str, step: str, shape: str) -> Sequence[str]:
        if shape == "action":
            return self.actions.effects.get((saga_id, step), ())
        return [what for service in self.services.values() for what in service.effects(saga_id, step)]

    def _check_effects(self, saga_id: str, step: str, effects: Sequence[str], want: int) -> None:
        do, undo = effects.count("do"), effects.count("undo")
        if do > 1 or undo > 1:
            self.violate("effect_twice", saga_id, step, f"{do} done, {undo} undone")
        elif do - undo > want:
            self.violate("effect_left_over", saga_id, step, f"{do} done, {undo} undone")
        elif do - undo < want:
            self.violate("effect_missing", saga_id, step, f"{do} done, {undo} undone")

    def _check_undo_order(self, saga_id: str, saga: Any) -> None:
        undone = sorted(
            (at, step)
            for service in self.services.values()
            for (owner, step, direction), at in service.database.state.times.items()
            if owner == saga_id and direction == "undo"
        )
        order = [plan.name for plan in saga.plans]
        positions = [order.index(step) for _, step in undone]
        if positions != sorted(positions, reverse=True):
            self.violate("effects_undone_out_of_order", saga_id, str(undone))

    def _check_notes(self, saga_id: str, model: Model) -> None:
        stream = f"log-{saga_id}"
        stored = run_inline(self.store.load({stream: 0})).streams.get(stream)
        numbers = [
            version + offset
            for version, events in (stored.commits if stored else ())
            for offset in range(len(msgspec.json.decode(events)))
        ]
        if numbers != list(range(1, model.notes + 1)):
            self.violate("domain_events_do_not_agree", saga_id, f"{numbers} against {model.notes}")
        missing = {f"{stream}/{number}" for number in numbers} - self.notes[saga_id]
        if missing:
            self.violate("domain_events_not_published", saga_id, str(sorted(missing)))
