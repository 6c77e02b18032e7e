"""What a step might be answered in a rehearsal: what it was answered in sagas that were read, else what is made up."""

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from unwind.core.events import Event, StepDone
from unwind.core.messages import NULL
from unwind.core.plans import StepPlan, key_of
from unwind.core.saga import Saga
from unwind.runtime.invented import InventionError, inventions


class Replies:
    """The answers to the steps of one definition."""

    def __init__(self, saga: Saga[Any]) -> None:
        """Nothing was heard yet: all is made up."""
        self._saga = saga
        self._heard: dict[str, Raw] = {}
        self._known: dict[str, tuple[Raw, ...]] = {}

    def learn(self, events: Iterable[Event]) -> None:
        """Keep what the steps of a saga were answered, where nothing is known yet."""
        for event in events:
            if isinstance(event, StepDone) and event.reply != NULL:
                self._heard.setdefault(key_of(event.step)[0], Raw(bytes(event.reply)))

    def to(self, plan: StepPlan) -> tuple[Raw, ...]:
        """What may be answered to a step, likelier first. Raises InventionError when nothing fits its reply type."""
        if not plan.maps_reply and plan.shape != "signal":
            return (NULL,)
        name, _ = key_of(plan.name)  # what one item's step was answered, another's may be
        if name not in self._known:
            self._known[name] = self._found(plan, name)
        return self._known[name]

    def _found(self, plan: StepPlan, name: str) -> tuple[Raw, ...]:
        heard = self._heard.get(name)
        try:
            invented = inventions(plan.reply_type)
        except InventionError:
            if heard is None:
                raise
            return (heard,)
        return invented if heard is None else (heard, *(each for each in invented if each != heard))
