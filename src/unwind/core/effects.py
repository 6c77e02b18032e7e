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


Effect = SendCommand | RunAction
