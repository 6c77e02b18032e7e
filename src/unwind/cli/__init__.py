"""Commands: what an application needs to be started from a terminal."""

from unwind.cli.serve import Served, serve
from unwind.cli.terminal import complain, version_of
from unwind.settings import Settings, read_settings

__all__ = ["Served", "Settings", "complain", "read_settings", "serve", "version_of"]
