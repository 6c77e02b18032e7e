"""Spans on their way to a collector: what becomes of them, what the SDK's variables decide, and what never waits."""

import threading
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from tests.runtime.rig import EPOCH

from unwind.errors import SettingsError
from unwind.otlp import OtlpSink, open_tracing
from unwind.runtime.clock import SystemClock
from unwind.runtime.span import Span, SpanEvent
from unwind.runtime.trace_context import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = TraceContext(TRACE, "00f067aa0ba902b7", "01")
EVENT = SpanEvent("retried", EPOCH + 1, {"attempt": 2})
SPAN = Span(
    "undo flight",
    CONTEXT,
    "a" * 16,
    "producer",
    EPOCH,
    EPOCH + 5,
    failed=True,
    attributes={"unwind.step": "flight"},
    events=(EVENT,),
    link="b" * 16,
)


class Exporter(SpanExporter):
    """Keeps what it is given; behind a gate, if it is told so."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = SpanExportResult.SUCCESS
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.busy.set()
        self.gate.wait()
        self.spans += spans
        return self.result

    def shutdown(self) -> None:
        """Nothing to close."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def counted(sink: OtlpSink) -> dict[str, float]:
    [spans] = sink.metrics()
    return {sample.labels["outcome"]: sample.value for sample in spans.samples}


async def test_a_span_goes_out_as_it_was_told() -> None:
    exporter = Exporter()
    sink = OtlpSink("unwind-worker", exporter)
    sink.emit([SPAN])
    await sink.close()
    [sent] = exporter.spans
    assert (sent.name, sent.kind, sent.status.status_code) == ("undo flight", SpanKind.PRODUCER, StatusCode.ERROR)
    context, parent = sent.get_span_context(), sent.parent
    assert context is not None
    assert parent is not None
    assert (context.trace_id, context.span_id, parent.span_id) == (int(TRACE, 16), 0xF067AA0BA902B7, int("a" * 16, 16))
    assert (sent.start_time, sent.end_time) == (EPOCH * 1_000, (EPOCH + 5) * 1_000)
    assert dict(sent.attributes or {}) == {"unwind.step": "flight"}
    [event], [link] = sent.events, sent.links
    assert (event.name, event.timestamp, event.attributes) == ("retried", (EPOCH + 1) * 1_000, {"attempt": 2})
    assert (link.context.trace_id, link.context.span_id) == (int(TRACE, 16), int("b" * 16, 16))
    assert sent.resource.attributes["service.name"] == "unwind-worker"
    assert counted(sink) == {"exported": 1, "failed": 0, "dropped": 0}


async def test_a_root_has_no_parent_and_what_did_not_fail_no_error() -> None:
    exporter = Exporter()
    sink = OtlpSink("unwind", exporter)
    sink.emit([replace(SPAN, parent="", link="", failed=False)])
    await sink.close()
    [sent] = exporter.spans
    assert (sent.parent, list(sent.links), sent.status.status_code) == (None, [], StatusCode.UNSET)


async def test_the_name_of_the_service_is_the_environments(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_SERVICE_NAME", "shop")
    exporter = Exporter()
    sink = OtlpSink("unwind", exporter)
    sink.emit([SPAN])
    await sink.close()
    assert exporter.spans[0].resource.attributes["service.name"] == "shop"


async def test_of_very_many_events_the_latest_go_along() -> None:
    exporter = Exporter()
    sink = OtlpSink("unwind", exporter)
    sink.emit([replace(SPAN, events=[replace(EVENT, attributes={"attempt": number}) for number in range(1_000)])])
    await sink.close()
    attempts = [(event.attributes or {})["attempt"] for event in exporter.spans[0].events]
    assert attempts == list(range(872, 1_000))


async def test_what_the_queue_has_no_room_for_is_dropped_and_counted(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    exporter = Exporter()
    exporter.gate.clear()
    sink = OtlpSink("unwind", exporter)
    sink.emit([SPAN] * 3)
    exporter.busy.wait()
    sink.emit([SPAN] * 3)
    assert counted(sink) == {"exported": 0, "failed": 0, "dropped": 2}
    exporter.gate.set()
    await sink.close()
    assert counted(sink) == {"exported": 4, "failed": 0, "dropped": 2}


async def test_what_the_collector_does_not_take_is_counted() -> None:
    exporter = Exporter()
    exporter.result = SpanExportResult.FAILURE
    sink = OtlpSink("unwind", exporter)
    sink.emit([SPAN] * 3)
    await sink.close()
    assert counted(sink) == {"exported": 0, "failed": 3, "dropped": 0}


async def test_a_collector_that_hangs_does_not_hold_the_end(environment: pytest.MonkeyPatch) -> None:
    environment.setattr("unwind.otlp._CLOSING", 0.01)
    exporter = Exporter()
    exporter.gate.clear()
    sink = OtlpSink("unwind", exporter)
    sink.emit([SPAN])
    await sink.close()
    assert exporter.spans == []
    exporter.gate.set()


@pytest.mark.parametrize(
    ("sampler", "argument", "caller", "sampled"),
    [
        ("", "", None, True),
        ("", "", CONTEXT, True),
        ("", "", replace(CONTEXT, flags="00"), False),
        ("always_off", "", CONTEXT, False),
        ("parentbased_always_off", "", None, False),
        ("parentbased_always_off", "", CONTEXT, True),
        ("always_on", "", replace(CONTEXT, flags="00"), True),
        ("parentbased_traceidratio", "0", None, False),
        ("parentbased_traceidratio", "1", None, True),
        ("traceidratio", "0", CONTEXT, False),
    ],
)
async def test_what_is_recorded_is_said_by_the_caller_and_the_sampler(
    environment: pytest.MonkeyPatch, sampler: str, argument: str, caller: TraceContext | None, sampled: bool
) -> None:
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)):
        if value:
            environment.setenv(name, value)
    sink = OtlpSink("unwind", Exporter())
    assert sink.samples(TRACE, caller, "POST", "server") is sampled
    await sink.close()


async def test_sizes_that_make_no_sense_are_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(SettingsError, match="OTEL_BSP"):
        open_tracing("unwind", None, SystemClock())
