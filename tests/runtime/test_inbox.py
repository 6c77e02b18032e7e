"""The inbox loses nothing, gives nothing twice, keeps each saga's order, and lends each saga to one batch at a time."""

import asyncio
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.rig import virtual

from unwind.core.messages import Cancel
from unwind.runtime.inbox import Batch, Entry, Inbox

SAGAS = st.sampled_from("abcd")
STEPS = st.one_of(
    st.tuples(st.just("put"), SAGAS),
    st.tuples(st.just("take"), st.integers(1, 4)),
    st.tuples(st.just("done"), st.integers(0, 3)),
    st.tuples(st.just("again"), st.integers(0, 3)),
)


def names(entries: list[Entry]) -> list[str]:
    return [entry.message.actor for entry in entries if isinstance(entry.message, Cancel)]


@given(st.lists(STEPS, max_size=60))
def test_nothing_is_lost_nor_given_twice_and_each_saga_keeps_its_order(steps: list[tuple[str, int | str]]) -> None:
    @virtual
    async def run() -> None:
        inbox = Inbox()
        put: dict[str, list[str]] = defaultdict(list)
        decided: dict[str, list[str]] = defaultdict(list)
        out: list[Batch] = []
        for number, (what, about) in enumerate(steps):
            if what == "put":
                put[str(about)].append(str(number))
                inbox.put(str(about), Cancel(str(number)))
            elif what == "take":
                batch = inbox.take(int(about))
                assert len(batch) <= int(about)
                assert not any(saga_id in other for saga_id in batch for other in out)
                out.append(batch)
            elif out:
                batch = out.pop(int(about) % len(out))
                finish(inbox, batch, decided, again=what == "again")
            assert inbox.in_flight == sum(map(len, out))
            waiting = {saga_id for saga_id in put if len(put[saga_id]) > len(decided[saga_id]) + in_hand(out, saga_id)}
            assert len(inbox) == len(waiting)
            assert inbox.ready == any(saga_id not in inbox._busy for saga_id in waiting)
        for batch in out:
            finish(inbox, batch, decided, again=True)
        while inbox.ready:
            await inbox.work()
            finish(inbox, inbox.take(2), decided, again=False)
        assert {saga_id: entries for saga_id, entries in decided.items() if entries} == put
        assert len(inbox) == inbox.in_flight == 0

    run()


def in_hand(out: list[Batch], saga_id: str) -> int:
    return sum(len(batch.get(saga_id, ())) for batch in out)


def finish(inbox: Inbox, batch: Batch, decided: dict[str, list[str]], *, again: bool) -> None:
    for saga_id, entries in batch.items():
        if again:
            inbox.give_back(saga_id, entries)
        else:
            decided[saga_id].extend(names(entries))
    inbox.release(batch)


@virtual
async def test_whoever_waits_for_work_is_woken_by_it() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.work())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put("a", Cancel("1"))
    await waiting
    batch = inbox.take(1)
    waiting = asyncio.create_task(inbox.work())
    inbox.put("a", Cancel("2"))  # the saga is in a batch: nothing to do yet
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.release(batch)
    await waiting
    assert names(inbox.take(9)["a"]) == ["2"]


@virtual
async def test_room_comes_when_fewer_sagas_wait() -> None:
    inbox = Inbox()
    for saga_id in "abc":
        inbox.put(saga_id, Cancel("1"))
    waiting = asyncio.create_task(inbox.room(3))
    await asyncio.sleep(0)
    inbox.wake()  # to no purpose
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.release(inbox.take(1))
    await waiting


@virtual
async def test_a_drained_inbox_is_empty() -> None:
    inbox = Inbox()
    for saga_id in "abc":
        inbox.put(saga_id, Cancel("1"))
    batch = inbox.take(1)
    inbox.put("a", Cancel("2"))
    drained = inbox.drain()
    assert {saga_id: names(entries) for saga_id, entries in drained.items()} == {"b": ["1"], "c": ["1"], "a": ["2"]}
    inbox.release(batch)
    assert not inbox.ready
    assert len(inbox) == 0
