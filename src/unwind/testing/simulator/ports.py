"""The ports as a simulated process sees them: slow, failing, at times lying, gone when it is killed."""

from collections.abc import Mapping, Sequence
from typing import Any

from unwind.errors import UnavailableError
from unwind.ports import (
    Bus,
    Claimed,
    Committed,
    Delivery,
    Loaded,
    Message,
    Move,
    ParticipantStore,
    Query,
    Registered,
    SagaRow,
    Subscription,
    Tail,
    Unit,
)
from unwind.testing.simulator.process import Process, outside


class SimStore:
    """The shared store through one process's connection."""

    def __init__(self, process: Process) -> None:
        """`process` may be frozen or killed before and after each call."""
        self._process = process
        self._world = process.world
        self._shared = process.world.store

    async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
        if note:  # a look is no point worth a schedule's time
            await self._process.point(0.001, 0.01)
        return await self._shared.register(revisions, note=note)

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        await self._process.point(0.001, 0.02)
        loaded = await self._shared.load(streams, snapshots=snapshots)
        await self._process.point(0.0005, 0.005)
        return loaded

    async def commit(self, units: Sequence[Unit]) -> Committed:
        world = self._world
        slow = world.chance(0.1)
        await self._process.point(0.001, 3.0 if slow else 0.02)
        if world.chance(world.faults.commit_fails):
            world.count("commits_failed")
            raise UnavailableError("simulated: nothing was written")
        committed = await self._shared.commit(units)
        world.checker.committed(units, committed, self._process)
        if world.chance(world.faults.commit_unknown):
            world.count("commits_unknown")
            await self._process.point(0.3, 0.6)
            raise UnavailableError("simulated: written, but the connection was lost")
        await self._process.point(0.0005, 0.01)
        return committed

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        await self._process.thaw()
        claimed = await self._shared.claim(limit, push, revisions)
        if claimed.tokens:  # most look in vain: that is no point worth a schedule's time
            self._world.checker.claimed(claimed)
            await self._process.point(0.001, 0.02)
        return claimed

    async def move(self, moves: Sequence[Move]) -> None:
        slow = self._world.chance(0.1)
        await self._process.point(0.001, 4.0 if slow else 0.02)
        await self._shared.move(moves)
        self._world.checker.moved(moves)

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        await self._process.point(0.001, 0.02)
        if self._world.chance(self._world.faults.commit_fails):
            raise UnavailableError("simulated: the lease was not written")
        await self._shared.lease(effect_ids, duration)

    async def tail(self, consumer: str, limit: int) -> Tail:
        await self._process.point(0.001, 0.02)
        return await self._shared.tail(consumer, limit)

    async def advance(self, consumer: str, cursor: str) -> None:
        await self._process.point(0.001, 0.02)
        await self._shared.advance(consumer, cursor)

    async def find(self, query: Query) -> Sequence[SagaRow]:
        await self._process.point(0.001, 0.02)
        return await self._shared.find(query)

    async def close(self) -> None:
        """The shared store outlives its connections."""


class SimBus:
    """The shared bus through one process's connection."""

    def __init__(self, process: Process, shared: Bus) -> None:
        """`process` may be frozen or killed before each call."""
        self._process = process
        self._shared = shared

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await self._process.point(0.0001, 0.002)
        self._process.world.checker.published(topic, messages)
        with outside():
            await self._shared.publish(topic, messages)

    async def subscribe(self, topic: str, group: str) -> Subscription:
        await self._process.point(0.0001, 0.002)
        return SimSubscription(self._process, await self._shared.subscribe(topic, group))

    async def close(self) -> None:
        """The shared bus outlives its connections."""


class SimSubscription:
    """A consumer that dies with its process; what it held unacknowledged comes again."""

    def __init__(self, process: Process, shared: Subscription) -> None:
        self._process = process
        self._shared = shared

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while self._process.world.is_dark(self._process.name):
            await self._process.world.loop.pause(1)
        with outside():
            deliveries = await self._shared.fetch(limit)
        await self._process.point(0.0001, 0.002)
        return deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._process.world.checker.acknowledged([message for each in deliveries for message in each.messages])
        await self._process.point(0.0001, 0.002)
        await self._shared.ack(deliveries)

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        await self._process.point(0.0001, 0.002)
        await self._shared.nack(deliveries)

    async def close(self) -> None:
        await self._shared.close()


class SimParticipantStore:
    """A participant's database through its process."""

    def __init__(self, process: Process, shared: ParticipantStore[Any]) -> None:
        """`process` may be killed before the transaction and after it, before anybody hears of it."""
        self._process = process
        self._shared = shared

    async def transact(self, work: Any) -> Any:
        slow = self._process.world.chance(0.1)
        await self._process.point(*((1.0, 9.0) if slow else (0.001, 0.02)))
        result = await self._shared.transact(work)
        await self._process.point(0.0005, 0.005)
        return result

    async def purge(self, older_than: int) -> int:
        await self._process.point(0.001, 0.01)
        return await self._shared.purge(older_than)

    async def close(self) -> None:
        """The database outlives its process."""
