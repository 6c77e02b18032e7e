"""A publication as it travels: one JSON object, its messages in their order, each payload byte for byte."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from unwind.errors import CodecError
from unwind.ports import Message
from unwind.queues import DeadLetter

_VERSION = 1


class _Envelope(Struct, frozen=True, gc=False):
    unwind: int
    """The version of this shape; readers ignore fields that they do not know."""
    messages: tuple[Message, ...]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Envelope)


def encode_batch(messages: Sequence[Message]) -> bytes:
    """The messages of one publication as bytes. Raises CodecError for a text that UTF-8 cannot carry."""
    try:
        return _encode(_Envelope(_VERSION, tuple(messages)))
    except UnicodeEncodeError as error:
        raise CodecError(f"a message of this publication cannot be written as UTF-8: {error}") from error


def decode_batch(data: bytes) -> tuple[Message, ...]:
    """What `encode_batch` made into bytes. Raises CodecError for anything else, and for a publication of nothing.

    The payloads are views into `data` and keep it alive.
    """
    try:
        data.decode()  # payloads are not looked into here, and their readers expect text
        envelope = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"no envelope of messages: {error}") from error
    if envelope.unwind != _VERSION:
        raise CodecError(f"an envelope of version {envelope.unwind}; this program reads version {_VERSION}")
    if not envelope.messages:
        raise CodecError("an envelope without messages")
    return envelope.messages


def letter_of(key: str, topic: str, reason: str, at: int, data: bytes) -> DeadLetter:
    """What was set aside, opened where that can be; without a `reason` its first message has it."""
    try:
        messages = decode_batch(data)
    except CodecError:
        return DeadLetter(key, topic, reason, at, len(data), (), data)
    return DeadLetter(key, topic, reason or messages[0].reason, at, len(data), messages)


def restored(messages: Sequence[Message]) -> Sequence[Message]:
    """As they were before somebody wrote on them why they are dead."""
    return [replace(message, reason="") for message in messages]
