"""What became of the sagas that ended last, definition by definition, as pages ask for it."""

import asyncio
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

        async def read(definition: str) -> Sample | None:
            return await self._answers.get(definition, lambda: self._samples.look(queries, definition))

        return dict(zip(definitions, await asyncio.gather(*map(read, definitions)), strict=True))


TheShares = NamedDependency[SkipValidation[Shares]]
