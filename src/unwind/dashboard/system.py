"""The process itself: who answers it, which definitions it knows and which it does not."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

from litestar import Response, get
from msgspec import Struct

from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import TheEngine
from unwind.dashboard.traffic import TheBus, TheTraffic
from unwind.runtime.instants import instant_or_none


class Circuit(Struct, frozen=True):
    """A participant as this process has seen it."""

    service: str
    stage: str
    since: str | None
    unanswered: int
    parked: int
    next_probe: str | None


@get("/system", scope="read")
async def system(pages: ThePages, engine: TheEngine, traffic: TheTraffic, bus: TheBus) -> Response[str]:
    """What this process knows of itself."""
    circuits = [
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
    strangers: Mapping[str, int] = engine.telemetry.strangers
    return pages.render(
        "system.html",
        worker=engine.worker,
        carries_on=engine.carries_on,
        circuits=circuits,
        revisions=sorted(engine.revisions),
        strangers=sorted(strangers.items()),
        traffic=await traffic.read(bus),
        work=sorted(engine.telemetry.work.items()),
        versions={"unwind": version("unwind"), "Python": platform.python_version()},
    )


system_routes = [system]
