"""Runs a coroutine to its end without an event loop: for transactions of databases that answer at once."""

from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


def run_inline(work: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never waits. Raises RuntimeError when it does."""
    try:
        work.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    work.close()
    raise RuntimeError("a handler awaited something inside its transaction; do that in `prepare`, before it")
