"""One schedule: a few sagas and processes, all that can go wrong until it heals, and the laws at every commit."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from unwind.buses.memory import MemoryBus
from unwind.errors import NotFoundError, OverloadedError, StateError, UnavailableError
from unwind.runtime.engine import Engine
from unwind.runtime.limits import Limits
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.publisher import Publisher
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.memory import MemoryStore
from unwind.testing.faults import Faults as BusFaults
from unwind.testing.faults import FaultyBus
from unwind.testing.simulator.checker import CLAIM_PUSH, SECOND, Checker
from unwind.testing.simulator.definitions import (
    NO,
    OUTSIDE,
    SERVICES,
    Answered,
    SimContext,
    definition,
    every_step,
    relatives,
)
from unwind.testing.simulator.laws import LIVE
from unwind.testing.simulator.outside import ActionsOutside
from unwind.testing.simulator.outside import Service as SimService
from unwind.testing.simulator.ports import SimBus, SimParticipantStore, SimStore
from unwind.testing.simulator.process import CURRENT, Process, ProcessLoop
from unwind.testing.simulator.virtual_time import Stalled, VirtualClock

EPOCH = 1_700_000_000 * SECOND
HEAL = 40.0
"""Until then things go wrong, in seconds; afterwards everything must come to its end."""
END = 600.0
SETTLES = 10.0
"""So long after the faults, participants still refuse undos and steps past the pivot."""
GRACE = 18.0
"""After the last saga's end, for what is still on its way to do damage."""
WORDS: dict[str, dict[str, Any]] = {
    "resolve": {"evidence": "seen to", "reply": Raw(b'{"type":"answered","step":"by hand"}')},
    "skip": {"reason": "not worth it"},
}
"""What an operator's act must say besides."""
SCHEDULED = 0.1
"""Share of the sagas that are accepted for a later time."""
DARK = 0.2
"""Share of the services that go dark for a while."""
SIGNALLED = 0.8
"""Share of the awaited signals that are ever sent."""
PATIENCE = 12.0
"""How long a client waits for an answer, in seconds: its process may be gone."""
STEPS = 300_000

