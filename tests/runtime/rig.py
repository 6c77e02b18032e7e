"""Engines under a microscope: virtual time, a store and a bus that do as they are told, participants likewise."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from itertools import count
from typing import Any, Literal, ParamSpec

import structlog
from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import asdict, replace
from tests.core.trips import BOOKED, Trip

from unwind.buses.memory import MemoryBus
from unwind.core.codec import SAGA_EVENTS, Snapshot
from unwind.core.events import Event
from unwind.core.messages import Direction, Reply
from unwind.core.saga import Saga
from unwind.core.steps import ActionCall, ActionStep
from unwind.errors import RejectedError, UnavailableError
from unwind.ports import (
    COMMANDS,
    REPLIES,
    Bus,
    Claimed,
    Committed,
    Delivery,
    Loaded,
    Message,
    Move,
    Store,
    Subscription,
    Tail,
    Unit,
)
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND, Limits
from unwind.runtime.sweeper import Sweeper
from unwind.stores.memory import MemoryStore
from unwind.testing.simulator.virtual_time import VirtualClock, VirtualLoop

P = ParamSpec("P")
EPOCH = 1_700_000_000 * SECOND
Fault = Literal["lost", "unknown"]
"""Of a commit: nothing is written, or it is written and then reported as failed."""
Answer = Callable[[Message], Message | None]
Trace = list[tuple[Any, ...]]


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs in virtual time; nothing may be left unheard of."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = VirtualLoop()
        with structlog.testing.capture_logs():
            try:
                loop.run(test(*args, **kwargs), until=7_200, steps=2_000_000)
            finally:
                loop.close()
        assert loop.errors == []

    return run


async def elapsed(seconds: float) -> None:
    """So much virtual time has passed."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


class ScriptedStore(MemoryStore):
    """The oracle, which fails on demand, takes its time on demand, and tells in which order it was called."""

    def __init__(self, now: Callable[[], int], trace: Trace | None = None) -> None:
        super().__init__(now)
        self.trace: Trace = [] if trace is None else trace
        self.calls: Counter[str] = Counter()
        self.faults: deque[Fault | None] = deque()
        self.poisoned: set[str] = set()
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.commit_takes: Callable[[], float] | None = None
        """Seconds that a commit needs."""
        self.units: list[Unit] = []

    async def _called(self, what: str, *about: object) -> None:
        self.calls[what] += 1
        self.trace.append((what, *about))
        await asyncio.sleep(0)
        if self.down:
            raise UnavailableError("scripted: the store is down")

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        if streams:
            await self._called("load", tuple(streams))
        return await super().load(streams, snapshots=snapshots)

    async def commit(self, units: Sequence[Unit]) -> Committed:
        await self._called("commit", tuple(unit.head.stream for unit in units))
        await self.gate.wait()
        if self.commit_takes is not None:
            await elapsed(self.commit_takes())
        fault = self.faults.popleft() if self.faults else None
        if fault == "lost":
            raise UnavailableError("scripted: nothing was written")
        if self.poisoned & {unit.head.stream for unit in units}:
            raise RejectedError("scripted: the data is refused")
        committed = await super().commit(units)
        self.units.extend(unit for unit in units if unit.head.stream in committed.won)
        self.trace.append(("committed", tuple(sorted(committed.won))))
        if fault == "unknown":
            raise UnavailableError("scripted: written, but the connection was lost")
        return committed

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        await self._called("claim")
        return await super().claim(limit, push, revisions)

    async def move(self, moves: Sequence[Move]) -> None:
        await self._called("move", tuple(move.id for move in moves))
        await super().move(moves)

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        await self._called("lease", tuple(effect_ids))
        await super().lease(effect_ids, duration)

    async def tail(self, consumer: str, limit: int) -> Tail:
        await self._called("tail")
        return await super().tail(consumer, limit)

    async def advance(self, consumer: str, cursor: str) -> None:
        await self._called("advance", cursor)
        await super().advance(consumer, cursor)

    def events(self, saga_id: str) -> list[Event]:
        """The log of a saga; its numbers are without a gap."""
        events: list[Event] = []
        for version, data in self._commits(saga_id, 0):
            assert version == len(events) + 1
            events.extend(SAGA_EVENTS.decode(data))
        return events

    def status(self, saga_id: str) -> str:
        return self._rows[saga_id].status

    def wake_at(self, saga_id: str) -> int | None:
        return self._rows[saga_id].wake_at

    def put_snapshot(self, saga_id: str, snapshot: Snapshot) -> None:
        self._snapshots[saga_id] = snapshot

    def snapshot(self, saga_id: str) -> Snapshot | None:
        return self._snapshots.get(saga_id)

    def corrupt(self, stream: str, events: bytes) -> None:
        """Spoil the first commit of a stream."""
        entries = self._streams[stream]
        first = min(entries)
        spoilt = replace(entries[first], events=events)
        self._log[self._log.index(entries[first])] = entries[first] = spoilt


class ScriptedBus:
    """A bus that may be down, and tells in which order it was called."""

    def __init__(self, bus: Bus, trace: Trace) -> None:
        self.bus = bus
        self.trace = trace
        self.down = False
        self.full: set[str] = set()
        """Topics that take nothing more."""
        self.published: list[tuple[str, tuple[Message, ...]]] = []

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self.down or topic in self.full:
            raise UnavailableError("scripted: the bus is down, or full")
        self.trace.append(("publish", topic, tuple(message.id for message in messages)))
        self.published.append((topic, tuple(messages)))
        await self.bus.publish(topic, messages)

    async def subscribe(self, topic: str, group: str) -> Subscription:
        return ScriptedSubscription(await self.bus.subscribe(topic, group), self.trace)

    async def close(self) -> None:
        await self.bus.close()

    def sent(self, topic: str) -> list[str]:
        return [message.id for where, messages in self.published if where == topic for message in messages]


