"""The bus on NATS JetStream."""

from unwind.buses.nats.bus import ACK_WAIT, NatsBus

__all__ = ["ACK_WAIT", "NatsBus"]
