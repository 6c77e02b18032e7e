"""WCAG AA, computed from the stylesheet: each colour of text on each ground that it may stand on, light and dark."""

import re
from collections.abc import Iterator, Mapping

import pytest

from unwind.dashboard.pages import ASSETS

SHEET = re.sub(r"/\*.*?\*/", "", ASSETS["style.css"].body.decode(), flags=re.DOTALL)
DARK = "@media (prefers-color-scheme: dark)"
TEXT, SHAPE = 4.5, 3.0
"""What AA asks of text of any size, and of what is drawn to be understood."""
GROUNDS = ("ground", "sheet")
"""What text stands on unless its rule says otherwise."""
DECORATION = {"line"}
"""Lines that only set apart what stands apart anyway."""
VAR = r"var\(--([\w-]+)\)"

Colours = Mapping[str, str]


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", block))


def block_after(text: str) -> str:
    """What stands between the first brace after `text` and its partner."""
    begin = SHEET.index("{", SHEET.index(text)) + 1
    depth, end = 1, begin
    while depth:
        depth += {"{": 1, "}": -1}.get(SHEET[end], 0)
        end += 1
    return SHEET[begin : end - 1]


LIGHT = colours(block_after(":root"))
SCHEMES = {"light": LIGHT, "dark": LIGHT | colours(block_after(DARK))}


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def rules() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Selector and declarations, within media queries too."""
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", SHEET):
        pairs = (each.partition(":") for each in body.split(";") if ":" in each)
        yield selector.strip(), {name.strip(): value.strip() for name, _, value in pairs}


def named(value: str) -> str:
    """The colour that a declaration names; empty: none."""
    found = re.search(VAR, value)
    return found[1] if found else ""


def test_the_measure_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_each_colour_is_named_once_and_none_is_written_elsewhere() -> None:
    assert LIGHT
    outside = SHEET.replace(block_after(":root"), "").replace(block_after(DARK), "")
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", outside) == []
    assert set(re.findall(VAR, SHEET)) <= set(LIGHT)
    changed = colours(block_after(DARK))
    assert set(changed) <= set(LIGHT)
    assert {name for name in LIGHT if not name.startswith("bar-")} <= set(changed)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_can_be_read_on_every_ground(scheme: str) -> None:
    known, checked = SCHEMES[scheme], 0
    for selector, given in rules():
        colour, ground = named(given.get("color", "")), named(given.get("background", ""))
        for fore in [colour] if colour else ["text", "quiet", "link"] if ground in GROUNDS else []:
            for back in [ground] if ground else GROUNDS:
                assert contrast(known[fore], known[back]) >= TEXT, (scheme, selector, fore, back)
                checked += 1
        # Whatever has a ground of its own names the colour of its text, or is one of the two.
        assert not ground or colour or ground in GROUNDS, selector
    assert checked > 30


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_drawn_can_be_seen(scheme: str) -> None:
    known, checked = SCHEMES[scheme], 0
    for selector, given in rules():
        drawn = {named(given.get(name, "")) for name in ("fill", "stroke", "accent-color", "outline", "border")}
        for colour in drawn - {""} - DECORATION - {"ground", "sheet"}:
            if colour.endswith("-ground"):
                assert named(given["stroke"]), selector  # its outline is what is seen
                continue
            assert contrast(known[colour], known["ground"]) >= SHAPE, (scheme, selector, colour)
            checked += 1
    assert checked > 15


def test_where_the_focus_is_can_be_seen() -> None:
    given = dict(rules())[":focus-visible"]
    assert int(re.match(r"(\d+)px solid", given["outline"])[1]) >= 2  # type: ignore[index]
    hidden = [selector for selector, each in rules() if each.get("outline") == "none"]
    assert hidden == ["main:focus"]  # a landmark that the skip link leads to: no control
