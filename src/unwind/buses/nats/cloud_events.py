"""A domain event as others read it: a CloudEvent in binary mode, its attributes in headers and its data as the body."""

from collections.abc import Mapping
from urllib.parse import quote, unquote

from msgspec import Raw

from unwind.ports import EVENTS, Message

ID = "ce-id"
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_EXTENSIONS = {
    "ce-sagaid": "saga_id",
    "ce-correlationid": "correlation_id",
    "ce-causationid": "causation_id",
    "traceparent": "traceparent",
}
"""Sent where they are not empty."""


def headers_of(topic: str, event: Message) -> Mapping[str, str]:
    """`Nats-Msg-Id`, unique in the whole stream, lets JetStream drop what it was given within the last minutes."""
    key, category = _written(event.id), quote(topic.removeprefix(EVENTS))
    headers = {
        "Nats-Msg-Id": f"{category}/{key}",
        "ce-specversion": "1.0",
        ID: key,
        "ce-source": f"/{category}",
        "ce-type": _written(event.name),
        "ce-datacontenttype": "application/json",
    }
    if "/" in event.id:
        headers["ce-subject"] = _written(event.id.rpartition("/")[0])
    for header, field in _EXTENSIONS.items():
        if value := getattr(event, field):
            headers[header] = _written(value)
    return headers


def event_of(headers: Mapping[str, str], data: bytes) -> Message:
    """The event again."""
    extensions = {field: unquote(headers[header]) for header, field in _EXTENSIONS.items() if header in headers}
    return Message(unquote(headers[ID]), unquote(headers.get("ce-type", "")), Raw(data), **extensions)  # type: ignore[arg-type]


def _written(value: str) -> str:
    return quote(value, safe=_SAFE)
