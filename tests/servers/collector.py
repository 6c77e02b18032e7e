"""A collector of traces on loopback: takes OTLP over HTTP, and keeps the spans."""

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status

KINDS = {
    Sent.SPAN_KIND_INTERNAL: "internal",
    Sent.SPAN_KIND_SERVER: "server",
    Sent.SPAN_KIND_PRODUCER: "producer",
    Sent.SPAN_KIND_CONSUMER: "consumer",
}


class Collected(Struct, frozen=True):
    """A span as it came in."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    """Empty: it is a root."""
    kind: str
    began: int
    """Nanoseconds since the epoch."""
    ended: int
    failed: bool
    attributes: Mapping[str, Any]
    events: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    """Trace and span."""


class Collector:
    """What has come in so far."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.url = ""
        self._more = threading.Condition()

    def take(self, body: bytes) -> None:
        """One request."""
        asked = ExportTraceServiceRequest.FromString(body)
        with self._more:
            for resource in asked.resource_spans:
                service = _values(resource.resource.attributes)["service.name"]
                self.spans += [_collected(service, span) for scope in resource.scope_spans for span in scope.spans]
            self._more.notify_all()

    def until(self, count: int, within: float, **having: Any) -> list[Collected]:
        """The spans with these fields, as soon as there are so many. Raises TimeoutError."""

        def found() -> list[Collected]:
            return [span for span in self.spans if all(getattr(span, name) == each for name, each in having.items())]

        with self._more:
            if not self._more.wait_for(lambda: len(found()) >= count, within):
                raise TimeoutError(f"of {having} only {[span.name for span in found()]} came in")
            return found()


def _collected(service: str, span: Any) -> Collected:
    return Collected(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        KINDS[span.kind],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == Status.STATUS_CODE_ERROR,
        _values(span.attributes),
        tuple(event.name for event in span.events),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """One that listens, on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces"
            if known:
                collector.take(body)
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
            """It says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
