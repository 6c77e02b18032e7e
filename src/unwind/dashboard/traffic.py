"""What the bus tells, as pages ask for it: how much waits for whom, and how many letters are dead."""

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from unwind.dashboard.patience import Patient
from unwind.queues import OperatedBus, Queue

EVERY = 3.0
"""Seconds for which what the bus told is shown to all who ask."""

TheBus = NamedDependency[SkipValidation[OperatedBus | None]]


class Traffic(Struct, frozen=True):
    """At one moment."""

    queues: tuple[Queue, ...]
    dead: int


class Traffics:
    """Asked once for all who look."""

    def __init__(self) -> None:
        self._answers: Patient[Traffic] = Patient(EVERY)
        self.stop = self._answers.stop

    async def read(self, bus: OperatedBus | None) -> Traffic | None:
        """None: there is no bus to ask, or it does not answer in time."""
        if bus is None:
            return None

        async def look() -> Traffic:
            return Traffic(tuple(await bus.queues()), (await bus.dead_letters(1)).total)

        return await self._answers.get("", look)


TheTraffic = NamedDependency[SkipValidation[Traffics]]
