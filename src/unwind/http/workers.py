"""The route that tells which processes work on the store's sagas, and how much each has to do."""

from collections.abc import Mapping

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from unwind.http.openapi import Answer, Docs
from unwind.roster import Roster
from unwind.runtime.instants import instant
from unwind.runtime.limits import SECOND
from unwind.runtime.presence import Seen, who_works

TheRoster = NamedDependency[SkipValidation[Roster]]


class WorkerShown(Struct, frozen=True):
    """One process."""

    id: str
    role: str
    """`all`: it begins sagas and carries them on; `api`: only begins and steers; `worker`: only carries on."""
    lost: bool
    """It has not spoken for 30 seconds, and did not say that it would stop."""
    seen_at: str
    since: str
    version: str
    """Of unwind."""
    python: str
    definitions: tuple[str, ...]
    """Revisions that it knows."""
    decisions: int
    """Written since it began."""
    swept_seconds_before: float | None
    """How long before it spoke it had last looked for what is due; null: it does not look."""
    gauges: Mapping[str, float]
    """Some of its metrics as it spoke, by their names."""
    silent: tuple[str, ...]
    """Participants that answered it nothing."""


class WorkerList(Struct, frozen=True):
    """Everybody, the longest at work first. Participants' own processes are not among them."""

    workers: tuple[WorkerShown, ...]


_LIST = Docs((Answer(200, "Who works", WorkerList),), (422, 503))


@get("/workers", docs=_LIST, scope="read")
async def list_workers(roster: TheRoster) -> WorkerList:
    """List the processes that carry sagas on or begin them.

    Each says every ten seconds that it is there; one that ended otherwise than in order is `lost`, for a day.
    """
    return WorkerList(tuple(map(_shown, (await who_works(roster)).seen)))


def _shown(seen: Seen) -> WorkerShown:
    told = seen.presence
    return WorkerShown(
        seen.id,
        told.role,
        seen.lost,
        instant(seen.seen_at),
        instant(told.since),
        told.version,
        told.python,
        told.definitions,
        told.decisions,
        None if told.swept is None else told.swept / SECOND,
        told.gauges,
        told.silent,
    )


worker_routes = [list_workers]
