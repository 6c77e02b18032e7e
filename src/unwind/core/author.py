"""Asks the author's pure functions and checks what they answer: whatever goes wrong there is about one saga only."""

import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from unwind.core.attributes import Value, checked_value
from unwind.core.events import Record
from unwind.core.messages import NULL, CommandCall
from unwind.core.plans import StepPlan, well_named
from unwind.core.saga import Saga
from unwind.core.steps import Command, Outcome

C = TypeVar("C")
T = TypeVar("T")

SAGA = "saga"
"""The category of the sagas' own streams."""
LONGEST_REASON = 1_000
"""Characters kept of what an author's function says or raises."""

_encode = msgspec.json.encode


class AuthorError(Exception):
    """One of the author's pure functions raised, or gave something that is not what it promises."""

    @property
    def reason(self) -> str:
        """What happened, fit to be stored."""
        return storable(self)


def storable(text: object) -> str:
    """Text as an event can hold it: no lone surrogates, not endless."""
    return str(text)[:LONGEST_REASON].encode(errors="replace").decode()


def ask(question: str, function: Callable[..., T], *args: Any) -> T:
    """Call one of the author's functions. Raises AuthorError for whatever it raises."""
    try:
        return function(*args)
    except Exception as error:
        raised = "".join(traceback.format_exception_only(error)).strip()
        raise AuthorError(f"{question} raised {raised}") from error


def command_call(question: str, command: object) -> CommandCall:
    """The command an author gave, frozen."""
    if not isinstance(command, Command):
        raise AuthorError(f"{question} returned {type(command).__name__}, not a Command")
    tag = command.__struct_config__.tag
    service, _, name = tag.partition(".") if isinstance(tag, str) else ("", "", "")
    if not service or not name:
        raise AuthorError(f'{question} returned {type(command).__name__}; give its class tag="service.name"')
    payload = ask(question, _encode, command)
    try:
        _decoder_of(type(command))(payload)
    except (msgspec.DecodeError, TypeError) as error:
        raise AuthorError(
            f"{question} made a {type(command).__name__} that does not fit its own type: {error}"
        ) from error
    return CommandCall(service, str(tag), Raw(payload))


@cache
def _decoder_of(command: type[Command]) -> Callable[[bytes], Command]:
    """Nobody checks a struct when it is made; what its participant cannot read would only be set aside, ever again."""
    return msgspec.json.Decoder(command).decode


MAX_KEY = 100
"""Characters in the key of an item: it is part of names and ids."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_of(question: str, said: object) -> int:
    """An instant the author gave, in microseconds since the epoch."""
    if not isinstance(said, datetime) or said.tzinfo is None:
        raise AuthorError(f"{question} returned {said!r}; give a datetime with its time zone")
    return (said - _EPOCH) // timedelta(microseconds=1)


def checked_outcome(question: str, outcome: object) -> Outcome[Any]:
    """The outcome an author gave, its records checked."""
    if not isinstance(outcome, Outcome):
        raise AuthorError(f"{question} returned {type(outcome).__name__}, not an Outcome")
    return Outcome(outcome.context, checked_records(question, outcome.records)) if outcome.records else outcome


def checked_records(question: str, records: Iterable[object]) -> list[Record]:
    """The domain events an author gave; each must be storable, or the commit of a whole batch would fail on it."""
    checked: list[Record] = []
    given: list[object] = ask(question, list, records)
    for record in given:
        if not isinstance(record, Record) or not storable_record(record):
            raise AuthorError(f"{question} gave {type(record).__name__}, not a Record of a stream and a tagged struct")
        ask(f"{question}: encoding a record", _encode, record)
        checked.append(record)
    return checked


def storable_record(record: Record) -> bool:
    """Whether its parts are what they are declared to be; nobody checked when it was made.

    The category of sagas is theirs.
    """
    stream: object = record.stream
    category: object = record.category
    named = isinstance(stream, str) and isinstance(category, str) and stream and category and category != SAGA
    return bool(named) and _has_a_name(type(record.event))


@cache
def _has_a_name(event: type) -> bool:
    """Whether events of this type say their name in `type`: without it they could be written, and never published."""
    if not issubclass(event, Struct):
        return False
    shape = event.__struct_config__
    return isinstance(shape.tag, str) and bool(shape.tag) and shape.tag_field == "type" and not shape.array_like


def attributes_of(saga: Saga[C], context: C) -> dict[str, Value] | None:
    """What a saga that starts with this context can be found by. Raises AuthorError naming the attribute."""
    found: dict[str, Value] = {}
    for name, attribute in saga.attributes.items():
        question = f"attribute {name!r}"
        value: object = ask(question, attribute.of, context)
        if value is None:
            continue
        try:
            found[name] = checked_value(attribute.kind, value)
        except ValueError as error:
            raise AuthorError(f"{question} gave what is no attribute: {error}") from error
    return found or None


def encoded_context(saga: Saga[Any], method: str, before: Raw, context: object) -> Raw:
    """The new context as stored, or null when it is the old one. `method` is the step's that returned it."""
    encoded = Raw(ask(f"encoding the context that `{method}` returned", _encode, context))
    if encoded == before:
        return NULL
    ask(f"the context that `{method}` returned", saga.decode_context, encoded)
    return encoded


def listed_items(plan: StepPlan, context: object) -> tuple[tuple[str, Raw], ...]:
    """The items of a `ForEach`, each stored as JSON."""
    group, question = plan.step, f"{plan.name}.items"
    given: object = ask(question, group.items, context)
    if not isinstance(given, Mapping):
        raise AuthorError(f"{question} returned {type(given).__name__}; give a mapping from key to item")
    if len(given) > group.most:
        raise AuthorError(f"{question} gave {len(given)} items; at most {group.most} are allowed")
    return tuple((_checked_key(question, key), _stored_item(question, group, given[key])) for key in given)


def _checked_key(question: str, key: object) -> str:
    if not isinstance(key, str) or not well_named(key) or len(key) > MAX_KEY:
        raise AuthorError(
            f"{question} gave the key {key!r}; keys are strings of 1 to {MAX_KEY} characters without '/' and brackets"
        )
    return key


def _stored_item(question: str, group: Any, item: object) -> Raw:
    stored = Raw(ask(f"{question}: encoding an item", _encode, item))
    ask(f"{question}: an item", lambda: msgspec.json.decode(stored, type=group.of))
    return stored


def opening_of(plan: StepPlan, context: object) -> CommandCall:
    """What the saga of a `SagaStep` begins with: its revision as the name, its context as the payload.

    Its `on_started` and its attributes are asked here too: were they to raise there, nobody would hear of it.
    """
    child, question = plan.step.saga, f"{plan.name}.begin"
    payload = Raw(ask(f"{question}: encoding the context", _encode, ask(question, plan.step.begin, context)))
    begun = ask(f"{question}: the context it returned", child.decode_context, payload)
    if child.on_started is not None:
        checked_records("on_started", ask(f"{child.name}.on_started", child.on_started, begun))
    if child.attributes:
        attributes_of(child, begun)
    return CommandCall("", child.revision, payload)


def decoded_reply(plan: StepPlan, payload: Raw) -> Any:
    """A reply as the type that the step declares."""
    try:
        return ask("its reply", plan.decode_reply, payload)
    except AuthorError as error:
        if plan.reply_type is not NoneType:
            raise
        raise AuthorError(
            "it got a reply, and declares that it gets none: in place of None write the reply's type, "
            "as in ActionStep[Trip, Booked]"
        ) from error
