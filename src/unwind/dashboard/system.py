"""The house and this process in it: who works, what waits, who answers, which versions there are of what."""

import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

from litestar import Response, get
from msgspec import Struct

from unwind.dashboard.house import Late, TheHouses, TheRoster
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import TheEngine, TheQueries
from unwind.dashboard.traffic import TheBus, TheTraffic
from unwind.queues import OperatedBus
from unwind.runtime.engine import Engine
from unwind.runtime.instants import instant_or_none
from unwind.runtime.presence import Present


class Circuit(Struct, frozen=True):
    """A participant as this process has seen it."""

    service: str
    stage: str
    since: str | None
    unanswered: int
    parked: int
    next_probe: str | None


class Revision(Struct, frozen=True):
    """A version of a definition, and who knows it."""

    name: str
    version: int
    hash: str
    here: bool
    """This process knows it."""
    workers: int
    """That carry sagas on, and know it."""
    live: int | None
    """Sagas that live on it, as far as they were counted; None: they were not."""

    @property
    def abandoned(self) -> bool:
        """Sagas live on it, and nobody who works knows it."""
        return bool(self.live) and not self.workers


@get("/system", scope="read")
async def system(
    *,
    pages: ThePages,
    engine: TheEngine,
    queries: TheQueries,
    houses: TheHouses,
    roster: TheRoster,
    traffic: TheTraffic,
    bus: TheBus,
) -> Response[str]:
    """What is known of the house, and of this process."""
    house = await houses.read(roster)
    late = await houses.late(queries, engine.revisions)
    present = None if house is None else house.present
    return pages.render(
        "system.html",
        worker=engine.worker,
        carries_on=engine.carries_on,
        house=house,
        late=late,
        traffic=await traffic.read(bus),
        circuits=_circuits(engine),
        revisions=_revisions(engine, present, late),
        work=sorted(engine.telemetry.work.items()),
        versions=_versions(bus),
    )


system_routes = [system]


def _circuits(engine: Engine) -> list[Circuit]:
    return [
        Circuit(
            each.service,
            each.stage,
            instant_or_none(each.since),
            each.unanswered,
            each.parked,
            instant_or_none(each.next_probe),
        )
        for each in engine.circuits()
    ]


def _versions(bus: OperatedBus | None) -> dict[str, str]:
    found = {"unwind": version("unwind"), "Python": platform.python_version()}
    if bus is not None:
        found["Bus"] = type(bus).__name__.removesuffix("Bus")
    return found


def _revisions(engine: Engine, present: Present | None, late: Late | None) -> list[Revision]:
    """Those that this process knows, those that others know, and those that only sagas know; the newest first."""
    live: Mapping[str, int] = engine.telemetry.strangers if late is None else late.live
    known = set(engine.revisions)
    workers = Counter(
        revision
        for seen in (() if present is None else present.seen)
        if not seen.lost and seen.presence.role != "api"
        for revision in seen.presence.definitions
    )
    found = []
    for revision in {*known, *workers, *live}:
        name, _, rest = revision.rpartition("@")
        number, _, digest = rest.partition("#")
        count = live.get(revision, 0) if late is not None else live.get(revision)
        found.append(Revision(name, int(number), digest, revision in known, workers[revision], count))
    return sorted(found, key=lambda each: (each.name, -each.version, each.hash))
