"""Which trace something belongs to, as W3C Trace Context writes it; and the ids of spans, derived from what they tell.

Nothing of a trace has to be kept while a saga lives: each process that asks finds the same ids.
"""

import re
from hashlib import blake2b

from msgspec import Struct

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


class TraceContext(Struct, frozen=True):
    """A span and its trace, in hexadecimal digits."""

    trace_id: str
    """32 digits."""
    span_id: str
    """16 digits."""
    flags: str
    """Two digits, the last bit of which says whether the trace is recorded."""

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded."""
        return bool(int(self.flags, 16) & _SAMPLED)

    def recorded(self, sampled: bool) -> "TraceContext":
        """The same, to be recorded or not. Other flags stay."""
        flags = int(self.flags, 16)
        return TraceContext(self.trace_id, self.span_id, f"{flags | _SAMPLED if sampled else flags & ~_SAMPLED:02x}")

    def of(self, span_id: str) -> "TraceContext":
        """Another span of the same trace."""
        return TraceContext(self.trace_id, span_id, self.flags)

    def __str__(self) -> str:
        """The value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def read_context(traceparent: str) -> TraceContext | None:
    """What a `traceparent` says; None: it says nothing that is valid."""
    found = _FORM.fullmatch(traceparent)
    return None if found is None else TraceContext(*found.groups())


def span_id_of(name: str) -> str:
    """The id of the span of an effect, by the effect's id, or of a saga, by the saga's."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def root_of(saga_id: str) -> TraceContext:
    """For a saga that is begun outside of any trace: one of its own. Only such a context names the saga's own span."""
    trace_id = blake2b(saga_id.encode(), digest_size=16, person=b"trace").hexdigest()
    return TraceContext(trace_id, span_id_of(saga_id), "01")
