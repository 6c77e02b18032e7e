"""The `load` command: places orders at a rate, and follows each of them to its end."""

from order_saga.load.command import load

__all__ = ["load"]
