"""Which of several attributes a database looks up first; the others are compared row by row."""

from collections.abc import Sequence

Pair = tuple[str, str]


def rarest_first(attributes: Sequence[Pair]) -> tuple[Pair, list[Pair]]:
    """The attribute to look up, and the others: a long value, such as an id, is had by fewer sagas than a short one."""
    first, *others = sorted(attributes, key=lambda pair: len(pair[1]), reverse=True)
    return first, others
