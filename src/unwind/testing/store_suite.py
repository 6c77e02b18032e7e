"""What every store must do: inherit `StoreSuite`, give it a `store` on its `clock`, and pytest runs it.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        async def store(self, clock: StoreClock) -> AsyncIterator[Store]: ...

Needs pytest and pytest-asyncio with asyncio_mode=auto.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from unwind.core.codec import Snapshot
from unwind.errors import RejectedError, UnavailableError
from unwind.ports import LogEntry, Move, Query, SagaRow, Store, StreamAppend, Unit
from unwind.testing.definitions_suite import DefinitionsSuite
from unwind.testing.search_suite import SearchSuite
from unwind.testing.store_examples import (
    ASLEEP,
    BEGINNING,
    BYTES,
    LIVE,
    REVISION,
    TEXTS,
    StoreClock,
    append,
    contents,
    log_of,
    row,
    snapshot,
    stored,
    unit,
)


class StoreSuite(DefinitionsSuite, SearchSuite):
    """The promises of `unwind.ports.Store`."""

    @pytest.fixture
    def clock(self) -> StoreClock:
        return StoreClock()

    # --------------------------------------------------------------------------------------------- compare-and-set

    @pytest.mark.parametrize("before", [0, 1, 7])
    async def test_only_the_first_decision_on_a_version_is_written(self, store: Store, before: int) -> None:
        for version in range(1, before + 1):
            assert (await store.commit([unit("s", version)])).won == {"s"}
        first = Unit(append("s", before + 1, b'["first"]', count=2))
        second = Unit(append("s", before + 1, b'["second"]'))
        assert (await store.commit([first])).won == {"s"}
        assert (await store.commit([second])).won == set()
        assert (await store.load({"s": before})).streams["s"].commits == ((before + 1, b'["first"]'),)
        assert (await store.commit([unit("s", before + 3)])).won == {"s"}

    async def test_exactly_one_of_eight_concurrent_decisions_wins(self, store: Store) -> None:
        for version in range(1, 6):
            units = [Unit(append("s", version, b"[%d]" % n), row("s", BEGINNING + n)) for n in range(8)]
            answers = await asyncio.gather(*(store.commit([each]) for each in units))
            [winner] = [n for n, answer in enumerate(answers) if answer.won]
            assert (await store.load({"s": version - 1})).streams["s"].commits == ((version, b"[%d]" % winner),)
            assert [each.wake_at for each in await store.find(Query())] == [BEGINNING + winner]

    async def test_a_batch_is_answered_per_saga(self, store: Store) -> None:
        names = [f"saga {n:03}" for n in range(100)]
        await store.commit([unit(name) for name in names[::2]])
        answer = await store.commit([unit(name, whole=True) for name in names])
        assert answer.won == set(names[1::2])
        assert len(await store.find(Query(limit=1_000))) == 50
        assert await stored(store) == sorted([(n, 1) for n in names] + [(f"order of {n}", 1) for n in names[1::2]])

    async def test_overlapping_concurrent_batches_share_the_sagas_out(self, store: Store) -> None:
        batches = [[unit(f"saga {n}", whole=True) for n in range(start, start + 40)] for start in (0, 10, 20, 30)]
        answers = await asyncio.gather(*(store.commit(batch) for batch in batches))
        won = [stream for answer in answers for stream in answer.won]
        assert sorted(won) == sorted(f"saga {n}" for n in range(70))
        assert len(await log_of(store)) == 140

    # ---------------------------------------------------------------------------------------------- all or nothing

    async def test_a_unit_is_written_whole(self, store: Store, clock: StoreClock) -> None:
        assert (await store.commit([unit("s", whole=True)])).won == {"s"}
        streams = (await store.load({"s": 0, "order of s": 0})).streams
        assert streams["s"].snapshot == snapshot(1)
        assert streams["order of s"].commits == ((1, b"[2]"),)
        assert list(await store.find(Query())) == [row("s")]
        entries = {(e.stream, e.category, e.version, e.events, e.recorded_at) for e in await log_of(store)}
        assert entries == {("s", "saga", 1, b"[1]", clock.at), ("order of s", "order", 1, b"[2]", clock.at)}

    async def test_a_unit_that_loses_leaves_nothing(self, store: Store) -> None:
        await store.commit([unit("s")])
        before = await contents(store, "s", "order of s")
        assert (await store.commit([unit("s", whole=True)])).won == set()
        assert await contents(store, "s", "order of s") == before

    @pytest.mark.parametrize(
        "others",
        [
            (append("taken"),),
            (append("new"), append("new")),
            (append("bystander"),),
            (append("s"),),
            (append("free"), append("taken")),
        ],
    )
    async def test_a_clash_beside_the_head_refuses_the_whole_batch(
        self, store: Store, others: tuple[StreamAppend, ...]
    ) -> None:
        await store.commit([unit("taken"), unit("lost")])
        before = await contents(store, "s", "bystander", "new", "free")
        with pytest.raises(RejectedError):
            await store.commit([unit("bystander", whole=True), unit("lost"), Unit(append("s"), row("s"), others)])
        assert await contents(store, "s", "bystander", "new", "free") == before
        assert (await store.commit([unit("bystander", whole=True)])).won == {"bystander"}

    async def test_a_clash_of_a_unit_that_lost_does_not_matter(self, store: Store) -> None:
        await store.commit([unit("taken"), unit("lost")])
        assert (await store.commit([Unit(append("lost"), None, (append("taken"),)), unit("s")])).won == {"s"}

    @pytest.mark.parametrize(("status", "wake_at"), [*((s, None) for s in LIVE), *((s, BEGINNING) for s in ASLEEP)])
    async def test_an_orphan_cannot_be_stored(self, store: Store, status: str, wake_at: int | None) -> None:
        before = await contents(store, "s", "bystander")
        with pytest.raises(RejectedError):
            await store.commit([unit("bystander", whole=True), Unit(append("s"), row("s", wake_at, status))])
        assert await contents(store, "s", "bystander") == before

    @pytest.mark.parametrize(("status", "wake_at"), [*((s, BEGINNING) for s in LIVE), *((s, None) for s in ASLEEP)])
    async def test_a_row_is_replaced_by_its_next_version(self, store: Store, status: str, wake_at: int | None) -> None:
        await store.commit([unit("s", whole=True)])
        after = SagaRow("s", REVISION, "order", status, wake_at, "about s", BEGINNING, BEGINNING + 5, BEGINNING + 7)
        await store.commit([Unit(append("s", 2), after)])
        await store.commit([unit("s", 3)])
        assert list(await store.find(Query())) == [after]

    async def test_two_decisions_of_one_saga_in_a_batch_are_a_mistake(self, store: Store) -> None:
        with pytest.raises(ValueError, match="same head stream"):
            await store.commit([unit("s", 1), unit("s", 2)])
        assert await stored(store) == []

    async def test_a_thousand_units_go_in_one_batch(self, store: Store) -> None:
        names = {f"saga {n}" for n in range(1_000)}
        for version in (1, 2):
            assert (await store.commit([unit(name, version, whole=True) for name in names])).won == names
        loaded = (await store.load(dict.fromkeys(names, 0), snapshots=False)).streams
        assert {name: stream.commits for name, stream in loaded.items()} == dict.fromkeys(
            names, ((1, b"[1]"), (2, b"[1]"))
        )
        assert len(await log_of(store)) == 4_000

    async def test_an_empty_batch_is_nothing(self, store: Store) -> None:
        assert (await store.commit([])).won == set()
        assert await stored(store) == []

    # ------------------------------------------------------------------------------------------------------- bytes

    @pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
    async def test_bytes_come_back_as_they_were(self, store: Store, data: bytes) -> None:
        taken = Snapshot(1, 2, 3, data)
        await store.commit([Unit(append("s", 1, data), None, (append("other", 1, data),), taken), unit("beside")])
        streams = (await store.load({"s": 0, "other": 0, "beside": 0}, snapshots=False)).streams
        assert [streams[s].commits for s in ("s", "other", "beside")] == [((1, data),), ((1, data),), ((1, b"[1]"),)]
        assert (await store.load({"s": 0})).streams["s"].snapshot == taken
        assert {e.stream: e.events for e in await log_of(store)} == {"s": data, "other": data, "beside": b"[1]"}

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_text_comes_back_as_it_was_or_is_refused(self, store: Store, text: str) -> None:
        saga = SagaRow(f"id {text}", f"r {text}", f"d {text}", "running", BEGINNING, f"c {text}", BEGINNING, BEGINNING)
        head = append(saga.id, category=f"category {text}")
        try:
            await store.commit([Unit(head, saga)])
        except RejectedError:
            assert await stored(store) == []
            return
        assert saga.id in (await store.load({saga.id: 0})).streams
        query = Query((saga.id,), ("running",), saga.definition)
        assert list(await store.find(query)) == list(await store.find(Query(definition=saga.definition))) == [saga]
        assert [(entry.stream, entry.category) for entry in await log_of(store)] == [(saga.id, head.category)]
        assert list((await store.claim(1, 1, [saga.revision])).tokens) == [saga.id]

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_what_was_never_stored_is_not_found(self, store: Store, text: str) -> None:
        await store.commit([unit("a", whole=True)])
        assert (await store.load({f"a{text}b": 0})).streams == {}
        for query in (
            Query(ids=(f"a{text}b",)),
            Query(statuses=(f"running{text}!",)),
            Query(definition=f"order{text}!"),
            Query(live_on=f"order{text}!"),
        ):
            assert list(await store.find(query)) == []

    # -------------------------------------------------------------------------------------------------------- load

    async def test_load_answers_what_follows_the_asked_version(self, store: Store) -> None:
        await store.commit([Unit(append("s", 1, b"[1,2]", count=2)), unit("t")])
        await store.commit([Unit(append("s", 3, b"[3]"))])
        whole = ((1, b"[1,2]"), (3, b"[3]"))
        for after, expected in ((0, whole), (2, whole[1:])):
            assert (await store.load({"s": after})).streams["s"].commits == expected
        assert (await store.load({"s": 3, "t": 1, "unknown": 0})).streams == {}
        assert (await store.load({})).streams == {}

    async def test_a_snapshot_stands_for_the_commits_before_it(self, store: Store) -> None:
        await store.commit([unit("s", 1)])
        await store.commit([Unit(append("s", 2), snapshot=snapshot(2, b"two"))])
        at_the_end = (await store.load({"s": 0})).streams["s"]
        assert (at_the_end.snapshot, at_the_end.commits) == (snapshot(2, b"two"), ())
        await store.commit([unit("s", 3)])
        newer = (await store.load({"s": 1})).streams["s"]
        assert (newer.snapshot, newer.commits) == (snapshot(2, b"two"), ((3, b"[1]"),))
        for known, asked in ((2, True), (0, False)):
            stream = (await store.load({"s": known}, snapshots=asked)).streams["s"]
            assert (stream.snapshot, [version for version, _ in stream.commits]) == (None, list(range(known + 1, 4)))

    async def test_a_snapshot_is_replaced_only_by_a_newer_one(self, store: Store) -> None:
        for version, taken, kept in ((1, 1, 1), (2, 5, 5), (3, 3, 5), (4, 5, 5), (5, 6, 6)):
            await store.commit([Unit(append("s", version), snapshot=snapshot(taken, b"%d" % version))])
            found = (await store.load({"s": 0})).streams["s"].snapshot
            assert found is not None
            assert found.version == kept

    async def test_leases_are_seen_with_their_saga_until_they_end(self, store: Store, clock: StoreClock) -> None:
        await store.commit([unit("s"), unit("t")])
        await store.lease(["s/pay/do", "s/pay/undo", "u/pay/do"], 10)
        clock.at += 4
        await store.lease(["s/pay/undo"], 10)
        held = {"s/pay/do": BEGINNING + 10, "s/pay/undo": BEGINNING + 14}
        for after in (0, 1):
            assert (await store.load({"s": after})).streams["s"].leases == held
        assert (await store.load({"t": 0})).streams["t"].leases == {}
        clock.at = BEGINNING + 10
        assert (await store.load({"s": 1})).streams["s"].leases == {"s/pay/undo": BEGINNING + 14}
        clock.at = BEGINNING + 14
        assert (await store.load({"s": 1})).streams == {}

    # ------------------------------------------------------------------------------------------------------ wake-ups

    async def test_claim_takes_the_longest_due_first(self, store: Store, clock: StoreClock) -> None:
        due = {"d": -1, "a": -30, "c": -2, "b": -30, "exactly": 0, "later": 1}
        await store.commit([Unit(append(name), row(name, BEGINNING + offset)) for name, offset in due.items()])
        taken = [list((await store.claim(2, 100, [REVISION])).tokens) for _ in range(4)]
        assert taken == [["a", "b"], ["c", "d"], ["exactly"], []]
        assert {each.id: each.wake_at for each in await store.find(Query())} == {
            **dict.fromkeys(("a", "b", "c", "d", "exactly"), BEGINNING + 100),
            "later": BEGINNING + 1,
        }

    async def test_a_claim_pushes_the_wake_up_and_nothing_else(self, store: Store, clock: StoreClock) -> None:
        await store.commit([unit("s", whole=True)])
        clock.at += 5
        claimed = await store.claim(10, 7, [REVISION])
        assert (claimed.now, claimed.tokens) == (clock.at, {"s": clock.at + 7})
        assert list(await store.find(Query())) == [row("s", clock.at + 7)]
        clock.at += 7
        assert (await store.claim(10, 7, [REVISION])).tokens == {"s": clock.at + 7}

    async def test_a_claim_leaves_other_definitions_and_sleepers_alone(self, store: Store) -> None:
        other = SagaRow("other", "order@2#def", "order", "running", 0, "", BEGINNING, BEGINNING)
        asleep = [Unit(append(status), row(status, None, status)) for status in ASLEEP]
        await store.commit([unit("s", whole=True), Unit(append("other"), other), *asleep])
        assert (await store.claim(10, 1, [])).tokens == {}
        assert set((await store.claim(10, 1, ["unknown", REVISION])).tokens) == {"s"}
        assert set((await store.claim(10, 1, [REVISION, "order@2#def"])).tokens) == {"other"}

    async def test_concurrent_claims_never_share_a_saga(self, store: Store) -> None:
        names = [f"saga {n}" for n in range(40)]
        await store.commit([unit(name, whole=True) for name in names])
        claims = await asyncio.gather(*(store.claim(7, 1_000, [REVISION]) for _ in range(8)))
        assert sorted(name for claim in claims for name in claim.tokens) == sorted(names)

    async def test_a_wake_up_moves_only_while_its_token_stands_and_no_event_came(self, store: Store) -> None:
        wakes = {"a": 5, "b": 6, "newer": 5, "paused": None}
        rows = [row(name, wake, "running" if wake else "paused") for name, wake in wakes.items()]
        await store.commit([Unit(append(each.id), each) for each in rows])
        await store.commit([unit("newer", 2)])
        moves = {"a": 5, "b": 5, "newer": 5, "paused": 0, "unknown": 5}
        await store.move([Move(name, token, 50, 1) for name, token in moves.items()])
        assert {each.id: each.wake_at for each in await store.find(Query())} == wakes | {"a": 50}
        await store.move([])

    async def test_a_unit_without_a_row_only_ever_brings_the_wake_up_forward(self, store: Store) -> None:
        rows = [row("s", 50), row("asleep", None, "paused")]
        await store.commit([Unit(append(each.id), each, wake_at=1) for each in rows])
        for version, asked, expected in ((2, 40, 40), (3, 45, 40), (3, 1, 40), (4, None, 40), (5, 39, 39)):
            units = [Unit(append(name, version), wake_at=asked) for name in ("s", "asleep", "rowless")]
            await store.commit(units)
            found = {each.id: each.wake_at for each in await store.find(Query())}
            assert found == {"s": expected, "asleep": None}

    # ---------------------------------------------------------------------------------------------------------- log

    async def test_the_log_is_handed_out_in_order_until_the_cursor_is_saved(self, store: Store) -> None:
        assert (await store.tail("c", 5)).entries == ()
        for version in range(1, 8):
            await store.commit([unit("s", version)])
        first = await store.tail("c", 5)
        assert [entry.version for entry in first.entries] == [1, 2, 3, 4, 5]
        assert sorted({entry.position for entry in first.entries}) == [entry.position for entry in first.entries]
        assert await store.tail("c", 5) == first
        await store.advance("c", first.cursor)
        second = await store.tail("c", 5)
        assert [entry.version for entry in second.entries] == [6, 7]
        await store.advance("c", second.cursor)
        rest = await store.tail("c", 5)
        assert rest.entries == ()
        await store.advance("c", rest.cursor)
        await store.commit([unit("s", 8)])
        assert [entry.version for entry in (await store.tail("c", 5)).entries] == [8]
        assert len((await store.tail("another", 99)).entries) == 8

    async def test_the_log_has_no_gap_while_others_write(self, store: Store) -> None:
        async def write(stream: str) -> None:
            for version in range(1, 31):
                await store.commit([unit(stream, version)])
                await asyncio.sleep(0)

        writers = asyncio.gather(*(write(f"saga {n}") for n in range(5)))
        seen: list[LogEntry] = []
        while not writers.done() or len(seen) < 150:
            tail = await store.tail("c", 7)
            seen += tail.entries
            await store.advance("c", tail.cursor)
            await asyncio.sleep(0)
        await writers
        assert len(seen) == 150
        for n in range(5):
            assert [entry.version for entry in seen if entry.stream == f"saga {n}"] == list(range(1, 31))

    # --------------------------------------------------------------------------------------------------------- find

    async def test_find_filters_by_every_condition(self, store: Store) -> None:
        rows = [
            SagaRow(f"{n}", REVISION, f"d{n % 2}", "running" if n % 3 else "paused", n if n % 3 else None, "", n, n)
            for n in range(12)
        ]
        await store.commit([Unit(append(each.id), each) for each in rows])

        async def found(query: Query) -> list[int]:
            return [each.started_at for each in await store.find(query)]

        assert await found(Query()) == list(range(11, -1, -1))
        assert await found(Query(ids=("3", "7", "unknown"))) == [7, 3]
        assert await found(Query(statuses=("paused", "blocked"))) == [9, 6, 3, 0]
        assert await found(Query(definition="d1")) == [11, 9, 7, 5, 3, 1]
        assert await found(Query(started_from=3, started_to=6)) == [5, 4, 3]
        assert await found(Query(before=(4, "4"), limit=2)) == [3, 2]
        assert await found(Query(("1", "3", "9"), ("paused",), "d1", 2, 10, (9, "9"), 5)) == [3]

    @pytest.mark.parametrize("size", [1, 2, 5, 20])
    async def test_pages_neither_repeat_nor_miss_a_row(self, store: Store, size: int) -> None:
        names = [f"saga {n:02}" for n in range(15)]
        await store.commit([Unit(append(n), row(n, started_at=BEGINNING + i // 4)) for i, n in enumerate(names)])
        seen: list[str] = []
        before: tuple[int, str] | None = None
        while page := await store.find(Query(before=before, limit=size)):
            seen += [each.id for each in page]
            before = (page[-1].started_at, page[-1].id)
            newer = f"saga {len(seen)} begun meanwhile"
            await store.commit([Unit(append(newer), row(newer, started_at=BEGINNING + 1_000))])
        assert seen == names[::-1]

    # -------------------------------------------------------------------------------------------------------- others

    async def test_every_answer_carries_the_time_of_the_store(self, store: Store, clock: StoreClock) -> None:
        for later in (0, 3, 60_000_000):
            clock.at = BEGINNING + later
            loaded, committed, claimed = await store.load({}), await store.commit([]), await store.claim(1, 1, [])
            assert loaded.now == committed.now == claimed.now == clock.at

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await store.close()
        await store.close()
        calls: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: store.register([]),
            lambda: store.load({"s": 0}),
            lambda: store.commit([unit("s")]),
            lambda: store.claim(1, 1, [REVISION]),
            lambda: store.move([]),
            lambda: store.lease([], 1),
            lambda: store.tail("c", 1),
            lambda: store.advance("c", "0"),
            lambda: store.find(Query()),
        )
        for call in calls:
            with pytest.raises(UnavailableError):
                await call()

    async def test_what_was_asked_before_closing_is_finished(self, store: Store) -> None:
        commits = [asyncio.ensure_future(store.commit([unit("s", version)])) for version in range(1, 20)]
        await asyncio.sleep(0)
        await store.close()
        assert [(await commit).won for commit in commits] == [{"s"}] * 19
