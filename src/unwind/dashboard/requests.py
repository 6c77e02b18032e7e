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


def see_other(path: str, headers: Mapping[str, str] | None = None) -> Response[None]:
    """Go on there."""
    return Response(None, status_code=303, headers={**HEADERS, "Location": path, **(headers or {})})


def known(saga_id: str) -> str:
    """An id that a store may be asked for."""
    if len(saga_id) > _MAX_ID or not saga_id.isprintable():
        raise NotFoundError("there is no such saga")
    return saga_id
