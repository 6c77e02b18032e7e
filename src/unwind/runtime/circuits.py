"""What one worker knows of who answers: a circuit per participant. Pure: time and jitter come in with each call.

A circuit is closed while its participant answers. It opens when so many commands in a row were not answered in time
and nobody of that service answered anything meanwhile. While it is open, attempts at the participant are parked and
commands are held back, but for a probe now and then. Any answer, also "try again", begins the ramp: so many commands a
second are let go, twice as many with each second that brings answers, until the circuit closes. Where the ramp brings
none, it is open again. Undos go before new work, but a part of the ramp is kept from them and probes take turns: an
undo that is never answered must starve nobody.

It is an opinion, never truth: it is not stored, not shared, and each worker forms its own. What it gets wrong costs
time, and no saga: what is parked always wakes.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from msgspec import Struct

from unwind.core.messages import Direction
from unwind.runtime.limits import SECOND, Limits

Stage = Literal["closed", "open", "ramp"]
DIRECTIONS: tuple[Direction, Direction] = ("undo", "do")
"""What goes first, goes first."""
KEPT = 4
"""One in so many of a slot's commands is kept from the undos."""
STEPS = 7
"""Seconds with answers from the beginning of a ramp to its end."""
SPREAD = 0.2
"""Share of its time by which a parked attempt may wake earlier: what was parked as one must not wake as one."""
SOON = SECOND
MOST = 256
"""Sagas that are recalled at a time."""
LATER = 8 * SECOND
"""Bounds of how long the ramp parks what it has no room for."""


class Turn(Struct, frozen=True):
    """A circuit went from one stage to another."""

    service: str
    before: Stage
    after: Stage
    silent_for: int
    """How long nobody had answered, in microseconds."""


class CircuitView(Struct, frozen=True):
    """A circuit as it is now. Instants in microseconds."""

    service: str
    stage: Stage
    since: int | None
    """When it came to this stage; None: it never was in another."""
    answers: int
    answered_at: int | None
    unanswered: int
    """Commands in a row that were not answered in time."""
    opened: int
    """How often it has opened."""
    parked: int
    """Sagas that this worker has parked at it, and whose time has not come."""
    next_probe: int | None
    """While it is open: when the next command may go at the earliest."""
    per_second: int | None
    """During the ramp: how many commands are let go."""


class Circuit:
    """One participant."""

    def __init__(self, service: str, limits: Limits, turns: list[Turn]) -> None:
        """Closed. What happens to it is added to `turns`."""
        self.service = service
        self.stage: Stage = "closed"
        self.opened = 0
        self._limits = limits
        self._turns = turns
        self._since: int | None = None
        self._dark_since = 0
        self._cleared_at = 0
        self._answers = 0
        self._answered_at: int | None = None
        self._unanswered = 0
        self._oldest = 0
        self._slot = 0
        self._left = 0
        self._kept = 0
        self._rate = 0
        self._stages = 0
        self._asked = 0
        """Commands let go since the last answer, while it is not closed."""
        self._heard = False
        """Whether an answer came in this second of the ramp."""
        self._undos_first_until = 0

    # ------------------------------------------------------------------------------------------------- what is seen

    def answered(self, count: int, now: int) -> None:
        """So many answers came."""
        self._answers += count
        self._unanswered = self._asked = 0
        if self.stage == "open":
            self._turn("ramp", now)
            self._rate = self._limits.circuit_ramp
            self._fill()
            self._slot, self._stages, self._heard = now, 0, False
        else:
            self._heard = True
        self._answered_at = now

    def unanswered(self, begun: int, now: int, *, expired: bool) -> None:
        """A command of an attempt begun then was not answered in time; `expired`: the attempt's time is up too."""
        if self.stage != "closed" or begun < self._cleared_at or not self._limits.circuit_after:
            return
        self._oldest = min(self._oldest, begun) if self._unanswered else begun
        self._unanswered += 1
        silent_since = max(self._oldest, self._answered_at or 0)
        enough = min(self._limits.circuit_silence, now - begun) if expired else self._limits.circuit_silence
        if self._unanswered >= self._limits.circuit_after and now - silent_since >= enough:
            self._dark_since = silent_since
            self._open(now)

    # ------------------------------------------------------------------------------------------------- what is asked

    def holds(self, begun: int, silent: int, now: int) -> bool:
        """Whether an attempt begun then, whose time is up, is not to be spent.

        So it is while the circuit is not closed, or was not when the attempt began: its commands may have been held
        back. And where it was parked before, first at `silent` (0: never), and nobody was answered since, as far as
        this worker has heard: another worker, or this one in its life before, knew more.
        """
        self._roll(now)
        unheard = silent > 0 and (self._answered_at or 0) < silent and self._limits.circuit_after > 0
        return self.stage != "closed" or begun < self._cleared_at or unheard

    def admits(self, direction: Direction, now: int) -> bool:
        """Whether one more command may go now. A yes is counted."""
        self._roll(now)
        if self.stage == "closed":
            return True
        undos_first = self.stage == "ramp" and now < self._undos_first_until
        most = self._left - self._kept if direction == "undo" else self._kept if undos_first else self._left
        if most > 0:
            self._left -= 1
            self._kept = min(self._kept - (undos_first and direction == "do"), self._left)
            self._asked += 1
            return True
        if direction == "undo":
            self._undos_first_until = self._slot + 2 * self._slot_length
        return False

    def room(self, now: int) -> tuple[int, int]:
        """How many commands may go now, and how many of them are kept from the undos."""
        self._roll(now)
        return (MOST, 0) if self.stage == "closed" else (min(self._left, MOST), self._kept)

    def park_until(self, now: int, jitter: float) -> int:
        """Until when to leave an attempt alone: longer the longer the participant has been silent; soon in the ramp."""
        if self.stage != "open":
            return now + SOON + int((LATER - SOON) * jitter)
        limits = self._limits
        duration = min(max(now - self._dark_since, limits.park_least), limits.park_most)
        return now + duration - int(duration * SPREAD * jitter)

    def view(self, now: int, parked: int = 0) -> CircuitView:
        """What it is now; `parked` is known elsewhere."""
        self._roll(now)
        probe = None
        if self.stage == "open":
            probe = now if self._left else self._slot + self._slot_length
        return CircuitView(
            self.service,
            self.stage,
            self._since,
            self._answers,
            self._answered_at,
            self._unanswered,
            self.opened,
            parked,
            probe,
            self._rate if self.stage == "ramp" else None,
        )

    # ------------------------------------------------------------------------------------------------------- inside

    @property
    def _slot_length(self) -> int:
        return self._limits.circuit_probe if self.stage == "open" else SECOND

    def _fill(self) -> None:
        """Room for a slot of the ramp. Undos go first, but never take all of it: some may never be answered."""
        self._left, self._kept = self._rate, self._rate // KEPT

    def _open(self, now: int) -> None:
        self._turn("open", now)
        self.opened += 1
        self._slot, self._left, self._kept, self._asked = now, 0, 0, 0

    def _turn(self, stage: Stage, now: int) -> None:
        silent_since = self._dark_since if self._answered_at is None else max(self._dark_since, self._answered_at)
        self._turns.append(Turn(self.service, self.stage, stage, now - silent_since))
        self.stage, self._since = stage, now

    def _roll(self, now: int) -> None:
        """Time passes: a new slot has its own room, and the ramp goes on, ends, or has led nowhere."""
        while self.stage != "closed" and now >= self._slot + self._slot_length:
            if self.stage == "open":
                self._slot, self._left, self._kept = now, 1, 0
                return
            if self._asked and not self._heard:
                if now - (self._answered_at or 0) >= self._limits.circuit_silence:
                    self._open(now)
                else:
                    self._slot = now
                    self._fill()
                return
            self._slot += SECOND
            self._heard = False
            self._stages += 1
            self._rate *= 2
            self._fill()
            if self._stages == STEPS:
                self._turn("closed", now)
                self._cleared_at, self._unanswered = now, 0


