"""A span for each call that begins something or is traced by its caller: what it begins is part of the same trace.

Other reads have none: clients poll, and a dashboard stays open for hours.
"""

from typing import Any

from litestar import Litestar
from litestar.types import Message, Receive, Scope, Send

from unwind.runtime.trace_context import read_context
from unwind.runtime.tracing import Tracing

_HEADER = b"traceparent"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_ERROR = 500


class Traced:
    """An application whose calls are told of. It finds its own span in the header, in place of its caller's."""

    def __init__(self, inner: Litestar, tracing: Tracing) -> None:
        """Wraps an application."""
        self._inner = inner
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        method = str(scope.get("method", ""))
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        caller = read_context(given[0]) if len(given) == 1 else None
        if method in _READS and caller is None:
            await self._inner(scope, receive, send)
            return
        call = self._tracing.called(caller, method)
        others = [header for header in scope["headers"] if header[0] != _HEADER]
        scope["headers"] = [*others, (_HEADER, str(call.context).encode())]
        status = _ERROR

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._inner(scope, receive, send_seen)
        finally:
            route = str(scope.get("path_template") or "")
            about: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
            about |= {"http.route": route} if route else {}
            about["unwind.request_id"] = scope.get("request_id", "")
            self._tracing.answered(call, f"{method} {route}".rstrip(), about, failed=status >= _ERROR)
