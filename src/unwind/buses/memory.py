"""The bus inside one process: at least once, bounded, and as cheap as a deque.

A publication is one delivery for each group of its topic; the first free member of the group gets it. What is not
acknowledged within `ack_wait`, and what a closing subscription leaves behind, comes again in its old order, before what
is waiting; what is nacked comes again behind it.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from unwind.buses.envelope import restored
from unwind.buses.memory_dead import DeadMemory
from unwind.errors import UnavailableError
from unwind.ports import DEAD, Clock, Delivery, Message
from unwind.queues import DeadLetter, DeadLetters, Queue

ACK_WAIT = 30_000_000
CAPACITY = 65_536
BACKLOG = 1_024


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


class MemoryBus:
    """Implements `Bus` for the members of one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        ack_wait: int = ACK_WAIT,
        capacity: int = CAPACITY,
        backlog: int = BACKLOG,
        now: Callable[[], int] = wall_clock,
    ) -> None:
        """`ack_wait` is in microseconds, `capacity` the messages that a group may have waiting and unacknowledged.

        A topic without any group keeps its newest `backlog` messages for the first group that comes; so many dead
        letters are kept too. `now` tells when those were set aside, in microseconds since the epoch.
        """
        self._clock = clock
        self._ack_wait = ack_wait
        self._capacity = capacity
        self._backlog = backlog
        self._topics: dict[str, _Topic] = {}
        self._dead = DeadMemory(backlog, now)
        self._closed = False

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over messages as one publication. Raises UnavailableError when closed or a group's queue is full."""
        self._check_open()
        if not messages:
            return
        self._topic(topic).publish(tuple(messages), self._capacity, self._backlog)
        if topic.startswith(DEAD):
            self._dead.add(topic, messages)

    async def subscribe(self, topic: str, group: str) -> "MemorySubscription":
        """Join a group; it exists, and collects, from its first member on. Raises UnavailableError when closed."""
        self._check_open()
        groups = self._topic(topic)
        return MemorySubscription(groups.groups.get(group) or groups.add(group, _Group(self._clock, self._ack_wait)))

    async def queues(self) -> Sequence[Queue]:
        self._check_open()
        return sorted(
            Queue(topic.name, name, len(group.ready), group.held)
            for topic in self._topics.values()
            if not topic.name.startswith(DEAD)
            for name, group in topic.groups.items()
        )

    async def dead_letters(self, limit: int, after: str = "") -> DeadLetters:
        self._check_open()
        return self._dead.page(limit, after)

    async def find_dead(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        self._check_open()
        return self._dead.find(ids)

    async def redrive(self, ids: Sequence[str]) -> Sequence[str]:
        done = []
        for letter in await self.find_dead(ids):
            await self.publish(letter.topic, restored(letter.messages))
            self._dead.forget(letter.id)
            done.append(letter.id)
        return done

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        found = await self.find_dead(ids)
        for letter in found:
            self._dead.forget(letter.id)
        return [letter.id for letter in found]

    async def close(self) -> None:
        """Drop everything; waiting fetches end with UnavailableError."""
        self._closed = True
        for topic in self._topics.values():
            for group in topic.groups.values():
                group.shut()
        self._topics.clear()

    def _topic(self, name: str) -> "_Topic":
        return self._topics.get(name) or self._topics.setdefault(name, _Topic(name))

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the in-process bus is closed; the program is stopping")


class MemorySubscription:
    """Implements `Subscription`: one member of a group."""

    def __init__(self, group: "_Group") -> None:
        self._group = group
        self._closed = False

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries. Raises UnavailableError once the subscription or the bus is closed."""
        group = self._group
        await asyncio.sleep(0)  # a consumer that always finds something must let the others run
        while not group.ready:
            self._check_open()
            await group.wait()
        self._check_open()
        return group.take(limit, self)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled for good, even if meanwhile another member got them too."""
        for delivery in deliveries:
            self._group.release(delivery)

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """These go to the end of the queue."""
        group = self._group
        group.requeue([delivery for delivery in deliveries if group.release(delivery)], first=False)

    async def close(self) -> None:
        """Leave the group; what this member has not acknowledged goes to the others at once."""
        if not self._closed:
            self._closed = True
            self._group.abandon(self)

    def _check_open(self) -> None:
        if self._closed or self._group.closed:
            raise UnavailableError("this subscription is closed; subscribe again")


class _Topic:
    """The groups of a topic, and what came before there was one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: dict[str, _Group] = {}
        self.early: deque[tuple[Message, ...]] = deque()
        self.early_size = 0

    def publish(self, messages: tuple[Message, ...], capacity: int, backlog: int) -> None:
        size = len(messages)
        if not self.groups:
            self.early.append(messages)
            self.early_size += size
            while self.early_size > backlog:
                self.early_size -= len(self.early.popleft())
            return
        for name, group in self.groups.items():
            if group.size and group.size + size > capacity:
                raise UnavailableError(
                    f"group {name!r} of topic {self.name!r} has {group.size} messages waiting and takes {capacity}; "
                    "its consumers are too slow or gone, publish again later"
                )
        for group in self.groups.values():
            group.add(messages)

    def add(self, name: str, group: "_Group") -> "_Group":
        self.groups[name] = group
        for messages in self.early:
            group.add(messages)
        self.early.clear()
        return group


class _Held(NamedTuple):
    """A delivery in somebody's hands."""

    delivery: Delivery
    due: int
    holder: MemorySubscription


class _Group:
    """One queue shared by its members."""

    def __init__(self, clock: Clock, ack_wait: int) -> None:
        self.ready: deque[Delivery] = deque()
        self.size = 0
        """Messages waiting or held."""
        self.closed = False
        self._clock = clock
        self._ack_wait = ack_wait
        self._count = 0
        # In the order of hand-out, which is the order of falling due: only the first needs a look.
        self._held: OrderedDict[object, _Held] = OrderedDict()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.Task[None] | None = None

    @property
    def held(self) -> int:
        """Deliveries in somebody's hands."""
        return len(self._held)

    def add(self, messages: tuple[Message, ...]) -> None:
        self._count += 1
        self.size += len(messages)
        self.ready.append(Delivery(messages, self._count))
        self._wake()

    def take(self, limit: int, holder: MemorySubscription) -> list[Delivery]:
        ready, due = self.ready, self._clock.monotonic() + self._ack_wait
        taken = [ready.popleft() for _ in range(min(max(limit, 1), len(ready)))]
        for delivery in taken:
            self._held[delivery.token] = _Held(delivery, due, holder)
        if ready:
            self._wake()
        if self._timer is None:
            self._timer = asyncio.create_task(self._expire())
        return taken

    def release(self, delivery: Delivery) -> bool:
        """Take a delivery out of its holder's hands; False when it is in nobody's."""
        held = self._held.pop(delivery.token, None)
        if held is not None:
            self.size -= len(delivery.messages)
        return held is not None

    def requeue(self, deliveries: Iterable[Delivery], *, first: bool) -> None:
        again = [replace(delivery, redelivered=delivery.redelivered + 1) for delivery in deliveries]
        self.size += sum(len(delivery.messages) for delivery in again)
        if first:
            self.ready.extendleft(reversed(again))
        else:
            self.ready.extend(again)
        if again:
            self._wake()

    def abandon(self, holder: MemorySubscription) -> None:
        left = [held.delivery for held in self._held.values() if held.holder is holder]
        self.requeue([delivery for delivery in left if self.release(delivery)], first=True)
        self._wake_all()

    def shut(self) -> None:
        self.closed = True
        self.ready.clear()
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._wake_all()

    async def wait(self) -> None:
        """Until something may be ready."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the call was for this one: pass it on
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._waiters)):
            self._wake()

    async def _expire(self) -> None:
        """Give back what was held too long; ends when nothing is held."""
        while self._held:
            now = self._clock.monotonic()
            late = []
            for held in self._held.values():
                if held.due > now:
                    break
                late.append(held.delivery)
            self.requeue([delivery for delivery in late if self.release(delivery)], first=True)
            if self._held:
                await self._clock.sleep(next(iter(self._held.values())).due - now)
        self._timer = None
