"""Runs local actions on a fixed set of tasks, holds their leases, and ends what exceeds its timeout.

An action is at-least-once. Others leave it alone for its lease; one that runs longer than half of it keeps a row in the
store's leases, and a worker that cannot renew in time cancels its action, because another will take it over.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from msgspec import Raw

from unwind.core.messages import Reply, RunAction, effect_id
from unwind.core.saga import ActionCall, Refusal, Saga, StepPlan
from unwind.errors import UnavailableError
from unwind.ports import Clock, Store

_encode = msgspec.json.encode
NULL = Raw(b"null")

Report = Callable[[str, Reply], None]
"""Takes the saga's id and what became of its action."""


class _Job:
    """An action that waits for a task or runs on one."""

    __slots__ = ("effect", "held_until", "key", "plan", "saga", "since", "stop", "task")

    def __init__(self, saga: Saga[Any], plan: StepPlan, effect: RunAction, key: str, now: int) -> None:
        self.saga = saga
        self.plan = plan
        self.effect = effect
        self.key = key
        self.since = now
        self.held_until = now + plan.lease
        self.stop = ""
        self.task: asyncio.Task[None] | None = None


class ActionPool:
    """At most `size` actions at a time; at most `backlog` wait. What finds no place is driven again by its saga's wake-up."""

    def __init__(self, store: Store, clock: Clock, report: Report, *, size: int, backlog: int, watch_every: int) -> None:
        """`report` gets each outcome, once, on the event loop. `watch_every` (microseconds) is how coarsely timeouts and
        leases are watched."""
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
        self._watch_every = watch_every
        self._drained = asyncio.Event()
        self._some = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. A task that fails brings this down: never silent."""
        async with asyncio.TaskGroup() as self._tasks:
            if self._queue:
                self._wake_one()
            await self._watch()

    def submit(self, saga: Saga[Any], effect: RunAction) -> None:
        """Run an action unless it is running already."""
        key = effect_id(effect.saga_id, effect.step, effect.direction)
        if key in self._jobs or len(self._queue) >= self._backlog:
            return
        job = _Job(saga, saga.by_name[effect.step], effect, key, self._clock.monotonic())
        self._jobs[key] = job
        self._queue.append(job)
        self._some.set()
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
        while True:
            self._waking = False
            while self._queue:
                job = self._queue.popleft()
                if self._queue:
                    self._wake_one()
                job.task = task
                await self._run(job)
            future = loop.create_future()
            self._idle.append(future)
            await future

    async def _run(self, job: _Job) -> None:
        effect = job.effect
        call = ActionCall(job.key, effect.saga_id, effect.attempt)
        reply: Reply | None = None
        try:
            if job.stop:
                raise asyncio.CancelledError
            context = job.saga.decode_context(effect.context)
            action: Coroutine[Any, Any, object]
            action = job.plan.step.run(context, call) if effect.direction == "do" else job.plan.step.compensate(context, call)
            result = await action
            outcome, reason = ("refused", result.reason) if isinstance(result, Refusal) else ("ok", "")
            reply = Reply(effect.step, effect.direction, outcome, effect.attempt, Raw(_encode(result)), reason)
        except asyncio.CancelledError:
            if not job.stop:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            reply = Reply(effect.step, effect.direction, "failed", effect.attempt, NULL, job.stop, timed_out=True)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            reply = Reply(effect.step, effect.direction, "failed", effect.attempt, NULL, reason)
        finally:
            self._forget(job)
        self._report(effect.saga_id, reply)

    async def _watch(self) -> None:
        """Coarse by design: one look at all running actions instead of a timer for each."""
        while True:
            if not self._jobs:
                self._some.clear()
                await self._some.wait()
            await self._clock.sleep(self._watch_every)
            now = self._clock.monotonic()
            renew: list[_Job] = []
            for job in list(self._jobs.values()):
                plan = job.plan
                timeout = plan.timeout if job.effect.direction == "do" else plan.undo_timeout
                if job.task is not None and now - job.since >= timeout:
                    self._end(job, "the action exceeded its timeout")
                elif now >= job.held_until:
                    self._end(job, "the action's lease could not be renewed in time")
                elif job.held_until - now <= plan.lease // 2:
                    renew.append(job)
            await self._renew(renew)

    def _end(self, job: _Job, reason: str) -> None:
        if not job.stop:
            job.stop = reason
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
        if not self._jobs:
            self._drained.set()

    async def drain(self, grace: float) -> None:
        """Start nothing more and give what runs `grace` seconds to end. What is left, another worker takes over."""
        while self._queue:
            self._forget(self._queue.pop())
        self._drained.clear()
        if self._jobs:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), grace)
