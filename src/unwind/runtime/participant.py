"""The participant kit: how a batch of commands is answered, in one transaction, by the handlers a service declared.

`unwind.core.barrier` has the rules; `unwind.runtime.declaring` is what authors write.
"""

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct

from unwind.core import barrier
from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refusal
from unwind.errors import InputError, UnavailableError
from unwind.ports import Message, ParticipantStore, ParticipantTransaction
from unwind.runtime.blame import ends_transaction, is_authors
from unwind.runtime.declaring import HandlerCall, Participant, Route, TryAgain

__all__ = ["HandlerCall", "Job", "Participant", "TryAgain", "answer", "answer_within", "failed", "open_message"]

log = structlog.get_logger("unwind.participant")

REASON_LIMIT = 500
"""Characters of a failure's reason that travel in a reply."""
TRIES = 2
"""How often a transaction is tried that the database left without an answer, though it answers again."""
UNPREPARED = msgspec.UNSET
_TRIAL = "unwind/trial/do"
"""Under which nothing is ever kept."""
_encode = msgspec.json.Encoder().encode


class Job:
    """A command to be answered: decoded, with its handler, and what was prepared for it."""

    __slots__ = ("command", "do", "message", "prepared", "repeated", "route", "undo")

    def __init__(self, message: Message, route: Route, command: Command, do: str, undo: str) -> None:
        """`do` and `undo`: under which the answers to the step's do and undo are stored."""
        self.message = message
        self.route = route
        self.command = command
        self.prepared: object = UNPREPARED
        self.do = do
        self.undo = undo
        self.repeated = False
        """Whether it was answered from the barrier: it had come before."""

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
    saga, step = message.saga_id, message.step
    do, undo = effect_id(saga, step, "do"), effect_id(saga, step, "undo")
    if not saga or message.id != (do if message.direction == "do" else undo):
        raise InputError(f"the id {message.id!r} is not the effect id of its saga, step and direction")
    if "\0" in do:
        raise InputError(f"the id {message.id!r} has a NUL in it, which no database keeps")
    try:
        return Job(message, route, route.decoder.decode(message.payload), do, undo)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"its payload does not fit {message.name!r}: {error}") from error


# ------------------------------------------------------------------------------------------------------- transactions


async def answer(store: ParticipantStore[Any], jobs: Sequence[Job]) -> Sequence[Answer | None]:
    """Answer jobs, all in one transaction; None: it must be prepared first, nothing has been done.

    A transaction that fails is done in halves, until the job at fault is alone; it is answered `failed`. Raises
    UnavailableError when it is the database that cannot answer: whatever was done, all may be given again.
    """

    async def work(tx: ParticipantTransaction[Any]) -> Sequence[Answer | None]:
        return await answer_within(tx, jobs)

    for _ in range(TRIES):
        try:
            return await store.transact(work)
        except Exception as error:
            failure = error
        if not isinstance(failure, UnavailableError):
            await check_writable(store)
            break
        log.warning("participant_transaction_lost", commands=len(jobs), error=str(failure))
        await check_writable(store)  # if it is now, the trouble has passed, or one of the jobs makes it
    if len(jobs) == 1:
        message = jobs[0].message
        _tell("command_failed", failure, command=message.name, effect_id=message.id)
        return [failed(failure)]
    log.warning("participant_transaction_failed", commands=len(jobs), error=repr(failure))
    half = len(jobs) // 2
    return [*await answer(store, jobs[:half]), *await answer(store, jobs[half:])]


async def check_writable(store: ParticipantStore[Any]) -> None:
    """Write a row and take it back. Raises UnavailableError: a database that only reads can answer no command."""
    try:
        await store.transact(_try_to_write)
    except _TakenBackError:
        return
    except UnavailableError:
        raise
    except Exception as error:
        raise UnavailableError(f"the database cannot be written to: {error}") from error


class _TakenBackError(Exception):
    """Rolls the trial back."""


async def _try_to_write(tx: ParticipantTransaction[Any]) -> None:
    await tx.record({_TRIAL: barrier.OK})
    raise _TakenBackError


def _tell(event: str, error: Exception, **about: object) -> None:
    """A traceback is for whoever wrote what is at fault; of anything else it tells nothing."""
    if is_authors(error):
        log.error(event, exc_info=error, **about)
    else:
        log.warning(event, error=f"{type(error).__name__}: {error}", **about)


def failed(error: Exception) -> Answer:
    """The answer that makes the saga try again."""
    text = str(error) if isinstance(error, TryAgain) else f"{type(error).__name__}: {error}"
    return Answer("failed", reason=text[:REASON_LIMIT].encode(errors="replace").decode())


# ---------------------------------------------------------------------------------------------- inside of a transaction