class Circuits:
    """The circuits of one worker, by service."""

    def __init__(self, limits: Limits) -> None:
        """None is known yet."""
        self._limits = limits
        self._circuits: dict[str, Circuit] = {}
        self._turns: list[Turn] = []
        self._parked: dict[tuple[str, Direction], dict[str, int]] = {}
        """Sagas that this worker has parked, at whom, and until when."""
        self._last_probe: dict[str, Direction] = {}

    def of(self, service: str) -> Circuit:
        """The circuit of a service, closed where nothing is known of it."""
        circuit = self._circuits.get(service)
        if circuit is None:
            circuit = self._circuits[service] = Circuit(service, self._limits, self._turns)
        return circuit

    @property
    def troubled(self) -> bool:
        """Whether a circuit is not closed."""
        return any(circuit.stage != "closed" for circuit in self._circuits.values())

    def parked(self, saga_id: str, service: str, direction: Direction, until: int) -> None:
        """A saga was parked by this worker. Only so many are remembered; the others wake when their time has come."""
        group = self._parked.setdefault((service, direction), {})
        group.pop(saga_id, None)
        group[saga_id] = until
        if len(group) > self._limits.cache:
            del group[next(iter(group))]

    def recalled(self, now: int) -> list[str]:
        """Sagas to wake before their time: as many as may send now, undos first, and who has waited longest."""
        chosen: list[str] = []
        for service, circuit in self._circuits.items():
            room, kept = circuit.room(now)
            directions = DIRECTIONS
            if circuit.stage == "open" and room and self._last_probe.get(service) == "undo":
                directions = DIRECTIONS[::-1]  # an undo that is never answered must not be asked for ever alone
            for direction in directions:
                group = self._parked.get((service, direction), {})
                for saga_id in list(islice(group, max(0, room - kept if direction == "undo" else room))):
                    until = group.pop(saga_id)
                    if circuit.stage == "open":  # a probe: it stays parked, and is asked last next time
                        group[saga_id] = until
                        self._last_probe[service] = direction
                    chosen.append(saga_id)
                    room -= 1
        return chosen

    def parked_now(self, now: int) -> dict[str, int]:
        """How many sagas this worker has parked, by service, and whose time has not come."""
        counts = dict.fromkeys(self._circuits, 0)
        for (service, direction), group in self._parked.items():
            left = {saga_id: until for saga_id, until in group.items() if until > now}
            self._parked[service, direction] = left
            counts[service] += len(left)
        return counts

    def views(self, now: int) -> tuple[CircuitView, ...]:
        """Every service that this worker has had to do with, by name."""
        parked = self.parked_now(now)
        return tuple(self._circuits[service].view(now, parked[service]) for service in sorted(self._circuits))

    def turns(self) -> Iterator[Turn]:
        """What has happened since this was asked last."""
        told, self._turns[:] = list(self._turns), []
        return iter(told)
