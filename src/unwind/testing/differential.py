"""Random operations on two stores whose answers must agree: the memory store is the oracle of every other.

The order of streams within one commit is each store's own; positions and cursors are not compared.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from msgspec.structs import replace

from unwind.census import CountedStore
from unwind.core.codec import Snapshot
from unwind.errors import RejectedError
from unwind.ports import LogEntry, Move, Query, SagaRow, StreamAppend, Unit
from unwind.testing.store_examples import ASLEEP, LIVE, StoreClock

SAGAS = [f"saga {n}{tail}" for n, tail in enumerate(["", "/a", "'", '"', "%", "é", "日本", "👩‍👧", "\\", " "] * 2)]
REVISIONS = ["order@1#a", "order@2#b", "trip@1#c"]
STATUSES = (*LIVE, *ASLEEP)
ATTRIBUTES = ("customer", "total")
VALUES = ("", "a", "é'", "0", "-7", "07", "9223372036854775807", "9223372036854775808", "-9223372036854775808")
EFFECTS = frozenset(
    (
        *(
            "won",
            "lost",
            "poison refused",
            "orphan refused",
            "brought forward",
            "claimed",
            "moved",
            "not moved",
            "leased",
            "lease ended",
        ),
        *("found by an attribute", "found by two", "counted", "counted by an attribute", "added up", "counted alive"),
        *("counted over time", "ended last"),
        *("loaded", "snapshot loaded", "handed out", "found", "page turned", "registered", "clash found"),
        *("others alive", "found alive"),
    )
)
"""What must have happened, each at least once, before a walk proves anything."""


class Walk:
    """One seeded walk. Raises AssertionError, naming seed and operation, where the stores differ."""

    def __init__(self, oracle: CountedStore, store: CountedStore, clock: StoreClock, seed: int) -> None:
        """Both stores are empty and live by `clock`."""
        self._stores = (oracle, store)
        self._clock = clock
        self._seed = seed
        self._random = Random(seed)
        self._begun: defaultdict[str, list[int]] = defaultdict(list)
        self._last: Counter[str] = Counter()
        self._tokens: dict[str, int] = {}
        self._handed: tuple[list[LogEntry], list[LogEntry]] = ([], [])
        self._page: tuple[int, str] | None = None
        self._steps = 0
        self.effects: Counter[str] = Counter()
        """How often each effect was seen."""

    async def run(self, operations: int) -> None:
        """At least so many operations, and until every effect was seen."""
        others = (
            *(self._claim, self._move, self._lease, self._load, self._tail, self._find, self._tally),
            self._register,
        )
        kinds = (*[self._commit] * len(others), *others)
        while self._steps < operations or self.effects.keys() < EFFECTS:
            self._steps += 1
            assert self._steps < 100 * operations, (
                f"seed {self._seed}: never seen {sorted(EFFECTS - self.effects.keys())}"
            )
            self._clock.at += self._random.choice((0, 1, 1, 10))
            await self._random.choice(kinds)()
            await self._compare_rows()
            if self._steps % 20 == 0:
                await self._compare_contents()
        await self._compare_contents()

    # ----------------------------------------------------------------------------------------------------- operations

    async def _commit(self) -> None:
        sagas = self._random.sample(SAGAS, self._random.randint(1, 8))
        units = [self._unit(saga) for saga in sagas]
        before = await self._wake_ups()
        answer = await self._both(f"commit {units}", lambda store: store.commit(units))
        after = await self._wake_ups()
        self._saw(
            "brought forward",
            any(not u.row and before.get(s) != after.get(s) for s, u in zip(sagas, units, strict=True)),
        )
        if isinstance(answer, type):
            orphans = [
                row for row in (unit.row for unit in units) if row and (row.status in ASLEEP) != (row.wake_at is None)
            ]
            self._saw("orphan refused" if orphans else "poison refused")
            return
        for unit in units:
            self._saw("won" if unit.head.stream in answer.won else "lost")
            if unit.head.stream in answer.won:
                for append in (unit.head, *unit.others):
                    self._begun[append.stream].append(append.version)
                    self._last[append.stream] = append.version + append.count - 1

    def _unit(self, saga: str) -> Unit:
        random = self._random
        others: tuple[StreamAppend, ...] = ()
        if random.random() < 0.3:
            others = tuple(
                self._append(f"order of {saga}", "order", k, stale=0.02) for k in range(random.randint(1, 2))
            )
        head = self._append(saga, "saga", 0, stale=0.15)
        kept = None
        if random.random() < 0.3:
            kept = Snapshot(
                head.version + head.count - 1, 1, random.getrandbits(32), random.randbytes(random.randint(0, 40))
            )
        row = self._row(saga) if random.random() < 0.6 else None
        wake_at = self._clock.at + random.randint(-5, 30) if random.random() < 0.6 else None
        return Unit(head, row, others, kept, wake_at, self._attributes(random.random() < 0.7))

    def _append(self, stream: str, category: str, ahead: int, *, stale: float) -> StreamAppend:
        random = self._random
        version = self._last[stream] + 1 + 3 * ahead
        if self._begun[stream] and random.random() < stale:
            version = random.choice(self._begun[stream])
        return StreamAppend(stream, category, version, random.randint(1, 3), random.randbytes(random.randint(0, 60)))

    def _attributes(self, wanted: bool) -> tuple[tuple[str, str], ...]:
        """Few names and values, so that they meet; numbers, and what only looks like one."""
        if not wanted:
            return ()
        names = self._random.sample(ATTRIBUTES, self._random.randint(1, 2))
        return tuple((name, self._random.choice(VALUES)) for name in sorted(names))

    def _row(self, saga: str) -> SagaRow:
        random = self._random
        status = random.choice(STATUSES)
        wake_at = None if status in ASLEEP else self._clock.at + random.randint(-5, 30)
        if random.random() < 0.01:
            wake_at = 1 if wake_at is None else None
        number = SAGAS.index(saga)
        revision = REVISIONS[number % 3]
        ended_at = self._clock.at if status in ASLEEP else None
        # One row in three shares its `started_at`: the id must break the tie.
        return SagaRow(
            saga, revision, revision[:5], status, wake_at, f"c {saga}", number // 3, self._clock.at, ended_at
        )

    async def _claim(self) -> None:
        limit, push, known = self._random.randint(1, 5), self._random.randint(1, 40), self._random.sample(REVISIONS, 2)
        answer = await self._both(f"claim {limit} {push} {known}", lambda store: store.claim(limit, push, known))
        self._tokens |= answer.tokens
        self._saw("claimed", answer.tokens)
        if self._random.random() < 0.5:
            await self._move()

    async def _move(self) -> None:
        random = self._random
        moves = []
        for saga in random.sample(SAGAS, 8):
            known = random.choice((0, self._last[saga], self._last[saga]))
            moves.append(Move(saga, self._tokens.get(saga, 0), self._clock.at + random.randint(1, 30), known))
        before = await self._wake_ups()
        await self._both(f"move {moves}", lambda store: store.move(moves))
        after = await self._wake_ups()
        for move in moves:
            self._saw("not moved" if before.get(move.id) == after.get(move.id) else "moved")

    async def _wake_ups(self) -> dict[str, int | None]:
        return {row.id: row.wake_at for row in await self._stores[0].find(Query(limit=len(SAGAS)))}

    async def _lease(self) -> None:
        effects = [f"{saga}/pay/do" for saga in self._random.sample(SAGAS, 3)]
        duration = self._random.randint(1, 60)
        await self._both(f"lease {effects} {duration}", lambda store: store.lease(effects, duration))

    async def _load(self) -> None:
        sagas = self._random.sample(SAGAS, 6)
        # Where readers are: before a commit, or at the end.
        ends = ((saga, [*(begun - 1 for begun in self._begun[saga]), self._last[saga]]) for saga in sagas)
        asked = {saga: self._random.choice(each) for saga, each in ends}
        snapshots = self._random.random() < 0.7
        before = await self._both(f"load {asked} {snapshots}", lambda store: store.load(asked, snapshots=snapshots))
        self._saw("loaded", before.streams)
        self._saw("snapshot loaded", any(stream.snapshot for stream in before.streams.values()))
        held = {effect for stream in before.streams.values() for effect in stream.leases}
        self._saw("leased", held)
        self._clock.at += 15
        after = await self._both(f"load {asked} later", lambda store: store.load(asked, snapshots=snapshots))
        self._saw("lease ended", held - {effect for stream in after.streams.values() for effect in stream.leases})

    async def _tail(self) -> None:
        limit, handled = self._random.randint(1, 9), self._random.random() < 0.7
        counts = []
        for store, handed in zip(self._stores, self._handed, strict=True):
            tail = await store.tail("consumer", limit)
            counts.append(len(tail.entries))
            if handled:
                handed.extend(tail.entries)
                await store.advance("consumer", tail.cursor)
        self._agree("tail", *counts)
        self._saw("handed out", counts[0] and handled)

    async def _find(self) -> None:
        random = self._random
        query = self._query()
        rows = await self._both(f"find {query}", lambda store: store.find(query))
        self._saw("found", rows)
        self._saw("found alive", rows and query.live_on)
        self._saw("found by an attribute", rows and query.attributes)
        self._saw("found by two", rows and query.attributes[1:])
        self._saw("page turned", rows and self._page)
        self._page = (rows[-1].started_at, rows[-1].id) if rows and random.random() < 0.6 else None

    async def _tally(self) -> None:
        query = replace(self._query(), live_on="")
        amounts = {name: self._random.choice(ATTRIBUTES) for name in self._random.sample(("order", "trip@"), 1)}
        tallies = await self._both(f"tally {query} {amounts}", lambda store: store.tally(query, amounts))
        self._saw("counted", tallies)
        self._saw("counted by an attribute", tallies and query.attributes)
        self._saw("added up", any(tally.amount for tally in tallies))
        await self._living()
        await self._paces()

    async def _living(self) -> None:
        known = REVISIONS[self._steps % len(REVISIONS) :]
        living = await self._both(f"living {known}", lambda store: store.living(known))
        self._saw("counted alive", living.standings)

    async def _paces(self) -> None:
        since, stretch = self._clock.at - self._random.randint(0, 200), self._random.choice((1, 7, 60))
        paces = await self._both(f"paces {since} {stretch}", lambda store: store.paces(since, stretch))
        self._saw("counted over time", any(pace.what != "started" for pace in paces.paces))
        definition, limit = self._random.choice(("order", "trip@")), self._random.randint(1, 5)
        ended = await self._both(f"ended {definition} {limit}", lambda store: store.ended(definition, limit))
        self._saw("ended last", ended)

    def _query(self) -> Query:
        random = self._random
        bounds = sorted(random.sample(range(-1, 9), 2))
        return Query(
            ids=tuple(random.sample(SAGAS, 5)) if random.random() < 0.3 else (),
            statuses=tuple(random.sample(STATUSES, 3)) if random.random() < 0.5 else (),
            definition=random.choice(("", "order", "trip@")),
            started_from=random.choice((None, bounds[0])),
            started_to=random.choice((None, bounds[1])),
            before=self._page,
            limit=random.randint(1, 5),
            attributes=self._attributes(random.random() < 0.4),
            live_on=random.choice(REVISIONS) if random.random() < 0.3 else "",
        )

    async def _register(self) -> None:
        random = self._random
        revisions = [(random.choice("ab"), n, random.choice(("x", "y"))) for n in range(2)]
        known, note = random.choice(((), (("order", 1, "a"),))), random.random() < 0.7
        asked = [*revisions, *known]
        answer = await self._both(f"register {asked} {note}", lambda store: store.register(asked, note=note))
        self._saw("clash found" if answer.clashes else "registered")
        self._saw("others alive", answer.others)

    # ----------------------------------------------------------------------------------------------------- comparison

    async def _compare_contents(self) -> None:
        streams = dict.fromkeys(SAGAS + [f"order of {saga}" for saga in SAGAS], 0)
        await self._both("contents", lambda store: store.load(streams, snapshots=False))
        await self._both("snapshots", lambda store: store.load(streams))
        logs = [(await store.tail("nobody", 1_000_000)).entries for store in self._stores]
        self._agree("log", *(sorted(_comparable(entry) for entry in log) for log in logs))
        for log in (*logs, *self._handed):
            for stream in streams:
                versions = [entry.version for entry in log if entry.stream == stream]
                assert len(set(versions)) == len(versions), f"{self._place()}: {stream} is handed out twice: {versions}"
        for log, handed in zip(logs, self._handed, strict=True):
            self._agree("handed out", [*log[: len(handed)]], handed)

    async def _compare_rows(self) -> None:
        await self._both("rows", lambda store: store.find(Query(limit=len(SAGAS))))

    async def _both(self, operation: str, call: Callable[[CountedStore], Awaitable[Any]]) -> Any:
        answers = [await _outcome(call(store)) for store in self._stores]
        self._agree(operation, *answers)
        return answers[0]

    def _agree(self, operation: str, expected: object, found: object) -> None:
        if expected != found:
            raise AssertionError(f"{self._place()}: {operation}\noracle: {expected}\nstore: {found}")

    def _place(self) -> str:
        return f"seed {self._seed}, operation {self._steps}"

    def _saw(self, effect: str, proof: object = True) -> None:
        if proof:
            self.effects[effect] += 1


async def _outcome(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except RejectedError as error:
        return type(error)


def _comparable(entry: LogEntry) -> tuple[object, ...]:
    return entry.stream, entry.version, entry.category, entry.events, entry.recorded_at
