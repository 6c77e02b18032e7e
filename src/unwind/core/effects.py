"""What a state asks for outside: commands to send, actions to run. A closed union of frozen values."""

from msgspec import Raw, Struct

from unwind.core.messages import CommandCall, Direction
from unwind.core.state import Listed


class SendCommand(Struct, frozen=True, gc=False):
    """A command to send, again and again until it is answered."""

    saga_id: str
    step: str
    direction: Direction
    attempt: int
    command: CommandCall
    retriable: bool = False
    """Past the pivot there is no way back: a refusal is not final, the participant will be asked again."""
    resend: int = 0
    """Microseconds after which it is sent again while unanswered."""


class RunAction(Struct, frozen=True, gc=False):
    """A local action that `runner`, and nobody else, runs."""

    saga_id: str
    step: str
    direction: Direction
    attempt: int
    runner: str
    context: Raw
    items: tuple[Listed, ...] = ()
    """Where the item is found that the step is about, if it is about one."""


class RunSaga(Struct, frozen=True, gc=False):
    """Another saga to begin, or to unwind, as the doing or the undoing of a step."""

    saga_id: str
    """Of the saga whose step it is."""
    step: str
    direction: Direction
    context: Raw
    attempt: int = 1
    resend: int = 0


class TellParent(Struct, frozen=True, gc=False):
    """The end of a saga that is the doing of another one's step, to be told to that one."""

    saga_id: str
    """Of the saga whose step it is."""
    step: str
    completed: bool
    context: Raw
    reason: str
    """Why it was undone."""


Effect = SendCommand | RunAction | RunSaga | TellParent
