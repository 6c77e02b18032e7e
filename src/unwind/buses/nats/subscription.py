"""One member of a group: a pull request always open at the server, and what it brings.

Its keeper makes the consumer where it is missing, opens a new request when the old one has fallen silent, and tells the
server that what lies here is still being handled. That holds for what was fetched until the next fetch: a caller that
comes back for more has let go of what it has not acknowledged, and `ack_wait` runs.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Any

import msgspec
import structlog
from nats.aio.msg import Msg

from unwind.buses.envelope import decode_batch
from unwind.buses.nats.cloud_events import ID, event_of
from unwind.buses.nats.link import Link, Listener
from unwind.buses.nats.sender import Parcel, Sender
from unwind.buses.nats.streams import Place, Streams, consumer_of, place_of
from unwind.errors import CodecError, SettingsError, UnavailableError
from unwind.ports import DEAD, Clock, Delivery

log = structlog.get_logger("unwind.nats")

DELIVERIES = 200
"""How often a publication is handed out before it is set aside: for a database that is down, a quarter of an hour."""
REASON = "Unwind-Reason"
SOURCE = "Unwind-Source"

_SECOND = 1_000_000
_HEARTBEAT = _SECOND
_SILENCE = _HEARTBEAT * 5 // 2
"""Without a word for so long, an open request is given up."""
_EXPIRES = 10 * _SECOND
"""After which a request is opened anew, and its consumer looked at."""
_HELD = 20
"""Times `ack_wait`: for so long a delivery that is being handled is held."""
_KNOWN = 16_384
"""Deliveries in somebody's hands that are remembered."""
_PAUSE = _SECOND // 20
_LONGEST_PAUSE = _SECOND
_FIRST_DELAY = _SECOND // 20
_LONGEST_DELAY = 5 * _SECOND
_HEADERS = 8_192
"""Bytes of a dead letter that are left for its headers."""
_ACK, _HOLD = b"+ACK", b"+WPI"
_COUNT, _SHORT, _PENDING = 4, 9, 4
"""Where the count of deliveries stands in an acknowledgement of so many words; the long form has two more before."""

_encode = msgspec.json.Encoder().encode


