"""The bus on Redis Streams: a stream per topic, a consumer group per group, an entry per publication.

At least once, as long as Redis keeps what it was given; a flushed or new server is furnished again when it is met, and
what it lost is sent again by the sagas' wake-ups. Entries that every group has acknowledged are removed; beyond a bound
the oldest go, read or not. What cannot be read, or is handed out time and again and never acknowledged, goes to the
topic's dead letters, with a reason beside it.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from secrets import token_hex

import structlog

from unwind.buses.envelope import encode_batch
from unwind.buses.redis_group import DEAD_TOPICS, STREAM, Member, is_missing
from unwind.buses.redis_operated import RedisDead, read_queues
from unwind.errors import UnavailableError
from unwind.ports import DEAD, Clock, Delivery, Message
from unwind.queues import DeadLetter, DeadLetters, Queue
from unwind.redis_client import RedisClient

log = structlog.get_logger("unwind.redis")

ACK_WAIT = 30_000_000
LENGTH = 10_000

_SECOND = 1_000_000
_PATIENCE = 0.9
"""Seconds for one call: publishing fails within a second."""
_LOOK = _SECOND
"""Microseconds between two looks for what others have left; also the longest single wait for something new."""
_TIDY = 2 * _SECOND
_PAUSE = _SECOND // 10
_LONGEST_PAUSE = 2 * _SECOND


class RedisBus:
    """Implements `Bus`."""

    def __init__(self, client: RedisClient, clock: Clock, *, ack_wait: int = ACK_WAIT, length: int = LENGTH) -> None:
        """`ack_wait` is in microseconds; `length` is how many publications a topic keeps, about."""
        self._client = client
        self._clock = clock
        self._ack_wait = ack_wait
        self._length = length
        self._dead = RedisDead(client)
        self._subscriptions: set[RedisSubscription] = set()
        self._closed = False

    @classmethod
    async def open(
        cls, address: str, password: str, clock: Clock, *, ack_wait: int = ACK_WAIT, length: int = LENGTH
    ) -> "RedisBus":
        """Connect. Raises SettingsError (bad address, wrong password, too old a server) and UnavailableError."""
        client = RedisClient(address, password, patience=_PATIENCE)
        async with AsyncExitStack() as opened:
            opened.push_async_callback(client.close)
            await client.check()
            opened.pop_all()
        return cls(client, clock, ack_wait=ack_wait, length=length)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over messages as one publication. Raises UnavailableError within a second when Redis does not answer."""
        self._check_open()
        if messages:
            data = encode_batch(messages)
            if topic.startswith(DEAD):
                await self._client.call("SADD", DEAD_TOPICS, topic.removeprefix(DEAD))
            await self._client.call("XADD", STREAM + topic, "MAXLEN", "~", self._length, "*", "data", data)

    async def subscribe(self, topic: str, group: str) -> "RedisSubscription":
        """Join a group; a new one begins with what the topic still has.

        Raises UnavailableError, and SettingsError when something else is stored under the stream's name.
        """
        self._check_open()
        name = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"
        member = Member(self._client, topic, group, name, max(1, self._ack_wait // 1_000))
        await member.furnish()
        reader = self._client.another(connections=1, patience=_LOOK / _SECOND + 1)
        every = min(_LOOK, max(1_000, self._ack_wait // 2))
        subscription = RedisSubscription(member, reader, self._clock, every, self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def queues(self) -> Sequence[Queue]:
        self._check_open()
        return await read_queues(self._client)

    async def dead_letters(self, limit: int, after: str = "") -> DeadLetters:
        self._check_open()
        return await self._dead.page(limit, after)

    async def find_dead(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        self._check_open()
        return await self._dead.find(ids)

    async def redrive(self, ids: Sequence[str]) -> Sequence[str]:
        self._check_open()
        return await self._dead.redrive(ids, self._length)

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        self._check_open()
        return await self._dead.discard(ids)

    async def ping(self) -> None:
        """Raises UnavailableError when Redis does not answer."""
        self._check_open()
        await self._client.call("PING")

    async def close(self) -> None:
        """Give back what is held and let go of connections; waiting fetches end with UnavailableError."""
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()
        await self._client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the bus is closed; the program is stopping")


class RedisSubscription:
    """Implements `Subscription`. It waits out every absence of Redis: only closing it ends a fetch with an error."""

    def __init__(
        self,
        member: Member,
        reader: RedisClient,
        clock: Clock,
        look_every: int,
        on_close: "Callable[[RedisSubscription], None]",
    ) -> None:
        """`reader` is a connection of its own, for reads that wait."""
        self._member = member
        self._reader = reader
        self._clock = clock
        self._look_every = look_every
        self._on_close = on_close
        self._ready: deque[Delivery] = deque()
        self._getting: asyncio.Task[None] | None = None
        self._next_look = 0
        self._next_tidying = 0
        self._took_over = False
        self._closed = False

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries. Raises UnavailableError once the subscription or the bus is closed."""
        while not self._ready:
            self._check_open()
            getting = self._getting
            if getting is None or getting.done():
                getting = self._getting = asyncio.create_task(self._get(max(limit, 1)))
            # A cancelled fetch leaves it running: what it brings is for the next one.
            await asyncio.wait({getting})
            if not getting.cancelled():
                getting.result()
        self._check_open()
        return [self._ready.popleft() for _ in range(min(max(limit, 1), len(self._ready)))]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled for good. Raises UnavailableError: they may come again."""
        if deliveries:
            await self._member.ack(deliveries)

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """These come again at the next fetch of any member. Raises UnavailableError: then after `ack_wait`."""
        if deliveries:
            await self._member.give_back(deliveries)
            self._next_look = 0

    async def close(self) -> None:
        """Leave the group; what this member holds goes to the others at once, or after `ack_wait` without Redis."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        if self._getting is not None:
            self._getting.cancel()
            await asyncio.wait({self._getting})
        await self._reader.close()
        with suppress(UnavailableError):  # then others take over what is held when its time is up
            await self._member.leave()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("this subscription is closed; subscribe again")

    async def _get(self, limit: int) -> None:
        """Until there is something, whatever happens to Redis meanwhile."""
        failures = 0
        while not self._ready:
            try:
                self._ready.extend(await self._look(limit))
            except UnavailableError as error:
                if failures == 0:
                    log.warning("bus_lost", error=str(error))
                failures += 1
                if not (is_missing(error) and await self._furnished()):
                    await self._clock.sleep(min(_PAUSE * 2 ** min(failures, 10), _LONGEST_PAUSE))
                continue
            if failures:
                log.info("bus_back", failures=failures)
                failures = 0

    async def _furnished(self) -> bool:
        try:
            await self._member.furnish()
        except UnavailableError:
            return False
        return True

    async def _look(self, limit: int) -> Sequence[Delivery]:
        """What was left by others, and what is new, by turns: neither may keep the other waiting."""
        now = self._clock.monotonic()
        if now >= self._next_tidying:
            self._next_tidying = now + _TIDY
            await self._member.tidy()
        if now >= self._next_look and not self._took_over:
            deliveries, all_seen = await self._member.take_over(limit)
            if deliveries:
                self._took_over = True
                return deliveries
            if all_seen:
                self._next_look = now + self._look_every
        self._took_over = False
        wait = min(self._next_look, self._next_tidying) - self._clock.monotonic()
        return await self._member.read(self._reader, limit, max(0, -(-wait // 1_000)))
