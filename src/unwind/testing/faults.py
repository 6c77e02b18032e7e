"""A bus that misbehaves on demand: it loses, duplicates, delays and reorders what another bus carries."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any

import structlog
from msgspec import Struct

from unwind.errors import UnavailableError
from unwind.ports import Bus, Clock, Message, Subscription

log = structlog.get_logger("unwind.testing")


class Faults(Struct, frozen=True):
    """How often a message meets each fault, from 0 (never) to 1 (always)."""

    lose: float = 0.0
    duplicate: float = 0.0
    """A copy comes at some time within `spread`."""
    delay: float = 0.0
    """The message comes at some time within `spread`."""
    reorder: float = 0.0
    """The message waits until a later publication on its topic has overtaken it, at most for `spread`."""
    refuse: float = 0.0
    """Per publication: `publish` raises UnavailableError, though in half of the cases it has been handed over."""
    spread: int = 1_000_000
    """In microseconds."""


class FaultyBus:
    """Implements `Bus` over another bus. The same chances, messages and clock give the same faults."""

    def __init__(self, bus: Bus, chance: Random, clock: Clock, faults: Faults) -> None:
        """Subscriptions are those of `bus`; only what is published is tampered with."""
        self._bus = bus
        self._chance = chance
        self._clock = clock
        self._overtaken: dict[str, list[Message]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self.faults = faults
        """May be changed at any time; `Faults()` heals the bus."""
        self.injected: Counter[str] = Counter()
        """How many messages were lost, duplicated, delayed, reordered, and publications refused."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over what is neither lost nor late; what is late follows as publications of one message."""
        refused, handed_over = self._chance.random() < self.faults.refuse, self._chance.random() < 0.5
        if refused:
            self.injected["refused"] += 1
        if not refused or handed_over:
            overtaken = self._overtaken.pop(topic, [])
            prompt = [message for message in messages if self._spared(topic, message)]
            if prompt:
                await self._bus.publish(topic, prompt)
            for message in overtaken:
                await self._bus.publish(topic, [message])
        if refused:
            raise UnavailableError("injected: the bus is down")

    async def subscribe(self, topic: str, group: str) -> Subscription:
        """A subscription of the bus below."""
        return await self._bus.subscribe(topic, group)

    async def close(self) -> None:
        """Lose what is late, and close the bus below."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._bus.close()

    def _spared(self, topic: str, message: Message) -> bool:
        """Whether a message goes out now. Each draws as often, so that rates do not shift one another's luck."""
        lose, duplicate, delay, reorder, early, late = (self._chance.random() for _ in range(6))
        faults, injected = self.faults, self.injected
        if lose < faults.lose:
            injected["lost"] += 1
            return False
        if duplicate < faults.duplicate:
            injected["duplicated"] += 1
            self._start(self._send_late(topic, message, int(late * faults.spread)))
        if delay < faults.delay:
            injected["delayed"] += 1
            self._start(self._send_late(topic, message, int(early * faults.spread)))
            return False
        if reorder < faults.reorder:
            injected["reordered"] += 1
            waiting = self._overtaken.setdefault(topic, [])
            waiting.append(message)
            self._start(self._send_at_last(topic, message, waiting))
            return False
        return True

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _send_late(self, topic: str, message: Message, after: int) -> None:
        await self._clock.sleep(after)
        try:
            await self._bus.publish(topic, [message])
        except UnavailableError as error:
            self.injected["lost"] += 1
            log.debug("late_message_lost", topic=topic, id=message.id, error=str(error))

    async def _send_at_last(self, topic: str, message: Message, waiting: list[Message]) -> None:
        """Nothing may come that overtakes it: then it goes all the same."""
        await self._clock.sleep(self.faults.spread)
        if self._overtaken.get(topic) is waiting and message in waiting:
            waiting.remove(message)
            await self._send_late(topic, message, 0)
