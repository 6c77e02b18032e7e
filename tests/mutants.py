"""Planted bugs: each leaves one rule out, and the simulator must find each within a bounded number of seeds.

`python -m tests.mutants` plants them one after another and says at which seed each was found. A bug that is not found
means that the simulator has gone blind there.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
from msgspec.structs import replace

from unwind.core import advance, barrier, decide, evolve, flow, pending, rules, waits
from unwind.core import messages as m
from unwind.core.effects import TellParent
from unwind.core.events import AttemptReleased, UndoDone
from unwind.core.state import AWAITED
from unwind.ports import Committed, Move, StreamAppend, Unit
from unwind.runtime import circuits, dispatch, families, inbox, loop, unit
from unwind.runtime.clock import StoreTime
from unwind.stores.inline import run_inline
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_barrier import MemoryParticipantStore, _Transaction
from unwind.testing.simulator import ports
from unwind.testing.simulator.__main__ import silence
from unwind.testing.simulator.process import CURRENT
from unwind.testing.simulator.world import World

WITHIN = 5_000
NEVER = 10**18

Patches = Sequence[Any]
MUTANTS: dict[str, Callable[[], Patches]] = {}


def mutant(make: Callable[[], Patches]) -> Callable[[], Patches]:
    """Register a planted bug under its function's name; its docstring says which rule is left out."""
    MUTANTS[make.__name__] = make
    return make


def swap(place: Any, name: str, instead: Any) -> Any:
    """Put another function in the place of one."""
    return patch.object(place, name, instead)


# ---------------------------------------------------------------------------------------------- steps and compensation


def undone(*statuses: str) -> Patches:
    """Only steps in these statuses are undone."""
    return [swap(rules, "must_undo", lambda run: run.status in statuses)]


@mutant
def step_in_backoff_is_not_undone() -> Patches:
    """Design 2.1.2: 3.7 %."""
    return undone("done", "unknown", "outstanding")


@mutant
def unknown_step_is_not_undone() -> Patches:
    """Design 2.1.2."""
    return undone("done", "outstanding", "backoff")


@mutant
def outstanding_step_is_not_undone() -> Patches:
    """Cancel ignores what is on its way."""
    return undone("done", "unknown", "backoff")


@mutant
def undone_in_forward_order() -> Patches:
    """Design 2.1.2: exact reverse order."""
    right = rules.compensation_targets
    return [swap(rules, "compensation_targets", lambda saga, runs: right(saga, runs)[::-1])]


@mutant
def blocked_saga_sleeps() -> Patches:
    """Design 2.1.5: 0.6 %: a blocked saga goes on trying."""
    right = pending.due

    def due(saga: Any, now: int) -> int | None:
        return NEVER if saga.blocks and not saga.paused else right(saga, now)

    return [
        swap(unit, "due", due),
        swap(loop, "due", due),
        swap(loop, "resend_due", lambda saga, now: not saga.blocks),
    ]


@mutant
def attributes_are_forgotten() -> Patches:
    """Whatever was accepted can be found by what it was accepted with."""
    return [swap(unit, "found_by", lambda events: ())]


@mutant
def outstanding_pivot_is_given_up() -> Patches:
    """Design 2.1.6: 1.1 %."""
    return [swap(rules, "held", lambda saga: any(run.pivot and run.status == "done" for run in saga.runs))]


@mutant
def refusal_after_the_pivot_compensates() -> Patches:
    """Design 2.1.6."""
    return [swap(rules, "forward_only", lambda saga, run: False)]


@mutant
def failure_counts_for_any_attempt() -> Patches:
    """Design 2.1.4."""
    return [swap(rules, "current", lambda run, reply: True)]


@mutant
def resume_keeps_the_old_clock() -> Patches:
    """Design 2.1.8."""
    return [swap(evolve, "_restarted", lambda run, at: run)]


@mutant
def wait_ends_before_its_time() -> Patches:
    """Rule 12."""

    def wait_on(draft: Any, plan: Any, run: Any) -> None:
        waits.wait_on(draft, plan, replace(run, attempt=replace(run.attempt, expires=run.attempt.at)))

    return [swap(decide, "wait_on", wait_on)]