class ScriptedSubscription:
    """Tells what is fetched and acknowledged."""

    def __init__(self, subscription: Subscription, trace: Trace) -> None:
        self.subscription = subscription
        self.trace = trace

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self.subscription.fetch(limit)
        self.trace.append(("fetch", ids(deliveries)))
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.trace.append(("ack", ids(deliveries)))
        await self.subscription.ack(deliveries)

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        await self.subscription.nack(deliveries)

    async def close(self) -> None:
        await self.subscription.close()


def ids(deliveries: Sequence[Delivery]) -> tuple[str, ...]:
    return tuple(message.id for delivery in deliveries for message in delivery.messages)


def reply(command: Message, outcome: str = "ok", *, payload: object = BOOKED, reason: str = "") -> Message:
    """A participant's answer."""
    return Message(
        command.id,
        "agency.booked",
        Raw(encode(payload)),
        command.saga_id,
        command.step,
        command.direction,
        command.attempt,
        outcome=outcome,
        reason=reason,
    )


def refusing(*steps: str) -> Answer:
    """Says yes to everything but to these steps."""

    def answer(command: Message) -> Message:
        no = command.step in steps and command.direction == "do"
        return reply(command, "refused" if no else "ok", reason="full" if no else "")

    return answer


def tell(engine: Engine, saga_id: str, step: str, direction: Direction = "do", outcome: Any = "ok") -> None:
    """Put an answer straight into one engine."""
    engine.loop.put(saga_id, Reply(step, direction, outcome, 1, Raw(encode(BOOKED))))


class Deed(ActionStep[Trip, Any]):
    """An action that does what the test says."""

    def __init__(
        self,
        name: str,
        do: Callable[[ActionCall], Coroutine[Any, Any, Any]],
        undo: Callable[[ActionCall], Coroutine[Any, Any, Any]] | None = None,
        **policies: Any,
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.do = do
        self.undo = undo
        vars(self).update(policies)

    async def run(self, context: Trip, call: ActionCall) -> Any:
        return await self.do(call)

    async def compensate(self, context: Trip, call: ActionCall) -> Any:
        return None if self.undo is None else await self.undo(call)


async def at_once(call: ActionCall) -> None:
    """An action that costs nothing."""


class Rig:
    """One store and one bus, and whatever runs on them."""

    def __init__(self, *sagas: Saga[Any], store: Store | None = None, limits: Limits | None = None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        self.trace: Trace = []
        self.scripted = ScriptedStore(self.now, self.trace)
        self.store: Store = store or self.scripted
        self.bus = ScriptedBus(MemoryBus(self.clock), self.trace)
        self.sagas = sagas
        self.limits = limits or Limits()
        self.tasks: dict[Engine, list[asyncio.Task[None]]] = {}
        self._ids = count(1)

    def now(self) -> int:
        return EPOCH + self.clock.monotonic()

    def new_id(self) -> str:
        return f"saga-{next(self._ids):06}"

    def engine(self, worker: str = "w1", *sagas: Saga[Any], store: Store | None = None, **limits: int) -> Engine:
        """A worker that does not run yet."""
        return Engine(
            store or self.store,
            self.bus,
            sagas or self.sagas,
            clock=self.clock,
            worker=worker,
            new_id=self.new_id,
            jitter=lambda: 0.0,
            limits=Limits(**asdict(self.limits) | limits),
        )

    async def launch(
        self, worker: str = "w1", *sagas: Saga[Any], store: Store | None = None, sweeps: bool = False, **limits: int
    ) -> Engine:
        """A worker that runs; with a sweeper if asked."""
        engine = self.engine(worker, *sagas, store=store, **limits)
        await engine.open()
        self.tasks[engine] = [self.runs(engine.run())]
        if sweeps:
            self.tasks[engine].append(self.runs(Sweeper(engine, store or self.store, self.clock).run()))
        return engine

    def runs(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A part that may be cancelled, but not fail: if it does, so does the test."""
        task = asyncio.create_task(part)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.result())
        return task

    async def kill(self, engine: Engine) -> None:
        """Ends at once; nothing is cleaned up."""
        for task in self.tasks[engine]:
            task.cancel()
        await asyncio.gather(*self.tasks[engine], return_exceptions=True)

    async def stop(self, engine: Engine, grace: float = 5.0) -> None:
        """Ends gracefully, as the service does it."""
        run, *others = self.tasks[engine]
        for task in others:
            task.cancel()
        await engine.stop(grace)
        await run

    async def agency(self, answer: Answer = reply) -> asyncio.Task[None]:
        """The participant of the trips, which answers as it is told; None: it says nothing."""
        subscription = await self.bus.bus.subscribe(COMMANDS + "agency", "agency")

        async def serve() -> None:
            while True:
                deliveries = await subscription.fetch(64)
                await subscription.ack(deliveries)
                for delivery in deliveries:
                    said = [answer(command) for command in delivery.messages]
                    await self.bus.publish(REPLIES, [message for message in said if message is not None])

        return asyncio.create_task(serve())

    async def elapse(self, seconds: float) -> None:
        """Let virtual time pass."""
        await elapsed(seconds)

    async def until(self, condition: Callable[[], object], seconds: float = 60, *, step: float = 0.001) -> None:
        """Let virtual time pass until the condition holds, looking every `step` seconds."""
        end = self.clock.monotonic() + int(seconds * SECOND)
        while not condition():
            assert self.clock.monotonic() < end, "it did not come true"
            await self.elapse(step)
