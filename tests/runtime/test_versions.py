"""Several versions of a definition: each saga ends on its own; what nobody knows here is left alone, and told of."""

from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, ScriptedStore, reply, tell, virtual
from tests.runtime.test_telemetry import scraped

from unwind.core.events import StepStarted
from unwind.errors import DefinitionError
from unwind.ports import COUNTED, REPLIES, Query, Registered
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries
from unwind.runtime.strangers import Strangers, told

OLD = trip(booking("flight"), booking("hotel"))
NEW = trip(booking("flight"), booking("insurance"), booking("hotel"), version=2)


def steps(rig: Rig, saga_id: str) -> list[str]:
    return [event.step for event in rig.scripted.events(saga_id) if isinstance(event, StepStarted)]


@virtual
async def test_sagas_end_on_the_version_they_were_begun_with_while_new_ones_begin_on_the_next() -> None:
    rig = Rig()
    before = await rig.launch("w1", OLD)
    old = (await before.start("trip", Trip())).saga_id
    await rig.kill(before)
    after = await rig.launch("w2", NEW, OLD, sweeps=True)
    await rig.agency()
    new = (await after.start("trip", Trip())).saga_id
    chosen = (await after.start(OLD, Trip())).saga_id
    ended = {saga_id: await after.ended(saga_id) for saga_id in (old, new, chosen)}
    assert {saga_id: state.definition_version for saga_id, state in ended.items()} == {old: 1, new: 2, chosen: 1}
    assert {state.status for state in ended.values()} == {"completed"}
    assert steps(rig, old) == steps(rig, chosen) == ["flight", "hotel"]
    assert steps(rig, new) == ["flight", "insurance", "hotel"]
    page = await Queries(rig.scripted).find(Query())
    assert {saga.saga_id: saga.definition_version for saga in page.sagas} == {old: 1, new: 2, chosen: 1}


@virtual
async def test_an_old_saga_is_undone_by_its_own_version() -> None:
    rig = Rig(NEW, OLD)
    await rig.agency()
    engine = await rig.launch()
    saga_id = (await engine.start(OLD, Trip())).saga_id
    await engine.cancel(saga_id, actor="ann")
    assert (await engine.ended(saga_id)).status == "compensated"


@virtual
async def test_the_newest_version_is_taken_whatever_the_order_in_which_they_are_given() -> None:
    versions = [trip(booking("flight"), version=version) for version in (2, 10, 9)]
    rig = Rig(*versions)
    await rig.agency()
    engine = await rig.launch()
    assert (await engine.start("trip", Trip())).state.definition_version == 10
    assert (await engine.execute("trip", Trip())).definition_version == 10
    with pytest.raises(DefinitionError, match="no saga 'trips' is registered here; there is trip"):
        await engine.start("trips", Trip())


@virtual
async def test_a_changed_definition_says_how_many_live_on_the_old_one() -> None:
    rig = Rig(OLD)
    engine = await rig.launch()
    for _ in range(2):
        await engine.start(OLD, Trip())
    changed = trip(booking("flight"))
    with pytest.raises(DefinitionError) as refused:
        await rig.launch("w2", changed)
    assert str(refused.value) == (
        f"the definition of trip version 1 was changed (it is {changed.revision} now), and sagas were begun on the old "
        f"definition: 2 live on {OLD.revision}; give the changed definition the next version number, and keep the old "
        "one beside it until its sagas have ended"
    )


# ---------------------------------------------------------------------------------------------------- what is not known


def watching(rig: Rig, *sagas: Any) -> tuple[Engine, Strangers]:
    engine = rig.engine("w9", *sagas)
    return engine, Strangers(engine, rig.store, rig.clock)


async def looked(rig: Rig, strangers: Strangers) -> Sequence[Any]:
    """What the next look writes to the log."""
    with structlog.testing.capture_logs() as lines:
        await strangers.look()
        await strangers.look()
    await rig.elapse(10)
    return lines