@mutant
def signal_counts_for_a_step_that_is_over() -> Patches:
    """Rule 12."""
    right = waits._not_awaited

    def not_awaited(draft: Any, signal: Any) -> str | None:
        return None if draft.known(signal.step) else right(draft, signal)

    return [swap(waits, "_not_awaited", not_awaited)]


@mutant
def failing_branch_waits_for_nobody() -> Patches:
    """Rule 13."""
    return [swap(rules, "settling", lambda state: [])]


@mutant
def branches_are_undone_in_any_order() -> Patches:
    """Rule 4."""
    return [swap(flow, "_held_back", lambda *_: False)]


@mutant
def group_is_over_when_one_item_is() -> Patches:
    """Rule 1."""
    right = flow._Progress.over

    def over(self: Any, name: str, key: str = "") -> bool:
        keys = self.listed.get(self.saga.by_name[name].each, ())
        return any(right(self, name, each) for each in keys) if keys and not key else right(self, name, key)

    return [swap(flow._Progress, "over", over)]


@mutant
def every_item_begins_at_once() -> Patches:
    """Rule 14: only so many at the same time."""
    return [swap(flow._Progress, "under_way", lambda self, each: set(self.listed[each]))]


@mutant
def only_the_latest_branch_wakes_the_saga() -> Patches:
    """Design 2.1.1: every branch has its own clock."""

    right = pending.due

    def due(state: Any, now: int) -> int | None:
        awaited = tuple(run for run in state.runs if run.status in AWAITED)
        return right(replace(state, runs=awaited[-1:]) if state.status == "running" and awaited else state, now)

    return [swap(unit, "due", due), swap(loop, "due", due)]


@mutant
def what_settles_begins_the_next_step() -> Patches:
    """Rule 13."""
    return [swap(advance, "_goes_forward", lambda draft: draft.state.status == "running")]


@mutant
def child_that_never_began_may_begin_later() -> Patches:
    """Rule 16."""
    right = decide._unwind

    def unwind(draft: Any, start: Any) -> None:
        if draft.state.status != "new":
            right(draft, start)

    return [swap(decide, "_unwind", unwind)]


@mutant
def completed_child_stays_completed() -> Patches:
    """Rule 16: and the undo of its step is taken as done."""
    right = decide._unwind

    def unwind(draft: Any, start: Any) -> None:
        if draft.state.status != "completed":
            right(draft, start)

    def tell(effect: Any) -> Any:
        return (*families.to_parent(effect), m.Reply(effect.step, "undo", "ok", 1))

    return [swap(decide, "_unwind", unwind), swap(dispatch, "to_parent", tell)]


@mutant
def end_of_a_child_is_told_once() -> Patches:
    """Rule 16: what is lost with a worker is told again when the parent looks after its child."""
    right = dispatch.Dispatcher._to_relatives

    def once(self: Any, effect: Any, made: Any) -> None:
        if not (isinstance(effect, TellParent) and made.redrive):
            right(self, effect, made)

    return [swap(dispatch.Dispatcher, "_to_relatives", once)]


@mutant
def undo_does_not_wait_for_its_action() -> Patches:
    """Design 2.3."""
    return [swap(rules, "still_running", lambda *_: False)]


@mutant
def compensation_gives_up() -> Patches:
    """Design 2.1.5: after its attempts an undo is taken as done."""
    right = decide._undo_attempt_over

    def over(draft: Any, plan: Any, undo: Any, reason: str, *, timed_out: bool) -> None:
        if undo.attempt.number < plan.undo_retry.attempts:
            right(draft, plan, undo, reason, timed_out=timed_out)
        else:
            draft.emit(UndoDone(draft.at, undo.step, undo.attempt.number))
            advance.advance(draft)

    return [swap(decide, "_undo_attempt_over", over)]


# ------------------------------------------------------------------------------------------------------------- outages


@mutant
def parked_saga_sleeps() -> Patches:
    """Rule 15: what is parked has a wake-up."""
    right = pending.due

    def due(saga: Any, now: int) -> int | None:
        parked = any(run.parked for _, run in rules.unheard(saga))
        return NEVER if parked and not saga.paused else right(saga, now)

    return [swap(unit, "due", due), swap(loop, "due", due)]


@mutant
def outage_burns_attempts() -> Patches:
    """Rule 15: the circuit is open, and attempts are spent all the same."""
    return [swap(decide, "park", lambda *_: False)]


