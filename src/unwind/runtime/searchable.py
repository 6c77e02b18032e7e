"""What the sagas of a process can be found by: the attributes of all its definitions together."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from unwind.core.attributes import Value
from unwind.core.saga import Saga


class Searchable(Struct, frozen=True):
    """Names that may be asked for. What only other processes declare is not among them."""

    attributes: Mapping[str, frozenset[type[Value]]] = {}
    """Name → the kinds that definitions give it; most have one."""
    amounts: Mapping[str, str] = {}
    """Name of a definition → the attribute that is added up, by its newest version."""


def searchable(sagas: Iterable[Saga[Any]]) -> Searchable:
    """What these definitions declare."""
    attributes: dict[str, frozenset[type[Value]]] = {}
    amounts: dict[str, str] = {}
    for saga in sorted(sagas, key=lambda saga: saga.version):
        amounts.pop(saga.name, None)
        for name, attribute in saga.attributes.items():
            attributes[name] = attributes.get(name, frozenset()) | {attribute.kind}
            if attribute.amount:
                amounts[saga.name] = name
    return Searchable(dict(sorted(attributes.items())), amounts)
