"""Every error Unwind raises; the type says whose fault it is.

UnwindError ├── DefinitionError     the saga, command or participant is declared wrongly; raised while building it
(author) ├── SettingsError       a setting makes no sense; raised at start
(operator) ├── InputError          a call carries data that cannot be accepted
(caller) ├── NotFoundError       no such saga or stream
(caller) ├── StateError          the saga is in a state that forbids the call
(caller) ├── UnchangedError      of those: what the call asks for is under way already
(caller) ├── IdempotencyError    the key was used before with another request
(caller) ├── OverloadedError     not admitted now; nothing was accepted, repeat later
(load) ├── UnavailableError    store or bus cannot answer now; the outcome may be unknown; safe to repeat
(infrastructure) ├── RejectedError       the store refuses this data for good (class 22 / 23); repeating cannot help
(data) └── CodecError          stored or received bytes are not understood
(version)
"""


class UnwindError(Exception):
    """Base of all errors of this library."""


class DefinitionError(UnwindError):
    """A saga, step, command or participant is declared wrongly; names the place and the mend."""


class SettingsError(UnwindError):
    """A setting makes no sense; names the variable and what it takes."""


class InputError(UnwindError):
    """A call carries data that cannot be accepted; `field` is the JSON path at fault, or empty."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(UnwindError):
    """No such saga or stream."""


class StateError(UnwindError):
    """The saga's state forbids the call; `status` is the state it is in."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class UnchangedError(StateError):
    """What the call asks for is under way already; it changed nothing."""


class IdempotencyError(UnwindError):
    """An idempotency key was used before with a different request."""


class OverloadedError(UnwindError):
    """Not admitted now; nothing was accepted. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(UnwindError):
    """Store or bus cannot answer now. The outcome may be unknown; every operation here is safe to repeat."""


class RejectedError(UnwindError):
    """The store refuses this data for good; repeating cannot help."""


class CodecError(UnwindError):
    """Stored or received bytes are not understood: unknown name or version, bad checksum, wrong shape."""
