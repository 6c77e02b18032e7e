"""A process's own line in the roster: who it is, what it knows, how much it has to do. Told every ten seconds."""

import asyncio
from contextlib import suppress
from importlib.metadata import version
from platform import python_version

import msgspec
import structlog
from msgspec import Struct

from unwind.errors import RejectedError, UnavailableError
from unwind.ports import Clock
from unwind.roster import Roster
from unwind.runtime.background import BackgroundTask
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND
from unwind.runtime.sweeper import Sweeper
from unwind.runtime.telemetry import Telemetry

log = structlog.get_logger("unwind.presence")

EVERY = 10 * SECOND
SILENT = 3 * EVERY
"""Microseconds after which a process that should have spoken is called silent."""
_LAST_WORD = 1.0
"""Seconds that stopping waits for the store to take it."""
GAUGES = (
    "unwind_inbox_sagas",
    "unwind_in_flight_sagas",
    "unwind_actions_waiting",
    "unwind_actions_running",
    "unwind_bus_replies_waiting",
    "unwind_publisher_lag_seconds",
)
"""What it tells of its metrics."""


class Presence(Struct, frozen=True):
    """What a process says of itself. All of it may be missing: another version has written it."""

    role: str = ""
    version: str = ""
    """Of unwind."""
    python: str = ""
    since: int = 0
    """When it began, in microseconds, by the store's clock."""
    definitions: tuple[str, ...] = ()
    """Revisions that it knows."""
    decisions: int = 0
    """Written since it began."""
    work: dict[str, int] = {}
    """What it counts of its work, by name."""
    gauges: dict[str, float] = {}
    swept: int | None = None
    """Microseconds since it last looked for wake-ups; None: it does not."""
    silent: tuple[str, ...] = ()
    """Participants that answer it nothing."""


class Seen(Struct, frozen=True):
    """A process in the roster."""

    id: str
    seen_at: int
    lost: bool
    """It should have spoken since."""
    presence: Presence


class Present(Struct, frozen=True):
    """Everybody, at one moment."""

    now: int
    seen: tuple[Seen, ...]


_read = msgspec.json.Decoder(Presence)


async def who_works(roster: Roster) -> Present:
    """Everybody in the roster, the longest at work first. Raises UnavailableError."""
    roll = await roster.roll()
    seen = []
    for entry in roll.entries:
        try:
            presence = _read.decode(entry.told)
        except msgspec.DecodeError:  # another version's words: that it is there is told all the same
            presence = Presence()
        seen.append(Seen(entry.id, entry.seen_at, roll.now - entry.seen_at > SILENT, presence))
    return Present(roll.now, tuple(sorted(seen, key=lambda each: (each.presence.since, each.id))))


class Announcer:
    """Says that this process is there. A part of a `Service`, as a participant is."""

    def __init__(self, roster: Roster, engine: Engine, clock: Clock, role: str, sweeper: Sweeper | None) -> None:
        """Nothing is told before `start`."""
        self._roster = roster
        self._engine = engine
        self._clock = clock
        self._role = role
        self._sweeper = sweeper
        self._since = 0
        self._telling = BackgroundTask("presence")

    async def start(self) -> None:
        """Tell, and go on telling."""
        self._since = self._engine.loop.time.now()
        await self._tell()
        self._telling.start(self._tell_on())

    async def wait(self) -> None:
        """Return when it is stopped; raise what ended it, if it ended by itself."""
        await self._telling.wait()

    async def stop(self) -> None:
        """Take its line away, if that goes quickly; else it is called silent, and forgotten after a day."""
        if not await self._telling.stop():
            return
        with suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD):
                await self._roster.withdraw(self._engine.worker)

    async def _tell_on(self) -> None:
        while True:
            await self._clock.sleep(EVERY)
            await self._tell()

    async def _tell(self) -> None:
        told = msgspec.json.encode(self.presence()).decode()
        try:
            await self._roster.announce(self._engine.worker, told)
        except (UnavailableError, RejectedError) as error:
            log.debug("presence_not_told", error=str(error))

    def presence(self) -> Presence:
        """What it says now."""
        engine = self._engine
        telemetry = engine.telemetry
        return Presence(
            self._role,
            version("unwind"),
            python_version(),
            self._since,
            tuple(sorted(engine.revisions)),
            telemetry.units,
            dict(telemetry.work),
            _gauges(telemetry),
            None if self._sweeper is None else self._clock.monotonic() - self._sweeper.swept_at,
            tuple(each.service for each in engine.circuits() if each.stage == "open"),
        )


def _gauges(telemetry: Telemetry) -> dict[str, float]:
    found: dict[str, float] = {}
    for told in telemetry.more:
        for metric in told():
            if metric.name in GAUGES:
                found |= {sample.name: sample.value for sample in metric.samples if not sample.labels}
    return found
