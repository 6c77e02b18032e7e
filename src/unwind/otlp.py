"""Spans to an OpenTelemetry collector, by OTLP over HTTP: what the SDK samples, batches and sends, with its variables.

Only what is needed of the SDK is put together: its samplers, its resource, its batches and its exporter. Our spans have
ids of their own making and are over when they are told, so that there is no tracer.
"""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from secrets import token_hex
from time import time_ns

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from prometheus_client.core import CounterMetricFamily, Metric

from unwind.errors import SettingsError
from unwind.ports import Clock, Store
from unwind.runtime.span import Kind, Span
from unwind.runtime.trace_context import TraceContext
from unwind.runtime.tracing import Tracing

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_FAILED, _NOT_FAILED = Status(StatusCode.ERROR), Status(StatusCode.UNSET)
_QUEUE = 2_048
"""The SDK's own default of OTEL_BSP_MAX_QUEUE_SIZE."""
_SOME = 128
"""The SDK's own default of OTEL_SPAN_EVENT_COUNT_LIMIT: events of one span that go along, the latest."""
_CLOSING = 1.5
"""Seconds for what is still here when the process ends."""


def open_tracing(service: str, store: Store | None, clock: Clock) -> Tracing:
    """A process's traces, which go to a collector. Raises SettingsError for variables that do not go together."""
    try:
        sink = OtlpSink(service)
    except ValueError as error:
        raise SettingsError(f"OTEL_BSP_*: {error}") from error
    return Tracing(sink, store, clock, lambda: time_ns() // 1_000, token_hex)


class OtlpSink:
    """Implements `SpanSink`. The environment's OTEL_ variables say where to, how much and how often."""

    def __init__(self, service: str, exporter: SpanExporter | None = None) -> None:
        """`service` is this process's name unless OTEL_SERVICE_NAME says; `exporter` another one than OTLP's.

        Raises ValueError for sizes of batches that make no sense.
        """
        provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        self._sampler, self._resource = provider.sampler, provider.resource
        self._counted = _Counted(exporter or OTLPSpanExporter())
        self._most = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or _QUEUE)
        self._processor = BatchSpanProcessor(self._counted, max_queue_size=self._most)
        self._scope = InstrumentationScope("unwind")
        self._taken = 0
        self._dropped = 0

    def samples(self, trace_id: str, parent: TraceContext | None, name: str, kind: Kind) -> bool:
        """As the sampler says that OTEL_TRACES_SAMPLER names."""
        above = None if parent is None else set_span_in_context(NonRecordingSpan(_context(parent, remote=True)))
        result = self._sampler.should_sample(above, int(trace_id, 16), name, _KINDS[kind])
        return result.decision is Decision.RECORD_AND_SAMPLE

    def emit(self, spans: Sequence[Span]) -> None:
        """Take as many as the queue has room for."""
        room = max(self._most - (self._taken - self._counted.exported - self._counted.failed), 0)
        self._dropped += max(len(spans) - room, 0)
        self._taken += min(len(spans), room)
        for span in spans[:room]:
            self._processor.on_end(self._readable(span))

    def metrics(self) -> Iterator[Metric]:
        """Spans by what became of them."""
        spans = CounterMetricFamily("unwind_spans", "Finished spans, by what became of them", labels=["outcome"])
        spans.add_metric(["exported"], self._counted.exported)
        spans.add_metric(["failed"], self._counted.failed)
        spans.add_metric(["dropped"], self._dropped)
        yield spans

    async def close(self) -> None:
        """Send what is still here, for a moment: a collector that hangs does not hold the process."""
        loop = asyncio.get_running_loop()
        closed = loop.create_future()

        def close() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the loop was not waited with, and is closed
                loop.call_soon_threadsafe(closed.set_result, None)

        # A daemon: a thread of a pool would be waited for at the end, as long as the SDK tries.
        threading.Thread(target=close, name="closing traces", daemon=True).start()
        await asyncio.wait({closed}, timeout=_CLOSING)

    def _readable(self, span: Span) -> ReadableSpan:
        context = span.context
        return ReadableSpan(
            span.name,
            _context(context),
            _context(context.of(span.parent), remote=True) if span.parent else None,
            self._resource,
            span.attributes,
            [Event(each.name, each.attributes, each.at * 1_000) for each in span.events[-_SOME:]],
            [Link(_context(context.of(span.link)))] if span.link else [],
            _KINDS[span.kind],
            status=_FAILED if span.failed else _NOT_FAILED,
            start_time=span.began * 1_000,
            end_time=span.ended * 1_000,
            instrumentation_scope=self._scope,
        )


class _Counted(SpanExporter):
    """Counts what another exporter does, in its thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _resource(service: str) -> Resource:
    named = Resource.create()
    given = named.attributes.get(SERVICE_NAME, "")
    return named if not str(given).startswith("unknown_service") else named.merge(Resource({SERVICE_NAME: service}))


def _context(context: TraceContext, *, remote: bool = False) -> SpanContext:
    flags = TraceFlags(int(context.flags, 16))
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), remote, flags)