class NatsSubscription:
    """Implements `Subscription`. It waits out every absence of NATS: only closing it ends a fetch with an error."""

    def __init__(
        self,
        link: Link,
        streams: Streams,
        sender: Sender,
        clock: Clock,
        *,
        place: Place,
        group: str,
        ack_wait: int,
        on_close: "Callable[[NatsSubscription], None]",
    ) -> None:
        """`ack_wait` is in microseconds. Nothing comes before `open`."""
        self._link = link
        self._streams = streams
        self._sender = sender
        self._clock = clock
        self._place = place
        self._group = group
        self._ack_wait = ack_wait
        self._on_close = on_close
        self._request = f"$JS.API.CONSUMER.MSG.NEXT.{place.stream}.{consumer_of(place, group)}"
        self._inbox = f"_INBOX.{token_hex(11)}"
        self._listener: Listener | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._made = ""
        self._generation = 0
        self._wanted = 0
        self._asked = 0
        """Deliveries that the open requests may still bring."""
        self._heard = 0
        self._mended = 0
        """How often the request was made anew since something was heard."""
        self._look = False
        self._failed = 0
        """How often in a row the consumer could not be made."""
        self._ready: deque[Delivery] = deque()
        self._in_hand: Sequence[Delivery] = ()
        self._fetched = 0
        self._extended = 0
        self._known: dict[object, None] = {}
        self._arrived = asyncio.Event()
        self._trouble = asyncio.Event()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Join the group. Raises UnavailableError, and SettingsError for a stream or consumer of another shape."""
        self._made = await self._streams.join(self._place, self._group, self._ack_wait)
        self._listener = await self._link.listen(f"{self._inbox}.*", self._receive)
        self._link.on_connect(self._trouble.set)
        self._keeper = asyncio.create_task(self._keep(), name=f"NATS consumer of {self._place.topic}")

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries. Raises UnavailableError once the subscription or the bus is closed."""
        self._in_hand = ()
        self._wanted = max(limit, 1)
        await self._pull()
        if self._ready:
            await asyncio.sleep(0)  # a consumer that always finds something must let the others run
        while not self._ready:
            self._check_open()
            self._arrived.clear()
            self._waiting += 1
            try:
                await self._arrived.wait()
            finally:
                self._waiting -= 1
        self._check_open()
        ready, known = self._ready, self._known
        taken = [ready.popleft() for _ in range(min(self._wanted, len(ready)))]
        known.update((delivery.token, None) for delivery in taken)
        while len(known) > _KNOWN:
            del known[next(iter(known))]
        self._in_hand, self._fetched = taken, self._clock.monotonic()
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled for good. Raises UnavailableError: they may come again."""
        for delivery in deliveries:
            if delivery.token in self._known:
                await self._tell(delivery, _ACK)
                del self._known[delivery.token]

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """These come again after a moment, longer each time. Raises UnavailableError: then after `ack_wait`."""
        for delivery in deliveries:
            if delivery.token in self._known:
                delay = min(_FIRST_DELAY * 2 ** min(delivery.redelivered, 20), _LONGEST_DELAY)
                await self._tell(delivery, b"-NAK " + _encode({"delay": delay * 1_000}))
                del self._known[delivery.token]

    async def close(self) -> None:
        """Leave the group; what this member holds goes to the others at once.

        After `ack_wait` what is just on its way here, and everything where NATS cannot be reached.
        """
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        self._link.forget(self._trouble.set)
        self._arrived.set()
        for task in (self._keeper, *self._tasks):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        if self._listener is not None:
            await self._link.leave(self._listener)
        self._known.update((delivery.token, None) for delivery in self._ready)
        with suppress(UnavailableError):  # then they come again when their time is up
            for token in self._known:
                await self._link.send(str(token), b"-NAK")

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("this subscription is closed; subscribe again")

    async def _tell(self, delivery: Delivery, word: bytes) -> None:
        await self._link.send(str(delivery.token), word)

    # --------------------------------------------------------------------------------------------------------- requests

    async def _pull(self) -> None:
        """Keep open what the caller takes at a time; ask again when half of it has come."""
        missing = self._wanted - len(self._ready) - self._asked
        if missing <= 0 or (self._asked and 2 * missing < self._wanted):
            return
        request = {"batch": missing, "expires": _EXPIRES * 1_000, "idle_heartbeat": _HEARTBEAT * 1_000}
        if not self._asked:
            self._heard = self._clock.monotonic()
        self._asked += missing
        try:
            await self._link.send(self._request, _encode(request), f"{self._inbox}.{self._generation}")
        except UnavailableError:
            self._asked = 0
            self._trouble.set()

    def _pull_soon(self) -> None:
        """For callers that cannot wait."""
        if self._waiting and not self._ready:
            self._spawn(self._pull())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ----------------------------------------------------------------------------------------------------- what arrives

    def _receive(self, message: Msg) -> None:
        if not message.reply:
            self._told(message)
            return
        self._heard = self._clock.monotonic()
        self._mended = 0
        self._asked = max(0, self._asked - 1)
        try:
            self._ready.append(_opened(message))
        except CodecError as error:
            self._spawn(self._set_aside(message, str(error)))
            self._pull_soon()
        else:
            self._arrived.set()

    def _told(self, message: Msg) -> None:
        """A word of the server's on an open request."""
        if message.subject != f"{self._inbox}.{self._generation}":
            return
        headers = message.headers or {}
        status = headers.get("Status", "")
        self._heard = self._clock.monotonic()
        if status == "100":
            self._mended = 0
        elif status == "408":
            self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages", self._asked)))
            self._pull_soon()
            self._look = True
        else:
            self._trouble.set()

    async def _set_aside(self, message: Msg, reason: str) -> None:
        """What can never be handled blocks nobody."""
        source = f"{self._place.stream}/{_numbers(message)[1]}"
        log.warning("dead_letter", topic=self._place.topic, group=self._group, source=source, reason=reason)
        # A domain event is not itself without its own headers.
        own = {name: value for name, value in (message.headers or {}).items() if name != "Nats-Msg-Id"}
        headers = {**own, REASON: reason[: _HEADERS // 8], SOURCE: source}
        try:
            if not self._place.topic.startswith(DEAD):
                room = self._link.max_payload - _HEADERS
                dead = Parcel(place_of(DEAD + self._place.topic), message.data[:room], headers)
                await self._sender.send([dead], surely=True)
            await self._link.send(message.reply, _ACK)
        except UnavailableError as error:
            log.warning("dead_letter_delayed", source=source, error=str(error))  # it comes again after `ack_wait`

    # ------------------------------------------------------------------------------------------------------- the keeper

    async def _keep(self) -> None:
        tick = min(_SECOND, self._ack_wait // 3) / _SECOND
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(tick):
                    await self._trouble.wait()
            now = self._clock.monotonic()
            if self._trouble.is_set() or (self._asked and now - self._heard > _SILENCE):
                await self._mend()
            elif self._look:
                await self._joined()
            if now - self._extended >= self._ack_wait // 3:
                self._extended = now
                await self._extend(now)

    async def _mend(self) -> None:
        """Make the consumer if it is missing, and a new request on it."""
        tries = max(self._mended, self._failed)
        if tries:
            await self._clock.sleep(min(_PAUSE * 2 ** min(tries, 10), _LONGEST_PAUSE))
        self._mended += 1
        self._trouble.clear()
        if await self._joined():
            self._generation += 1
            self._asked = 0
            if self._wanted:
                await self._pull()

    async def _joined(self) -> bool:
        """Look at the consumer, and make it where it is missing; False: not now."""
        self._look = False
        try:
            made = await self._streams.join(self._place, self._group, self._ack_wait)
        except (UnavailableError, SettingsError) as error:
            self._failed += 1
            if self._failed == 1:
                log.warning("consumer_missing", topic=self._place.topic, group=self._group, error=str(error))
            self._trouble.set()
            return False
        self._failed = 0
        if made != self._made:
            log.warning("consumer_made_anew", topic=self._place.topic, group=self._group)
            self._made = made
            self._known.clear()  # in the new one these numbers are other messages'
        return True

    async def _extend(self, now: int) -> None:
        """What waits here, or is being handled, is not for others yet."""
        held = [delivery for delivery in self._in_hand if delivery.token in self._known]
        if now - self._fetched > _HELD * self._ack_wait:
            return
        with suppress(UnavailableError):  # then others get it too, and it is done once all the same
            for delivery in (*held, *self._ready):
                await self._tell(delivery, _HOLD)


def _opened(message: Msg) -> Delivery:
    """Raises CodecError for what can never be handled."""
    numbers = _numbers(message)
    before, behind = int(numbers[0]) - 1, int(numbers[_PENDING])
    if before >= DELIVERIES:
        raise CodecError(f"handed out {before} times and never acknowledged")
    headers = message.headers
    if headers is not None and ID in headers:
        return Delivery((event_of(headers, message.data),), message.reply, before, behind)
    return Delivery(decode_batch(message.data), message.reply, before, behind)


def _numbers(message: Msg) -> list[str]:
    """How often it was handed out, this time included, its number in the stream, and more."""
    words = message.reply.split(".")
    return words[_COUNT if len(words) == _SHORT else _COUNT + 2 :]
