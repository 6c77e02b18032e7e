"""What new states ask for goes out: commands to the bus, actions to the pool, sagas' words to their relatives.

What is lost here is sent again later.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import structlog

from unwind.core.effects import Effect, RunAction, RunSaga, SendCommand, TellParent
from unwind.core.messages import Input, effect_id
from unwind.core.pending import probes
from unwind.errors import UnavailableError
from unwind.ports import COMMANDS, Bus, Clock, Message
from unwind.runtime.actions import ActionPool
from unwind.runtime.families import to_child, to_parent
from unwind.runtime.outages import Outages
from unwind.runtime.unit import Decided, command_message, new_effects

log = structlog.get_logger("unwind.dispatch")

REMEMBERED = 16_384
"""Effects of which it is known when they were sent."""


class Dispatcher:
    """One worker's way out."""

    def __init__(  # noqa: PLR0917 - a worker's parts, put together once
        self,
        bus: Bus,
        pool: ActionPool,
        outages: Outages,
        clock: Clock,
        worker: str,
        put: Callable[[str, Input], None],
        work: Counter[str],
    ) -> None:
        """`worker` is whose actions run here; `outages` knows what is held back; `put` reaches other sagas.

        `work` is the telemetry's.
        """
        self._work = work
        self._bus = bus
        self._pool = pool
        self._outages = outages
        self._clock = clock
        self._worker = worker
        self._put = put
        self._sent: dict[str, int] = {}
        """When an effect of a saga with branches was sent last, the latest last."""

    async def dispatch(self, settled: Iterable[Decided], now: int) -> None:
        """Send what is asked for; `now` is the store's time. What the bus does not take goes with the next wake-up."""
        started, outages = self._clock.monotonic(), self._outages
        outages.tell(now)
        commands: dict[str, list[Message]] = {}
        waiting = []
        all_answer = outages.all_answer
        for made in settled:
            if made.probed:
                for probe in probes(made.after, made.probed):
                    if isinstance(probe, SendCommand):
                        commands.setdefault(probe.command.service, []).append(command_message(made.after, probe))
            if not made.events and not made.redrive:
                continue
            for effect in new_effects(made) if made.saga.flat else self._due(made, started):
                if isinstance(effect, RunAction):
                    if effect.runner == self._worker:
                        self._pool.submit(made.saga, effect, started)
                elif not isinstance(effect, SendCommand):
                    self._to_relatives(effect, made)
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
            try:
                await self._bus.publish(COMMANDS + service, messages)
            except UnavailableError as error:  # perhaps there is no more room for this service, and for others there is
                self._work["follow_up_failed"] += 1
                log.warning("commands_delayed", service=service, commands=len(messages), error=str(error))

    def _due(self, made: Decided, now: int) -> Iterator[Effect]:
        """What branches ask for, without what a wake-up would repeat: each of them wakes the saga in its own time.

        Only a shortcut: what this worker has not sent lately goes. `now` is monotonic.
        """
        for effect in new_effects(made):
            if isinstance(effect, SendCommand | RunSaga):
                key = effect_id(effect.saga_id, effect.step, effect.direction)
                sent = self._sent.pop(key, None)
                woken = made.redrive and made.token is not None
                if woken and sent is not None and now - sent < effect.resend * 4 // 5:
                    self._sent[key] = sent
                    continue
                self._sent[key] = now
                if len(self._sent) > REMEMBERED:
                    del self._sent[next(iter(self._sent))]
            yield effect

    def _to_relatives(self, effect: RunSaga | TellParent, made: Decided) -> None:
        if isinstance(effect, RunSaga):
            self._put(*to_child(effect, made))
            return
        for message in to_parent(effect):
            self._put(effect.saga_id, message)
