"""The road from a terminal to the HTTP API: one call, its answer, and what went wrong in words."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NoReturn

import httpx
import msgspec

from unwind.cli.terminal import version_of

DEFAULT_URL = "http://127.0.0.1:8080"
REFUSED, WRONG, SILENT = 1, 2, 3
"""Exit codes: the server said no; the call makes no sense; nobody answers."""
TIMEOUT = 30.0
"""Seconds."""


WAIT = 1.0
"""Seconds until a question is repeated that the server has put off without saying for how long."""
_LONGEST_WAIT = 60.0


class Answer(msgspec.Struct, frozen=True):
    """What the API said."""

    text: str
    """To the letter."""
    body: Any


class NoAnswerError(Exception):
    """A call that came to nothing: the text says why, and what to do."""

    def __init__(self, code: int, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        """To exit with."""
        self.wait = wait
        """Seconds after which the same may be tried again; None: that would change nothing."""


def call(
    method: str,
    url: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: bytes | None = None,
    key: str = "",
    program: str = "unwind",
) -> Answer:
    """Call the API at `url`. `body` is JSON; `key` the Idempotency-Key, empty for none; `program` is who says it.

    Whatever is not a yes is said on stderr, and ends the program: 1 for a refusal, 2 for a URL that is none, 3 where
    nobody answers.
    """
    try:
        with client() as opened:
            return ask(opened, method, url, path, query=query, body=body, key=key)
    except NoAnswerError as error:
        fail(error.code, str(error), program)


def ask(
    http: httpx.Client,
    method: str,
    url: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: bytes | None = None,
    key: str = "",
) -> Answer:
    """As `call`, for those who ask again and again. Raises NoAnswerError."""
    base = f"{url.rstrip('/')}/api/v1"
    headers = ({"Content-Type": "application/json"} if body is not None else {}) | (
        {"Idempotency-Key": key} if key else {}
    )
    headers |= credentials()
    given = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        response = http.request(method, base + path, params=given, content=body, headers=headers)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        text = f"{shown(url)!r} is no address of an HTTP server ({error}); correct --url, or UNWIND_URL"
        raise NoAnswerError(WRONG, text) from error
    except httpx.TransportError as error:
        raise NoAnswerError(SILENT, _silence(error, method, url), WAIT) from error
    except httpx.DecodingError as error:
        text = f"{shown(url)} answered what cannot be decoded; is it the right server?"
        raise NoAnswerError(REFUSED, text) from error
    try:
        decoded = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    if not response.is_success or not isinstance(decoded, dict):
        text = _refusal(response.status_code, decoded, url) + _advice(response.status_code)
        raise NoAnswerError(REFUSED, text, wait_of(response))
    return Answer(response.text, decoded)


def wait_of(response: httpx.Response) -> float | None:
    """Seconds after which the server wants to be asked again; None: what it said is final."""
    if response.status_code not in {HTTPStatus.TOO_MANY_REQUESTS, *_PASSING}:
        return None
    said = response.headers.get("Retry-After", "")
    return min(float(said), _LONGEST_WAIT) if said.isascii() and said.isdigit() else WAIT


_PASSING = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


def credentials() -> dict[str, str]:
    """The API key of the environment, which is never shown."""
    key = os.environ.get("UNWIND_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        fail(WRONG, "UNWIND_API_KEY has signs in it that no key has; copy it once more")
    return {"Authorization": f"Bearer {key}"} if key else {}


def client(timeout: float = TIMEOUT) -> httpx.Client:
    """What calls are made with, as the environment says; where that makes no sense, it ends the program."""
    try:
        return httpx.Client(timeout=timeout)
    except (ValueError, ImportError, OSError) as error:
        fail(
            WRONG,
            f"the environment's settings for HTTP cannot be used ({error}); correct HTTP_PROXY, HTTPS_PROXY, "
            "ALL_PROXY, SSL_CERT_FILE or SSL_CERT_DIR",
        )


def _silence(error: httpx.TransportError, method: str, url: str) -> str:
    """Whether nobody was there, or somebody who has perhaps done what was asked."""
    why = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return f"nobody answers at {shown(url)} ({why}); start the server, or say where it is: --url, or UNWIND_URL"
    told = f"{shown(url)} was asked and gave no answer ({why}); is it the right server (--url, or UNWIND_URL)?"
    if method == "GET":
        return told
    return f"{told}\n  it may have been done all the same: look at the saga's history before you repeat it"


def shown(url: str) -> str:
    """A URL as it may be told: without the password that may stand in it."""
    return re.sub(r"//[^/]*@", "//", url)


@contextmanager
def understood() -> Iterator[None]:
    """Reads an answer. One that lacks what this program looks for is told: another server's, or another version's."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        known = f"the answer is not as unwind {version_of('unwind')} knows it ({type(error).__name__}: {error})"
        fail(REFUSED, f"{known}; is it the right server, and of this version?")


def _refusal(status: int, problem: Any, url: str) -> str:
    """A problem (RFC 9457) as text: what, why, and which field."""
    if not isinstance(problem, dict) or "title" not in problem:
        return f"{shown(url)} answered {status}, and not as the API does; is it the right server?"
    lines = [": ".join(str(problem[part]) for part in ("title", "detail") if problem.get(part))]
    errors = problem.get("errors")
    for error in errors if isinstance(errors, list) else ():
        lines += [f"  {error.get('field')}: {error.get('reason')}"] if isinstance(error, dict) else [f"  {error}"]
    return "\n".join(lines)


def _advice(status: int) -> str:
    return "\n  UNWIND_API_KEY gives the key to be sent" if status == HTTPStatus.UNAUTHORIZED else ""


def fail(code: int, message: str, program: str = "unwind") -> NoReturn:
    """Say what is wrong on stderr, and end the program."""
    sys.stderr.write("\n".join(f"{program}: {clean(line)}" for line in message.splitlines()) + "\n")
    raise SystemExit(code)


def clean(value: object) -> str:
    """Text that does nothing to a terminal: names and reasons were written by anybody."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))
