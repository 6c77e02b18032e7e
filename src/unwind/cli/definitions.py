"""Finds the definitions of sagas that somebody named on a command line, as `MODULE:ATTRIBUTE`."""

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from unwind.core.saga import Saga
from unwind.errors import DefinitionError

FORM = "MODULE:ATTRIBUTE"


def find_definitions(places: Sequence[str]) -> list[Saga[Any]]:
    """The sagas at these places, each once: an attribute is a Saga, several of them, or a function that gives them.

    Modules are looked for in the current directory too. Raises DefinitionError saying which place is at fault, and why.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: dict[tuple[str, int], Saga[Any]] = {}
    for place in places:
        for saga in _sagas(place, _at(place)):
            if found.setdefault((saga.name, saga.version), saga).hash != saga.hash:
                raise DefinitionError(
                    f"{place}: there are two different definitions of {saga.name} version {saga.version}; "
                    "number the versions"
                )
    return list(found.values())


def _at(place: str) -> Any:
    module, separator, attribute = place.partition(":")
    if not separator or not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise DefinitionError(f"{place!r} is not of the form {FORM}, such as shop.sagas:order_saga")
    found = _import(place, module)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise DefinitionError(f"{place}: there is no {name!r} in it") from error
    return found


def _import(place: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        own = module == missing or module.startswith(f"{missing}.")
        raise DefinitionError(
            f"{place}: there is no module {missing!r}" + ("" if own else ", which it imports; install it here")
        ) from error
    except (Exception, SystemExit) as error:
        raise DefinitionError(f"{place}: importing it raised {_told(error)}") from error


def _sagas(place: str, found: Any) -> Iterable[Saga[Any]]:
    if callable(found) and not isinstance(found, Saga) and not iscoroutinefunction(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise DefinitionError(f"{place}: calling it raised {_told(error)}") from error
    several = [found] if isinstance(found, Saga) else found
    if not isinstance(several, list | tuple) or not all(isinstance(each, Saga) for each in several):
        raise DefinitionError(
            f"{place} is {_kind(found)}; give a Saga, a list or tuple of them, or a function that returns such"
        )
    return several


def _kind(found: Any) -> str:
    if isinstance(found, list | tuple):
        odd = next(each for each in found if not isinstance(each, Saga))
        return f"a {type(found).__name__} with {_kind(odd)} in it"
    name = type(found).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
