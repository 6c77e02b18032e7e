"""Runs a participant: commands in, one transaction per batch, replies out, then the acknowledgement.

Nothing is replied before it is committed and nothing acknowledged before it is replied, so whatever is lost on the way
comes again and is answered from the barrier. So it is when the database cannot answer: that is no answer to a saga.
Commands that must be prepared leave the batch; when they are ready they share transactions among themselves and hold up
nobody.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from unwind.core.barrier import Answer
from unwind.errors import InputError, UnavailableError
from unwind.ports import COMMANDS, DEAD, REPLIES, Bus, Clock, Delivery, Message, ParticipantStore, Subscription
from unwind.runtime.blame import is_authors
from unwind.runtime.participant import Job, Participant, TryAgain, answer, failed, open_message

log = structlog.get_logger("unwind.participant")

PAUSE = 500_000
"""Microseconds before the bus is tried again."""


class ServiceLimits(Struct, frozen=True):
    """The bounds of a participant's service."""

    deliveries: int = 64
    """Taken from the bus at once."""
    commands: int = 1_024
    """Answered in one transaction and one publication."""
    preparing: int = 64
    """Commands prepared at the same time."""
    waiting: int = 1_024
    """Commands preparing or waiting for it; beyond that they are left to come again."""
    prepare_timeout: float = 30.0
    """Seconds for one `prepare`; then the command is answered as failed."""


class _Receipt:
    """A delivery, to be acknowledged when the last of its messages is done."""

    __slots__ = ("delivery", "remaining")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.remaining = len(delivery.messages)


class _Order:
    """A job together with the delivery that brought it."""

    __slots__ = ("failure", "job", "receipt")

    def __init__(self, job: Job, receipt: _Receipt) -> None:
        self.job = job
        self.receipt = receipt
        self.failure: Answer | None = None


