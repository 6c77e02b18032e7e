"""What simulated sagas do to the world: participants with real barriers, and actions that reach outside."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from unwind.core.messages import Direction
from unwind.core.steps import Refusal, Refused
from unwind.runtime.participant import HandlerCall, Participant, TryAgain
from unwind.stores.memory_barrier import MemoryParticipantStore
from unwind.testing.simulator.definitions import COMMANDS, Answered
from unwind.testing.simulator.process import CURRENT

if TYPE_CHECKING:
    from unwind.testing.simulator.world import World

FICKLE = 0.5
"""How likely a participant that says no would say yes if it were asked once more."""
CONTESTED = "a"
"""The step that takes from a stock which may not suffice for all."""


class Books:
    """A participant's business data: what was done and undone, when, and what is left in stock."""

    def __init__(self, stock: int, effects: dict[Any, tuple[str, ...]], times: dict[Any, float]) -> None:
        """`effects` by saga and step; `times` by saga, step and direction."""
        self.stock = stock
        self.effects = effects
        self.times = times

    def clone(self) -> "Books":
        """A copy for a transaction."""
        return Books(self.stock, dict(self.effects), dict(self.times))

    def write(self, saga_id: str, step: str, what: Direction, at: float) -> None:
        """The business effect."""
        key = (saga_id, step)
        self.effects[key] = (*self.effects.get(key, ()), what)
        self.times[saga_id, step, what] = at
        if step == CONTESTED:
            self.stock += -1 if what == "do" else 1


class Service:
    """One participant: handlers on the real kit, over a database that outlives its processes."""

    def __init__(self, world: "World", name: str, stock: int) -> None:
        """`stock` is how many of the contested steps it can serve."""
        self.world = world
        self.database: MemoryParticipantStore[Books] = MemoryParticipantStore(
            Books(stock, {}, {}), world.now, clone=Books.clone
        )
        self.participant: Participant[Books] = Participant(name)
        do, undo = COMMANDS[name]
        self.participant.handles(do)(self._do)
        self.participant.undoes(undo)(self._undo)

    def effects(self, saga_id: str, step: str) -> tuple[str, ...]:
        """What was done and undone, as committed."""
        return self.database.state.effects.get((saga_id, step), ())

    def _do(self, books: Books, command: Any, call: HandlerCall) -> Answered | Refusal:
        world = self.world
        if world.chance(world.faults.fail):
            # The work was begun when it failed: taking it back is the barrier's business.
            books.write(call.saga_id, call.step, "do", world.loop.time())
            raise TryAgain("simulated failure")
        if (call.saga_id, call.step) in world.refused and not (call.retriable and world.settled):
            if world.rng.random() < FICKLE:
                world.refused.discard((call.saga_id, call.step))
            return Refused("not today")
        if call.step == CONTESTED and books.stock <= 0:
            return Refused("none left")
        books.write(call.saga_id, call.step, "do", world.loop.time())
        return Answered(call.step)

    def _undo(self, books: Books, command: Any, call: HandlerCall) -> Refusal | None:
        world = self.world
        if world.chance(world.faults.fail):
            raise TryAgain("simulated failure")
        if (call.saga_id, call.step) in world.undo_refused and not world.settled:
            return Refused("cannot be undone yet")
        books.write(call.saga_id, call.step, "undo", world.loop.time())
        return None


class ActionsOutside:
    """The outside of local actions: it knows effect ids, so it does each thing once, and nothing after its undo."""

    def __init__(self, world: "World") -> None:
        """Nothing has happened."""
        self.world = world
        self.effects: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.barred: set[tuple[str, str]] = set()

    async def act(self, saga_id: str, step: str, direction: Direction) -> Any:
        """Take a while; somewhere in it, reach the outside. Fails at times, before that."""
        world, rng = self.world, self.world.rng
        process = CURRENT.get()
        long = (0.01, 0.05, 0.5, 3.0, 9.0, 14.0) if world.faulty else (0.01, 0.1, 3.0)
        duration = rng.choice(long)
        hit = rng.random() * duration
        await world.loop.pause(hit)
        if process is not None:
            await process.point(0, 0.001)
        if world.chance(world.faults.fail / 2):
            raise TryAgain("simulated failure")
        if direction == "do" and (saga_id, step) in world.refused:
            return Refused("not today")
        self._apply((saga_id, step), direction)
        await world.loop.pause(duration - hit)
        return Answered(step)

    def _apply(self, key: tuple[str, str], direction: Direction) -> None:
        done = self.effects[key]
        if direction in done:
            return
        if direction == "do":
            if key not in self.barred:
                done.append("do")
        else:
            self.barred.add(key)
            if "do" in done:
                done.append("undo")