@mutant
def answer_to_what_is_parked_is_dropped() -> Patches:
    """Rule 15: parking also stops counting answers."""
    right = decide._reply

    def reply(draft: Any, message: Any) -> None:
        if not any(run.parked and run.step == message.step for _, run in rules.unheard(draft.state)):
            right(draft, message)

    return [swap(decide, "_reply", reply)]


@mutant
def open_circuit_is_never_probed() -> Patches:
    """An open circuit lets nothing go, so that no answer ever closes it."""
    right = circuits.Circuit.admits

    def admits(self: circuits.Circuit, direction: Any, now: int) -> bool:
        return self.stage != "open" and right(self, direction, now)

    return [swap(circuits.Circuit, "admits", admits)]


@mutant
def released_attempt_keeps_its_old_clock() -> Patches:
    """Rule 15: an attempt that was parked is begun anew, with all its time."""

    def released(state: Any, event: Any) -> Any:
        return evolve._changed(state, event, lambda run: replace(run, parked=0))

    return [patch.dict(evolve.EVOLVE, {AttemptReleased: released})]


# --------------------------------------------------------------------------------------------------- commit and wake_at


@mutant
def decisions_are_torn() -> Patches:
    """Design 2.2.1: 12 %: a row per event, each inserted where it does not collide."""
    right = MemoryStore.commit

    async def commit(self: MemoryStore, units: Sequence[Unit]) -> Committed:
        committed = await right(self, units)
        for lost in units:
            if lost.head.stream not in committed.won:
                _append_what_fits(self, lost.head)
        return committed

    return [swap(MemoryStore, "commit", commit)]


def _append_what_fits(store: MemoryStore, head: StreamAppend) -> None:
    stored = run_inline(store.load({head.stream: 0}, snapshots=False)).streams[head.stream].commits
    last = max(version + len(msgspec.json.decode(events)) - 1 for version, events in stored)
    for number, event in enumerate(msgspec.json.decode(head.events, type=list[msgspec.Raw]), head.version):
        if number > last:
            store._append(StreamAppend(head.stream, head.category, number, 1, b"[" + bytes(event) + b"]"), store._now())


@mutant
def store_does_not_compare_and_set() -> Patches:
    """Design 1: the last writer wins."""

    async def commit(self: MemoryStore, units: Sequence[Unit]) -> Committed:
        now = self._now()
        for written in units:
            self._append(written.head, now)
            for other in written.others:
                self._append(other, now)
            if written.row is not None:
                self._write(written.row)
            self._keep(written.head.stream, written.snapshot)
        return Committed(now, frozenset(written.head.stream for written in units))

    return [swap(MemoryStore, "commit", commit)]


@mutant
def saga_is_in_two_batches() -> Patches:
    """Design 2.2.2: 3 to 16 %: decided on a state that is not committed yet."""
    right = loop.Loop._decide

    def speculating(self: Any, *args: Any) -> Any:
        made = right(self, *args)
        if made is not None and made.events:
            self._cache.keep(made.after)
        return made

    def take(self: inbox.Inbox, limit: int) -> inbox.Batch:
        batch: inbox.Batch = {}
        while self._ready and len(batch) < limit:
            saga_id = self._ready.popleft()
            if saga_id in self._entries:
                batch[saga_id] = self._entries.pop(saga_id)
        return batch

    return [
        swap(loop.Loop, "_decide", speculating),
        swap(inbox.Inbox, "take", take),
    ]


@mutant
def unknown_commit_is_believed() -> Patches:
    """Design 2.2.3: the worker goes on from a state that may not be stored."""
    right = loop.Loop._commit

    async def commit(self: Any, decided: list[Any], now: int) -> Any:
        self.believed = {made.after.saga_id: made.after for made in decided}
        return await right(self, decided, now)

    def disbelieve(self: Any, batch: inbox.Batch) -> None:
        for saga_id in self.believed.keys() & batch.keys():
            self._cache.keep(self.believed[saga_id])
        self._inbox.release(batch)

    return [swap(loop.Loop, "_commit", commit), swap(loop.Loop, "_disbelieve", disbelieve)]


def leave_it(*_: Any) -> None:
    """Nothing is brought forward."""


