"""Settings of the interpreter for a process that is a worker and nothing else. Call it once, when everything is built."""

import gc
import sys

SWITCH_INTERVAL = 0.0005
"""Seconds. A thread of a database lets go of the interpreter's lock at each statement and takes it again afterwards; while
the loop computes, each re-take waits this long. The default, 5 ms, makes ten milliseconds of a commit that takes three."""


def tune_process() -> None:
    """Keep what is built out of the collector's sight, collect rarely, hand the interpreter's lock over promptly."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.setswitchinterval(SWITCH_INTERVAL)
