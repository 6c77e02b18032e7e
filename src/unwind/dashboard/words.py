"""How values are written on pages: instants, durations, sizes, JSON; each as short as a person reads it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from unwind.runtime.situation import spoken

SECOND = 1_000_000
MILLISECOND = 1_000
SHOWN = 1_200
"""Characters of a document that are shown where it stands among others."""
_KIB = 1_024
_TENTHS = 60
"""Durations below so many seconds are told to a tenth."""
_SMALL = 0.1
"""Shares below it are told to two digits."""


def micros_of(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 instant."""
    instant = datetime.fromisoformat(text)
    return int(instant.timestamp()) * SECOND + instant.microsecond


def duration(micros: int) -> str:
    """`12 ms`, `3.4 s`, `5 minutes`."""
    if micros < SECOND:
        return f"{max(micros, 0) / MILLISECOND:.0f} ms"
    return f"{micros / SECOND:.1f} s" if micros < _TENTHS * SECOND else spoken(micros)


def short_instant(text: str | None) -> str:
    """`2026-11-27 14:03:22`, in UTC; what is not there is a dash."""
    return "\N{EN DASH}" if text is None else text[:19].replace("T", " ")


def precise_instant(text: str | None) -> str:
    """`2026-11-27 14:03:22.073`, in UTC: of what takes milliseconds; what is not there is a dash."""
    return "\N{EN DASH}" if text is None else text[:23].replace("T", " ")


def when(micros: int) -> str:
    """`2026-11-27 14:03`, in UTC, of microseconds since the epoch."""
    return f"{datetime.fromtimestamp(micros // SECOND, UTC):%Y-%m-%d %H:%M}"


def took(micros: int | None) -> str:
    """A duration; a dash where there is none."""
    return "\N{EN DASH}" if micros is None else duration(micros)


def percent(share: float | None) -> str:
    """`12 %`, `0.4 %`; a dash where there is nothing to have a share of."""
    if share is None:
        return "\N{EN DASH}"
    return f"{share * 100:.2g} %" if 0 < share < _SMALL else f"{share * 100:.0f} %"


def size(length: int) -> str:
    """`900 bytes`, `200 KiB`."""
    return f"{length} bytes" if length < _KIB else f"{length / _KIB:.0f} KiB"


def pretty(raw: Raw | bytes) -> str:
    """JSON to be read; other bytes as they are."""
    try:
        text = msgspec.json.format(bytes(raw), indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return bytes(raw).decode(errors="replace")
    return readable(text)


def readable(text: str) -> str:
    """Without control characters that would turn a line round or hide it; line ends, tabs and what joins emoji stay."""
    return "".join(each if each.isprintable() or each in "\n\t\u200d" else "\N{REPLACEMENT CHARACTER}" for each in text)


def cut(text: str, most: int = SHOWN) -> str:
    """No longer than that, marked where it goes on."""
    return text if len(text) <= most else f"{text[:most]}…"


WORDS: Mapping[str, Callable[..., Any]] = {
    "duration": duration,
    "instant": short_instant,
    "precise": precise_instant,
    "when": when,
    "took": took,
    "share": percent,
    "size": size,
    "bytes": bytes,
    "pretty": pretty,
    "readable": readable,
    "cut": cut,
}
"""For templates."""
