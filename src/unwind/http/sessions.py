"""Logging a browser in with an API key: a cookie that no script reads, and that no other site can make it send."""

from typing import Any

from litestar.connection import ASGIConnection

from unwind.http.access import COOKIE, token_of
from unwind.http.problems import UNAUTHORIZED, RequestError
from unwind.runtime.keyring import Keyring


async def log_in(keyring: Keyring, connection: ASGIConnection[Any, Any, Any, Any], key: str) -> str:
    """Open a session with a key; the answer is the value of `Set-Cookie`.

    The session has the key's scope, and ends after twelve hours, or with the key. The route must be a POST whose scope
    is `open`: then too it is refused when a page of another site asks. Raises RequestError (401) for a key that may not
    be used, UnavailableError.
    """
    session = await keyring.log_in(key)
    if session is None:
        raise RequestError(UNAUTHORIZED, "this is no API key that may be used; `unwind keys create` makes one")
    return _cookie(connection, session.token, session.lasts)


async def log_out(keyring: Keyring, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """End the session of a request, if it has one; the answer is the value of `Set-Cookie`. Raises UnavailableError."""
    await keyring.log_out(token_of(connection.scope))
    return _cookie(connection, "", 0)


def _cookie(connection: ASGIConnection[Any, Any, Any, Any], value: str, lasts: int) -> str:
    secure = "; Secure" if connection.scope.get("scheme") == "https" else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}"
