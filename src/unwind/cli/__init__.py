"""Commands: what an application needs to be started from a terminal."""

from unwind.cli.serve import Served, serve
from unwind.cli.terminal import complain, version_of

__all__ = ["Served", "complain", "serve", "version_of"]
