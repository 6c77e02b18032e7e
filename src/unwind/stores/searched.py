"""How a database looks for sagas: by which of several attributes, and along which stretch of an index by a text."""

from collections.abc import Sequence

Pair = tuple[str, str]
_LAST = "\U0010ffff"
_SURROGATES = range(0xD800, 0xE000)
"""Halves of characters, which no text that can be stored has."""


def rarest_first(attributes: Sequence[Pair]) -> tuple[Pair, list[Pair]]:
    """The attribute to look up, and the others: a long value, such as an id, is had by fewer sagas than a short one."""
    first, *others = sorted(attributes, key=lambda pair: len(pair[1]), reverse=True)
    return first, others


def stretch(text: str) -> tuple[str, str]:
    """What begins with `text`, which is not empty: from here (inclusive) to there (exclusive), by code points."""
    kept = text.rstrip(_LAST)
    if not kept:
        return text, _LAST * (len(text) + 1)
    following = ord(kept[-1]) + 1
    return text, kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
