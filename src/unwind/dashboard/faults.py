"""Errors as pages: what happened, whose fault it is, what to do."""

from http import HTTPStatus
from urllib.parse import urlencode

import structlog
from litestar import Response
from litestar.exceptions import HTTPException
from msgspec import Struct

from unwind.dashboard.pages import Pages
from unwind.dashboard.requests import AnyRequest, page_behind
from unwind.errors import InputError, NotFoundError, OverloadedError, RejectedError, StateError, UnavailableError
from unwind.http.access import COOKIE
from unwind.http.problems import UNAUTHORIZED, RequestError

log = structlog.get_logger("unwind.dashboard")


class Fault(Struct, frozen=True):
    """What a page says went wrong."""

    status: int
    title: str
    detail: str
    advice: str


def fault_of(error: Exception) -> Fault | None:
    """How an error is told; None: it is a fault of ours, whose words are for the log."""
    detail = str(error)
    match error:
        case RequestError():
            return Fault(error.kind.status, error.kind.title, detail, "Nothing was done.")
        case NotFoundError():
            advice = "Check the address; a saga is found by its whole id, see the list."
            return Fault(404, "There is no such thing", detail, advice)
        case StateError():
            advice = "Nothing was done. Look at the saga as it is now, and decide again."
            return Fault(409, "The saga's state forbids it", detail, advice)
        case InputError():
            return Fault(
                422, "This cannot be accepted", detail, "Nothing was done. Go back, mend it, and send it again."
            )
        case RejectedError():
            return Fault(422, "This cannot be accepted", "The store refuses this data.", "Nothing was done.")
        case OverloadedError():
            return Fault(503, "Too busy now", detail, "Nothing was accepted; repeat it in some seconds.")
        case UnavailableError():
            advice = "Repeat it in some seconds: that is safe. The outcome of an act may be unknown until then."
            return Fault(503, "A dependency does not answer", detail, advice)
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            phrase = HTTPStatus(error.status_code).phrase
            return Fault(error.status_code, phrase, error.detail, "Go back, or to the overview.")
    return None


def fault_page(pages: Pages, request: AnyRequest, error: Exception) -> Response[str]:
    """The page for an error, which is logged where it is ours."""
    request_id = str(request.scope.get("request_id", ""))
    login = ""
    fault = fault_of(error)
    if isinstance(error, RequestError) and error.kind is UNAUTHORIZED:
        fault, login = _to_log_in(request), f"/login?{urlencode({'next': page_behind(request)})}"
    if fault is None:
        log.error("page_failed", request_id=request_id, path=request.scope["path"], exc_info=error)
        fault = Fault(500, "Something is wrong on our side", "It is in the log.", f"Quote this id: {request_id}")
    page = pages.render("fault.html", fault.status, fault=fault, login=login)
    if isinstance(error, RequestError):
        page.headers.update(error.headers)
    return page


def _to_log_in(request: AnyRequest) -> Fault:
    """For people: how to send a key with each call is for programs."""
    advice = "Log in with an API key; you then come back here. What you sent just now was not done."
    if COOKIE in request.cookies:
        why = "Your session has ended, or its key is no longer valid."
        return Fault(UNAUTHORIZED.status, "You are not logged in any more", why, advice)
    return Fault(UNAUTHORIZED.status, "You are not logged in", "This page is for those who have an API key.", advice)
