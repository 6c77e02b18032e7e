"""Settings of the interpreter for a process that is a worker and nothing else."""

import gc
import sys

SWITCH_INTERVAL = 0.0001
"""Seconds. A database's thread lets go of the interpreter's lock at each statement and takes it again afterwards; while
the loop computes, each re-take waits this long. By the default, 5 ms, a commit of 3 ms takes 25."""


def tune_process() -> None:
    """To be called once, when everything is built.

    Keeps what is built out of the collector's sight, collects rarely, hands the interpreter's lock over promptly.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.setswitchinterval(SWITCH_INTERVAL)