LIMITS = Limits(
    batch=8,
    claim=4,
    claim_push=CLAIM_PUSH,
    sweep=SECOND,
    actions_watch=SECOND // 2,
    publish_idle=4 * SECOND,
    retry_pause=SECOND // 10,
    suspect_pause=SECOND,
    circuit_silence=3 * SECOND,
    circuit_probe=2 * SECOND,
    circuit_ramp=2,
    park_least=2 * SECOND,
    park_most=12 * SECOND,
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


def _dark(rng: random.Random) -> tuple[float, float]:
    """In most schedules a service is never dark."""
    if rng.random() >= DARK:
        return 0.0, 0.0
    begins = rng.uniform(0, 12)
    return begins, begins + rng.choice((6, 12, 25))


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
        self.checker = Checker(self)
        stock = rng.choice((1, 2, 50))
        self.sagas = {f"s{index}": definition(rng.randrange(400)) for index in range(rng.choice((1, 1, 2, 3)))}
        self.relatives = {
            name: relative
            for saga_id, saga in self.sagas.items()
            for name, relative in relatives(saga_id, saga).items()
        }
        """These sagas, and those that may be the doing of their steps."""
        later = random.Random(f"later {seed}")
        self.scheduled = {
            saga_id: EPOCH // SECOND + later.randrange(1, 20) for saga_id in self.sagas if later.random() < SCHEDULED
        }
        """Sagas that begin at a later time, in seconds since the epoch."""
        faults = self.faults
        self.bus = FaultyBus(
            MemoryBus(self.clock, ack_wait=4 * SECOND),
            rng,
            self.clock,
            BusFaults(faults.drop, faults.duplicate, faults.delay, faults.reorder, faults.refuse, spread=8 * SECOND),
        )
        outage = random.Random(f"outages {seed}")
        self.dark = {name: _dark(outage) for name in SERVICES}
        """From when until when each service takes no command, in seconds."""
        self.services = {name: SimService(self, name, stock) for name in SERVICES}
        self.actions = ActionsOutside(self)
        self.refused = self._drawn(0.1)
        self.undo_refused = self._drawn(0.08)
        self.engines: dict[str, Engine] = {}
        self.lives: Counter[str] = Counter()
        self.outside_tasks: list[asyncio.Task[Any]] = []

    def _drawn(self, share: float) -> set[tuple[str, str]]:
        return {
            (saga_id, step)
            for saga_id, relative in self.relatives.items()
            for step in every_step(relative.saga)
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
                model = self.checker.models.get(saga_id)
                if model is None or model.status in LIVE:
                    self.violate("stuck", saga_id, model.status if model else "never started", str(stalled))
        self.checker.judge_the_end()
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
        for saga_id in self.relatives.keys() - self.sagas.keys():
            self._draw_acts_on_child(saga_id)
        self.loop.call_later(HEAL, setattr, self.bus, "faults", BusFaults())
        while not self._over():
            await self.loop.pause(2)

    def _over(self) -> bool:
        models = [self.checker.models.get(saga_id) for saga_id in self.sagas | self.checker.models]
        if any(model is None or model.status in LIVE for model in models):
            return False
        last = max(model.ended_at for model in models if model is not None)
        if self.now() < last + GRACE * SECOND:
            return False
        return all(
            len(self.checker.notes[self.relatives[saga_id].stream]) >= model.notes
            for saga_id, model in self.checker.models.items()
        )

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
        begin_at = datetime.fromtimestamp(self.scheduled[saga_id], UTC) if saga_id in self.scheduled else None
        while True:
            engine = self._engine()
            if engine is not None:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await engine.start(
                            self.sagas[saga_id],
                            SimContext(saga_id),
                            saga_id=saga_id,
                            request_hash=saga_id,
                            begin_at=begin_at,
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
        if rng.random() < 0.3:
            self._spawn(self._mend(saga_id, rng.choice(("retry", "resolve", "skip"))))
        saga = self.sagas[saga_id]
        for step in every_step(saga):
            plan = saga.template(step)
            if plan is not None and plan.shape == "signal" and rng.random() < SIGNALLED:
                word = NO if rng.random() < 0.2 else "yes"
                for _ in range(rng.choice((1, 1, 2))):
                    self._spawn(self._signal(rng.random() * 20, saga_id, step, word))
        self._spawn(self._operate(saga_id))

    def _draw_acts_on_child(self, saga_id: str) -> None:
        rng = random.Random(f"{self.seed} {saga_id}")
        if rng.random() < 0.15:
            self._spawn(self._act(rng.random() * 20, saga_id, "cancel"))
        if rng.random() < 0.1:
            self._spawn(self._act(rng.random() * 20, saga_id, "pause"))
        self._spawn(self._operate(saga_id))

    async def _act(self, delay: float, saga_id: str, what: str, **more: Any) -> None:
        await asyncio.sleep(delay)
        engine = self._engine()
        if engine is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await getattr(engine, what)(saga_id, actor="client", **WORDS.get(what, {}), **more)
            self.counts[what] += 1
        except (StateError, NotFoundError, UnavailableError, TimeoutError):
            self.counts[f"{what}_refused"] += 1

    async def _signal(self, delay: float, saga_id: str, step: str, word: str) -> None:
        """Somebody outside says yes or no, early, in time, late or twice; who gets no answer says it again."""
        await asyncio.sleep(delay)
        payload = Raw(msgspec.json.encode(Answered(word)))
        while True:
            engine = self._engine()
            if engine is not None:
                try:
                    async with asyncio.timeout(PATIENCE):
                        await engine.signal(saga_id, step, payload, signal_id=word)
                    self.counts["signal"] += 1
                    return
                except StateError:
                    self.counts["signal_refused"] += 1
                    return
                except (NotFoundError, UnavailableError, TimeoutError):
                    self.counts["signals_repeated"] += 1
            await asyncio.sleep(1 + self.rng.random() * 3)

    async def _mend(self, saga_id: str, what: str) -> None:
        """Somebody watches, and takes what is blocked, or parked, into their own hands, once."""
        while True:
            await asyncio.sleep(1 + self.rng.random() * 3)
            model = self.checker.models.get(saga_id)
            if model is not None and model.status in LIVE and model.in_need and not model.paused:
                step, _ = self.rng.choice(sorted(model.in_need))
                await self._act(0, saga_id, what, step=step)
                return

    async def _operate(self, saga_id: str) -> None:
        """After the faults, somebody looks at what is paused or blocked and resumes it."""
        await asyncio.sleep(HEAL + 20)
        while True:
            model = self.checker.models.get(saga_id)
            if model is not None and model.status in LIVE and (model.paused or model.blocks):
                for step, run in model.steps.items():
                    if run.get("waits") == "signal" and run["st"] == "out" and (step, "do") in model.blocks:
                        await self._signal(0, saga_id, step, "yes, after all")
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

    def is_dark(self, name: str) -> bool:
        """Whether this is a service that takes no command now."""
        begins, ends = self.dark.get(name, (0.0, 0.0))
        return begins <= self.loop.time() < ends

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