@virtual
async def test_a_saga_of_an_unknown_version_is_left_alone_and_told_of_once() -> None:
    rig = Rig()
    first = await rig.launch("w1", OLD, NEW)
    saga_id = (await first.start(OLD, Trip())).saga_id
    await rig.kill(first)
    length = len(rig.scripted.events(saga_id))
    second = await rig.launch("w2", NEW, sweeps=True)
    await rig.elapse(60)
    assert len(rig.scripted.events(saga_id)) == length
    assert second.telemetry.work["wake_ups"] == 0
    assert scraped(second.telemetry)["unwind_unknown_definition_sagas", (("revision", OLD.revision),)] == 1

    _, strangers = watching(rig, NEW)
    [line] = await looked(rig, strangers)
    assert (line["event"], line["log_level"]) == ("definitions_unknown", "warning")
    assert line["live_sagas"] == {OLD.revision: 1}
    assert "register that definition too" in line["advice"]
    assert await looked(rig, strangers) == []
    with pytest.raises(DefinitionError, match=f"1 live saga of {OLD.revision}, which this process does not know"):
        await strangers.check()


@virtual
async def test_what_has_become_known_or_has_ended_is_told_too() -> None:
    rig = Rig()
    first = await rig.launch("w1", OLD, sweeps=True)
    engine, strangers = watching(rig, NEW)
    assert await looked(rig, strangers) == []
    await strangers.check()
    ids = [(await first.start(OLD, Trip())).saga_id for _ in range(2)]
    await first.pause(ids[0], actor="ann")
    [line] = await looked(rig, strangers)
    assert line["live_sagas"] == {OLD.revision: 2}
    await rig.agency()
    await first.ended(ids[1])
    [line] = await looked(rig, strangers)
    assert line["live_sagas"] == {OLD.revision: 1}
    await first.resume(ids[0], actor="ann")
    await first.ended(ids[0])
    [line] = await looked(rig, strangers)
    assert (line["event"], line["log_level"]) == ("definitions_all_known", "info")
    await strangers.check()
    assert not [name for name, _ in scraped(engine.telemetry) if name == "unwind_unknown_definition_sagas"]


@virtual
async def test_a_store_that_is_down_leaves_what_was_found_as_it_was() -> None:
    class Down(ScriptedStore):
        async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
            await self._called("register")
            return await super().register(revisions, note=note)

    rig = Rig()
    store = Down(rig.now)
    first = await rig.launch("w1", OLD, store=store)
    await first.start(OLD, Trip())
    engine = rig.engine("w2", NEW, store=store)
    strangers = Strangers(engine, store, rig.clock)
    await strangers.look()
    store.down = True
    await rig.elapse(10)
    [line] = await looked(rig, strangers)
    assert line["event"] == "strangers_not_counted"
    assert engine.telemetry.strangers == {OLD.revision: 1}


@virtual
async def test_an_act_on_what_is_not_known_here_says_so_and_changes_nothing() -> None:
    rig = Rig()
    first = await rig.launch("w1", OLD)
    saga_id = (await first.start(OLD, Trip())).saga_id
    await rig.kill(first)
    second = await rig.launch("w2", NEW)
    length = len(rig.scripted.events(saga_id))
    with pytest.raises(Exception, match=f"bound to {OLD.revision}, which this process does not know"):
        await second.cancel(saga_id, actor="ann")
    tell(second, saga_id, "flight")
    await rig.elapse(1)
    assert len(rig.scripted.events(saga_id)) == length


@virtual
async def test_a_reply_that_only_another_worker_can_decide_is_with_it_in_seconds() -> None:
    rig = Rig()
    first = await rig.launch("w1", OLD)
    saga_id = (await first.start(OLD, Trip())).saga_id
    [command] = [message for _, messages in rig.bus.published for message in messages]
    await rig.kill(first)
    await rig.launch("w2", NEW)
    await rig.bus.publish(REPLIES, [reply(command)])
    await rig.until(lambda: any(entry[0] == "fetch" for entry in rig.trace))
    await rig.launch("w3", NEW, OLD)
    await rig.until(lambda: steps(rig, saga_id) == ["flight", "hotel"], seconds=5)


def test_numbers_that_were_not_counted_to_the_end_are_told_as_such() -> None:
    assert told({"b@1#x": COUNTED, "a@1#x": 2}) == "2 live sagas of a@1#x, 10000 or more live sagas of b@1#x"
