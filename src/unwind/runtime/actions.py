"""Runs local actions on a fixed set of tasks, holds their leases, and ends what exceeds its timeout.

An action is at-least-once. Others leave it alone for its lease; one that runs longer than half of it keeps a row in the
store's leases, and a worker that cannot renew in time cancels its action, because another will take it over.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from unwind.core.author import storable
from unwind.core.effects import RunAction
from unwind.core.messages import NULL, Reply, effect_id
from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.steps import ActionCall, Refusal
from unwind.errors import UnavailableError
from unwind.ports import Clock, Store

_encode = msgspec.json.encode

Report = Callable[[str, Reply], None]
"""Takes the saga's id and what became of its action."""
Act = Callable[[Any, ActionCall], Coroutine[Any, Any, object]]


class _Job(Struct, eq=False):
    """An action that waits for a task or runs on one."""

    saga: Saga[Any]
    plan: StepPlan
    effect: RunAction
    key: str
    since: int
    held_until: int
    stop: str = ""
    lost: bool = False
    task: "asyncio.Task[None] | None" = None


class ActionPool:
    """At most `size` actions at a time, at most `backlog` wait; what finds no place comes again by its wake-up."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        report: Report,
        *,
        size: int,
        backlog: int,
        watch_every: int,
        largest: int,
    ) -> None:
        """`report` gets each outcome, once, on the event loop.

        `watch_every` (microseconds) is how coarsely timeouts and leases are watched; `largest` bounds results (bytes).
        """
        self._largest = largest
        self._store = store
        self._clock = clock
        self._report = report
        self._size = size
        self._backlog = backlog
        self._queue: deque[_Job] = deque()
        self._jobs: dict[str, _Job] = {}
        self._idle: deque[asyncio.Future[None]] = deque()
        self._waking = False
        self._tasks: asyncio.TaskGroup | None = None
        self._count = 0
        self._draining = False
        self._closed = False
        self._watch_every = watch_every
        self._drained = asyncio.Event()
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Actions that have no place yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Actions that have one."""
        return len(self._jobs) - len(self._queue)

    async def run(self) -> None:
        """Serve until cancelled. A task that fails brings this down: never silent."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                if self._queue:
                    self._wake_one()
                await self._watch(self._tasks)
            finally:
                self._closed = self._draining = True

    def submit(self, saga: Saga[Any], effect: RunAction, now: int) -> None:
        """Run an action unless it is running already. `now` is monotonic."""
        key = effect_id(effect.saga_id, effect.step, effect.direction)
        if key in self._jobs or self._draining or len(self._queue) >= self._backlog:
            return
        plan = saga.by_name.get(effect.step) or saga.plan(effect.step, effect.items)
        if plan is None:
            raise KeyError(f"saga {effect.saga_id}: its definition has no step {effect.step}")
        job = _Job(saga, plan, effect, key, now, now + plan.lease)
        if not self._jobs:
            self._some.set()
        self._jobs[key] = job
        self._queue.append(job)
        if not self._waking:
            self._wake_one()

    def _wake_one(self) -> None:
        """One idle task at a time is enough: whoever takes a job wakes the next one only while jobs are left."""
        if self._waking or self._tasks is None:
            return
        if self._idle:
            self._waking = True
            self._idle.popleft().set_result(None)
        elif self._count < self._size:
            self._waking = True
            self._count += 1
            self._tasks.create_task(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        try:
            while True:
                self._waking = False
                while self._queue and not self._closed:
                    job = self._queue.popleft()
                    if self._queue and not self._waking:
                        self._wake_one()
                    job.task = task
                    await self._run(job)
                if self._closed:
                    return
                future = loop.create_future()
                self._idle.append(future)
                await future
        finally:
            self._closed = True

    async def _run(self, job: _Job) -> None:
        if job.lost:
            self._forget(job)
            return
        effect, step = job.effect, job.plan.step
        call = ActionCall(job.key, effect.saga_id, effect.attempt)
        outcome: Literal["ok", "refused", "failed"] = "failed"
        payload, reason = NULL, ""
        try:
            act: Act = step.run if effect.direction == "do" else step.compensate
            result = await act(job.saga.decode_context(effect.context), call)
            encoded = _encode(result)
            if len(encoded) > self._largest:
                reason = f"its result has {len(encoded)} bytes; at most {self._largest} are allowed"
            elif isinstance(result, Refusal):
                outcome, payload, reason = "refused", Raw(encoded), storable(result.reason)
            else:
                outcome, payload = "ok", Raw(encoded)
        except asyncio.CancelledError:
            if self._closed:
                raise
            reason = job.stop or "the action was cancelled from inside"
        except Exception as error:
            reason = storable(f"{type(error).__name__}: {error}")
        finally:
            del self._jobs[job.key]
            if job.stop or not self._jobs:
                self._forget(job)
        timed_out = outcome == "failed" and bool(job.stop)
        if not (timed_out and job.lost):
            reply = Reply(effect.step, effect.direction, outcome, effect.attempt, payload, reason, timed_out)
            self._report(effect.saga_id, reply)

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        """Coarse by design: one look at all running actions instead of a timer for each."""
        renewing: asyncio.Task[None] | None = None
        while True:
            if not self._jobs:
                self._some.clear()
                await self._some.wait()
            await self._clock.sleep(self._watch_every)
            renew = self._look(self._clock.monotonic())
            if renew and (renewing is None or renewing.done()):
                renewing = tasks.create_task(self._renew(renew))  # not awaited: a slow store must not hold up timeouts

    def _look(self, now: int) -> list[_Job]:
        """End what took too long; the jobs whose lease is to be renewed."""
        renew: list[_Job] = []
        for job in self._jobs.values():
            plan = job.plan
            if job.task is None:
                job.since = now  # its time begins when it runs
            if now - job.since >= (plan.timeout if job.effect.direction == "do" else plan.undo_timeout):
                self._end(job, now, "the action exceeded its timeout")
            elif now >= job.held_until and not job.lost:
                job.lost = True  # another may have taken it over: its failure here is no outcome
                self._end(job, now, "the action's lease could not be renewed in time")
            elif not job.lost and job.held_until - now <= plan.lease // 2:
                renew.append(job)
        return renew

    def _end(self, job: _Job, now: int, reason: str) -> None:
        """Cancel an action; if it resists, it is cancelled again after as long again."""
        job.stop = job.stop or reason
        job.since = now
        if job.task is not None:
            job.task.cancel()

    async def _renew(self, jobs: list[_Job]) -> None:
        by_lease: dict[int, list[_Job]] = {}
        for job in jobs:
            by_lease.setdefault(job.plan.lease, []).append(job)
        for lease, held in by_lease.items():
            asked = self._clock.monotonic()
            try:
                await self._store.lease([job.key for job in held], lease)
            except UnavailableError:
                continue  # `held_until` stays: when it passes, the action is cancelled.
            for job in held:
                job.held_until = asked + lease

    def _forget(self, job: _Job) -> None:
        self._jobs.pop(job.key, None)
        if job.stop and job.task is not None:
            while job.task.cancelling():
                job.task.uncancel()
        if not self._jobs:
            self._drained.set()

    async def drain(self, grace: float) -> None:
        """Start nothing more and give what runs `grace` seconds to end. What is left, another worker takes over."""
        self._draining = True
        while self._queue:
            self._forget(self._queue.pop())
        self._drained.clear()
        if self._jobs:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), grace)
