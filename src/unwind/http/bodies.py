"""JSON bodies: read within the limit, decoded strictly, and whatever is wrong told by the field where it stands."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from msgspec import inspect
from msgspec.json import Decoder

from unwind.http.problems import MALFORMED, MEDIA, WHOLE, FieldError, RequestError, invalid

T = TypeVar("T")

BODY_LIMIT = 256 * 1024
"""Bytes."""

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"(?:unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
_NO_CHOICE = "Invalid enum value"
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_BYTE = re.compile(r"\(byte (\d+)\)$")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{},:]|[^\s\[\]{},:"]+')
_SHOWN = 200
"""Longest field name that is repeated to the caller, in characters."""


async def read_json(request: Request[Any, Any, Any], decoder: Decoder[T]) -> T:
    """The body as the decoder's type.

    Raises RequestError: 415 for another content type, 400 for what is not JSON, 422 for JSON of another shape.
    """
    kind, parameters = request.content_type
    charset = parameters.get("charset", "utf-8").strip('"').lower()
    if kind.lower() != "application/json" or charset not in {"utf-8", "utf8"}:
        reason = "send JSON in UTF-8 with the header Content-Type: application/json"
        raise RequestError(MEDIA, reason, FieldError("Content-Type", reason))
    return decode(await _whole(request), decoder)


async def read_optional_json(request: Request[Any, Any, Any], decoder: Decoder[T], default: T) -> T:
    """Like `read_json`; an empty body stands for `default`."""
    return await read_json(request, decoder) if await _whole(request) else default


async def _whole(request: Request[Any, Any, Any]) -> bytes:
    try:
        return await request.body()
    except InternalServerException as error:
        # That is what the framework makes of a client that goes away in the middle of its body.
        raise RequestError(MALFORMED, "the body broke off before its end") from error


def decode(data: bytes, decoder: Decoder[T]) -> T:
    """Decode a body. Raises RequestError naming the field; never anything else."""
    if not data:
        raise RequestError(MALFORMED, "the body is empty; send a JSON object")
    try:
        data.decode()
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise _malformed(data, error.start, "this is not UTF-8") from error
    except RecursionError as error:
        raise RequestError(MALFORMED, "the JSON is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise _mismatch(str(error), decoder.type) from error
    except msgspec.DecodeError as error:
        reason = str(error)
        place = _BYTE.search(reason)
        raise _malformed(data, int(place[1]) if place else len(data), reason) from error


def _malformed(data: bytes, offset: int, reason: str) -> RequestError:
    return RequestError(MALFORMED, f"the body is not JSON: {reason}", FieldError(locate(data, offset), reason))


def _mismatch(message: str, wanted: Any) -> RequestError:
    place = _PLACE.fullmatch(message)
    what, path = (place["what"], place["path"] or "") if place else (message, "")
    reason = what.replace("`", "")[:_SHOWN]
    if named := _NAMED.search(what):
        path = f"{path}.{named['name']}" if path else named["name"]
    elif what.startswith(_NO_CHOICE):
        reason += "".join(f"; there are {each}" for each in _choices(inspect.type_info(wanted), _STEP.findall(path)))
    return invalid(FieldError(path[:_SHOWN] or WHOLE, reason))


def _choices(wanted: inspect.Type, path: Sequence[str]) -> Iterator[str]:
    """What may stand at a path of such a document, where that is one of several texts."""
    match wanted:
        case inspect.UnionType():
            for each in wanted.types:
                yield from _choices(each, path)
        case inspect.LiteralType() if not path:
            yield ", ".join(str(value) for value in wanted.values)
        case inspect.StructType() if path:
            for field in wanted.fields:
                if field.encode_name == path[0]:
                    yield from _choices(field.type, path[1:])
        case inspect.VarTupleType() | inspect.ListType() if path:
            yield from _choices(wanted.item_type, path[1:])


def locate(data: bytes, offset: int) -> str:
    """The JSON path of the value in which a byte of a (perhaps broken) document stands, e.g. `items[0].price`."""
    open_at: list[str | int | None] = []
    """For each open container what is being read in it: an index, a key, or None before the key."""
    for match in _TOKEN.finditer(data, 0, offset):
        token = match[0]
        if token == b"{":
            open_at.append(None)
        elif token == b"[":
            open_at.append(0)
        elif token in {b"}", b"]"}:
            del open_at[-1:]
        elif token == b"," and open_at:
            index = open_at[-1]
            open_at[-1] = index + 1 if isinstance(index, int) else None
        elif open_at and open_at[-1] is None and token.startswith(b'"'):
            open_at[-1] = token.strip(b'"').decode(errors="replace")
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in open_at if step is not None)
    return "".join(steps).removeprefix(".")[:_SHOWN]
