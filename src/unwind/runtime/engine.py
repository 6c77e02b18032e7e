"""What callers may ask of a worker: start, cancel, pause, resume. Each answer is durable when it is given."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.draft import Decision
from unwind.core.messages import NULL, Cancel, Input, Pause, ResolveStep, Resume, RetryStep, Signal, SkipStep, Start
from unwind.core.saga import Saga, revision_of, with_children
from unwind.core.state import State
from unwind.errors import (
    DefinitionError,
    IdempotencyError,
    InputError,
    NotFoundError,
    OverloadedError,
    StateError,
    UnavailableError,
    UnchangedError,
)
from unwind.ports import Bus, Clock, Query, Registered, Store
from unwind.runtime.circuits import CircuitView
from unwind.runtime.instants import micros_of
from unwind.runtime.limits import Limits
from unwind.runtime.loop import Loop
from unwind.runtime.searchable import searchable
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.waiting import Opening, Waiting

C = TypeVar("C")
_PLACE = re.compile(r" - at `\$(\S*)`")
"""How msgspec says where in a document something does not fit."""


class Started(Struct, frozen=True):
    """An accepted start. `created` is False when the request was accepted before; `state` is the saga as it is now."""

    saga_id: str
    created: bool
    state: State


class Engine:
    """One worker. Give every engine that ever runs a `worker` name of its own."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        sagas: Sequence[Saga[Any]],
        *,
        clock: Clock,
        worker: str,
        new_id: Callable[[], str],
        jitter: Callable[[], float],
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
        replies: bool = True,
        trace: Callable[[str], str] | None = None,
    ) -> None:
        """Nothing runs before `open` and `run`. `new_id` gives fresh saga ids, ordered by time; `jitter` is in [0, 1).

        Of one name several versions may be given: each saga stays on the one that it was begun with. Without `replies`
        it leaves them to other workers: it begins sagas and steers them, and others carry them on. Sagas that are the
        doing of these sagas' steps need not be given. `trace` gives the trace context of a saga, by its id, that is
        begun outside of any.

        Raises DefinitionError when two sagas share name and version.
        """
        sagas = with_children(sagas)
        if len({(saga.name, saga.version) for saga in sagas}) != len(sagas):
            raise DefinitionError("two sagas have the same name and version; number the versions")
        self.limits = limits or Limits()
        self.telemetry = telemetry or Telemetry()
        self.sagas = {saga.hash: saga for saga in sagas}
        self.newest: Mapping[str, Saga[Any]] = {
            saga.name: saga for saga in sorted(sagas, key=lambda saga: saga.version)
        }
        """By name: what begins where only the name is said."""
        self.revisions = [saga.revision for saga in sagas]
        """What this worker knows: `name@version#hash` of each definition."""
        self.searchable = searchable(sagas)
        self.telemetry.expect(self.newest)
        self.worker = worker
        self.carries_on = replies
        """Whether it hears the answers of participants; else others do."""
        self._store = store
        self._new_id = new_id
        self._trace = trace
        self._stopping = False
        self._waiting = Waiting(store, clock, self.limits.call_timeout)
        self.loop = Loop(
            store,
            bus,
            self.sagas,
            clock=clock,
            worker=worker,
            jitter=jitter,
            limits=self.limits,
            telemetry=self.telemetry,
            on_end=self._waiting.ended,
            replies=replies,
        )

    async def open(self) -> None:
        """Register the definitions, learn the store's time, join the consumers of replies.

        Raises DefinitionError when a definition was changed without a new version.
        """
        registered = await self._store.register([(saga.name, saga.version, saga.hash) for saga in self.sagas.values()])
        if registered.clashes:
            raise DefinitionError(
                f"{told_clashes(registered)}; give the changed definition the next version number, and keep the old "
                "one beside it until its sagas have ended"
            )
        await self.loop.open()

    async def run(self) -> None:
        """Work until `stop`, or until cancelled. A part that fails brings all of it down: never silent."""
        try:
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(self._waiting.run(self.loop.reload))
                await self.loop.run()
                waiting.cancel()
        finally:
            self._stopping = True
            self._waiting.close()

    @property
    def stopping(self) -> bool:
        """It admits nothing more."""
        return self._stopping

    async def stop(self, grace: float = 5.0) -> None:
        """Admit nothing more, give actions `grace` seconds to end, finish what is in hand, leave the rest to others."""
        self._stopping = True
        await self.loop.stop(grace)

    async def start(
        self,
        saga: Saga[C] | str,
        context: C,
        *,
        saga_id: str = "",
        request_hash: str = "",
        correlation_id: str = "",
        traceparent: str = "",
        begin_at: datetime | None = None,
    ) -> Started:
        """Accept a saga. Its first step begins at once, or at `begin_at`, from which its deadline counts too.

        A name stands for the newest version that is registered here.

        An empty `saga_id` makes a fresh one. An id derived from an idempotency key makes the call repeatable: a
        repeated request answers with the saga that was accepted first.

        Raises IdempotencyError (same id, other `request_hash`), InputError (context too large, or not to be stored),
        OverloadedError (nothing was accepted), UnavailableError (outcome unknown), DefinitionError (not registered, or
        `on_started` or an attribute raised).
        """
        message = self._opening(saga, context, saga_id, request_hash, correlation_id, traceparent)
        if begin_at is not None:
            message = replace(message, begin_at=micros_of("begin_at", begin_at))
        decision = await self._ask(message.saga_id, message)
        _check_opening(decision, request_hash)
        return Started(message.saga_id, decision.verdict != "exists", decision.state)

    async def execute(
        self,
        saga: Saga[C] | str,
        context: C,
        *,
        saga_id: str = "",
        request_hash: str = "",
        correlation_id: str = "",
        traceparent: str = "",
    ) -> State:
        """Start a saga and wait until it has ended; as `start` and `ended`, at less than their cost.

        Raises what both raise. Giving up waiting does not stop the saga.
        """
        message = self._opening(saga, context, saga_id, request_hash, correlation_id, traceparent)
        if self._stopping:
            raise UnavailableError("this process is stopping; repeat the call")
        end = self._waiting.expect_end(message.saga_id)
        self.loop.put(message.saga_id, message, Opening(end, lambda made: _check_opening(made, request_hash)))
        try:
            state = await end
        finally:
            if end.cancelled():
                self._waiting.forget(message.saga_id, end)
        _check_request(state, request_hash)  # of one that had ended, the end is heard of before the decision
        return state

    def _opening(  # noqa: PLR0917 - the arguments of `start`, on the hot path
        self, asked: Saga[C] | str, context: C, saga_id: str, request_hash: str, correlation_id: str, traceparent: str
    ) -> Start:
        """The message that begins a saga. Raises what makes it unacceptable."""
        saga = asked if isinstance(asked, Saga) else self.newest.get(asked)
        if saga is None:
            known = ", ".join(self.newest) or "none"
            raise DefinitionError(f"no saga {asked!r} is registered here; there is {known}")
        if saga.hash not in self.sagas:
            raise DefinitionError(f"saga {saga.revision} is not registered here; pass it to Engine(sagas=…)")
        if self.loop.backlog >= self.limits.inbox:
            self.telemetry.work["starts_rejected"] += 1
            raise OverloadedError(f"{self.loop.backlog} sagas wait; nothing was accepted, try again later")
        try:
            encoded = msgspec.json.encode(context)
        except (TypeError, ValueError) as error:
            raise InputError(f"the context cannot be stored as JSON: {error}") from error
        if len(encoded) > self.limits.payload:
            raise InputError(f"the context has {len(encoded)} bytes; at most {self.limits.payload} are allowed")
        chosen = saga_id or self._new_id()
        if self._trace is not None and not traceparent:
            traceparent = self._trace(chosen)
        if not saga_id:
            self.loop.expect_new(chosen)
        return Start(chosen, Raw(encoded), request_hash, correlation_id, traceparent, saga.hash)

    async def ended(self, saga_id: str) -> State:
        """Wait until the saga has ended, here or in another process. Raises NotFoundError, UnavailableError."""
        state = await self._waiting.end(saga_id, self.loop.state)
        if state.status == "new":
            raise NotFoundError(f"there is no saga {saga_id}")
        return state

    async def cancel(
        self,
        saga_id: str,
        *,
        actor: str,
        reason: str = "",
        expected_version: int | None = None,
        anew: bool = False,
    ) -> State:
        """Undo everything. Repeating it is harmless; only `anew` insists that it was not being undone already.

        An `expected_version` makes this act, like each of those below, count only while that is the saga's version.

        Raises NotFoundError, StateError (ended, past the pivot, or another version), UnchangedError (if `anew`).
        """
        decision = await self._act(saga_id, Cancel(actor, reason, expected_version))
        if anew and decision.verdict == "undoing":
            state = decision.state
            raise UnchangedError(f"saga {saga_id} is being undone already; nothing changed", state.shown_status)
        return decision.state

    async def pause(self, saga_id: str, *, actor: str, reason: str = "", expected_version: int | None = None) -> State:
        """Begin nothing new until resumed. Raises NotFoundError, StateError (ended, or another version)."""
        return await self._control(saga_id, Pause(actor, reason, expected_version))

    async def resume(self, saga_id: str, *, actor: str, reason: str = "", expected_version: int | None = None) -> State:
        """Drive now what is outstanding; un-pause; retry what is blocked.

        Raises NotFoundError, StateError (ended, or another version).
        """
        return await self._control(saga_id, Resume(actor, reason, expected_version))

    async def retry(
        self,
        saga_id: str,
        *,
        actor: str,
        reason: str = "",
        step: str = "",
        command: Raw | None = None,
        expected_version: int | None = None,
    ) -> State:
        """Begin a fresh attempt at what is blocked, or in a backoff; `step` says which it should be.

        `command` replaces the payload that is sent from now on. It must fit the type of the step's own command. Where
        the participant has stored an answer already, that one counts.

        Raises NotFoundError, StateError (nothing of the kind, or another version), InputError (it does not fit).
        """
        return await self._control(saga_id, RetryStep(actor, reason, expected_version, step, command), "command")

    async def resolve(
        self,
        saga_id: str,
        *,
        actor: str,
        evidence: str,
        reference: str = "",
        step: str = "",
        reply: Raw = NULL,
        expected_version: int | None = None,
    ) -> State:
        """Take what is blocked as done, or undone: a person did it, and says how it is known.

        `reply` is what the participant would have answered to the step; it goes through `succeeded`.

        Raises NotFoundError, StateError (nothing is blocked, or another version), InputError (the reply does not fit).
        """
        act = ResolveStep(actor, "", expected_version, step, evidence, reference, reply)
        return await self._control(saga_id, act, "reply")

    async def skip(
        self, saga_id: str, *, actor: str, reason: str, step: str = "", expected_version: int | None = None
    ) -> State:
        """Leave out what is blocked: a step that was not begun or is past the pivot, or an undo.

        A step whose undo is skipped is named in `State.left` for good.

        Raises NotFoundError, StateError (nothing is blocked, it may have happened, or another version).
        """
        return await self._control(saga_id, SkipStep(actor, reason, expected_version, step))

    async def signal(
        self, saga_id: str, step: str, payload: Raw = NULL, *, signal_id: str = "", actor: str = ""
    ) -> State:
        """Tell a saga what its `SignalStep` of that name waits for, or will wait for: then it is kept.

        Repeating it is harmless: one with the same `signal_id` and payload counts once.

        Raises NotFoundError, StateError (ended, no such signal, or another one came before), InputError (it does not
        fit the type that the step declares).
        """
        if len(bytes(payload)) > self.limits.payload:
            raise InputError(f"the signal has more than {self.limits.payload} bytes", "payload")
        return await self._control(saga_id, Signal(step, payload, signal_id, actor), "payload")

    def circuits(self) -> tuple[CircuitView, ...]:
        """Which participants answer, as far as this worker has seen."""
        return self.loop.circuits()

    async def _control(self, saga_id: str, message: Input, field: str = "") -> State:
        return (await self._act(saga_id, message, field)).state

    async def _act(self, saga_id: str, message: Input, field: str = "") -> Decision:
        # By its row: other streams live in the same log, and are no sagas.
        if not await self._store.find(Query((saga_id,), limit=1)):
            raise NotFoundError(f"there is no saga {saga_id}")
        decision = await self._ask(saga_id, message)
        _check_act(saga_id, decision, field)
        return decision

    async def _ask(self, saga_id: str, message: Input) -> Decision:
        if self._stopping:
            raise UnavailableError("this process is stopping; repeat the call")
        call = self._waiting.call()
        self.loop.put(saga_id, message, call)
        return await call.future


