"""Streams and consumers: which there are, how they are made, and how they are mended when they are found missing.

A topic belongs to the stream of its first word. Commands and replies have one group each, so a publication is kept
until it is acknowledged; domain events, and whatever else, until every group has; dead letters until they are too old.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import structlog
from msgspec import Struct

from unwind.buses.nats.link import Link
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import COMMANDS, DEAD, EVENTS, REPLIES, Clock

log = structlog.get_logger("unwind.nats")

_NAME = "unwind"
_MEBI = 1024 * 1024
_SECOND = 1_000_000_000
_HOUR = 3_600 * _SECOND
_DAY = 24 * _HOUR
_UNACKNOWLEDGED = 8_192
"""Deliveries of a group that may be in somebody's hands."""

NO_STREAM = 10_059
_NO_MESSAGE = 10_037
_NO_SEQUENCE = 10_043
"""How reading, and how deleting, fails of what is not there."""
_PASSING = frozenset({404, 503})
_DELETED = "no such file"
_NAME_IN_USE = 10_058
_NO_JETSTREAM = frozenset({0, 10_039, 10_076})


class Place(Struct, frozen=True):
    """Where a topic is in NATS."""

    topic: str
    stream: str
    subject: str
    rest: str
    """The topic's words after the first, as part of a consumer's name."""


@lru_cache(maxsize=1_024)
def place_of(topic: str) -> Place:
    """The words of a topic become those of a subject; signs that NATS does not take are percent-encoded."""
    words = [quote(word, safe="") or "%" for word in topic.split(".")]
    return Place(topic, f"{_NAME}-{words[0]}", ".".join((_NAME, *words)), "%2E".join(words[1:]))


def topic_of(subject: str) -> str:
    """The topic again."""
    return ".".join("" if word == "%" else unquote(word) for word in subject.split(".")[1:])


def group_of(consumer: str) -> str:
    """The name of the group that a consumer is made for."""
    name = consumer.partition("@")[0]
    return "" if name == "%" else unquote(name)


def consumer_of(place: Place, group: str) -> str:
    """The name of a group's consumer."""
    name = quote(group, safe="").replace(".", "%2E") or "%"
    return f"{name}@{place.rest}" if place.rest else name


# Any number of publications, one bound in bytes; whoever runs the server may set other limits, they are left alone.
_QUEUE = {"retention": "workqueue", "discard": "new", "max_bytes": 256 * _MEBI, "max_age": _HOUR}
_OF_EACH = {"max_msgs_per_subject": 8_192, "discard_new_per_subject": True}
"""A service that is down for long fills its own part, not the whole."""
_NEWS = {"retention": "interest", "discard": "new", "max_bytes": 256 * _MEBI, "max_age": 7 * _DAY}
_ARCHIVE = {"retention": "limits", "discard": "old", "max_bytes": 64 * _MEBI, "max_age": 30 * _DAY}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    place_of(COMMANDS).stream: _QUEUE | _OF_EACH,
    place_of(REPLIES).stream: _QUEUE,
    place_of(DEAD).stream: _ARCHIVE,
}
_SHAPE = ("subjects", "retention", "discard")
"""What must be as we say."""
_CERTAIN = 3_000_000
"""Microseconds without anything stored after which a silent stream is made anew."""
_FORGOTTEN = 7 * _DAY
"""After which a group without a member is no longer waited for."""


class _Problem(Struct):
    code: int
    err_code: int = 0
    description: str = ""


class _State(Struct):
    last_seq: int = 0
    messages: int = 0


class _Delivered(Struct):
    stream_seq: int = 0


class Stored(Struct):
    """A message as JetStream keeps it."""

    subject: str
    seq: int
    data: bytes = b""
    hdrs: bytes = b""
    time: str = ""


class Consumer(Struct):
    """What JetStream tells of a group."""

    name: str
    config: dict[str, Any] = {}
    num_pending: int = 0
    num_ack_pending: int = 0
    ack_floor: _Delivered = msgspec.field(default_factory=_Delivered)


