"""How a service declares what it does with commands: one handler for each, for single commands or for many at once.

    inventory = Participant[sqlite3.Connection]("inventory")

    @inventory.handles(ReserveInventory)
    def reserve(tx: sqlite3.Connection, command: ReserveInventory, call: HandlerCall) -> Reserved | OutOfStock: ...

    @inventory.undoes_many(ReleaseInventory)
    def release(tx: sqlite3.Connection, commands: Sequence[ReleaseInventory], calls: Sequence[HandlerCall]) -> None: ...

A handler writes with `tx` and returns a reply (ok) or a `Refusal` (a business no); what it raises means "try again". It
never commits: its writes and the stored answer are one transaction, so that each effect happens once however often the
command comes.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from unwind.core.messages import Direction
from unwind.core.steps import Command
from unwind.errors import DefinitionError

Tx = TypeVar("Tx")
C = TypeVar("C", bound=Command)
R = TypeVar("R", bound=Struct | Awaitable[Struct | None] | None)


class TryAgain(Exception):  # noqa: N818 - reads as the order it is: raise TryAgain("…")
    """Raised by a handler: it cannot be done now. All is taken back; the saga's policy decides when to try again.

    A handler of many gives it back in place of one command's answer, and must not have written for that one.
    """


Said = Struct | TryAgain | None
M = TypeVar("M", bound=Sequence[Said] | Awaitable[Sequence[Said] | None] | None)


class HandlerCall(Struct, frozen=True):
    """What a handler is told about the command besides its payload."""

    effect_id: str
    """Stable over retries: outside effects must carry it."""
    saga_id: str
    step: str
    direction: Direction
    attempt: int
    correlation_id: str
    retriable: bool = False
    """There is no way back for the saga: after a refusal it asks again until it gets a yes."""
    prepared: Any = None
    """What the handler's `prepare` returned."""


Prepare = Callable[[C, HandlerCall], Awaitable[object]]


class Route(Struct, frozen=True):
    """One declared handler."""

    command: type[Command]
    direction: Direction
    handler: Callable[[Any, Any, Any], Any]
    prepare: Callable[[Any, HandlerCall], Awaitable[object]] | None
    many: bool
    """The handler takes all such commands of a batch at once."""
    decoder: msgspec.json.Decoder[Command]


class Participant(Generic[Tx]):
    """A service's handlers. `Tx` is what its store hands them to write with."""

    def __init__(self, service: str) -> None:
        """Raises DefinitionError when the name cannot begin a command's tag."""
        if not service or "." in service or not service.isprintable():
            raise DefinitionError(f"participant {service!r}: give it a printable name without '.', e.g. 'inventory'")
        self.service = service
        self.routes: dict[str, Route] = {}
        """Handlers by their command's tag."""

    def handles(self, command: type[C], *, prepare: Prepare[C] | None = None) -> "_One[Tx, C]":
        """Decorate the function that does what `command` asks.

        `prepare` is awaited before the transaction, for what must be asked outside; its result is `call.prepared`.
        It is repeated when the command is tried again. Raises DefinitionError naming the command and the mend.
        """
        return _One(self, command, "do", prepare)

    def undoes(self, command: type[C], *, prepare: Prepare[C] | None = None) -> "_One[Tx, C]":
        """Decorate the function that undoes a step. It runs only where the do was done. `prepare` as in `handles`."""
        return _One(self, command, "undo", prepare)

    def handles_many(self, command: type[C], *, prepare: Prepare[C] | None = None) -> "_Many[Tx, C]":
        """Decorate the function that does what all such commands of a batch ask: no two of them are of the same step.

        It returns one answer for each, in their order (a `TryAgain` for what cannot be done now), or None: yes to all.
        What it refuses or puts off it must not have written for, nothing is taken back for a single one. When it
        raises, all it wrote is taken back and it is called again for each command alone. Two processes may have
        batches that touch the same rows: lock them in a fixed order. `prepare` as in `handles`, for each command.
        """
        return _Many(self, command, "do", prepare)

    def undoes_many(self, command: type[C], *, prepare: Prepare[C] | None = None) -> "_Many[Tx, C]":
        """Decorate the function that undoes all such steps of a batch; as `undoes` and `handles_many`."""
        return _Many(self, command, "undo", prepare)

    def _tag(self, command: type[Command]) -> str:
        where = f"participant {self.service}, command {command.__name__}"
        if not issubclass(command, Command):
            raise DefinitionError(f"{where}: derive it from unwind.Command")
        tag = command.__struct_config__.tag
        if not isinstance(tag, str) or not tag.startswith(f"{self.service}."):
            raise DefinitionError(f'{where}: its tag is {tag!r}; declare it with tag="{self.service}.…"')
        if tag in self.routes:
            raise DefinitionError(f"{where}: {tag!r} has a handler already; a command has one handler")
        return tag


class _Declaration(Generic[Tx, C]):
    """A decorator: notes the handler and leaves it as it is."""

    many: bool

    def __init__(
        self, participant: Participant[Tx], command: type[C], direction: Direction, prepare: Prepare[C] | None
    ) -> None:
        self._routes = participant.routes
        self._tag = participant._tag(command)  # noqa: SLF001 - one half of the same thing
        self._command = command
        self._direction = direction
        self._prepare = prepare

    def _note(self, handler: Callable[..., Any]) -> None:
        decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(self._command)
        self._routes[self._tag] = Route(self._command, self._direction, handler, self._prepare, self.many, decoder)


class _One(_Declaration[Tx, C]):
    many = False

    def __call__(self, handler: Callable[[Tx, C, HandlerCall], R]) -> Callable[[Tx, C, HandlerCall], R]:
        self._note(handler)
        return handler


class _Many(_Declaration[Tx, C]):
    many = True

    def __call__(
        self, handler: Callable[[Tx, Sequence[C], Sequence[HandlerCall]], M]
    ) -> Callable[[Tx, Sequence[C], Sequence[HandlerCall]], M]:
        self._note(handler)
        return handler
