"""Bounds on the heads of requests, which uvicorn has none for: their size, and the time they may take to come."""

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from unwind.cli.problem import problem

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 10.0
LINGER_SECONDS = 1.0
"""How long a refused client may go on sending: to hang up at once would take the answer from it."""


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol for one connection, which refuses what is too large or too slow to be a request."""

    seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*arguments, **named)
        self._no_body = 0
        """Bytes in a row that were no body: a head, or the endless trailers and extensions of a chunked body."""
        self._head_open = True
        """The next head has not come whole."""
        self._timer: TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._no_body += len(data)
        super().data_received(data)
        if self._no_body > HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", _TOO_LARGE)
        elif self._head_open and self._no_body:
            self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_open:  # trailers are not asked for, and are no headers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._unwatch()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", _TOO_LARGE)
            raise ValueError(_TOO_LARGE)  # ends the parsing
        self._no_body = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._no_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._no_body = 0
        self._head_open = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "malformed", "this is not understood as HTTP/1.1")

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._too_slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._no_body:
            late = f"the head of the request has not come whole within {self.seconds:g} s"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "head-too-slow", late)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, name: str, detail: str) -> None:
        """Answer, unless another answer is under way, and hang up."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._unwatch()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.transport.close()
            return
        kind, body = problem(status, name, status.phrase, detail)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
        head %= (status, status.phrase.encode(), kind, len(body))
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)


_TOO_LARGE = f"the head of the request has more than {HEAD_BYTES} bytes"
