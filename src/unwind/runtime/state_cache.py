"""States that a worker keeps, bounded by their number and, since some are large, by their bytes."""

from unwind.core.state import NEW, State

LARGE = 4_096
"""Bytes of a context from which on a state is weighed: most are smaller, and cost nothing but their number."""


class StateCache:
    """The newest states of sagas. What it forgets is loaded again."""

    def __init__(self, most: int, bytes_of_large: int) -> None:
        """At most `most` states, and among them large ones of at most `bytes_of_large` bytes together."""
        self.states: dict[str, State] = {}
        """By saga, oldest first. To be read; written by `keep` and `forget` only."""
        self._most = most
        self._bytes = bytes_of_large
        self._large: dict[str, int] = {}
        self._held = 0

    def keep(self, state: State) -> None:
        """The state of its saga from now on."""
        self.states[state.saga_id] = state
        if self._large or len(state.context) >= LARGE:
            self._weigh(state)

    def expect_new(self, saga_id: str) -> None:
        """Nobody else can know this id: there is nothing to load."""
        self.states[saga_id] = NEW

    def forget(self, saga_id: str) -> None:
        """Nothing is known of this saga."""
        self.states.pop(saga_id, None)
        if self._large:
            self._held -= self._large.pop(saga_id, 0)

    def trim(self) -> None:
        """Forget the oldest of what is too much."""
        while len(self.states) > self._most:
            self.forget(next(iter(self.states)))
        while self._held > self._bytes:
            self.forget(next(iter(self._large)))

    @property
    def held(self) -> int:
        """Bytes of the large ones."""
        return self._held

    def _weigh(self, state: State) -> None:
        self._held -= self._large.pop(state.saga_id, 0)
        if len(state.context) < LARGE:
            return
        sent = [run.command for run in (*state.runs, *state.undos)]
        size = len(state.context) + sum(len(command.payload) for command in sent if command is not None)
        self._large[state.saga_id] = size
        self._held += size
