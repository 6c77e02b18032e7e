"""The participant kit: how a service declares what it does with commands, and how a batch of them is answered.

    inventory = Participant[sqlite3.Connection]("inventory")

    @inventory.handles(ReserveInventory)
    def reserve(tx: sqlite3.Connection, command: ReserveInventory, call: HandlerCall) -> Reserved | OutOfStock: ...

    @inventory.undoes(ReleaseInventory)
    def release(tx: sqlite3.Connection, command: ReleaseInventory, call: HandlerCall) -> None: ...

A handler writes with `tx` and returns a reply (ok) or a `Refusal` (a business no); what it raises means "try again". It
never commits: its writes and the stored answer are one transaction, so that each effect happens once however often the
command comes. `unwind.core.barrier` has the rules.
"""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec import Raw, Struct

from unwind.core import barrier
from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.saga import Command, Refusal
from unwind.errors import DefinitionError, InputError
from unwind.ports import Message, ParticipantStore, ParticipantTransaction

log = structlog.get_logger("unwind.participant")

Tx = TypeVar("Tx")
C = TypeVar("C", bound=Command)
R = TypeVar("R", bound=Struct | Awaitable[Struct | None] | None)

REASON_LIMIT = 500
"""Characters of a failure's reason that travel in a reply."""
UNPREPARED = msgspec.UNSET


class TryAgain(Exception):  # noqa: N818 - reads as the order it is: raise TryAgain("…")
    """Raised by a handler: it cannot be done now. All is taken back; the saga's policy decides when to try again."""


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


class Route(Struct, frozen=True):
    """One declared handler."""

    command: type[Command]
    direction: Direction
    handler: Callable[[Any, Any, HandlerCall], Any]
    prepare: Callable[[Any, HandlerCall], Awaitable[object]] | None = None


class Participant(Generic[Tx]):
    """A service's handlers. `Tx` is what its store hands them to write with."""

    def __init__(self, service: str) -> None:
        """Raises DefinitionError when the name cannot begin a command's tag."""
        if not service or "." in service or not service.isprintable():
            raise DefinitionError(f"participant {service!r}: give it a printable name without '.', e.g. 'inventory'")
        self.service = service
        self.routes: dict[str, Route] = {}
        """Handlers by their command's tag."""

    def handles(
        self, command: type[C], *, prepare: Callable[[C, HandlerCall], Awaitable[object]] | None = None
    ) -> "_Declaration[Tx, C]":
        """Decorate the function that does what `command` asks.

        `prepare` is awaited before the transaction, for what must be asked outside; its result is `call.prepared`.
        It is repeated when the command is tried again. Raises DefinitionError naming the command and the mend.
        """
        return _Declaration(self.routes, self._tag(command), command, "do", prepare)

    def undoes(
        self, command: type[C], *, prepare: Callable[[C, HandlerCall], Awaitable[object]] | None = None
    ) -> "_Declaration[Tx, C]":
        """Decorate the function that undoes a step. It runs only where the do was done. `prepare` as in `handles`."""
        return _Declaration(self.routes, self._tag(command), command, "undo", prepare)

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
    """The decorator: notes the handler and leaves it as it is."""

    def __init__(
        self,
        routes: dict[str, Route],
        tag: str,
        command: type[C],
        direction: Direction,
        prepare: Callable[[C, HandlerCall], Awaitable[object]] | None,
    ) -> None:
        self._routes = routes
        self._tag = tag
        self._command = command
        self._direction = direction
        self._prepare = prepare

    def __call__(self, handler: Callable[[Tx, C, HandlerCall], R]) -> Callable[[Tx, C, HandlerCall], R]:
        self._routes[self._tag] = Route(self._command, self._direction, handler, self._prepare)
        return handler


class Job:
    """A command to be answered: decoded, with its handler, and what was prepared for it."""

    __slots__ = ("command", "keys", "message", "prepared", "route")

    def __init__(self, message: Message, route: Route, command: Command) -> None:
        self.message = message
        self.route = route
        self.command = command
        self.prepared: object = UNPREPARED
        saga, step = message.saga_id, message.step
        self.keys: dict[Direction, str] = {"do": effect_id(saga, step, "do"), "undo": effect_id(saga, step, "undo")}
        """Under which the answers to the do and to the undo are stored."""

    def call(self) -> HandlerCall:
        """What the handler is told."""
        message = self.message
        return HandlerCall(
            message.id,
            message.saga_id,
            message.step,
            message.direction,
            message.attempt,
            message.correlation_id,
            message.retriable,
            None if self.prepared is UNPREPARED else self.prepared,
        )

    @property
    def unprepared(self) -> bool:
        """Whether something is to be asked outside before the handler can run."""
        return self.route.prepare is not None and self.prepared is UNPREPARED

    async def prepare(self) -> None:
        """Ask it. Raises what the author's function raises."""
        if self.route.prepare is not None:
            self.prepared = await self.route.prepare(self.command, self.call())

    def reply(self, answer: Answer) -> Message:
        """The answer, addressed to the saga."""
        message = self.message
        return Message(
            id=message.id,
            name=answer.name,
            payload=answer.payload,
            saga_id=message.saga_id,
            step=message.step,
            direction=message.direction,
            attempt=message.attempt,
            outcome=answer.outcome,
            reason=answer.reason,
            correlation_id=message.correlation_id,
            causation_id=message.id,
            traceparent=message.traceparent,
        )


