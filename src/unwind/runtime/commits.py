"""One commit for the units of many sagas; what cannot be written is found, and keeps none of the others back."""

from collections.abc import Iterable, Sequence

from unwind.errors import RejectedError, UnwindError
from unwind.ports import Store, Unit
from unwind.runtime.clock import StoreTime
from unwind.runtime.unit import Decided, make_unit

Lost = dict[str, UnwindError | None]
"""Sagas whose units were not written: None for a conflict, else why the data is refused."""


async def commit(store: Store, time: StoreTime, decided: Iterable[Decided], now: int, push: int) -> Lost:
    """Write what was decided. Raises UnavailableError when the outcome is unknown."""
    units: list[Unit] = []
    lost: Lost = {}
    for made in decided:
        try:
            units.append(make_unit(made, now, push))
        except (TypeError, ValueError) as error:
            lost[made.after.saga_id] = RejectedError(f"saga {made.after.saga_id} cannot be stored as JSON: {error}")
    if units:
        await _write(store, time, units, lost)
    return lost


async def _write(store: Store, time: StoreTime, units: Sequence[Unit], lost: Lost) -> None:
    """When the store refuses the data, halve until the culprits stand alone."""
    try:
        committed = await store.commit(units)
    except RejectedError as error:
        if len(units) == 1:
            lost[units[0].head.stream] = error
            return
        middle = len(units) // 2
        await _write(store, time, units[:middle], lost)
        await _write(store, time, units[middle:], lost)
        return
    time.observe(committed.now)
    if len(committed.won) != len(units):
        lost.update({unit.head.stream: None for unit in units if unit.head.stream not in committed.won})
