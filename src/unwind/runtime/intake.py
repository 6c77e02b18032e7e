"""Takes replies from the bus into the inbox, and acknowledges each delivery once all its messages are decided."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from unwind.core.author import storable
from unwind.core.draft import Decision
from unwind.core.messages import Reply
from unwind.errors import CodecError, RejectedError, UnavailableError, UnwindError
from unwind.ports import REPLIES, Bus, Clock, Delivery, Message, Subscription
from unwind.runtime.inbox import Inbox
from unwind.runtime.limits import SECOND, Limits

log = structlog.get_logger("unwind.intake")

GROUP = "engine"
FETCH = 64
"""Deliveries fetched at a time; each may hold many replies."""
BACK_AFTER = SECOND
"""Until what could not be decided here goes back to the bus: perhaps to a worker that knows the saga's definition."""


class Acknowledgement:
    """Waits for the decisions on one delivery's messages."""

    __slots__ = ("delivery", "end", "ends", "left")

    def __init__(self, delivery: Delivery, done: list[Delivery], back: list[Delivery]) -> None:
        """`done` collects deliveries that are ready to be acknowledged, `back` those to be handed out again."""
        self.delivery = delivery
        self.left = len(delivery.messages)
        self.end = done
        self.ends = (done, back)

    def decided(self, _: Decision) -> None:
        """One more message is dealt with."""
        self._dealt_with()

    def _dealt_with(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.end.append(self.delivery)

    def failed(self, error: UnwindError) -> None:
        """Not decided here: the delivery goes back.

        Unless nobody could decide it: many of those would take the place of all others, and their sagas ask again.
        """
        if not isinstance(error, CodecError | RejectedError):
            _, self.end = self.ends
        self._dealt_with()


class Intake:
    """One worker's consumer of replies."""

    def __init__(self, bus: Bus, inbox: Inbox, clock: Clock, limits: Limits, *, consumes: bool = True) -> None:
        """Nothing is consumed before `open` and `run`; nothing at all unless it `consumes`."""
        self._bus = bus
        self._inbox = inbox
        self._clock = clock
        self._limits = limits
        self._consumes = consumes
        self._subscription: Subscription | None = None
        self._done: list[Delivery] = []
        self._back: list[Delivery] = []
        self.behind = 0
        """Deliveries that waited on the bus when the last ones were fetched, where the bus tells."""

    async def open(self) -> None:
        """Join the consumers of replies."""
        if self._consumes:
            self._subscription = await self._bus.subscribe(REPLIES, GROUP)

    async def run(self) -> None:
        """Consume until cancelled. What an unreachable bus holds back comes by the sagas' re-sends."""
        if self._consumes:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._consume())
                tasks.create_task(self._hand_back())

    async def _consume(self) -> None:
        while True:
            await self._inbox.room(self._limits.inbox)
            try:
                if self._subscription is None:
                    await self.open()
                else:
                    self._take(await self._subscription.fetch(FETCH))
            except UnavailableError as error:
                log.warning("replies_delayed", error=str(error))
                await self.close()
                await self._clock.sleep(self._limits.retry_pause)

    async def _hand_back(self) -> None:
        while True:
            await self._clock.sleep(BACK_AFTER)
            back, self._back[:] = list(self._back), []
            if back and self._subscription is not None:
                with suppress(UnavailableError):  # then they come again by themselves, only later
                    await self._subscription.nack(back)

    async def close(self) -> None:
        """Leave the consumers of replies; what is not acknowledged goes to another at once."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(UnavailableError):
                await subscription.close()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        self.behind = deliveries[-1].behind
        for delivery in deliveries:
            waiter = Acknowledgement(delivery, self._done, self._back)
            for message in delivery.messages:
                self._inbox.put(message.saga_id, self._reply(message), waiter)

    def _reply(self, message: Message) -> Reply:
        """A reply as the core takes it. They are not trusted: what is no answer, or too large, counts as a failure."""
        outcome, reason = message.outcome, message.reason
        size = len(bytes(message.payload))
        if outcome not in {"ok", "refused", "failed"} or size > self._limits.payload:
            outcome, reason = "failed", f"the reply is not understood: outcome {outcome!r}, {size} bytes"
        return Reply(
            message.step,
            message.direction,
            outcome,  # type: ignore[arg-type]
            message.attempt,
            message.payload,
            storable(reason) if reason else "",
        )

    async def acknowledge(self) -> None:
        """Tell the bus what has been decided. Raises UnavailableError."""
        if self._done and self._subscription is not None:
            done, self._done[:] = list(self._done), []
            await self._subscription.ack(done)
