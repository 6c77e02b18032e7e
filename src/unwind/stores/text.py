"""Which text a database keeps as it is, and finds again."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> bool:
    """Whether text can be stored: not with a NUL character, nor with half of a pair of surrogates."""
    return "\0" not in text and (text.isascii() or _SURROGATE.search(text) is None)