def open_message(participant: Participant[Any], message: Message) -> Job:
    """A message as a job. Raises InputError when it can never be handled: it is poison."""
    route = participant.routes.get(message.name)
    if route is None:
        raise InputError(f"{participant.service} has no handler for {message.name!r}")
    if message.direction != route.direction:
        raise InputError(f"{message.name!r} is handled as {route.direction!r}, this is sent as {message.direction!r}")
    if not message.saga_id or message.id != effect_id(message.saga_id, message.step, message.direction):
        raise InputError(f"the id {message.id!r} is not the effect id of its saga, step and direction")
    try:
        return Job(message, route, msgspec.json.decode(message.payload, type=route.command))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"its payload does not fit {message.name!r}: {error}") from error


async def answer(store: ParticipantStore[Any], jobs: Sequence[Job]) -> Sequence[Answer | None]:
    """Answer jobs, all in one transaction; None: it must be prepared first, nothing has been done.

    When the transaction fails, each job is tried alone once, and answered `failed` when that fails too.
    """
    try:
        return await _transact(store, jobs)
    except Exception as error:
        log.warning("participant_transaction_failed", commands=len(jobs), error=repr(error))
    answers: list[Answer | None] = []
    for job in jobs:
        try:
            answers += await _transact(store, [job])
        except Exception as error:
            log.exception("command_failed", command=job.message.name, effect_id=job.message.id)
            answers.append(failed(error))
    return answers


def failed(error: Exception) -> Answer:
    """The answer that makes the saga try again."""
    text = str(error) if isinstance(error, TryAgain) else f"{type(error).__name__}: {error}"
    return Answer("failed", reason=text[:REASON_LIMIT].encode(errors="replace").decode())


async def _transact(store: ParticipantStore[Any], jobs: Sequence[Job]) -> list[Answer | None]:
    async def work(tx: ParticipantTransaction[Any]) -> list[Answer | None]:
        stored = dict(await tx.lookup([key for job in jobs for key in job.keys.values()]))
        fresh: dict[str, Answer] = {}
        answers: list[Answer | None] = []
        for job in jobs:
            keys = job.keys
            settled = barrier.settle(job.message.direction, stored.get(keys["do"]), stored.get(keys["undo"]))
            if settled is not None:
                given, rows = settled.answer, settled.rows
            elif job.unprepared:
                answers.append(None)
                continue
            else:
                given = await _handle(tx, job)
                rows = barrier.rows_of(job.message.direction, given, retriable=job.message.retriable)
            new = {keys[direction]: row for direction, row in rows.items()}
            stored.update(new)
            fresh.update(new)
            answers.append(given)
        if fresh:
            await tx.record(fresh)
        return answers

    return await store.transact(work)


async def _handle(tx: ParticipantTransaction[Any], job: Job) -> Answer:
    """Run the handler; keep what it wrote exactly when its answer says so."""
    await tx.savepoint()
    try:
        given = job.route.handler(tx.handle, job.command, job.call())
        if isawaitable(given):
            given = await given
        result = _answer(given)
    except Exception as error:
        if not isinstance(error, TryAgain):
            log.exception("handler_failed", command=job.message.name, effect_id=job.message.id)
        result = failed(error)
    if barrier.keeps_effects(result):
        await tx.release()
    else:
        await tx.rollback()
    return result


def _answer(given: object) -> Answer:
    if given is None:
        return barrier.OK
    if not isinstance(given, Struct):
        raise TypeError(f"a handler returns a msgspec.Struct, a Refusal or None, not {type(given).__name__}")
    name, payload = str(given.__struct_config__.tag or ""), Raw(msgspec.json.encode(given))
    if isinstance(given, Refusal):
        return Answer("refused", name, payload, given.reason)
    return Answer("ok", name, payload)
