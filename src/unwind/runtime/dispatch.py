"""What new states ask for goes out: commands to the bus, actions to the pool. What is lost here is sent again later."""

from collections.abc import Iterable

from unwind.core.effects import RunAction, SendCommand
from unwind.core.pending import probes
from unwind.ports import COMMANDS, Bus, Clock, Message
from unwind.runtime.actions import ActionPool
from unwind.runtime.outages import Outages
from unwind.runtime.unit import Decided, command_message, new_effects


class Dispatcher:
    """One worker's way out."""

    def __init__(self, bus: Bus, pool: ActionPool, outages: Outages, clock: Clock, worker: str) -> None:
        """`worker` is whose actions run here; `outages` says which commands are held back."""
        self._bus = bus
        self._pool = pool
        self._outages = outages
        self._clock = clock
        self._worker = worker

    async def dispatch(self, settled: Iterable[Decided], now: int) -> None:
        """Send what is asked for; `now` is the store's time. Raises UnavailableError."""
        started, outages = self._clock.monotonic(), self._outages
        outages.tell(now)
        commands: dict[str, list[Message]] = {}
        waiting = []
        all_answer = outages.all_answer
        for made in settled:
            if made.probe:
                for probe in probes(made.after):
                    if isinstance(probe, SendCommand):
                        commands.setdefault(probe.command.service, []).append(command_message(made.after, probe))
            if not made.events and not made.redrive:
                continue
            for effect in new_effects(made):
                if isinstance(effect, RunAction):
                    if effect.runner == self._worker:
                        self._pool.submit(made.saga, effect, started)
                elif all_answer:
                    commands.setdefault(effect.command.service, []).append(command_message(made.after, effect))
                else:
                    waiting.append((made, effect))
        # Where not everything may go, undos go first.
        waiting.sort(key=lambda asked: asked[1].direction, reverse=True)
        for made, effect in waiting:
            if outages.sends(effect, made, now):
                commands.setdefault(effect.command.service, []).append(command_message(made.after, effect))
        for service, messages in commands.items():
            await self._bus.publish(COMMANDS + service, messages)
