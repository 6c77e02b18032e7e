"""What comes from a browser: checked to come from our own pages, its ids and forms read within limits."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation

from unwind.dashboard.pages import HEADERS
from unwind.errors import InputError, NotFoundError
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries

AnyRequest = Request[Any, Any, Any]
TheEngine = NamedDependency[SkipValidation[Engine]]
TheQueries = NamedDependency[SkipValidation[Queries]]

Form = Mapping[str, str]
"""Names and values, stripped; of one that stands twice the last counts."""
_SAFE = {"GET", "HEAD", "OPTIONS"}
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 64
_MAX_ID = 255
_MAX_ADDRESS = 2_000
_PASSED = {"/login", "/logout"}
"""Pages that nobody wants to come back to."""
MAX_TEXT = 1_000
"""Characters of what a person types to be kept in a history."""


def from_our_pages(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse whatever would change something and does not say that it comes from a page of ours.

    Browsers say so with every form. What stands in between may change the scheme, so hosts are compared.
    """
    if connection.scope.get("method") in _SAFE:
        return
    site = connection.headers.get("sec-fetch-site", "same-origin")
    origin = connection.headers.get("origin", "")
    host = connection.headers.get("host", "")
    if site != "same-origin" or not host or urlsplit(origin).netloc.lower() != host.lower():
        raise PermissionDeniedException(
            "this did not come from a page of this dashboard, so nothing was done; open the page here and repeat it"
        )


async def read_form(request: AnyRequest) -> Form:
    """A form's fields. Raises InputError for what is no form."""
    kind, _ = request.content_type
    if kind.lower() != _FORM:
        raise InputError(f"send the form as {_FORM}")
    try:
        body = (await request.body()).decode()
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:  # not UTF-8, or too many fields
        raise InputError("the form cannot be read; open its page again and repeat it") from error
    return {name: value.strip().replace("\r\n", "\n") for name, value in pairs}


def line_of(form: Form, name: str) -> str:
    """A field's text, on one line. Raises InputError for what is too long, or hides."""
    text = form.get(name, "")
    if len(text) > MAX_TEXT or not text.replace("\n", "").isprintable():
        raise InputError(f"{name}: give at most {MAX_TEXT} printable characters", name)
    return text.replace("\n", " ")


def whole_of(form: Form, name: str, most: int) -> int:
    """A field's whole number, from 0. Raises InputError."""
    text = form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise InputError(f"{name}: give a whole number up to {most}", name)
    return int(text)


def local(address: str) -> str:
    """A path on this host, with its query, as somebody gave it; `/` in place of whatever may lead elsewhere."""
    # Browsers take a backslash for a slash, two slashes for a host, and leave out control characters before they look.
    if not address.startswith("/") or address.startswith("//") or "\\" in address or not address.isprintable():
        return "/"
    path = urlsplit(address).path
    return "/" if len(address) > _MAX_ADDRESS or path in _PASSED or path.startswith("/live/") else address


def page_behind(request: AnyRequest) -> str:
    """The page that somebody wants, or sent a form from: where to go back to once he has logged in."""
    if request.method in _SAFE:
        query = request.url.query
        return local(f"{request.scope['raw_path'].decode('latin-1')}{'?' if query else ''}{query}")
    return page_before(request)


def page_before(request: AnyRequest) -> str:
    """The page of ours that a link or a form was on; `/` where the browser does not say."""
    before = urlsplit(request.headers.get("referer", ""))
    if not before.netloc or before.netloc.lower() != request.headers.get("host", "").lower():
        return "/"
    return local(f"{before.path}{'?' if before.query else ''}{before.query}")


def see_other(path: str, headers: Mapping[str, str] | None = None) -> Response[None]:
    """Go on there."""
    return Response(None, status_code=303, headers={**HEADERS, "Location": path, **(headers or {})})


def known(saga_id: str) -> str:
    """An id that a store may be asked for."""
    if len(saga_id) > _MAX_ID or not saga_id.isprintable():
        raise NotFoundError("there is no such saga")
    return saga_id
