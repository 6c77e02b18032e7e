"""What the processes count, collected while they live: a killed one begins at zero again."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chaos.deployment import Application
from unwind.runtime.work import WORK

EVERY = 0.25
"""Seconds between two looks. What a process counts after the last look before its death is not seen."""


class Figures:
    """The sums of what each process counts of its own work, over all processes and all their lives."""

    def __init__(self, applications: Sequence[Application]) -> None:
        """Nothing is counted before `run`."""
        self._applications = applications
        self._last: dict[tuple[str, int], Counter[str]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(timeout=1) as client:
            while True:
                await asyncio.gather(*(self._look(client, each) for each in self._applications))
                await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Once more, at the end."""
        async with httpx.AsyncClient(timeout=5) as client:
            await asyncio.gather(*(self._look(client, each) for each in self._applications))

    async def _look(self, client: httpx.AsyncClient, application: Application) -> None:
        life = (application.name, application.incarnation)
        try:
            answer = await client.get(f"{application.url}/metrics")
        except httpx.TransportError:
            return  # it is down; what was seen before stays
        if answer.status_code != httpx.codes.OK:
            return  # it waits for something before it begins
        counted = Counter[str]()
        for family in text_string_to_metric_families(answer.text):
            name = family.name.removeprefix("unwind_")
            if name in WORK:
                counted[name] += sum(int(each.value) for each in family.samples if each.name.endswith("_total"))
        if application.incarnation == life[1]:
            self._last[life] = counted

    @property
    def total(self) -> Counter[str]:
        """Sums by what was counted."""
        total = Counter[str]()
        for counted in self._last.values():
            total.update(counted)
        return total
