"""The bus on NATS JetStream: a publication is one message there, a group one durable consumer.

At least once, as long as JetStream keeps what it was given. It may lose everything: what is missing is furnished again
when it is met, and what is lost is sent again by the sagas' wake-ups. Domain events travel singly, as CloudEvents.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from unwind.buses.envelope import encode_batch
from unwind.buses.nats.cloud_events import headers_of
from unwind.buses.nats.link import Link
from unwind.buses.nats.operated import NatsDead, read_queues
from unwind.buses.nats.sender import Parcel, Sender, size_of
from unwind.buses.nats.streams import Place, Streams, place_of
from unwind.buses.nats.subscription import REASON, NatsSubscription
from unwind.errors import UnavailableError
from unwind.ports import DEAD, EVENTS, Clock, Message
from unwind.queues import DeadLetter, DeadLetters, Queue

log = structlog.get_logger("unwind.nats")

ACK_WAIT = 30_000_000


class NatsBus:
    """Implements `Bus`."""

    def __init__(self, link: Link, clock: Clock, ack_wait: int) -> None:
        self._link = link
        self._clock = clock
        self._ack_wait = ack_wait
        self._streams = Streams(link, clock)
        self._sender = Sender(link, self._streams, clock)
        self._dead = NatsDead(self._streams, self._sender)
        self._subscriptions: set[NatsSubscription] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str, clock: Clock, *, ack_wait: int = ACK_WAIT) -> "NatsBus":
        """Connect, and furnish what is missing. `ack_wait` is in microseconds.

        Raises SettingsError (the URL, the credentials, no JetStream, a stream of another shape) and UnavailableError.
        """
        bus = cls(await Link.open(url), clock, ack_wait)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(bus.close)
            await bus._streams.check()
            await bus._streams.furnish_all()
            await bus._sender.open()
            stack.pop_all()
        return bus

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over messages as one publication, or as several when it is too large for the server.

        Domain events and dead letters are stored when it returns. Raises UnavailableError, within seconds: no
        connection, or a stream that is full.
        """
        self._check_open()
        if not messages:
            return
        place = place_of(topic)
        singly = topic.startswith((EVENTS, DEAD))
        parcels = self._singly(place, messages) if singly else self._together(place, messages)
        if parcels:
            await self._sender.send(parcels, surely=singly)

    async def subscribe(self, topic: str, group: str) -> NatsSubscription:
        """Join a group; a topic of commands or replies takes one group.

        Raises UnavailableError, and SettingsError when the group's consumer cannot be made.
        """
        self._check_open()
        place, forget = place_of(topic), self._subscriptions.discard
        subscription = NatsSubscription(
            self._link,
            self._streams,
            self._sender,
            self._clock,
            place=place,
            group=group,
            ack_wait=self._ack_wait,
            on_close=forget,
        )
        await subscription.open()
        self._subscriptions.add(subscription)
        return subscription

    async def queues(self) -> Sequence[Queue]:
        self._check_open()
        return await read_queues(self._streams)

    async def dead_letters(self, limit: int, after: str = "") -> DeadLetters:
        self._check_open()
        return await self._dead.page(limit, after)

    async def find_dead(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        self._check_open()
        return await self._dead.find(ids)

    async def redrive(self, ids: Sequence[str]) -> Sequence[str]:
        self._check_open()
        return await self._dead.redrive(ids)

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        self._check_open()
        return await self._dead.discard(ids)

    async def ping(self) -> None:
        """Raises UnavailableError when NATS, or its JetStream, does not answer."""
        self._check_open()
        await self._streams.ping()

    async def close(self) -> None:
        """Give back what is held and let go of the connection; waiting fetches end with UnavailableError."""
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()
        self._sender.close()
        await self._link.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the bus is closed; the program is stopping")

    def _together(self, place: Place, messages: Sequence[Message]) -> list[Parcel]:
        data = encode_batch(messages)
        if len(data) <= self._link.max_payload:
            return [Parcel(place, data)]
        if len(messages) == 1:
            self._too_large(place, messages[0], len(data))
            return []
        half = len(messages) // 2
        return [*self._together(place, messages[:half]), *self._together(place, messages[half:])]

    def _singly(self, place: Place, messages: Sequence[Message]) -> list[Parcel]:
        parcels = []
        for message in messages:
            if place.topic.startswith(EVENTS):
                parcel = Parcel(place, bytes(message.payload), headers_of(place.topic, message))
            else:
                parcel = Parcel(place, encode_batch([message]), {REASON: message.reason})
            size = size_of(parcel)
            if size <= self._link.max_payload:
                parcels.append(parcel)
            else:
                self._too_large(place, message, size)
        return parcels

    def _too_large(self, place: Place, message: Message, size: int) -> None:
        """It could never be sent, and may not hold up those behind it."""
        limit = self._link.max_payload
        log.error("not_published", topic=place.topic, id=message.id, bytes=size, limit=limit, mend="raise max_payload")
