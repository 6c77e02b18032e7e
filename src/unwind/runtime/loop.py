"""The loop: batches of inputs in, one load, decide, one commit, dispatch, acknowledge.

Any worker may process any input of any saga. The loser of a race drops its decision, evicts the state, reloads and
decides again. Only confirmed states are cached. Nothing is sent or acknowledged before its commit; whatever is lost
after it is driven again, from the state, by the saga's wake-up.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from unwind.core.codec import fold, read_snapshot
from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.events import Event, Record
from unwind.core.messages import Input, Moment, Reply, Resume, RetryStep, Start, Tick, Unwind
from unwind.core.pending import due, resend_due
from unwind.core.saga import Saga
from unwind.core.state import LIVE, NEW, State
from unwind.errors import CodecError, UnavailableError, UnwindError
from unwind.ports import Bus, Clock, Move, Store, StoredStream
from unwind.runtime.actions import ActionPool
from unwind.runtime.circuits import CircuitView
from unwind.runtime.clock import StoreTime
from unwind.runtime.commits import Lost, commit
from unwind.runtime.depths import depths
from unwind.runtime.dispatch import Dispatcher
from unwind.runtime.families import give_up
from unwind.runtime.inbox import Batch, Entry, Inbox, Waiter
from unwind.runtime.intake import Intake
from unwind.runtime.limits import SECOND, Limits
from unwind.runtime.outages import RECALL, Outages
from unwind.runtime.state_cache import StateCache
from unwind.runtime.suspects import Suspects
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.unit import Decided

log = structlog.get_logger("unwind.loop")

SOON = SECOND // 20
"""The least distance of a wake-up that is moved on: a saga that is due and cannot move must not spin."""
NOTHING = StoredStream(None, ())
NONE_PROBED: frozenset[str] = frozenset()
NO_LEASES: Mapping[str, int] = {}
Answers = list[tuple[str, Waiter, Decision]]
"""To be given once the saga's unit is durable."""


