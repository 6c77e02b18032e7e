"""The simulator: keeps every law over many seeds, repeats itself exactly, and sees each planted bug."""

import pytest
from tests.mutants import MUTANTS, hunt

from unwind.testing.simulator.__main__ import run_chunk, silence
from unwind.testing.simulator.world import World

SCHEDULES = 400
"""The quick share; `make simulate` runs 20 000."""

FOUND_AT = {
    "compensation_gives_up": 950,
    "failure_counts_for_any_attempt": 110,
    "refusal_after_the_pivot_compensates": 70,
    "row_is_compared_with_the_state_before": 1_410,
    "step_in_backoff_is_not_undone": 70,
    "wake_up_is_moved_blindly": 80,
    "wake_up_is_moved_past_newer_events": 80,
}
"""Where the rarer planted bugs were last found; only saves time, `make mutants` searches from the beginning."""


def test_no_schedule_breaks_a_law() -> None:
    broken, counts = run_chunk(0, SCHEDULES)
    assert broken == []
    assert counts["completed"] > 0
    assert counts["compensated"] > 0


def test_a_seed_is_the_same_schedule_every_time() -> None:
    silence()

    def story(seed: int) -> object:
        world = World(seed).run()
        return [(entry.stream, entry.version, entry.events) for entry in world.store._log], world.counts

    for seed in range(20):
        assert story(seed) == story(seed)


@pytest.mark.integration  # long
@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulator_sees_a_planted_bug(name: str) -> None:
    assert hunt(name, first=FOUND_AT.get(name, 0)) is not None
