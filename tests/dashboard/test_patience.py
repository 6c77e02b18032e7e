"""Answers that may take long: asked once, kept, and not waited for for ever."""

import asyncio

import pytest
from tests.runtime.rig import elapsed, virtual

from unwind.dashboard.patience import PATIENCE, SHARE, Patient
from unwind.errors import UnavailableError


class Oracle:
    """Answers how often it was asked, after so long."""

    def __init__(self, takes: float = 0) -> None:
        self.takes = takes
        self.asked = 0
        self.fault: Exception | None = None

    async def __call__(self) -> int:
        self.asked += 1
        await elapsed(self.takes)
        if self.fault is not None:
            raise self.fault
        return self.asked


@virtual
async def test_those_who_ask_together_ask_once_and_so_do_those_who_come_soon_after() -> None:
    patient, oracle = Patient[int](5), Oracle(1)
    assert await asyncio.gather(*(patient.get("a", oracle) for _ in range(20))) == [1] * 20
    assert await patient.get("a", oracle) == 1
    assert await patient.get("b", oracle) == 2
    await elapsed(10)
    assert await patient.get("a", oracle) == 3


@virtual
async def test_what_takes_long_is_not_waited_for_and_there_later_and_seldom_asked() -> None:
    patient, oracle = Patient[int](5), Oracle(2 * PATIENCE)
    assert await patient.get("a", oracle) is None
    assert await patient.get("a", oracle) in {None, 1}
    assert await patient.get("a", oracle) == 1
    await elapsed(2 * PATIENCE * (SHARE - 1))
    assert (await patient.get("a", oracle), oracle.asked) == (1, 1)
    await elapsed(2 * PATIENCE)
    assert (await patient.get("a", oracle), oracle.asked) == (1, 2)
    patient.stop()


@virtual
async def test_old_answers_do_not_hide_that_there_is_none_now() -> None:
    patient, oracle = Patient[int](5), Oracle()
    assert await patient.get("a", oracle) == 1
    oracle.fault = UnavailableError("down")
    await elapsed(5)
    assert await patient.get("a", oracle) is None


@virtual
async def test_a_fault_of_ours_is_raised() -> None:
    patient, oracle = Patient[int](5), Oracle()
    oracle.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await patient.get("a", oracle)
    oracle.fault = None
    assert await patient.get("a", oracle) == 2


@virtual
async def test_stopping_gives_up_what_is_being_asked() -> None:
    patient, oracle = Patient[int](5), Oracle(3_000)
    assert await patient.get("a", oracle) is None
    patient.stop()
    await asyncio.sleep(0)
    assert await patient.get("b", Oracle()) == 1
