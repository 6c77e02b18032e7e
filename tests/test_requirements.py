"""The pinned requirement files can be installed by any installer, and still when their packages have newer releases."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[1] / "requirements"


def pinned(name: str) -> dict[str, Requirement]:
    lines = (REQUIREMENTS / name).read_text().splitlines()
    found = [Requirement(line.rstrip("\\ ")) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return {canonicalize_name(each.name): each for each in found}


def asked_with_extras(pins: dict[str, Requirement]) -> Iterator[tuple[str, Requirement]]:
    """What the installed packages among `pins` ask for with an extra, and who asks."""
    for name, pin in pins.items():
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # pinned for another platform
        for line in lines:
            asked = Requirement(line)
            wanted = asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in ("", *pin.extras))
            if asked.extras and wanted:
                yield name, asked


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_a_dependency_asked_for_with_an_extra_is_pinned_with_it(name: str) -> None:
    # pip 23 takes `coverage==7` for no pin of `coverage[toml]`: it finds the newest, and refuses it for want of `==`.
    pins = pinned(name)
    lacking = [
        f"{who} asks for {asked}, pinned is {pins[canonicalize_name(asked.name)]}"
        for who, asked in asked_with_extras(pins)
        if not asked.extras <= pins[canonicalize_name(asked.name)].extras
    ]
    assert not lacking


def test_some_dependency_is_asked_for_with_an_extra() -> None:
    assert any(asked_with_extras(pinned("dev.txt")))