def told_clashes(registered: Registered) -> str:
    """Which definitions were changed under the same version, and how many live sagas that concerns."""
    told = []
    for name, version, digest in registered.clashes:
        old = {each: n for each, n in registered.others.items() if each.startswith(f"{name}@{version}#")}
        bound = ", ".join(f"{n} live on {each}" for each, n in old.items()) or "none of them lives now"
        told.append(f"{name} version {version} was changed (it is {revision_of(name, version, digest)} now)")
        told.append(f"and sagas were begun on the old definition: {bound}")
    return "the definition of " + ", ".join(told)


def _check_act(saga_id: str, decision: Decision, field: str) -> None:
    """Raises what kept an operator's act from being recorded; `field` is where its data stands."""
    state = decision.state
    match decision.verdict:
        case "ended":
            raise StateError(f"saga {saga_id} has ended: it is {state.status}", state.status)
        case "past_pivot":
            reason = "is past its point of no return and can only go forward"
        case "conflict":
            reason = f"has moved on: it is at version {state.version} now; look again"
        case "unfit":
            reason = f"is not in a state for it: {decision.reason}"
        case "invalid":
            place = _PLACE.search(decision.reason)
            raise InputError(decision.reason, f"{field}{place[1]}" if place else field)
        case _:
            return
    raise StateError(f"saga {saga_id} {reason}", state.shown_status)


def _check_opening(decision: Decision, request_hash: str) -> None:
    """Raises what keeps a saga from being the one that was asked for."""
    if decision.verdict == "author_error":
        raise DefinitionError(decision.reason)
    _check_request(decision.state, request_hash)


def _check_request(state: State, request_hash: str) -> None:
    """Raises IdempotencyError when a saga was accepted for another request."""
    if state.request_hash != request_hash:
        raise IdempotencyError("this idempotency key was used for a different request; use a new key")
