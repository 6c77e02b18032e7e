"""Makes up a value of a type, as JSON: what a participant might answer, what a saga might begin with."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw
from msgspec import inspect as kinds

from unwind.core.author import AuthorError, ask

DEEPEST = 32
"""Levels of values within values."""
_WORD = "invented"
_WORDS = (
    _WORD,
    "A",
    "a",
    "1",
    "INVENTED-1",
    "invented@example.org",
    "2026-01-01",
    "00000000-0000-7000-8000-000000000000",
)
"""What is tried where the text must have a form."""
_TEXTS: dict[type[kinds.Type], str] = {
    kinds.BytesType: "aW52ZW50ZWQ=",
    kinds.ByteArrayType: "aW52ZW50ZWQ=",
    kinds.MemoryViewType: "aW52ZW50ZWQ=",
    kinds.DateType: "2026-01-01",
    kinds.TimeDeltaType: "PT1S",
    kinds.UUIDType: "00000000-0000-7000-8000-000000000000",
    kinds.DecimalType: "1",
}
_ZONED = {kinds.DateTimeType: "2026-01-01T12:00:00", kinds.TimeType: "12:00:00"}


class InventionError(Exception):
    """No value of the type can be made up; says why."""


def inventions(wanted: Any) -> tuple[Raw, ...]:
    """JSON documents that fit a type: with all that it may hold, of a union one of each kind; and with the least.

    Always the same ones. Raises InventionError when none can be made up.
    """
    made: list[Raw] = []
    reason = ""
    for attempt in _attempts(wanted):
        try:
            document = Raw(ask("what was made up", msgspec.json.encode, attempt()))
            ask("the type", partial(msgspec.json.decode, document, type=wanted))
        except (InventionError, AuthorError) as error:
            reason = reason or str(error)
            continue
        if document not in made:
            made.append(document)
    if not made:
        raise InventionError(reason)
    return tuple(made)


def _attempts(wanted: Any) -> Iterator[Callable[[], Any]]:
    try:
        kind = kinds.type_info(wanted)
    except (TypeError, NameError) as error:
        raise InventionError(f"{wanted!r} is not a type that is understood: {error}") from error
    members = kind.types if isinstance(kind, kinds.UnionType) else (kind,)
    for member in members:
        if not isinstance(member, kinds.NoneType) or len(members) == 1:
            yield partial(_Inventor(full=True).value, member)
    if isinstance(kind, kinds.AnyType | kinds.RawType):
        yield dict
    yield partial(_Inventor(full=False).value, kind)


class _Inventor:
    """`full`: with whatever may be there; else only with what must be."""

    def __init__(self, *, full: bool) -> None:
        self._full = full
        self._depth = 0

    def value(self, kind: kinds.Type) -> Any:
        """Made of what JSON has. Raises InventionError."""
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                raise InventionError("it has no end: each value of it holds another")
            return self._value(kind)
        finally:
            self._depth -= 1

    def _value(self, kind: kinds.Type) -> Any:
        match kind:
            case kinds.Metadata():
                return self.value(kind.type)
            case kinds.AnyType() | kinds.RawType() | kinds.NoneType():
                return None
            case kinds.BoolType():
                return True
            case kinds.IntType() | kinds.FloatType():
                return _number(kind)
            case kinds.StrType():
                return _text(kind)
            case kinds.DateTimeType() | kinds.TimeType():
                return _ZONED[type(kind)] + ("" if kind.tz is False else "Z")
            case kinds.EnumType():
                return next(iter(kind.cls)).value
            case kinds.LiteralType():
                return kind.values[0]
            case kinds.UnionType():
                return self._of_several(kind)
            case kinds.TupleType():
                return [self.value(item) for item in kind.item_types]
            case kinds.ListType() | kinds.VarTupleType() | kinds.SetType() | kinds.FrozenSetType():
                return self._items(kind)
            case kinds.DictType():
                return {str(self.value(kind.key_type)): value for value in self._items(kind)}
            case kinds.StructType() | kinds.DataclassType() | kinds.TypedDictType() | kinds.NamedTupleType():
                return self._fields(kind)
            case _ if type(kind) in _TEXTS:
                return _TEXTS[type(kind)]
            case _:
                name = getattr(getattr(kind, "cls", None), "__name__", type(kind).__name__)
                raise InventionError(f"how a {name} is made is known to its author only")

    def _of_several(self, kind: kinds.UnionType) -> Any:
        empty = [each for each in kind.types if isinstance(each, kinds.NoneType)]
        if empty and not self._full:
            return None
        reason = ""
        for each in kind.types:
            if each in empty:
                continue
            try:
                return self.value(each)
            except InventionError as error:
                reason = reason or str(error)
        if empty:
            return None
        raise InventionError(reason)

    def _items(self, kind: Any) -> list[Any]:
        least = kind.min_length or 0
        count = max(least, 1) if self._full and kind.max_length != 0 else least
        item = kind.value_type if isinstance(kind, kinds.DictType) else kind.item_type
        try:
            return [self.value(item) for _ in range(count)]
        except InventionError:
            if least:
                raise
            return []

    def _fields(self, kind: Any) -> Any:
        named: dict[str, Any] = {}
        for field in kind.fields:
            if not field.required and not self._full:
                continue
            try:
                named[getattr(field, "encode_name", field.name)] = self.value(field.type)
            except InventionError as error:
                if field.required:
                    raise InventionError(f"{field.name}: {error}") from error
        tag = getattr(kind, "tag", None)
        if isinstance(kind, kinds.NamedTupleType) or getattr(kind, "array_like", False):
            return [*([] if tag is None else [tag]), *named.values()]
        return named if tag is None else {kind.tag_field: tag, **named}


def _number(kind: kinds.IntType | kinds.FloatType) -> float:
    """The first of a few that lies within the bounds."""
    bounds = [bound for bound in (kind.ge, kind.gt, kind.le, kind.lt) if bound is not None]
    step = kind.multiple_of
    tried: list[float] = [1, 0]
    for bound in bounds:
        tried += [bound, bound + 1, bound - 1]
    if step is not None:
        tried += [step, *(bound - bound % step + more for bound in bounds for more in (0, step))]
    if isinstance(kind, kinds.FloatType) and bounds:
        tried.append(sum(bounds) / len(bounds))
    for number in tried:
        if _within(kind, number) and (step is None or number % step == 0):
            return number
    raise InventionError("no number was found within its bounds")


def _within(kind: kinds.IntType | kinds.FloatType, number: float) -> bool:
    return (
        (kind.ge is None or number >= kind.ge)
        and (kind.gt is None or number > kind.gt)
        and (kind.le is None or number <= kind.le)
        and (kind.lt is None or number < kind.lt)
    )


def _text(kind: kinds.StrType) -> str:
    least, most = kind.min_length or 0, kind.max_length
    if kind.pattern is None:
        return _WORD.ljust(least, "x")[:most]
    for word in _WORDS:
        if len(word) >= least and (most is None or len(word) <= most) and re.search(kind.pattern, word):
            return word
    raise InventionError(f"no text was found that has the form {kind.pattern!r}")
