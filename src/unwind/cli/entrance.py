"""The way in while an application starts: the process is alive, it is not ready, and everything else must wait."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from unwind.cli.problem import problem

Application = Callable[..., Awaitable[None]]
"""ASGI."""

_JSON = b"application/json"
_STARTING = "the process is starting; its log says what it waits for"
_RETRY_AFTER = b"2"


class Entrance:
    """An ASGI application that answers by itself until `app` is there."""

    def __init__(self) -> None:
        """`app` is set by whoever has started it."""
        self.app: Application | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        status, kind, body = _answer(scope["path"])
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        if status != _OK:
            headers.append((b"retry-after", _RETRY_AFTER))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


_OK, _UNAVAILABLE = 200, 503


def _answer(path: str) -> tuple[int, bytes, bytes]:
    if path in {"/health", "/livez"}:
        return _OK, _JSON, b'{"status":"ok"}'
    if path == "/readyz":
        start = {"status": "unavailable", "error": _STARTING}
        return _UNAVAILABLE, _JSON, msgspec.json.encode({"status": "unavailable", "checks": {"start": start}})
    kind, body = problem(_UNAVAILABLE, "unavailable", "A dependency does not answer", _STARTING, path)
    return _UNAVAILABLE, kind, body
