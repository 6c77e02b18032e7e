"""One act on many sagas: previewed, then done saga by saga as a single act is, at most so many a second.

What is to be acted on is listed once, when a run begins; each saga is looked at again before its turn, and one that has
moved on is refused, never forced. Runs are kept in the memory of their process: where that ends, a run says in the log
how far it came, and what it has done stands in the sagas' histories.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal

import structlog
from msgspec import Struct
from msgspec.structs import replace

from unwind.census import Tally
from unwind.core.state import ShownStatus, State
from unwind.errors import InputError, NotFoundError, OverloadedError, StateError, UnavailableError, UnwindError
from unwind.ports import Clock, Query
from unwind.runtime.engine import Engine
from unwind.runtime.instants import instant, instant_or_none
from unwind.runtime.limits import SECOND
from unwind.runtime.queries import Queries

log = structlog.get_logger("unwind.bulk")

Action = Literal["cancel", "resume", "retry"]
APPLIES: Mapping[Action, tuple[ShownStatus, ...]] = {
    "cancel": ("pending", "running", "paused", "blocked"),
    "resume": ("running", "compensating", "paused", "blocked"),
    "retry": ("running", "compensating", "blocked"),
}
"""Statuses of sagas for which an act may be of use; whether it is one of them only the saga itself can tell."""
MOST = 100_000
"""Sagas that one run acts on."""
RUNNING = 4
"""Runs at a time in one process."""
KEPT = 50
"""Ended runs that can be asked for."""
TOLD = 100
"""Refused sagas of one run that are named with their reasons."""
TRIES = 3
"""How often a saga that moves while it is looked at is looked at again."""
PATIENCE = 2.0
"""Seconds that stopping waits for the acts in hand: a database that hangs must not hold the process."""
PAGE = 1_000
"""Sagas that are listed at a time."""

RunState = Literal["running", "done", "interrupted"]


class Preview(Struct, frozen=True):
    """What an act would meet."""

    matched: tuple[Tally, ...]
    """All that the filter fits."""
    applicable: tuple[Tally, ...]
    """Those among them that the act may be of use for."""

    @property
    def applies_to(self) -> int:
        """How many sagas the act would be tried on."""
        return sum(tally.count for tally in self.applicable)


class Order(Struct, frozen=True):
    """What is to be done."""

    action: Action
    query: Query
    """Which sagas; its page and limit play no part."""
    actor: str
    reason: str
    per_second: int
    expected: int | None = None
    """How many sagas it must be; None: as many as there are."""


class Refused(Struct, frozen=True):
    """A saga that was left as it is."""

    saga_id: str
    reason: str


class BulkRun(Struct, frozen=True):
    """How far a run has come. `total` = `applied` + `refused` + `left`."""

    id: str
    action: Action
    state: RunState
    """Interrupted: it ended before its last saga; `note` says why."""
    total: int
    applied: int
    refused: int
    left: int
    refusals: tuple[Refused, ...]
    """The first hundred."""
    limit_per_second: int
    started_at: str
    ended_at: str | None
    note: str


class _Run(Struct):
    """A run, as it goes on."""

    id: str
    order: Order
    total: int
    started_at: int
    state: RunState = "running"
    applied: int = 0
    refused: int = 0
    refusals: list[Refused] = []
    ended_at: int | None = None
    note: str = ""
    halted: str = ""
    """Why no further act is to begin."""
    task: asyncio.Task[None] | None = None

    def progress(self) -> BulkRun:
        left = self.total - self.applied - self.refused
        return BulkRun(
            *(self.id, self.order.action, self.state, self.total, self.applied, self.refused, left),
            tuple(self.refusals),
            self.order.per_second,
            instant(self.started_at),
            instant_or_none(self.ended_at),
            self.note,
        )


class Bulk:
    """The runs of one process."""

    def __init__(self, engine: Engine, queries: Queries, clock: Clock, new_id: Callable[[], str]) -> None:
        """`queries` must read the store itself: what a cache knows may have moved on."""
        self._engine = engine
        self._queries = queries
        self._clock = clock
        self._new_id = new_id
        self._runs: dict[str, _Run] = {}
        self._acts: Mapping[Action, Callable[..., Awaitable[State]]] = {
            "cancel": partial(engine.cancel, anew=True),
            "resume": engine.resume,
            "retry": engine.retry,
        }

    async def preview(self, action: Action, query: Query) -> Preview:
        """What an act on these sagas would meet. Raises UnavailableError."""
        matched = await self._queries.count(query, self._engine.searchable.amounts)
        return Preview(tuple(matched), tuple(tally for tally in matched if tally.status in APPLIES[action]))

    async def begin(self, order: Order, preview: Preview) -> BulkRun:
        """Begin to act, and say so at once.

        Raises InputError (more sagas than one run takes), OverloadedError (too many runs), UnavailableError.
        """
        if preview.applies_to > MOST:
            raise InputError(
                f"the act would apply to {preview.applies_to} sagas, and one run takes {MOST}: narrow the filter, "
                "e.g. by started_from and started_to",
                "filter",
            )
        started_at = await self._queries.now()
        if self._engine.stopping:
            raise UnavailableError("this process is stopping; repeat the call")
        if sum(run.state == "running" for run in self._runs.values()) >= RUNNING:
            raise OverloadedError(f"{RUNNING} bulk runs are under way in this process: wait for one, or stop it", 10)
        run = _Run(self._new_id(), order, preview.applies_to, started_at)
        self._forget_old()
        self._runs[run.id] = run
        log.info("bulk_begun", run=run.id, action=order.action, sagas=run.total, reason=order.reason)
        run.task = asyncio.create_task(self._carry_out(run), name=f"bulk {run.id}")
        run.task.add_done_callback(lambda task: _died(run, task))
        return run.progress()

    def progress(self, run_id: str) -> BulkRun:
        """How far a run has come. Raises NotFoundError."""
        return self._known(run_id).progress()

    def halt(self, run_id: str, reason: str = "") -> BulkRun:
        """Let a run end before its next act; what it has done stays done. Raises NotFoundError."""
        run = self._known(run_id)
        run.halted = run.halted or f"stopped by an operator{f': {reason}' if reason else ''}"
        return run.progress()

    async def stop(self) -> None:
        """Let every run end before its next act, and say how far it came."""
        tasks = []
        for run in self._runs.values():
            run.halted = run.halted or "the process was stopped; begin it anew for what is left"
            if run.task is not None and not run.task.done():
                tasks.append(run.task)
        if tasks:
            _, hanging = await asyncio.wait(tasks, timeout=PATIENCE)
            for task in hanging:
                task.cancel()

    def _known(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise NotFoundError(
                "this process knows no such bulk run: each is known only to the process that took it, while that runs "
                f"and until {KEPT} later ones have ended; what it did stands in the sagas' histories"
            )
        return run

    def _forget_old(self) -> None:
        ended = [run.id for run in self._runs.values() if run.state != "running"]
        for run_id in ended[: max(0, len(ended) - KEPT + 1)]:
            del self._runs[run_id]

    # ---------------------------------------------------------------------------------------------------- carrying out

    async def _carry_out(self, run: _Run) -> None:
        try:
            await self._act_on_all(run)
        except UnavailableError as error:
            run.note = run.halted or f"it cannot go on ({error}); begin it anew for what is left"
        run.state = "interrupted" if run.note else "done"
        told = log.warning if run.note else log.info
        told("bulk_ended", **_told(run))

    async def _act_on_all(self, run: _Run) -> None:
        begun_at = next_at = self._clock.monotonic()
        try:
            saga_ids = await self._listed(run)
            run.total = len(saga_ids)
            if run.order.expected not in {None, run.total}:  # some came or went since they were counted
                run.note = f"it would apply to {run.total} sagas now, not {run.order.expected}; nothing was done"
                return
            for saga_id in saga_ids:
                # From the end of the pause on: after a slow act there is no catching up, or a second would see more.
                await self._clock.sleep(max(0, next_at - self._clock.monotonic()))
                if run.halted:
                    run.note = run.halted
                    return
                next_at = self._clock.monotonic() + -(-SECOND // run.order.per_second)
                if refusal := await self._act_on(run.order, saga_id):
                    run.refused += 1
                    if len(run.refusals) < TOLD:
                        run.refusals.append(Refused(saga_id, refusal))
                else:
                    run.applied += 1
        finally:
            # By its own clock: the store may be what does not answer.
            run.ended_at = run.started_at + self._clock.monotonic() - begun_at

    async def _listed(self, run: _Run) -> list[str]:
        """The sagas to act on, the oldest first: they have waited longest."""
        wanted = _narrowed(run.order)
        found: list[str] = []
        query: Query | None = replace(wanted, before=None, limit=PAGE)
        while query is not None and wanted.statuses and not run.halted and len(found) < MOST:
            page = await self._queries.find(query, parked=False)
            found += [saga.saga_id for saga in page.sagas]
            query = None if page.next is None else replace(query, before=page.next)
        return found[::-1]

    async def _act_on(self, order: Order, saga_id: str) -> str:
        """Act on the saga as it is now; why it was refused, empty: it was not. Raises UnavailableError."""
        allowed = _narrowed(order).statuses
        seen, refusal = 0, ""
        for _ in range(TRIES):
            try:
                view = await self._queries.show(saga_id)
                if view.status not in allowed:
                    return f"it has moved on: it is {view.status} now"
                if view.version == seen:
                    return refusal
                seen = view.version
                await self._acts[order.action](
                    saga_id, actor=order.actor, reason=order.reason, expected_version=view.version
                )
            except UnavailableError as error:
                # About this saga, if the store answers: then nobody here knows its definition, or it is set aside.
                await self._queries.now()
                if self._engine.stopping:
                    raise
                return str(error)
            except UnwindError as error:
                refusal = str(error)
                if not isinstance(error, StateError):
                    return refusal
            else:
                return ""
        return refusal


def _narrowed(order: Order) -> Query:
    """The query, without the sagas that the act is of no use for. No statuses are left where it is of use for none."""
    asked = order.query.statuses or APPLIES[order.action]
    return replace(order.query, statuses=tuple(status for status in APPLIES[order.action] if status in asked))


def _told(run: _Run) -> dict[str, Any]:
    left = run.total - run.applied - run.refused
    return {
        "run": run.id,
        "action": run.order.action,
        "applied": run.applied,
        "refused": run.refused,
        "left": left,
        "note": run.note,
    }


def _died(run: _Run, task: asyncio.Task[None]) -> None:
    """A run that did not come to its own end must not look as if it went on."""
    error = None if task.cancelled() else task.exception()
    if run.state == "running":
        run.state, run.note = "interrupted", run.halted or "it failed; the log says why"
        log.error("bulk_failed", **_told(run), exc_info=error)
