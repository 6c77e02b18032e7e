"""The loop's side of the circuits: what it sees of the participants, which sagas it parks, which commands it sends."""

from collections import Counter
from collections.abc import Iterator, Sequence

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from unwind.core.effects import SendCommand
from unwind.core.events import AttemptParked, AttemptReleased, Event
from unwind.core.messages import CommandCall, Direction, Moment, Reply, Tick, effect_id
from unwind.core.state import State, StepRun
from unwind.runtime.circuits import Circuit, Circuits, CircuitView, Stage
from unwind.runtime.limits import SECOND, Limits
from unwind.runtime.unit import Decided

_FIGURES: dict[Stage, int] = {"closed": 0, "ramp": 1, "open": 2}
RECALL = 0
"""Token of a wake-up that nobody has claimed: a parked saga is woken before its time."""
log = structlog.get_logger("unwind.outages")


class Outages:
    """What one worker makes of participants that do not answer."""

    def __init__(self, limits: Limits, work: Counter[str]) -> None:
        """`work` is the telemetry's."""
        self._circuits = Circuits(limits)
        self._work = work
        self._answers: dict[str, int] = {}
        """Not told to the circuits yet."""

    # --------------------------------------------------------------------------------------------------------- is seen

    def heard(self, state: State, reply: Reply) -> None:
        """An answer came, whatever it says: its participant is alive."""
        run = state.undo_of(reply.step) if reply.direction == "undo" else state.runs[-1] if state.runs else None
        if run is None or run.step != reply.step:  # late, as few are; or of a branch
            run = state.run(reply.step)
        if run is not None and run.command is not None and not run.child:
            service = run.command.service
            self._answers[service] = self._answers.get(service, 0) + 1

    def tell(self, now: int) -> None:
        """The answers of a batch go to the circuits, before anything is asked of them."""
        if self._answers:
            for service, count in self._answers.items():
                self._circuits.of(service).answered(count, now)
            self._answers.clear()
            self._say()

    def settled(self, state: State, events: Sequence[Event]) -> None:
        """What a wake-up made of a saga, and is durable."""
        for event in events:
            if isinstance(event, AttemptParked):
                self._work["attempts_parked"] += 1
                run = state.undo_of(event.step) if event.direction == "undo" else state.run(event.step)
                if run is not None and run.command is not None:
                    self._circuits.parked(state.saga_id, run.command.service, event.direction, event.until)

    # ------------------------------------------------------------------------------------------------------- is decided

    def recalled(self, now: int) -> list[str]:
        """Parked sagas to wake before their time, since their participant is back; or one, to see whether it is."""
        self.tell(now)
        recalled = self._circuits.recalled(now)
        self._say()
        return recalled

    def wake(self, state: State, tick: Tick, moment: Moment) -> tuple[Tick, set[str]]:
        """A wake-up with what is known of the saga's participants; and what to probe. It is counted as it is asked.

        By effect, not by participant: of two that one saga asks of the same one, one may be the probe.
        """
        self.tell(moment.at)
        held: dict[str, int] = {}
        back: set[str] = set()
        probed: set[str] = set()
        now = moment.at
        for direction, run, command in _asked(state):
            circuit, effect = self._circuits.of(command.service), effect_id(state.saga_id, run.step, direction)
            if not run.parked:
                if not _passes(circuit, run, now):
                    held[effect] = circuit.park_until(now, moment.jitter)
            elif tick.token == RECALL or now >= run.parked:
                goes = circuit.admits(direction, now)
                if goes and circuit.stage != "open":
                    back.add(effect)
                    continue
                held[effect] = circuit.park_until(now, moment.jitter)
                if goes:
                    probed.add(effect)
        self._say()
        return Tick(tick.token, tick.leases, held, frozenset(back)), probed

    @property
    def all_answer(self) -> bool:
        """Whether no circuit is known to be anything but closed."""
        return not self._circuits.troubled

    def sends(self, effect: SendCommand, made: Decided, now: int) -> bool:
        """Whether a command goes out now; else the saga's wake-up sends it later.

        What a person has ordered goes, and what was let go when its saga was woken.
        """
        circuit = self._circuits.of(effect.command.service)
        ordered = made.redrive and made.token is None
        if circuit.stage == "closed" or ordered or any(isinstance(event, AttemptReleased) for event in made.events):
            return True
        goes = circuit.admits(effect.direction, now)
        self._say()
        if not goes:
            self._work["commands_held_back"] += 1
        return goes

    # --------------------------------------------------------------------------------------------------------- is told

    def views(self, now: int) -> tuple[CircuitView, ...]:
        """The circuits as they are."""
        views = self._circuits.views(now)
        self._say()
        return views

    def metrics(self, now: int) -> Iterator[Metric]:
        """The same for Prometheus."""
        stage = GaugeMetricFamily("unwind_circuit_state", "0 closed, 1 ramp, 2 open", labels=["service"])
        opened = CounterMetricFamily("unwind_circuit_opened", "Times a circuit has opened", labels=["service"])
        parked = GaugeMetricFamily(
            "unwind_parked_sagas", "Sagas that this worker has parked, and whose time has not come", labels=["service"]
        )
        for view in self.views(now):
            stage.add_metric([view.service], _FIGURES[view.stage])
            opened.add_metric([view.service], view.opened)
            parked.add_metric([view.service], view.parked)
        return iter((stage, opened, parked))

    def _say(self) -> None:
        for turn in self._circuits.turns():
            say = log.warning if turn.after == "open" else log.info
            say(f"circuit_{turn.after}", service=turn.service, before=turn.before, silent_s=turn.silent_for // SECOND)


def _passes(circuit: Circuit, run: StepRun, now: int) -> bool:
    """Whether a wake-up may do with what was asked for as if its participant answered."""
    attempt = run.attempt
    expired = attempt.expires is not None and now >= attempt.expires
    if expired or now >= attempt.at + attempt.resend:
        circuit.unanswered(attempt.at, now, expired=expired)
    return not (expired and circuit.holds(attempt.at, run.silent, now))


def _asked(state: State) -> Iterator[tuple[Direction, StepRun, CommandCall]]:
    """The commands whose answers a saga waits for, parked or not."""
    if state.paused:
        return
    direction: Direction = "do" if state.status == "running" else "undo"
    for run in state.runs if direction == "do" else state.undos:
        if (
            run.command is not None
            and not run.child
            and run.status == "outstanding"
            and not state.blocked_on(run.step, direction)
        ):
            yield direction, run, run.command
