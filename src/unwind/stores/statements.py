"""Reads files of SQL: statements, each under a line `-- name: …`."""

from collections.abc import Mapping
from pathlib import Path


def read_statements(path: Path) -> Mapping[str, str]:
    """The statements of a file by name."""
    _, *parts = path.read_text().split("-- name: ")
    named = (part.partition("\n") for part in parts)
    return {name.strip(): text.strip() for name, _, text in named}
