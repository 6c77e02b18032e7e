"""What a request says besides its body: its idempotency key and its trace."""

import re
from hashlib import sha256
from typing import Any

from litestar import Request
from msgspec import Struct
from msgspec.structs import replace

from unwind.http.openapi import Parameter
from unwind.http.problems import FieldError, invalid
from unwind.runtime.keys import id_of_key
from unwind.runtime.trace_context import read_context

_KEY = re.compile(r"[!-~]{1,255}")

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "Makes the call repeatable: the same key with the same body is answered as the first time; with another body, 422.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    place="header",
)
SIGNAL_ID = replace(
    IDEMPOTENCY_KEY,
    description="Tells a repeated signal, which says the same and counts once, from another one: that is refused, 409.",
)
TRACEPARENT = Parameter(
    "traceparent",
    "W3C trace context: the saga and all its commands become part of that trace. One that is not valid is ignored.",
    {"type": "string"},
    place="header",
)


class Submission(Struct, frozen=True):
    """The arguments of `Engine.start` that come from headers. Without a key, `saga_id` and `request_hash` are empty."""

    saga_id: str = ""
    request_hash: str = ""
    traceparent: str = ""


def submission(request: Request[Any, Any, Any], canonical_body: bytes) -> Submission:
    """Read the headers of a request whose validated body has this canonical form.

    The saga's id is derived from tenant, route and key, so that the saga's first event is the record of the key.
    Raises RequestError for a key that is not 1 to 255 visible ASCII characters.
    """
    trace = request.headers.get("traceparent", "")
    traceparent = trace if read_context(trace) is not None else ""
    key = idempotency_key(request)
    if not key:
        return Submission(traceparent=traceparent)
    saga_id = id_of_key(f"{request.method} {request.scope['path'].rstrip('/')}", key)
    return Submission(saga_id, sha256(canonical_body).hexdigest(), traceparent)


def idempotency_key(request: Request[Any, Any, Any]) -> str:
    """The request's key; empty: it has none. Raises RequestError for one that is not visible ASCII, or for two."""
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) > 1 or (keys and not _KEY.fullmatch(keys[0])):
        raise invalid(FieldError("Idempotency-Key", "give one key of 1 to 255 visible ASCII characters"))
    return keys[0] if keys else ""