class _Comparing:
    """The row is written iff the saga is due earlier than in the state before; a commit brings nothing forward."""

    def __init__(self) -> None:
        self.now = 0
        self.commit = loop.Loop._commit
        self.right = unit.writes_row

    def patches(self) -> Patches:
        comparing = self

        async def commit(self: Any, decided: list[Any], now: int) -> Any:
            comparing.now = now
            return await comparing.commit(self, decided, now)

        return [
            swap(loop.Loop, "_commit", commit),
            swap(unit, "writes_row", self.writes_row),
            swap(MemoryStore, "_bring_forward", leave_it),
        ]

    def writes_row(self, decided: Any) -> bool:
        new, old = pending.due(decided.after, self.now), pending.due(decided.before, self.now)
        return self.right(decided) or (new is not None and (old is None or new < old))


@mutant
def row_is_compared_with_the_state_before() -> Patches:
    """The row may be claimed and moved between a decision and its commit: comparing at the decision is not enough."""
    return _Comparing().patches()


class _Remembering:
    """`wake_at` is written by comparing with the worker's memory of the row."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.now = 0
        self.rows: dict[tuple[int, str], int | None] = {}
        self.commit = loop.Loop._commit
        self.tick = loop.Loop.tick

    def patches(self) -> Patches:
        remembering = self

        async def commit(self: Any, decided: list[Any], now: int) -> Any:
            remembering.loop, remembering.now = self, now
            return await remembering.commit(self, decided, now)

        def tick(self: Any, saga_id: str, token: int) -> None:
            remembering.rows[id(self), saga_id] = token
            remembering.tick(self, saga_id, token)

        return [
            swap(loop.Loop, "_commit", commit),
            swap(loop.Loop, "tick", tick),
            swap(unit, "writes_row", self.writes_row),
            swap(MemoryStore, "_bring_forward", leave_it),
        ]

    def writes_row(self, decided: Any) -> bool:
        before, after = decided.before, decided.after
        key = (id(self.loop), after.saga_id)
        new = pending.due(after, self.now)
        known = self.rows.get(key)
        writes = before.shown_status != after.shown_status or (new is not None and (known is None or new < known))
        if writes:
            self.rows[key] = new
        return writes


@mutant
def row_is_compared_with_memory() -> Patches:
    """Design 2.2.5: 2.1 %."""
    return _Remembering().patches()


@mutant
def tick_trusts_the_cache() -> Patches:
    """Design 2.2.5: 0.7 %: a tick reads the log after its claim."""
    return [
        swap(loop.Loop, "_reload_for_tick", lambda self, saga_id: None),
        swap(loop, "is_proven", lambda made, *, loaded: True),
    ]


@mutant
def wake_up_is_moved_blindly() -> Patches:
    """Design 2.2.5: 0.15 %: a write without an event applies only where the token still stands."""

    async def move(self: MemoryStore, moves: Sequence[Move]) -> None:
        for moved in moves:
            row = self._rows.get(moved.id)
            if row is not None and row.wake_at is not None:
                self._rows[moved.id] = replace(row, wake_at=moved.wake_at)

    return [swap(MemoryStore, "move", move)]


@mutant
def wake_up_is_moved_past_newer_events() -> Patches:
    """A move decided before an event must not undo what the event's commit found in order."""
    right = MemoryStore.move

    async def move(self: MemoryStore, moves: Sequence[Move]) -> None:
        await right(self, [replace(moved, version=NEVER) for moved in moves])

    return [swap(MemoryStore, "move", move)]


@mutant
def all_three_wake_up_rules_left_out() -> Patches:
    """Design 2.2.5: 12.8 %."""
    return [*row_is_compared_with_memory(), *tick_trusts_the_cache(), *wake_up_is_moved_blindly()]


@mutant
def worker_trusts_its_own_clock() -> Patches:
    """Design 2.2.6: 4.6 %: worker clocks off by up to 20 s."""
    right = StoreTime.now

    def now(self: StoreTime) -> int:
        process = CURRENT.get()
        skew = 0 if process is None else (0, -20, 20)[sum(process.name.encode()) % 3]
        return right(self) + skew * 1_000_000

    return [swap(StoreTime, "now", now)]


