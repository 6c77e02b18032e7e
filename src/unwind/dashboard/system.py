"""The house and this process in it: who works, what waits, who answers, which versions there are of what."""

import asyncio
import platform
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from importlib.metadata import version

import msgspec
from litestar import Response, get
from litestar.response import Stream
from msgspec import Struct

from unwind.dashboard.house import Late, TheHouses, TheRoster
from unwind.dashboard.live import TheLive
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import AnyRequest, TheEngine, TheQueries
from unwind.dashboard.traffic import TheBus, TheTraffic, Traffic
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
    house, late, told = await asyncio.gather(
        houses.read(roster), houses.late(queries, engine.revisions), traffic.read(bus)
    )
    present = None if house is None else house.present
    revisions = _revisions(engine, present, late)
    return pages.render(
        "system.html",
        worker=engine.worker,
        carries_on=engine.carries_on,
        house=house,
        late=late,
        traffic=told,
        circuits=_circuits(engine),
        revisions=revisions,
        mark=_mark(present, told),
        work=sorted(engine.telemetry.work.items()),
        versions=_versions(bus),
    )


@get("/live/system", scope="read")
async def system_news(
    request: AnyRequest, *, live: TheLive, houses: TheHouses, roster: TheRoster, traffic: TheTraffic, bus: TheBus
) -> Stream:
    """Whether somebody has come, gone or fallen silent, or a letter died. What always moves comes with the ages."""

    async def mark() -> str:
        house, told = await asyncio.gather(houses.read(roster), traffic.read(bus))
        return _mark(None if house is None else house.present, told)

    return await live.stream(request, mark, shared="system")


system_routes = [system, system_news]


def _mark(present: Present | None, traffic: Traffic | None) -> str:
    workers = None if present is None else [(each.id, each.lost) for each in present.seen]
    shown = msgspec.json.encode((workers, None if traffic is None else traffic.dead))
    return blake2b(shown, digest_size=9).hexdigest()


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
