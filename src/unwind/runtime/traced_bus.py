"""A bus for traces: commands carry their steps' spans, and what lies between a command's arrival and its reply is one.

So participants need know nothing of traces. Everything else is the bus's own.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from unwind.ports import COMMANDS, REPLIES, Bus, Delivery, Message, Subscription
from unwind.runtime.span import Span, SpanSink
from unwind.runtime.trace_context import TraceContext, read_context, span_id_of

ARRIVED = 8_192
"""Commands that may be in a participant's hands."""


class _Handling(Struct, frozen=True, gc=False):
    """A command that is being handled: the first delivery of it."""

    command: Message
    context: TraceContext
    topic: str
    began: int


class TracedBus:
    """Implements `Bus`."""

    def __init__(self, bus: Bus, sink: SpanSink, now: Callable[[], int], chance: Callable[[int], str]) -> None:
        """As in `Tracing`."""
        self._bus = bus
        self._sink = sink
        self._now = now
        self._chance = chance
        self._handling: dict[str, _Handling] = {}
        self.close = bus.close

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over. Raises UnavailableError."""
        if topic.startswith(COMMANDS):
            messages = [_addressed(message) for message in messages]
        await self._bus.publish(topic, messages)
        if topic == REPLIES and self._handling:
            now = self._now()
            self._sink.emit([self._handled(reply, now) for reply in messages if reply.id in self._handling])

    async def subscribe(self, topic: str, group: str) -> Subscription:
        """Join a group of consumers."""
        subscription = await self._bus.subscribe(topic, group)
        return _Watched(subscription, topic, self._arrive) if topic.startswith(COMMANDS) else subscription

    def _arrive(self, topic: str, deliveries: Sequence[Delivery]) -> None:
        handling, now = self._handling, self._now()
        for delivery in deliveries:
            for message in delivery.messages:
                context = read_context(message.traceparent)
                if context is not None and context.sampled:
                    handling.setdefault(message.id, _Handling(message, context, topic, now))
        while len(handling) > ARRIVED:  # the oldest will hardly be answered: nobody can handle them
            del handling[next(iter(handling))]

    def _handled(self, reply: Message, now: int) -> Span:
        handled = self._handling.pop(reply.id)
        command, context = handled.command, handled.context
        attributes: dict[str, str | int | bool] = {
            "messaging.operation.type": "process",
            "messaging.destination.name": handled.topic,
            "messaging.message.id": command.id,
            "unwind.saga.id": command.saga_id,
            "unwind.step": command.step,
            "unwind.direction": command.direction,
            "unwind.attempt": command.attempt,
            "unwind.command": command.name,
            "unwind.outcome": reply.outcome,
        }
        span = context.of(self._chance(8))
        name = f"process {command.name}"
        return Span(name, span, context.span_id, "consumer", handled.began, now, reply.outcome != "ok", attributes)


class _Watched:
    """Implements `Subscription`: tells what comes."""

    def __init__(
        self, subscription: Subscription, topic: str, arrive: Callable[[str, Sequence[Delivery]], None]
    ) -> None:
        self._subscription = subscription
        self._topic = topic
        self._arrive = arrive
        self.ack = subscription.ack
        self.nack = subscription.nack
        self.close = subscription.close

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self._subscription.fetch(limit)
        self._arrive(self._topic, deliveries)
        return deliveries


def _addressed(command: Message) -> Message:
    """The command as part of its step, not only of its saga."""
    context = read_context(command.traceparent)
    if context is None:
        return command
    return replace(command, traceparent=str(context.of(span_id_of(command.id))))
