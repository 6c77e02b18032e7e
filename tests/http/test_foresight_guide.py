"""docs/foresight.md shows real answers: what the API answers in these very situations."""

import json
import re
from pathlib import Path
from typing import Any

from tests.core.trips import approval, booking, pivotal, trip
from tests.http.test_explain import Told, pause, saying, silent
from tests.runtime.rig import reply

from unwind.ports import Message

GUIDE = (Path(__file__).parents[2] / "docs" / "foresight.md").read_text()


def unlucky(command: Message) -> Message:
    """There is no car, and the hotel does not take its room back."""
    reason = {"car/do": "no cars left", "hotel/undo": "the guest has checked in"}.get(
        f"{command.step}/{command.direction}", ""
    )
    return reply(command, "refused" if reason else "ok", reason=reason)


def answers() -> list[Any]:
    """What the API answers, in the order in which the guide shows it."""
    down = Told(trip(), silent("hotel/do"), elapse=22)
    return [
        down.ask(),
        down.ask("plan"),
        Told(trip(), silent("hotel/do"), elapse=130).ask(),
        Told(trip(), unlucky, elapse=130).ask(),
        Told(trip(), silent("hotel/do"), pause, 240, elapse=1).ask(),
        Told(trip(booking("flight"), approval("boss"), booking("car")), reply, elapse=22).ask(),
        Told(pivotal(), saying("refused", "no cars left", "car/do"), elapse=200).ask(),
    ]


def test_what_the_guide_shows_is_what_the_api_answers() -> None:
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)]
    assert len(shown) == 7
    for part, whole in zip(shown, answers(), strict=True):
        assert {"headline", "ahead"} & part.keys()
        assert part == {key: whole[key] for key in part}