class _Answer(Struct):
    """What is read of JetStream's answers."""

    error: _Problem | None = None
    config: dict[str, Any] = {}
    created: str = ""
    state: _State = msgspec.field(default_factory=_State)
    delivered: _Delivered = msgspec.field(default_factory=_Delivered)
    message: Stored | None = None
    streams: list[str] | int = 0
    """Names, where they were asked for; else how many."""
    consumers: list[Consumer] | int = 0
    total: int = 0


class _Silence(Struct, frozen=True):
    """Of a stream: its last sequence when it began, and when that was."""

    last: int
    since: int


class RefusedError(UnavailableError):
    """JetStream says no."""

    def __init__(self, message: str, number: int, *, passing: bool) -> None:
        super().__init__(message)
        self.number = number
        """Of the error, as JetStream counts them; 0 when it is not there at all."""
        self.passing = passing
        """Time may mend it."""


_answer = msgspec.json.Decoder(_Answer)
_encode = msgspec.json.Encoder().encode


class Streams:
    """Makes and mends. Every call raises UnavailableError when NATS does not answer."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._stuck: dict[str, _Silence] = {}
        """Streams that left a publication without an answer."""

    async def ping(self) -> None:
        """Raises UnavailableError where JetStream does not answer."""
        await self._call("INFO")

    async def check(self) -> None:
        """Raises SettingsError where there is no JetStream."""
        try:
            await self.ping()
        except RefusedError as error:
            if error.number in _NO_JETSTREAM:
                raise SettingsError(
                    f"NATS_URL: NATS at {self._link.place} has no JetStream for this user; start nats-server with -js"
                ) from error
            raise

    async def furnish_all(self) -> None:
        """The streams that every installation has. Raises SettingsError as `furnish`."""
        for topic in (COMMANDS, REPLIES, EVENTS, DEAD):
            await self.furnish(place_of(topic))

    async def furnish(self, place: Place) -> None:
        """Make the stream where it is missing. Raises SettingsError: one of this name cannot be made to fit."""
        subject = ".".join(place.subject.split(".")[:2])
        wanted = {"name": place.stream, "subjects": [subject, f"{subject}.>"], "storage": "file"}
        wanted |= _KINDS.get(place.stream, _NEWS)
        try:
            await self._call(f"STREAM.CREATE.{place.stream}", wanted)
        except RefusedError as error:
            if error.number != _NAME_IN_USE:
                raise self._unfit(place.stream, error) from error
            await self._fit(place.stream, wanted)

    async def _fit(self, stream: str, wanted: Mapping[str, Any]) -> None:
        found = (await self._call(f"STREAM.INFO.{stream}")).config
        if all(found.get(key) == wanted[key] for key in _SHAPE):
            return
        try:
            await self._call(f"STREAM.UPDATE.{stream}", found | {key: wanted[key] for key in _SHAPE})
        except RefusedError as error:
            raise self._unfit(stream, error) from error

    async def join(self, place: Place, group: str, ack_wait: int) -> str:
        """Make the group's consumer, and the stream, where they are missing. When it was made, as a mark of its own.

        `ack_wait` is in microseconds. Raises SettingsError: what is there cannot be made to fit.
        """
        try:
            return await self._join(place, group, ack_wait)
        except RefusedError as error:
            if error.number != NO_STREAM:
                raise self._unfit(f"{place.stream}, consumer {consumer_of(place, group)}", error) from error
        await self.furnish(place)
        return await self._join(place, group, ack_wait)

    async def _join(self, place: Place, group: str, ack_wait: int) -> str:
        name = consumer_of(place, group)
        config = {
            "name": name,
            "durable_name": name,
            "filter_subject": place.subject,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": ack_wait * 1_000,
            "max_ack_pending": _UNACKNOWLEDGED,
            "inactive_threshold": _FORGOTTEN,
        }
        wanted = {"stream_name": place.stream, "config": config}
        try:
            await self._call(f"CONSUMER.CREATE.{place.stream}.{name}.{place.subject}", wanted)
        except RefusedError as error:
            if _DELETED not in str(error):
                raise
            # Its files were deleted while the server runs. It cannot be changed then, but it may be there and serve.
        # Not what the first answer says: after a restart that is when the server found it on its disk.
        made = await self._call(f"CONSUMER.INFO.{place.stream}.{name}")
        stream = await self._call(f"STREAM.INFO.{place.stream}")
        if made.delivered.stream_seq > stream.state.last_seq:
            # A deleted one's state may come back in a new stream; it waits for numbers that are far ahead.
            await self._call(f"CONSUMER.DELETE.{place.stream}.{name}")
            raise UnavailableError(f"consumer {name} is ahead of its stream {place.stream}; it is made anew")
        return made.created

    # ---------------------------------------------------------------------------------------------------- is looked at

    async def names(self) -> Sequence[str]:
        """The streams of ours."""
        found = (await self._call("STREAM.NAMES", {"subject": f"{_NAME}.>"})).streams
        return [name for name in found if name.startswith(f"{_NAME}-")] if isinstance(found, list) else []

    async def consumers(self, stream: str) -> Sequence[Consumer]:
        """The groups of a stream."""
        found: list[Consumer] = []
        while True:
            answer = await self._call(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
            if not isinstance(answer.consumers, list) or not answer.consumers:
                return found
            found += answer.consumers
            if len(found) >= answer.total:
                return found

    async def count(self, stream: str) -> int:
        """How many messages it keeps."""
        return (await self._call(f"STREAM.INFO.{stream}")).state.messages

    async def message(self, stream: str, number: int, subject: str = "") -> Stored | None:
        """Of that number; with a subject the first from there on that has it. None: there is none."""
        asked: dict[str, Any] = {"seq": number}
        try:
            return (
                await self._call(f"STREAM.MSG.GET.{stream}", asked | ({"next_by_subj": subject} if subject else {}))
            ).message
        except RefusedError as error:
            if error.number in {_NO_MESSAGE, NO_STREAM}:
                return None
            raise

    async def delete(self, stream: str, number: int) -> bool:
        """Remove a message; False: there is none."""
        try:
            await self._call(f"STREAM.MSG.DELETE.{stream}", {"seq": number, "no_erase": True})
        except RefusedError as error:
            if error.number in {_NO_MESSAGE, _NO_SEQUENCE, NO_STREAM}:
                return False
            raise
        return True

    # ------------------------------------------------------------------------------------------------------ is mended

    async def suspect(self, place: Place) -> None:
        """A publication was left without an answer: a stream that takes nothing for good is made anew, empty.

        That is what becomes of one whose files are deleted while the server runs. It is taken for certain when
        JetStream answers, and nothing has been stored for seconds. Where there are replicas it may be another thing.
        """
        info = await self._call(f"STREAM.INFO.{place.stream}")
        now, silence = self._clock.monotonic(), self._stuck.get(place.stream)
        if silence is None or silence.last != info.state.last_seq:
            self._stuck[place.stream] = _Silence(info.state.last_seq, now)
        elif now - silence.since >= _CERTAIN:
            del self._stuck[place.stream]
            if info.config.get("num_replicas", 1) == 1:
                log.error("stream_broken", stream=place.stream, what="it stores nothing any more; made anew, empty")
                await self._call(f"STREAM.DELETE.{place.stream}")
                await self.furnish(place)

    def sound(self, place: Place) -> None:
        """It has taken a publication."""
        self._stuck.pop(place.stream, None)

    async def _call(self, call: str, body: Mapping[str, Any] | None = None) -> _Answer:
        message = await self._link.ask(f"$JS.API.{call}", b"" if body is None else _encode(body))
        if message is None:
            raise RefusedError(f"NATS at {self._link.place} answers, but its JetStream does not", 0, passing=True)
        try:
            answer = _answer.decode(message.data)
        except msgspec.DecodeError as error:
            raise UnavailableError(f"JetStream at {self._link.place} is not understood: {error}") from error
        if answer.error is not None:
            problem = answer.error
            text = f"JetStream at {self._link.place}: {problem.description}"
            raise RefusedError(text, problem.err_code, passing=problem.code in _PASSING)
        return answer

    def _unfit(self, what: str, error: RefusedError) -> Exception:
        """Whose fault a refusal is."""
        if error.passing:
            return error
        return SettingsError(f"NATS_URL: stream {what}: {error}; delete or rename it, or give it what it needs")
