"""Lets in who may: callers known by key or session, with the scope that the route asks for, from our own pages."""

import re
from collections.abc import Awaitable, Callable, Iterator
from http.cookies import CookieError, SimpleCookie
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Scope as Connection

from unwind.access import SCOPES, Scope, includes
from unwind.errors import DefinitionError
from unwind.http.problems import FORBIDDEN, FOREIGN, UNAUTHORIZED, RequestError
from unwind.runtime.keyring import EVERYBODY, Caller, Keyring
from unwind.settings import is_loopback

API_KEY = "X-API-Key"
COOKIE = "unwind_session"
OPEN = "open"
"""In place of a scope: answered to everybody, without a look at keys."""
_CALLER = "unwind.caller"
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_REALM = 'Bearer realm="unwind"'
_PORTS = {"http": 80, "https": 443}

AnyConnection = ASGIConnection[Any, Any, Any, Any]
Identify = Callable[[Connection], Awaitable[Caller | None]]
Guard = Callable[[AnyConnection, BaseRouteHandler], Awaitable[None]]


def scope_of(handler: BaseRouteHandler) -> str:
    """What a route asks for: a scope, or `open`. Raises DefinitionError where it does not say."""
    scope = handler.opt.get("scope")
    if scope != OPEN and scope not in SCOPES:
        known = ", ".join(f'scope="{each}"' for each in (*SCOPES, OPEN))
        raise DefinitionError(f"route {handler}: say who may call it, with one of {known}")
    return str(scope)


def scopes_in(app: Litestar) -> Iterator[tuple[str, str, str]]:
    """Path, method and scope of each route that is not the framework's own. Raises what `scope_of` does."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in handler.http_methods:
                if method != "OPTIONS" or "scope" in handler.opt:
                    yield _PATH_PARAMETER.sub(r"{\1}", route.path), method, scope_of(handler)


def identified_by(keyring: Keyring | None) -> Identify:
    """Finds out who calls, once in each request. Without a keyring it is everybody, as where there are no keys."""

    async def identify(connection: Connection) -> Caller | None:
        memory: dict[str, Any] = connection  # type: ignore[assignment]
        if _CALLER not in memory:
            memory[_CALLER] = EVERYBODY if keyring is None else await keyring.caller(token_of(connection))
        caller: Caller | None = memory[_CALLER]
        return caller

    return identify


def guarded_by(identify: Identify) -> Guard:
    """Holds for every route: raises RequestError, 401 for who is not known, 403 for what he may not."""

    async def guard(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        if connection.scope.get("method") == "OPTIONS" and "scope" not in handler.opt:
            return  # answered by the framework, for every path alike
        _check_origin(connection.scope)
        needed = scope_of(handler)
        if needed == OPEN:
            return
        caller = await identify(connection.scope)
        if caller is EVERYBODY:
            _check_near(connection.scope)
        if caller is None:
            raise _unknown(connection.scope)
        if caller.session and not _from_our_page(connection.scope):
            raise RequestError(FOREIGN, "a session is for browsers, and this names no Origin; send an API key instead")
        wanted: Scope = needed  # type: ignore[assignment]
        if not includes(caller.scope, wanted):
            raise RequestError(
                FORBIDDEN,
                f"this needs the scope {wanted!r}, and the key {caller.key_id} of {caller.name} has {caller.scope!r}",
                headers={"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{wanted}"'},
            )

    return guard


def actor_of(connection: AnyConnection) -> str:
    """Who acts: the name of the key. What the caller says of himself counts for nothing."""
    caller: Caller = connection.scope.get(_CALLER, EVERYBODY)  # type: ignore[assignment]
    return caller.name


def token_of(connection: Connection) -> str:
    """The key of a request, or its session where it has no key; empty: neither, or two that differ."""
    headers = Headers.from_scope(connection)
    keys = set(headers.getall(API_KEY, []))
    for given in headers.getall("Authorization", []):
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer":
            keys.add(token.strip())
    if keys:
        return keys.pop() if len(keys) == 1 else ""
    return _session_in(headers.getall("Cookie", []))


def _session_in(cookies: list[str]) -> str:
    found = []
    for text in cookies:
        try:
            morsel = SimpleCookie(text).get(COOKIE)
        except CookieError:
            continue
        found += [] if morsel is None else [morsel.value]
    return found[0] if len(found) == 1 else ""


def _unknown(connection: Connection) -> RequestError:
    given = any(name in Headers.from_scope(connection) for name in (API_KEY, "Authorization", "Cookie"))
    why = "the key, or session, is none that may be used" if given else "this needs an API key"
    return RequestError(
        UNAUTHORIZED,
        f"{why}; send one as Authorization: Bearer KEY, or {API_KEY}: KEY (`unwind keys create` makes one)",
        headers={"WWW-Authenticate": f'{_REALM}, error="invalid_token"' if given else _REALM},
    )


# ------------------------------------------------------------------------------------------------------- from elsewhere


def _check_origin(connection: Connection) -> None:
    """A browser says which page makes it send what changes something: only our own pages may."""
    if connection.get("method") in _SAFE:
        return
    headers = Headers.from_scope(connection)
    origins, site = headers.getall("Origin", []), headers.get("Sec-Fetch-Site", "none")
    if site not in {"same-origin", "none"} or any(not _same(origin, headers.get("Host", "")) for origin in origins):
        raise RequestError(FOREIGN, "a page of another site made the browser send this; nothing was done")


def _from_our_page(connection: Connection) -> bool:
    """Whether a browser has said so, or nothing is changed. That an Origin is ours has been checked."""
    return connection.get("method") in _SAFE or "Origin" in Headers.from_scope(connection)


def _same(origin: str, host: str) -> bool:
    """Whether both name one host and port. Not the scheme: TLS may end before us."""
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"{page.scheme}://{host}")
        usual = _PORTS[page.scheme]
        return bool(page.hostname) and (page.hostname, page.port or usual) == (asked.hostname, asked.port or usual)
    except (KeyError, ValueError):
        return False


def _check_near(connection: Connection) -> None:
    """Without keys only this machine is served, and only under its own name.

    By another name ask a proxy, behind which anybody may stand, or a page whose name was made to lead here.
    """
    client = connection.get("client")
    try:
        host = urlsplit(f"http://{Headers.from_scope(connection).get('Host', '')}").hostname or ""
    except ValueError:
        host = ""
    if (client and not _is_near(client[0])) or not is_loopback(host):
        raise RequestError(
            FORBIDDEN,
            f"as long as there is no API key only this machine is served, as localhost, and not {host!r:.80}; "
            "make a key: unwind keys create",
        )


def _is_near(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback
