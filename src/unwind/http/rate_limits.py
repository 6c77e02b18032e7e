"""Refuses clients that call too often, and tells all of them how much they may (IETF draft on RateLimit fields)."""

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from unwind.http.access import Identify
from unwind.http.problems import TOO_MANY, RequestError
from unwind.ports import Allowance, RateLimiter

_READS = {"GET", "HEAD"}
_FREE = {"OPTIONS"}
_SECOND = 1_000_000
_NETWORK = 64
"""Bits of an IPv6 address that one customer of a provider has in common."""


def limited_by(limiter: RateLimiter, identify: Identify) -> Callable[[ASGIApp], ASGIApp]:
    """The middleware. A function, because the framework copies whatever objects it is given."""
    return lambda app: _RateLimited(app, limiter, identify)


class _RateLimited:
    """Counts reads and writes apart, for each client."""

    def __init__(self, app: ASGIApp, limiter: RateLimiter, identify: Identify) -> None:
        """Wraps what answers."""
        self._app = app
        self._limiter = limiter
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises RequestError when there are too many."""
        if scope["type"] != ScopeType.HTTP or scope["method"] in _FREE:
            await self._app(scope, receive, send)
            return
        kind = "read" if scope["method"] in _READS else "write"
        caller = await self._identify(scope)
        client = f"key:{caller.key_id}" if caller is not None and caller.key_id else address_of(scope)
        allowance = await self._limiter.take(client, kind)
        told = self._told(kind, allowance)
        if not allowance.allowed:
            seconds = _seconds(allowance.wait)
            raise RequestError(
                TOO_MANY,
                f"at most {self._limiter.rate.per_second} calls per second are served to a client; "
                f"nothing was done, repeat in {seconds} s",
                headers={**told, "Retry-After": str(seconds)},
            )
        added = [(name.lower().encode(), value.encode()) for name, value in told.items()]

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_told)

    def _told(self, kind: str, allowance: Allowance) -> dict[str, str]:
        rate = self._limiter.rate
        window = -(-rate.burst // rate.per_second)
        return {
            "RateLimit-Policy": f'"{kind}";q={rate.burst};w={window}',
            "RateLimit": f'"{kind}";r={allowance.remaining};t={_seconds(allowance.reset)}',
        }


def address_of(scope: Scope) -> str:
    """Where a call comes from that brings no valid key: who guesses at keys is limited too."""
    client = scope.get("client")
    if not client:
        return "address:local"
    try:
        address = ip_address(client[0])
    except ValueError:
        return f"address:{client[0]:.100}"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return f"address:{int(address) >> (128 - _NETWORK):x}"
        address = address.ipv4_mapped
    return f"address:{address}"


def _seconds(duration: int) -> int:
    return -(-duration // _SECOND)
