"""Runs schedules of the simulator in several processes and reports what broke, with the seeds to replay it."""

import argparse
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import structlog

from unwind.testing.simulator.world import World

CHUNK = 50


def run_chunk(first: int, count: int) -> tuple[list[tuple[int, tuple[str, ...]]], Counter[str]]:
    """Run some schedules; the first broken law of each bad one, and what happened in all."""
    silence()
    broken: list[tuple[int, tuple[str, ...]]] = []
    counts: Counter[str] = Counter()
    for seed in range(first, first + count):
        world = World(seed).run()
        counts.update(world.counts)
        counts.update({f"bus_{what}": number for what, number in world.bus.injected.items()})
        if world.violations:
            broken.append((seed, world.violations[0]))
    return broken, counts


def silence() -> None:
    """The runtime's warnings are what the schedules are made of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


RARE_PATHS = (
    "kills",
    "freezes",
    "conflicts",
    "commits_failed",
    "commits_unknown",
    "absorbed",
    "tombstones",
    "ActionTakenOver",
    "AttemptParked",
    "AttemptReleased",
    "RetryOrdered",
    "ResolvedByHand",
    "UndoSkipped",
    "SagaBlocked",
    "StepSettled",
    "pause",
    "cancel",
    "completed",
    "compensated",
    "bus_lost",
    "bus_duplicated",
    "bus_delayed",
    "bus_reordered",
    "bus_refused",
)
"""What a run must have met to mean anything."""


def simulate(first: int, count: int, workers: int) -> int:
    """Run `count` schedules and print the summary; the exit code."""
    began = time.monotonic()
    broken: list[tuple[int, tuple[str, ...]]] = []
    counts: Counter[str] = Counter()
    with ProcessPoolExecutor(workers) as pool:
        chunks = [(start, min(CHUNK, first + count - start)) for start in range(first, first + count, CHUNK)]
        for found, happened in pool.map(run_chunk, *zip(*chunks, strict=True)):
            broken += found
            counts += happened
    took = time.monotonic() - began
    print(
        f"{count} schedules in {took:.0f} s ({count / took:.0f}/s), "
        f"seeds {first} to {first + count - 1}: {len(broken)} broken"
    )
    print("met: " + ", ".join(f"{what} {counts[what]}" for what in sorted(counts)))
    for seed, violation in broken[:20]:
        print(f"seed {seed}: {' | '.join(violation)}\n  replay: python -m unwind.testing.simulator --trace {seed}")
    missing = [what for what in RARE_PATHS if not counts[what]]
    if missing and count >= CHUNK * 4:
        print(f"this run proves nothing: it never met {', '.join(missing)}")
        return 1
    return 1 if broken else 0


def trace(seed: int) -> int:
    """Print one schedule event by event; the exit code."""
    silence()
    world = World(seed, trace=True)
    for saga_id, saga in world.sagas.items():
        steps = ", ".join(f"{plan.name}:{plan.shape}:{plan.kind.value}" for plan in saga.plans)
        print(f"{saga_id}: {steps}; deadline {saga.deadline}")
    print(world.faults)
    world.run()
    print(f"broken: {world.violations}" if world.violations else "every law kept")
    return 1 if world.violations else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m unwind.testing.simulator", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000, help="schedules to run (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--trace", type=int, metavar="SEED", help="print one schedule instead")
    arguments = parser.parse_args()
    if arguments.trace is not None:
        return trace(arguments.trace)
    return simulate(arguments.first, arguments.count, arguments.workers)


if __name__ == "__main__":
    sys.exit(main())
