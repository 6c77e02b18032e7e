"""What became of the sagas that ended last, definition by definition, as pages ask for it."""

from collections.abc import Sequence

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from unwind.dashboard.patience import Patient
from unwind.runtime.queries import Queries
from unwind.runtime.samples import Sample, Samples

EVERY = 15.0
"""Seconds for which what was read is shown to all who ask."""


class Shares:
    """Samples that are kept for a while."""

    def __init__(self) -> None:
        self._samples = Samples()
        self._answers: Patient[Sample] = Patient(EVERY)
        self.stop = self._answers.stop

    async def read(self, queries: Queries, definitions: Sequence[str]) -> dict[str, Sample | None]:
        """A sample of each definition; None: it could not be read, or not in time."""
        found: dict[str, Sample | None] = {}
        for definition in definitions:

            async def look(name: str = definition) -> Sample:
                return await self._samples.look(queries, name)

            found[definition] = await self._answers.get(definition, look)
        return found


TheShares = NamedDependency[SkipValidation[Shares]]
