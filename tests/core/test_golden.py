"""Logs as they were once written: every later version of this program reads them as they were meant."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct
from tests.core.stories import GOLDEN, STORIES, VERSION, summary
from tests.core.test_codec import NAMES

from unwind.core.codec import SAGA_EVENTS, fold


class Kept(Struct):
    expected: dict[str, Any]
    events: Raw


def kept(path: Path) -> Kept:
    return msgspec.json.decode(path.read_bytes(), type=Kept)


FILES = sorted(GOLDEN.glob("v*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_stored_log_means_what_it_meant(path: Path) -> None:
    story = kept(path)
    assert summary(fold([(1, bytes(story.events))])) == story.expected


def test_every_story_is_kept() -> None:
    assert {path.stem for path in FILES if path.parent.name == VERSION} >= set(STORIES)


def test_between_them_the_stories_tell_of_every_kind_of_event() -> None:
    events = [event for path in FILES for event in SAGA_EVENTS.decode(bytes(kept(path).events))]
    assert {type(event).__struct_config__.tag for event in events} == NAMES


@pytest.mark.parametrize("name", STORIES)
def test_every_story_can_still_be_told(name: str) -> None:
    story = kept(GOLDEN / VERSION / f"{name}.json")
    assert summary(STORIES[name]().state) == story.expected