async def answer_within(tx: ParticipantTransaction[Any], jobs: Sequence[Job]) -> Sequence[Answer | None]:
    """Answer jobs in an open transaction; None as in `answer`. What it raises must roll the transaction back."""
    batch = _Batch(tx)
    await batch.look(jobs)
    left = jobs
    while left:
        left = await batch.settle(left)
    if batch.fresh:
        await tx.record(batch.fresh)
    return [batch.answers.get(job) for job in jobs]


class _Batch:
    """Commands in one transaction: what is stored about them, and what will be."""

    def __init__(self, tx: ParticipantTransaction[Any]) -> None:
        self.answers: dict[Job, Answer] = {}
        self.fresh: dict[str, Answer] = {}
        self._stored: dict[str, Answer] = {}
        self._tx = tx

    async def look(self, jobs: Sequence[Job]) -> None:
        """Find out what is stored about these."""
        self._stored.update(await self._tx.lookup([key for job in jobs for key in (job.do, job.undo)]))

    async def settle(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Answer these, but for those that must wait for the answer to an earlier one of the same step."""
        together: dict[str, list[Job]] = {}
        busy: set[str] = set()
        left: list[Job] = []
        for job in jobs:
            if job.do in busy:
                left.append(job)
            elif self._settled(job) or job.unprepared:
                continue
            elif job.route.many:
                together.setdefault(job.message.name, []).append(job)
                busy.add(job.do)
            else:
                await self._handle([job])
        for group in together.values():
            await self._handle(group)
        return left

    def _settled(self, job: Job) -> bool:
        """Whether it can be answered from what is stored."""
        settled = barrier.settle(job.message.direction, self._stored.get(job.do), self._stored.get(job.undo))
        if settled is None:
            return False
        self.answers[job] = settled.answer
        job.repeated = not settled.rows
        for direction, row in settled.rows.items():
            self._keep(job, direction, row)
        return True

    def _answered(self, job: Job, given: Answer) -> None:
        self.answers[job] = given
        message = job.message
        for direction, row in barrier.rows_of(message.direction, given, retriable=message.retriable).items():
            self._keep(job, direction, row)

    def _keep(self, job: Job, direction: Direction, row: Answer) -> None:
        key = job.do if direction == "do" else job.undo
        self._stored[key] = self.fresh[key] = row

    async def _handle(self, jobs: Sequence[Job]) -> None:
        """Run the handler of these, which share it; keep what it wrote exactly when its answers say so."""
        tx, failure = self._tx, None
        await tx.savepoint()
        try:
            given = await _call(tx.handle, jobs)
            kept = any(map(barrier.keeps_effects, given))
            if kept:
                await tx.release()
        except Exception as error:
            if ends_transaction(error):
                raise
            failure, given = error, [failed(error)]
            kept = barrier.keeps_effects(given[0])
        if not kept:
            await tx.rollback()
        if failure is not None:
            await self._fail(jobs, failure)
        else:
            for job, said in zip(jobs, given, strict=True):
                self._answered(job, said)

    async def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """The handler of these has failed: try each alone.

        One alone may have met its own twin: the same command in another process, which has been answered meanwhile.
        """
        await self.look(jobs)
        if len(jobs) > 1:
            log.warning("handled_one_by_one", command=jobs[0].message.name, commands=len(jobs), error=repr(error))
        for job in jobs:
            if self._settled(job):
                continue
            if len(jobs) > 1:
                await self._handle([job])
                continue
            if not isinstance(error, TryAgain):
                _tell("handler_failed", error, command=job.message.name, effect_id=job.message.id)
            self._answered(job, failed(error))


async def _call(handle: Any, jobs: Sequence[Job]) -> Sequence[Answer]:
    route = jobs[0].route
    if not route.many:
        [job] = jobs
        given = route.handler(handle, job.command, job.call())
        return [_answer(await given if isawaitable(given) else given)]
    given = route.handler(handle, [job.command for job in jobs], [job.call() for job in jobs])
    if isawaitable(given):
        given = await given
    if given is None:
        return [barrier.OK] * len(jobs)
    if len(given) != len(jobs):
        raise TypeError(f"a handler of many returns an answer to each: {len(jobs)} commands, {len(given)} answers")
    return [_answer(each) for each in given]


def _answer(given: object) -> Answer:
    if given is None:
        return barrier.OK
    if isinstance(given, TryAgain):
        return failed(given)
    if not isinstance(given, Struct):
        raise TypeError(f"a handler returns a msgspec.Struct, a Refusal or None, not {type(given).__name__}")
    name, payload = str(given.__struct_config__.tag or ""), Raw(_encode(given))
    if isinstance(given, Refusal):
        return Answer("refused", name, payload, given.reason.replace("\0", "\ufffd"))
    return Answer("ok", name, payload)
