"""What became of the sagas that ended last, step by step."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from tests.core.trips import BOOKED, Trip, booking, trip

from unwind.core.codec import SAGA_EVENTS
from unwind.core.events import Event
from unwind.core.saga import Saga
from unwind.core.steps import Retry
from unwind.ports import Loaded, SagaRow, StreamAppend, Unit
from unwind.runtime.queries import Queries
from unwind.runtime.samples import Samples, StepShare
from unwind.stores.memory import MemoryStore
from unwind.testing.scenario import START, Scenario, failed, ok, refused, undone

SECOND = 1_000_000
TWICE = Retry.fixed(2, timedelta(seconds=1))


class Shelf(MemoryStore):
    """Ended sagas; counts what is read."""

    def __init__(self) -> None:
        super().__init__(lambda: START)
        self.read: list[str] = []

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        self.read += streams
        return await super().load(streams, snapshots=snapshots)

    async def put(self, saga_id: str, log: Sequence[Event] | bytes, ended_at: int, definition: str = "trip") -> None:
        events = log if isinstance(log, bytes) else SAGA_EVENTS.encode(log)
        row = SagaRow(saga_id, "trip@1#x", definition, "completed", None, "", START, ended_at, ended_at)
        await self.commit([Unit(StreamAppend(saga_id, "saga", 1, 1, events), row)])


def begun() -> Scenario[Trip]:
    return Scenario(trip_saga()).given(Trip())


def trip_saga() -> Saga[Trip]:
    return trip(booking("flight", retry=TWICE), booking("hotel", retry=TWICE))


async def test_each_step_is_counted_as_it_went_and_as_it_was_undone() -> None:
    shelf = Shelf()
    good = begun().when(failed("flight")).at(1).when(ok("flight", BOOKED)).at(5).when(ok("hotel", BOOKED))
    bad = begun().when(ok("flight", BOOKED)).at(2).when(refused("hotel")).when(undone("flight"))
    for number, story in enumerate((good, bad)):
        await shelf.put(f"s{number}", list(story.log), story.now)
    sample = await Samples().look(Queries(shelf), "trip")
    assert (sample.sagas, sample.unread, sample.since) == (2, 0, bad.now)
    assert sample.steps == {
        "flight": StepShare(started=2, done=2, retried=1, undone=1),
        "hotel": StepShare(started=2, done=1, refused=1),
    }
    assert sample.windows == (2 * SECOND, 5 * SECOND)
    assert (sample.window(0.5), sample.window(0.95)) == (2 * SECOND, 5 * SECOND)


async def test_only_the_newest_are_looked_at_and_each_of_them_is_read_once() -> None:
    shelf, samples = Shelf(), Samples(limit=30)
    log = list(begun().when(ok("flight", BOOKED)).when(ok("hotel", BOOKED)).log)
    for number in range(40):
        await shelf.put(f"s{number}", log, START + number)
    first = await samples.look(Queries(shelf), "trip")
    assert (first.sagas, first.since) == (30, START + 10)
    assert sorted(shelf.read) == sorted(f"s{number}" for number in range(10, 40))
    shelf.read.clear()
    await shelf.put("new", log, START + 50)
    second = await samples.look(Queries(shelf), "trip")
    assert shelf.read == ["new"]
    assert (second.sagas, second.since, second.steps["flight"].done) == (30, START + 11, 30)


async def test_what_another_version_wrote_and_what_is_gone_is_told_as_unread() -> None:
    shelf = Shelf()
    await shelf.put("odd", b'[{"type":"never_heard_of/7","at":1}]', START)
    await shelf.put("good", list(begun().when(ok("flight", BOOKED)).log), START)
    sample = await Samples().look(Queries(shelf), "trip")
    assert (sample.sagas, sample.unread, sample.steps["flight"].done) == (2, 1, 1)


async def test_of_a_definition_without_ended_sagas_there_is_nothing() -> None:
    sample = await Samples().look(Queries(Shelf()), "trip")
    assert (sample.sagas, sample.since, sample.windows, sample.steps, sample.window(0.5)) == (0, 0, (), {}, None)
