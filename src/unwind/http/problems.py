"""Errors as answers: every failure leaves as `application/problem+json` (RFC 9457) with a type that stays the same."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct
from msgspec.json import encode

from unwind.errors import (
    IdempotencyError,
    InputError,
    NotFoundError,
    OverloadedError,
    RejectedError,
    StateError,
    UnavailableError,
)

log = structlog.get_logger("unwind.http")

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER = 2
"""Seconds after which to repeat a call that store or bus could not answer."""


_LOOKS = {"GET", "HEAD"}
"""Methods of calls that store nothing anyway."""
WHOLE = "$"
"""The JSON path of a whole body."""


class FieldError(Struct, frozen=True):
    """One thing that is wrong with a request; `field` is a JSON path, a header or a parameter."""

    field: str
    reason: str


class Problem(Struct, frozen=True, omit_defaults=True):
    """What went wrong, whose fault it is, and what to do (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: tuple[FieldError, ...] = ()
    state: str = ""
    """The saga's status, where that is what forbids the call."""


class Kind(Struct, frozen=True):
    """A class of problems."""

    name: str
    title: str
    status: int


MALFORMED = Kind("malformed", "The request cannot be read", 400)
UNAUTHORIZED = Kind("unauthorized", "A valid API key is needed", 401)
FORBIDDEN = Kind("forbidden", "The caller may not do this", 403)
FOREIGN = Kind("foreign-origin", "Another site asked for this", 403)
NOT_FOUND = Kind("not-found", "There is no such thing", 404)
METHOD = Kind("method-not-allowed", "The method is not supported here", 405)
STATE = Kind("saga-state", "The saga's state forbids it", 409)
BULK_COUNT = Kind("bulk-count", "The act would apply to another number of sagas", 409)
TOO_LARGE = Kind("too-large", "The body is too large", 413)
MEDIA = Kind("unsupported-media-type", "The content type is not supported", 415)
INVALID = Kind("validation", "The request is not valid", 422)
KEY_REUSED = Kind("idempotency-key-reused", "The idempotency key was used for another request", 422)
TOO_MANY = Kind("too-many-requests", "Too many calls from this client", 429)
INTERNAL = Kind("internal", "Something is wrong on our side", 500)
OVERLOADED = Kind("overloaded", "Too busy now; nothing was accepted", 503)
UNAVAILABLE = Kind("unavailable", "A dependency does not answer", 503)

_BY_STATUS = {kind.status: kind for kind in (MALFORMED, NOT_FOUND, METHOD, TOO_LARGE, MEDIA, INVALID)}
_DETAILS = {
    404: "nothing is served at this path; /docs lists what is",
    405: "the Allow header lists the methods",
    413: "at most 262144 bytes are accepted",
}


class RequestError(InputError):
    """A request that cannot be accepted, with everything that is wrong with it."""

    def __init__(self, kind: Kind, detail: str, *errors: FieldError, headers: Mapping[str, str] | None = None) -> None:
        """`kind` decides type and status; `headers` go with the answer."""
        super().__init__(detail, errors[0].field if errors else "")
        self.kind = kind
        self.errors = errors
        self.headers = headers or {}


def invalid(*errors: FieldError) -> RequestError:
    """The error for a readable request with values that are not allowed."""
    named = ", ".join("the body" if error.field == WHOLE else error.field for error in errors[:3])
    return RequestError(INVALID, f"not acceptable: {named}", *errors)


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to a request that failed. What is not understood is logged, and shown as nothing but an id."""
    errors: tuple[FieldError, ...] = ()
    headers: dict[str, str] = {}
    detail, state = str(error), ""
    match error:
        case RequestError():
            kind, errors = error.kind, error.errors
            headers.update(error.headers)
            if kind is INVALID and request.method not in _LOOKS:
                detail += "; nothing was stored"
        case InputError():
            kind = INVALID
            errors = (FieldError(error.field, detail),) if error.field else ()
        case IdempotencyError():
            kind, errors = KEY_REUSED, (FieldError("Idempotency-Key", detail),)
        case NotFoundError():
            kind = NOT_FOUND
        case StateError():
            kind, state = STATE, error.status
        case OverloadedError():
            kind = OVERLOADED
            headers["Retry-After"] = str(error.retry_after)
        case UnavailableError():
            kind = UNAVAILABLE
            headers["Retry-After"] = str(_RETRY_AFTER)
        case RejectedError():
            kind, detail = INVALID, "the store refuses this data"
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            status = HTTPStatus(error.status_code)
            kind = _BY_STATUS.get(status, Kind(f"http-{status}", status.phrase, status))
            detail = _DETAILS.get(status, error.detail)
            headers.update(error.headers or {})
        case _:
            kind, detail = INTERNAL, "quote the request id when you report this"
            request_id = request.scope.get("request_id", "")
            log.error("request_failed", request_id=request_id, path=request.scope["path"], exc_info=error)
    problem = Problem(
        f"/problems/{kind.name}",
        kind.title,
        kind.status,
        detail,
        request.scope["path"],
        str(request.scope.get("request_id", "")),
        errors,
        state,
    )
    return Response(encode(problem), status_code=kind.status, media_type=MEDIA_TYPE, headers=headers)
