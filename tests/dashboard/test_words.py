"""How values are written on pages; and that what is written can be read, in light and in dark."""

import re

import pytest
from msgspec import Raw

from unwind.dashboard.pages import ASSETS
from unwind.dashboard.words import cut, duration, micros_of, precise_instant, pretty, readable, short_instant, size
from unwind.runtime.instants import instant

SHEET = ASSETS["style.css"].body.decode()
AA = 4.5


@pytest.mark.parametrize(
    ("micros", "text"),
    [(-5, "0 ms"), (0, "0 ms"), (12_400, "12 ms"), (3_440_000, "3.4 s"), (300_000_000, "5 minutes")],
)
def test_durations(micros: int, text: str) -> None:
    assert duration(micros) == text


@pytest.mark.parametrize("micros", [0, 1, 1_700_000_000_123_456, 1_764_287_945_999_999])
def test_an_instant_is_read_as_it_was_written(micros: int) -> None:
    assert micros_of(instant(micros)) == micros


def test_values_are_short() -> None:
    assert precise_instant("2026-11-28T01:02:03.456789Z") == "2026-11-28 01:02:03.456"
    assert precise_instant(None) == "\N{EN DASH}"
    assert short_instant(None) == "\N{EN DASH}"
    assert short_instant("2026-11-28T01:02:03.000004Z") == "2026-11-28 01:02:03"
    assert (size(900), size(200 * 1024)) == ("900 bytes", "200 KiB")
    assert cut("abcdef", 3) == "abc…"


def test_json_is_laid_out_and_other_bytes_are_shown() -> None:
    assert pretty(Raw(b'{"a":[1,2.50]}')) == '{\n  "a": [\n    1,\n    2.50\n  ]\n}'
    assert pretty(b"\xff{") == "\N{REPLACEMENT CHARACTER}{"


def test_what_would_turn_a_line_round_is_replaced() -> None:
    assert readable("a\u202eb\x00\tc\n") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}\tc\n"
    assert readable("Пётр 🛒") == "Пётр 🛒"


# ------------------------------------------------------------------------------------------------------------- contrast


def colours(dark: bool) -> dict[str, str]:
    light, _, rest = SHEET.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rest)) if dark else found


def light_of(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((light_of(one), light_of(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_on_its_ground(dark: bool) -> None:
    named = colours(dark)
    pairs = [(text, ground) for text in ("text", "quiet", "link") for ground in ("ground", "sheet")]
    pairs += [(name.removesuffix("-ground"), name) for name in named if name.endswith("-ground")]
    pairs += [("blocked", "sheet")]
    assert len(pairs) >= 14
    poor = {pair: contrast(named[pair[0]], named[pair[1]]) for pair in pairs}
    assert all(ratio >= AA for ratio in poor.values()), poor