@mutant
def heartbeat_moves_the_wake_up() -> Patches:
    """Design 2.3: 23 % late: an action's heartbeat must not touch `wake_at`."""

    async def lease(self: Any, effect_ids: Sequence[str], duration: int) -> None:
        await self._process.point(0.001, 0.02)
        for effect in effect_ids:
            row = self._shared._rows.get(effect.rsplit("/", 2)[0])
            if row is not None and row.wake_at is not None:
                self._shared._rows[row.id] = replace(row, wake_at=self._world.now() + duration)
                self._world.checker.moved([Move(row.id, 0, 0, 0)])

    return [swap(ports.SimStore, "lease", lease)]


# --------------------------------------------------------------------------------------------------------- participants


@mutant
def refusal_is_not_stored() -> Patches:
    """Design 2.4: 6 %: a late duplicate executes."""
    return [swap(barrier, "stores_refusal", lambda *, retriable: False)]


@mutant
def failure_is_stored() -> Patches:
    """Design 2.4: 22 % stuck."""
    return [swap(barrier, "stores_failed", lambda: True)]


@mutant
def undo_of_a_refused_do_runs() -> Patches:
    """Design 2.4: 7 % phantom refund."""
    return [swap(barrier, "undo_runs_after", lambda do: True)]


@mutant
def undo_leaves_no_tombstone() -> Patches:
    """Design 2.4: 6 % left over."""
    return [swap(barrier, "leaves_tombstone", lambda: False)]


@mutant
def undo_refusal_is_stored() -> Patches:
    """Design 2.4: 10 % stuck."""
    return [swap(barrier, "stores_undo_refusal", lambda: True)]


@mutant
def failed_effect_is_kept() -> Patches:
    """Design 2.4: a failed do rolls back."""
    return [swap(barrier, "keeps_effects", lambda answer: answer.outcome != "refused")]


@mutant
def participant_repeats_itself() -> Patches:
    """Design 2.4: a repeated command gets the stored reply."""
    right = MemoryParticipantStore.transact

    async def transact(self: Any, work: Any) -> Any:
        self.rows = {key: row for key, row in self.rows.items() if row.outcome == "refused"}
        return await right(self, work)

    return [swap(MemoryParticipantStore, "transact", transact)]


@mutant
def effect_and_barrier_in_two_transactions() -> Patches:
    """Design 2.4: one local transaction."""

    async def transact(self: Any, work: Any) -> Any:
        tx: Any = _Transaction(self.state, self.rows, self._clone)
        result = run_inline(work(tx))
        self.state = tx.handle
        process = CURRENT.get()
        if process is not None:
            await process.point(0.001, 0.02)
        self.rows |= tx.fresh
        return result

    return [swap(MemoryParticipantStore, "transact", transact)]


# -------------------------------------------------------------------------------------------------------------- search


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug is in while the block runs."""
    with ExitStack() as stack:
        for change in MUTANTS[name]():
            stack.enter_context(change)
        yield


def hunt(name: str, first: int = 0, within: int = WITHIN) -> tuple[int, tuple[str, ...]] | None:
    """The first seed that finds a planted bug, and the law it broke."""
    silence()
    with planted(name):
        for seed in range(first, first + within):
            world = World(seed).run()
            if world.violations:
                if world.violations[0][0] == "worker_failed":
                    raise RuntimeError(f"{name} was not planted but broke the worker; mend it: {world.violations[0]}")
                return seed, world.violations[0]
    return None


def _timed(name: str, within: int) -> tuple[str, tuple[int, tuple[str, ...]] | None, float]:
    began = time.monotonic()
    return name, hunt(name, within=within), time.monotonic() - began


def report(found: Mapping[str, tuple[int, tuple[str, ...]] | None]) -> int:
    """Print the closing line; the exit code."""
    missed = [name for name, hit in found.items() if hit is None]
    print(
        f"{len(found) - len(missed)} of {len(found)} planted bugs found"
        + (f"; missed: {', '.join(missed)}" if missed else "")
    )
    return 1 if missed else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help="planted bugs to hunt (default: all)")
    parser.add_argument("--within", type=int, default=WITHIN, help=f"seeds for each (default {WITHIN})")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    arguments = parser.parse_args()
    names = arguments.names or list(MUTANTS)
    found: dict[str, tuple[int, tuple[str, ...]] | None] = {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name, hit, took in pool.map(_timed, names, [arguments.within] * len(names)):
            found[name] = hit
            told = f"seed {hit[0]:5}  {hit[1][0]}" if hit else "NOT FOUND"
            print(f"{name:42} {told}  ({took:.1f} s)", flush=True)
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