class Loop:
    """One worker's loop. Its parts stand in the order in which an input passes through them."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        sagas: Mapping[str, Saga[Any]],
        *,
        clock: Clock,
        worker: str,
        jitter: Callable[[], float],
        limits: Limits,
        telemetry: Telemetry,
        on_end: Callable[[State], None],
        replies: bool = True,
    ) -> None:
        """`sagas` are the definitions by content hash; `on_end` hears of each saga that this worker sees ended."""
        self._store = store
        self._sagas = sagas
        self._clock = clock
        self._worker = worker
        self._jitter = jitter
        self._limits = limits
        self._telemetry = telemetry
        self._work_done = telemetry.work
        self.time = StoreTime(clock)
        self._inbox = Inbox()
        self.put: Callable[..., None] = self._inbox.put
        """Queue an input: the saga's id, the message, and who waits for its decision."""
        self._ticked: set[str] = set()
        self._cache = StateCache(limits.cache, limits.cache_bytes)
        self._suspects = Suspects(clock, limits.suspect_pause)
        self._on_end = on_end
        self._intake = Intake(bus, self._inbox, clock, limits, consumes=replies)
        self._carries_on = replies  # who leaves them to others would keep states it never hears of again
        self._stopping = False
        self._pool = ActionPool(
            store,
            clock,
            self._inbox.put,
            size=limits.actions,
            backlog=limits.actions_waiting,
            watch_every=limits.actions_watch,
            largest=limits.payload,
        )
        self.outages = Outages(limits, telemetry.work)
        telemetry.more.append(lambda: self.outages.metrics(self.time.now()))
        telemetry.more.append(lambda: depths(self._inbox, self._intake, self._pool))
        self._dispatcher = Dispatcher(bus, self._pool, self.outages, clock, worker, self._inbox.put, telemetry.work)

    async def open(self) -> None:
        """Learn the store's time and join the consumers of replies."""
        self.time.observe((await self._store.load({})).now)
        await self._intake.open()

    async def run(self) -> None:
        """Work until stopped or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._pool.run()), tasks.create_task(self._intake.run())]
            await asyncio.wait([tasks.create_task(self._work()) for _ in range(self._limits.batches_in_flight)])
            for helper in helpers:
                helper.cancel()
        await self._intake.close()

    async def stop(self, grace: float) -> None:
        """Let actions end, finish the batches in hand, and leave what waits to be picked up from the store."""
        await self._pool.drain(grace)
        self._stopping = True
        for saga_id, entries in self._inbox.drain().items():
            for entry in entries:
                if entry.waiter is not None:
                    entry.waiter.failed(UnavailableError("this process is stopping; repeat the call"))
                elif isinstance(entry.message, Reply):  # of an action that ended in time: nothing else would tell of it
                    self._inbox.put(saga_id, entry.message)
        self._inbox.wake()

    # ----------------------------------------------------------------------------------------------------- inputs come

    def expect_new(self, saga_id: str) -> None:
        """Nobody else can know this id: there is nothing to load."""
        self._cache.expect_new(saga_id)

    def tick(self, saga_id: str, token: int) -> None:
        """A claimed wake-up. Sagas that are set aside are not driven."""
        if not self._suspects.holds(saga_id):
            self._inbox.put(saga_id, Tick(token))
            self._reload_for_tick(saga_id)

    def recall(self) -> None:
        """Wake parked sagas before their time, where their participant answers again or may do so: nobody's claim."""
        for saga_id in self.outages.recalled(self.time.now()):
            self.tick(saga_id, RECALL)

    def _reload_for_tick(self, saga_id: str) -> None:
        """A wake-up reads the log after its claim: the cache may be older than what moved the wake-up."""
        self._ticked.add(saga_id)

    async def state(self, saga_id: str) -> State:
        """What the saga is, as far as this worker knows or the log says. Status `new`: there is no such saga."""
        cached = self._cache.states.get(saga_id)
        if cached is not None and cached.live:
            return cached
        stored = (await self._store.load({saga_id: 0})).streams.get(saga_id)
        return NEW if stored is None else await self._folded(saga_id, stored, NEW)

    async def reload(self, saga_id: str) -> State:
        """What the log says, whatever this worker knew."""
        self._cache.forget(saga_id)
        return await self.state(saga_id)

    def circuits(self) -> tuple[CircuitView, ...]:
        """Which participants answer, as far as this worker has seen."""
        return self.outages.views(self.time.now())

    @property
    def backlog(self) -> int:
        """Sagas whose inputs wait."""
        return len(self._inbox)

    async def _work(self) -> None:
        failures = 0
        while not self._stopping or self._inbox.ready:
            await self._inbox.work()
            batch = self._inbox.take(self._batch_size())
            if not batch:
                continue
            try:
                settled, now = await self._settle(batch)
            except UnavailableError as error:
                self._work_done["store_unavailable"] += 1
                log.warning("store_unavailable", error=str(error), sagas=len(batch))
                self._disbelieve(batch)
                if self._stopping:
                    return
                pause = self._limits.retry_pause * 2 ** min(failures, 4) * (0.5 + self._jitter() / 2)
                failures += 1
                await self._clock.sleep(int(pause))
                continue
            failures = 0
            await self._follow_up(settled, now)
            await asyncio.sleep(0)  # what was just begun may end at once, and belongs in the next batch

    def _batch_size(self) -> int:
        """At most about half of the sagas at work, so that one batch fills while the other is written."""
        at_work = len(self._inbox) + self._inbox.in_flight
        return max(1, min(self._limits.batch, -(-at_work // self._limits.batches_in_flight)))

    def _disbelieve(self, batch: Batch) -> None:
        """Nothing is known about these sagas until they are loaded again. Wake-ups come again by themselves."""
        for saga_id, entries in batch.items():
            self._cache.forget(saga_id)
            kept = [entry for entry in entries if not isinstance(entry.message, Tick)]
            if kept:
                self._inbox.give_back(saga_id, kept)
        self._inbox.release(batch)

    async def _settle(self, batch: Batch) -> tuple[list[Decided], int]:
        """Load, decide, commit; answer whoever waits. What comes back is durable, believed, and in flight no more."""
        states, leases = await self._load(batch)
        now = self.time.now()
        decided: list[Decided] = []
        doubtful: list[str] = []
        answers: Answers = []
        for saga_id in sorted(states):
            made = self._decide(saga_id, states[saga_id], batch[saga_id], leases.get(saga_id, NO_LEASES), now, answers)
            if made is None:
                continue
            if made.events or is_proven(made, loaded=saga_id in leases):
                decided.append(made)
            else:
                doubtful.append(saga_id)
        lost = await self._commit([made for made in decided if made.events], now)
        lost.update(dict.fromkeys(doubtful))
        for saga_id, error in lost.items():
            self._cache.forget(saga_id)
            if error is None:
                self._inbox.give_back(saga_id, batch[saga_id])
            else:
                self._set_aside(saga_id, batch[saga_id], error)
        settled = [made for made in decided if made.after.saga_id not in lost] if lost else decided
        self._believe(settled)
        self._inbox.release(batch)
        for saga_id, waiter, decision in answers:
            if saga_id not in lost:
                waiter.decided(decision)
        return settled, now

    async def _follow_up(self, settled: list[Decided], now: int) -> None:
        """What comes after the commit. Whatever fails here is made good by the sagas' wake-ups."""
        try:
            await self._dispatcher.dispatch(settled, now)
            await self._move_on([made for made in settled if made.token is not None and not made.events], now)
            await self._intake.acknowledge()
        except UnavailableError as error:
            self._work_done["follow_up_failed"] += 1
            log.warning("follow_up_failed", error=str(error), sagas=len(settled))

    async def _load(self, batch: Batch) -> tuple[dict[str, State], dict[str, Mapping[str, int]]]:
        """The states of a batch's sagas; and the leases of those loaded: not cached, or their wake-up is handled."""
        states: dict[str, State] = {}
        wanted: dict[str, int] = {}
        cache, ticked = self._cache.states, self._ticked
        for saga_id in batch:
            state = cache.get(saga_id)
            if state is not None:
                states[saga_id] = state
            if state is None or saga_id in ticked:
                wanted[saga_id] = 0 if state is None else state.version
        leases: dict[str, Mapping[str, int]] = {}
        if wanted:
            ticked.difference_update(wanted)
            loaded = await self._store.load(wanted)
            self.time.observe(loaded.now)
            for saga_id in wanted:
                stored = loaded.streams.get(saga_id, NOTHING)
                base = states.get(saga_id, NEW)
                leases[saga_id] = stored.leases
                try:
                    states[saga_id] = await self._folded(saga_id, stored, base)
                except CodecError as error:
                    states.pop(saga_id, None)
                    self._cache.forget(saga_id)
                    self._set_aside(saga_id, batch[saga_id], error)
        return states, leases

    async def _folded(self, saga_id: str, stored: StoredStream, base: State) -> State:
        if stored.snapshot is not None:
            snapshot = read_snapshot(stored.snapshot)
            if snapshot is None:
                log.warning("snapshot_ignored", saga_id=saga_id, version=stored.snapshot.version)
                whole = await self._store.load({saga_id: 0}, snapshots=False)
                return fold(whole.streams[saga_id].commits)
            base = snapshot
        return fold(stored.commits, base)

    def _decide(  # noqa: PLR0917 - on the hot path, a struct for them costs
        self,
        saga_id: str,
        before: State,
        entries: list[Entry],
        leases: Mapping[str, int],
        now: int,
        answers: Answers,
    ) -> Decided | None:
        """Fold all inputs of one saga into one unit. None: there is no saga, or no definition, to decide with."""
        saga = self._sagas.get(before.definition_hash) or self._definition(before, entries)
        if saga is None:
            self._leave_alone(saga_id, before, entries, answers)
            return None
        moment = Moment(now, self._jitter(), self._worker)
        state = before
        events: Sequence[Event] = ()
        records: Sequence[Record] = ()
        token: int | None = None
        redrive, probed = False, NONE_PROBED
        for entry in entries:
            message: Input = entry.message
            if isinstance(message, Reply):
                if saga.asks:
                    self.outages.heard(state, message)
            elif isinstance(message, Tick):
                token = message.token or token or RECALL
                message, more = self.outages.wake(state, Tick(message.token, dict(leases)), moment)
                probed = probed | more
            elif isinstance(message, (Resume, RetryStep)):
                redrive = True
            decision = decide(saga, state, message, moment)
            state = decision.state
            events = (*events, *decision.events) if events else decision.events
            if decision.records:
                records = (*records, *decision.records)
            if not decision.events and isinstance(message, Reply):
                self._work_done["replies_without_effect"] += 1
            if state.parent and state.status not in LIVE:  # it is told again
                redrive = True
            if entry.waiter is not None:
                answers.append((saga_id, entry.waiter, decision))
        if token is not None and resend_due(state, now):
            redrive = True
            self._work_done["resent"] += 1
        return Decided(saga, before, state, events, records, token, redrive, probed)

    def _definition(self, state: State, entries: list[Entry]) -> Saga[Any] | None:
        if state.status != "new":
            return None
        for entry in entries:
            message = entry.message.start if isinstance(entry.message, Unwind) else entry.message
            if isinstance(message, Start):
                return self._sagas.get(message.definition_hash)
        return None

    def _leave_alone(self, saga_id: str, state: State, entries: list[Entry], answers: Answers) -> None:
        for entry in entries:
            if entry.waiter is None:
                continue
            if state.status == "new":
                answers.append((saga_id, entry.waiter, Decision(state, verdict="ignored")))
            else:
                bound = f"{state.definition}@{state.definition_version}#{state.definition_hash}"
                entry.waiter.failed(UnavailableError(f"the saga is bound to {bound}, which this process does not know"))

    async def _commit(self, decided: list[Decided], now: int) -> Lost:
        """Write the units."""
        if not decided:
            return {}
        lost = await commit(self._store, self.time, decided, now, self._limits.claim_push)
        self._telemetry.wrote(len(decided))
        self._work_done["conflicts"] += sum(1 for error in lost.values() if error is None)
        return lost

    def _set_aside(self, saga_id: str, entries: list[Entry], error: UnwindError) -> None:
        """One poison saga must not stall the others: it is left alone for a while, longer each time."""
        pause = self._suspects.add(saga_id)
        self._work_done["set_aside"] += 1
        log.error("saga_set_aside", saga_id=saga_id, error=str(error), pause_s=pause / SECOND)
        give_up(entries, error, self._inbox.put)

    def _believe(self, settled: Sequence[Decided]) -> None:
        cache, suspects = self._cache, self._suspects.held
        self._telemetry.saw(settled)
        for made in settled:
            state = made.after
            if made.token is not None:
                self.outages.settled(state, made.events)
            if made.events and suspects:
                suspects.pop(state.saga_id, None)
            if state.status in LIVE and self._carries_on:
                cache.keep(state)
                continue
            cache.forget(state.saga_id)
            if state.status not in LIVE:
                self._on_end(state)
        cache.trim()

    async def _move_on(self, ticked: list[Decided], now: int) -> None:
        """Wake-ups that found nothing to record are moved to when the saga is due next."""
        moves = []
        for made in ticked:
            at = due(made.after, now)
            if at is not None and made.token is not None and made.token != RECALL:
                moves.append(Move(made.after.saga_id, made.token, max(at, now + SOON), made.after.version))
        if moves:
            moves.sort(key=lambda move: move.id)
            await self._store.move(moves)


def is_proven(made: Decided, *, loaded: bool) -> bool:
    """A commit proves the state it was decided on. Where nothing is committed, the state must have been loaded."""
    return bool(made.events) or loaded