class ParticipantService:
    """One consumer of a participant's commands. Any number may run, in any processes, on the same database."""

    def __init__(  # noqa: PLR0917 - what it works with, and what it may be given besides
        self,
        participant: Participant[Any],
        bus: Bus,
        store: ParticipantStore[Any],
        clock: Clock,
        limits: ServiceLimits | None = None,
        work: Counter[str] | None = None,
    ) -> None:
        """Nothing runs before `start` or `run`. In `work` it counts what it does."""
        self._work_done: Counter[str] = Counter() if work is None else work
        self._participant = participant
        self._bus = bus
        self._store = store
        self._clock = clock
        self._limits = limits or ServiceLimits()
        self._slots = asyncio.Semaphore(self._limits.preparing)
        self._preparing: dict[str, tuple[_Order, asyncio.Task[None]]] = {}
        self._prepared: list[_Order] = []
        self.service = participant.service
        self.behind = 0
        """Deliveries that waited on the bus when it last fetched some, where the bus tells."""
        self._draining = False
        self._interruptible = False
        self._stopping = False
        self._tasks = asyncio.TaskGroup()
        self._subscription: Subscription
        self._consumer: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------------- lifecycle

    async def start(self) -> None:
        """Join the consumers of the service's commands, and work in a task of its own until `stop`."""
        await self._subscribe()
        self._running = asyncio.create_task(self._work(), name=f"participant {self._participant.service}")

    async def run(self) -> None:
        """The same in the caller's task, until stopped or cancelled."""
        await self._subscribe()
        await self._work()

    async def wait(self) -> None:
        """Return when a started service has stopped; raise what ended it, if it ended by itself."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Finish the batch in hand, leave the rest to others. Raises what ended the service, if it ended by itself."""
        self._stopping = True
        if self._consumer is not None and self._interruptible:
            self._consumer.cancel()
        for _, task in self._preparing.values():
            task.cancel()
        await self.wait()

    async def _subscribe(self) -> None:
        service = self._participant.service
        self._subscription = await self._bus.subscribe(COMMANDS + service, service)

    async def _work(self) -> None:
        async with self._tasks:
            self._consumer = self._tasks.create_task(self._consume())
        await self._subscription.close()

    # -------------------------------------------------------------------------------------------------------- commands

    async def _consume(self) -> None:
        while not self._stopping:
            self._interruptible = True
            try:
                deliveries = await self._subscription.fetch(self._limits.deliveries)
            except UnavailableError as error:
                log.warning("commands_unavailable", service=self._participant.service, error=str(error))
                await self._clock.sleep(PAUSE)
                continue
            finally:
                self._interruptible = False
            self.behind = deliveries[-1].behind
            orders, size = await self._open(deliveries), self._limits.commands
            for first in range(0, len(orders), size):
                await self._settle(orders[first : first + size])

    async def _open(self, deliveries: Sequence[Delivery]) -> Sequence[_Order]:
        """The jobs in the deliveries; what can never be handled is set aside and counts as done."""
        orders: list[_Order] = []
        dead: list[tuple[Message, _Receipt]] = []
        for receipt in map(_Receipt, deliveries):
            for message in receipt.delivery.messages:
                try:
                    orders.append(_Order(open_message(self._participant, message), receipt))
                except InputError as error:
                    log.warning("dead_letter", service=self._participant.service, id=message.id, reason=str(error))
                    dead.append((replace(message, reason=str(error)), receipt))
        await self._set_aside(dead)
        return orders

    async def _set_aside(self, dead: Sequence[tuple[Message, _Receipt]]) -> None:
        """To be looked at by people. What cannot be set aside now comes again."""
        if dead:
            self._work_done["dead_letters"] += len(dead)
            try:
                await self._bus.publish(DEAD + COMMANDS + self._participant.service, [message for message, _ in dead])
            except UnavailableError as error:
                log.warning("dead_letters_delayed", service=self._participant.service, error=str(error))
                return
            await self._done([receipt for _, receipt in dead])

    async def _settle(self, orders: Sequence[_Order]) -> None:
        """Answer what can be answered now, and let the rest be prepared."""
        jobs = [order.job for order in orders if order.failure is None]
        try:
            answers = iter(await answer(self._store, jobs) if jobs else ())
        except UnavailableError as error:
            log.warning("database_unavailable", service=self._participant.service, error=str(error))
            await self._ask_again([order.receipt for order in orders])
            return
        self._work_done["commands"] += len(jobs)
        self._work_done["commands_repeated"] += sum(job.repeated for job in jobs)
        replies: list[Message] = []
        replied: list[_Receipt] = []
        joined: list[_Receipt] = []
        for order in orders:
            given = order.failure or next(answers)
            if given is not None:
                replies.append(order.job.reply(given))
                replied.append(order.receipt)
            elif self._prepare(order):
                joined.append(order.receipt)
        if replies and not await self._published(replies):
            await self._ask_again(replied)
            replied = []
        await self._done(replied + joined)

    async def _published(self, replies: Sequence[Message]) -> bool:
        try:
            await self._bus.publish(REPLIES, replies)
            return True
        except UnavailableError as error:
            log.warning("replies_unavailable", service=self._participant.service, error=str(error))
            return False

    async def _ask_again(self, receipts: Sequence[_Receipt]) -> None:
        """Have the commands delivered again; what was done is answered from the barrier."""
        await self._clock.sleep(PAUSE)
        deliveries = [receipt.delivery for receipt in dict.fromkeys(receipts)]
        with suppress(UnavailableError):  # then they come by themselves
            await self._subscription.nack(deliveries)

    async def _done(self, receipts: Sequence[_Receipt]) -> None:
        """Count messages off their deliveries and acknowledge what is complete."""
        complete = []
        for receipt in receipts:
            receipt.remaining -= 1
            if not receipt.remaining:
                complete.append(receipt.delivery)
        if complete:
            with suppress(UnavailableError):  # then they come again and are answered from the barrier
                await self._subscription.ack(complete)

    # ------------------------------------------------------------------------------------------------------- preparing

    def _prepare(self, order: _Order) -> bool:
        """Let a command be prepared; True when it is being prepared already, and only its newer message is noted."""
        key = order.job.message.id
        if key in self._preparing:
            self._preparing[key][0].job.message = order.job.message
            return True
        if len(self._preparing) < self._limits.waiting and not self._stopping:
            self._preparing[key] = order, self._tasks.create_task(self._ready(order))
        return False

    async def _ready(self, order: _Order) -> None:
        job, seconds = order.job, self._limits.prepare_timeout
        try:
            async with self._slots, asyncio.timeout(seconds) as limit:
                await job.prepare()
        except Exception as error:
            given = TryAgain(f"preparing it took longer than {seconds:g} s") if limit.expired() else error
            self._tell_failure(job, given)
            order.failure = failed(given)
        finally:
            del self._preparing[job.message.id]
        self._prepared.append(order)
        await self._drain()

    def _tell_failure(self, job: Job, error: Exception) -> None:
        about = {"command": job.message.name, "effect_id": job.message.id}
        if isinstance(error, TryAgain) or not is_authors(error):
            log.warning("prepare_failed", error=str(error), **about)
        else:
            log.error("prepare_failed", exc_info=error, **about)

    async def _drain(self) -> None:
        """Settle what has been prepared; what becomes ready meanwhile goes into the next transaction."""
        if self._draining:
            return
        self._draining = True
        try:
            while self._prepared:
                orders, self._prepared = self._prepared, []
                await self._settle(orders)
        finally:
            self._draining = False
