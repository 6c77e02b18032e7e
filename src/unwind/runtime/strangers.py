"""Live sagas that this worker leaves alone, because it does not know their definition: looked for, and told of."""

from collections.abc import Mapping

import structlog

from unwind.core.saga import Saga
from unwind.errors import DefinitionError, UnavailableError
from unwind.ports import COUNTED, Clock, Store
from unwind.runtime.engine import Engine

log = structlog.get_logger("unwind.strangers")


class Strangers:
    """Other workers may know them: during a deploy that is as it should be. Where none does, they stand still."""

    def __init__(self, engine: Engine, store: Store, clock: Clock) -> None:
        """How often it looks, and what is known, are the engine's; its telemetry hears what is found."""
        self._store = store
        self._clock = clock
        self._every = engine.limits.strangers
        self._telemetry = engine.telemetry
        self._known = [key_of(saga) for saga in engine.sagas.values()]
        self._due = clock.monotonic()

    async def look(self) -> None:
        """Look, if it is time to. What has changed since the last look is logged, once."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + self._every
        try:
            found = (await self._store.register(self._known, note=False)).others
        except UnavailableError as error:
            log.warning("strangers_not_counted", error=str(error))
            return
        if found == self._telemetry.strangers:
            return
        self._telemetry.strangers = found
        if found:
            log.warning("definitions_unknown", live_sagas=dict(found), advice=ADVICE)
        else:
            log.info("definitions_all_known")

    async def check(self) -> None:
        """Raises DefinitionError when the last look found any."""
        if self._telemetry.strangers:
            raise DefinitionError(f"{told(self._telemetry.strangers)}, which this process does not know; {ADVICE}")


ADVICE = "they stand still unless another worker knows them: register that definition too until they have ended"


def key_of(saga: Saga[object]) -> tuple[str, int, str]:
    """A definition as a store knows it."""
    return saga.name, saga.version, saga.hash


def told(found: Mapping[str, int]) -> str:
    """How many live sagas are bound to which definitions."""
    return ", ".join(
        f"{count}{' or more' if count >= COUNTED else ''} live saga{'s' if count > 1 else ''} of {revision}"
        for revision, count in sorted(found.items())
    )
