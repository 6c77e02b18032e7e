"""What a participant does with a command, given what it has stored about it, and what it stores afterwards.

The rules. A *do* and its *undo* have one stored answer each, written in the transaction of the effect:

 1. A repeated command gets the stored answer; the handler does not run again.
 2. An undo before its do does nothing and answers ok; it leaves a tombstone, by which the late do is refused.
 3. An undo of a do stored as ok runs. An undo of a refused do does nothing and answers ok.
 4. ok: the effect is kept and the answer stored.
 5. A do refused: what the handler wrote is taken back, the answer is stored, so that a late duplicate does not do it.
    Past the saga's pivot nothing is stored: there is no way back, so the do is asked again until it says yes.
 6. Failed, do or undo: all is taken back and nothing is stored; the next attempt runs anew.
 7. An undo refused: all is taken back and nothing is stored; an operator's retry asks anew.

Each rule is one function, called by its name in this module.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from unwind.core.messages import Direction
from unwind.core.steps import Refused


class Answer(Struct, frozen=True, gc=False):
    """What a participant says to a command."""

    outcome: Literal["ok", "refused", "failed"]
    name: str = ""
    """The tag of the reply's type; empty when the handler returned nothing."""
    payload: Raw = Raw(b"null")
    reason: str = ""


class Settled(Struct, frozen=True, gc=False):
    """The handler does not run: this is the answer, and these rows are stored with it."""

    answer: Answer
    rows: Mapping[Direction, Answer] = {}


_LATE = "it was undone before it arrived"
OK = Answer("ok")
TOMBSTONE = Answer("refused", "refused", Raw(msgspec.json.encode(Refused(_LATE))), _LATE)


def settle(direction: Direction, do: Answer | None, undo: Answer | None) -> Settled | None:
    """How a command is answered from what is stored for its do and its undo; None: the handler must run."""
    own = do if direction == "do" else undo
    if own is not None and replays():
        return Settled(own)
    if direction == "do":
        return None
    if do is None:
        return Settled(OK, {"do": TOMBSTONE, "undo": OK} if leaves_tombstone() else {"undo": OK})
    return None if undo_runs_after(do) else Settled(OK, {"undo": OK})


def rows_of(direction: Direction, answer: Answer, *, retriable: bool = False) -> Mapping[Direction, Answer]:
    """What is stored once the handler has answered; `retriable` as in rule 5."""
    match answer.outcome:
        case "ok":
            stores = True
        case "refused":
            stores = stores_refusal(retriable=retriable) if direction == "do" else stores_undo_refusal()
        case _:
            stores = stores_failed()
    return {direction: answer} if stores else {}


def replays() -> bool:
    """Rule 1: whatever is stored answers every repetition."""
    return True


def leaves_tombstone() -> bool:
    """Rule 2: an undo without its do bars the way to the do."""
    return True


def undo_runs_after(do: Answer) -> bool:
    """Rule 3: there is something to undo only when the do was done."""
    return do.outcome == "ok"


def keeps_effects(answer: Answer) -> bool:
    """Rule 4: what the handler wrote counts only when it says ok."""
    return answer.outcome == "ok"


def stores_refusal(*, retriable: bool) -> bool:
    """Rule 5: a do that was refused stays refused, unless its saga has no way back and will ask again."""
    return not retriable


def stores_failed() -> bool:
    """Rule 6: a failure is no answer."""
    return False


def stores_undo_refusal() -> bool:
    """Rule 7: an undo may be asked again until it is done."""
    return False
