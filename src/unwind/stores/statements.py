"""Reads files of SQL: statements, each under a line `-- name: …`."""

import re
from collections.abc import Mapping
from pathlib import Path

_INCLUDE = re.compile(r"^ *-- include: (\w+)$", re.MULTILINE)


def read_statements(path: Path) -> Mapping[str, str]:
    """The statements of a file by name. A line `-- include: …` stands for what that name has."""
    _, *parts = path.read_text().split("-- name: ")
    pairs = (part.partition("\n") for part in parts)
    named = {name.strip(): text.strip() for name, _, text in pairs}
    return {name: _INCLUDE.sub(lambda line: named[line[1]], text) for name, text in named.items()}
