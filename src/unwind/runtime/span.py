"""Something that is over, as traces tell it; and the port to where it is told."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct
from prometheus_client.core import Metric

from unwind.runtime.trace_context import TraceContext

Kind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | bool]


class SpanEvent(Struct, frozen=True):
    """Something that happened within a span."""

    name: str
    at: int
    attributes: Attributes = {}


class Span(Struct, frozen=True):
    """Something that is over. Instants in microseconds since the epoch."""

    name: str
    context: TraceContext
    parent: str
    """Id of the span it is part of; empty: of none."""
    kind: Kind
    began: int
    ended: int
    failed: bool = False
    attributes: Attributes = {}
    events: Sequence[SpanEvent] = ()
    link: str = ""
    """Id of the span in the same trace that this one undoes; empty: it undoes none."""


class SpanSink(Protocol):
    """Where finished spans go."""

    def samples(self, trace_id: str, parent: TraceContext | None, name: str, kind: Kind) -> bool:
        """Whether a trace that begins here, or comes in from `parent`, is to be recorded."""
        ...

    def emit(self, spans: Sequence[Span]) -> None:
        """Take these, or drop them. Never waits, never raises."""
        ...

    def metrics(self) -> Iterator[Metric]:
        """What became of them so far."""
        ...

    async def close(self) -> None:
        """Let out what is still here."""
        ...
