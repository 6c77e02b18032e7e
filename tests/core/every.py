"""Every saga of at most three steps, in every arrangement and of every shape of step, walked through without chance.

`python -m tests.core.every` walks through all of them, on every core, and says how many states there were.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from itertools import combinations_with_replacement, product
from typing import Any

from tests.core.trips import Trip, approval, booking, diary, errand, nap, parcels, stay, trip
from tests.core.walk import KEYS, Place, ends, walk

from unwind.core.decide import decide
from unwind.core.groups import Parallel
from unwind.core.messages import Moment, Tick, Unwind
from unwind.core.pending import due, resend_due
from unwind.core.saga import Saga
from unwind.core.steps import SKIP, Retry

ONCE: Any = {"retry": Retry.none(), "undo_retry": Retry.none()}
SHAPES: dict[str, Callable[[str], Any]] = {
    "command": lambda name: booking(name, **ONCE),
    "action": lambda name: errand(name, **ONCE),
    "record": diary,
    "signal": approval,
    "sleep": nap,
    "saga": lambda name: stay(name, **ONCE),
    "left out": lambda name: booking(name, verdict=SKIP),
}
ARRANGED: dict[str, Callable[[list[Any]], list[Any]]] = {
    "a": lambda s: s,
    "each a": lambda s: [parcels(*s, of=KEYS)],
    "a b": lambda s: s,
    "a | b": lambda s: [Parallel(*s)],
    "each (a b)": lambda s: [parcels(*s, of=KEYS, at_once=1)],
    "(each a) b": lambda s: [parcels(s[0], of=KEYS), s[1]],
    "a b c": lambda s: s,
    "a | b | c": lambda s: [Parallel(*s)],
    "(a | b) c": lambda s: [Parallel(*s[:2]), s[2]],
    "a (b | c)": lambda s: [s[0], Parallel(*s[1:])],
    "a | (b c)": lambda s: [Parallel(s[0], s[1:])],
}
ALIKE = {"a | b", "a | b | c"}
"""Where the order of the steps makes no difference."""


def every() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every arrangement with every choice of shapes."""
    for arranged in ARRANGED:
        count = sum(letter in arranged.replace("each", "") for letter in "abc")
        alike = combinations_with_replacement(SHAPES, count) if arranged in ALIKE else product(SHAPES, repeat=count)
        yield from ((arranged, shapes) for shapes in alike)


def made(arranged: str, shapes: tuple[str, ...]) -> Saga[Trip]:
    """The saga itself."""
    steps = [SHAPES[shape](name) for shape, name in zip(shapes, "abc", strict=False)]
    return trip(*ARRANGED[arranged](steps), deadline=timedelta(hours=1))


def judge(which: tuple[str, tuple[str, ...]]) -> tuple[int, int]:
    """Walk through one; how many states and ways there were. Raises AssertionError at a trap."""
    saga = made(*which)
    places, ways = walk(saga, attempts=(1,))
    for place in places.values():
        if place.state.status != "new":
            assert ends(saga, place), (which, place)
        _wakes(saga, place, which)
    for way in ways:
        ended = way.before.status in {"completed", "compensated"}
        assert not (ended and way.events) or isinstance(way.message, Unwind), (which, way)
    return len(places), len(ways)


def _wakes(saga: Saga[Trip], place: Place, which: object) -> None:
    at = due(place.state, place.now)
    assert (at is None) == (place.state.paused or not place.state.live), (which, place)
    if at is not None:
        woken = max(at, place.now)
        after = decide(saga, place.state, Tick(0), Moment(woken, 0.0, "w2"))
        assert after.events or resend_due(place.state, woken), (which, place)


def main() -> int:
    """Walk through all of them."""
    began, states, ways = time.monotonic(), 0, 0
    todo = list(every())
    with ProcessPoolExecutor() as pool:
        for found in pool.map(judge, todo, chunksize=4):
            states, ways = states + found[0], ways + found[1]
    print(f"{len(todo)} sagas, {states} states, {ways} ways, no trap ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
