"""Commands: what an application needs to be started from a terminal."""

from unwind.cli.answering import answering
from unwind.cli.api import DEFAULT_URL, call, credentials, wait_of
from unwind.cli.diagram import Drawn, Format, draw
from unwind.cli.doctor import examine_and_tell
from unwind.cli.keys import keys
from unwind.cli.migrate import migrate
from unwind.cli.paths import AsJson, Url
from unwind.cli.serve import Served, serve
from unwind.cli.terminal import Program, complain, version_of
from unwind.settings import Database, Settings, read_database, read_settings

__all__ = [
    "DEFAULT_URL",
    "AsJson",
    "Database",
    "Drawn",
    "Format",
    "Program",
    "Served",
    "Settings",
    "Url",
    "answering",
    "call",
    "complain",
    "credentials",
    "draw",
    "examine_and_tell",
    "keys",
    "migrate",
    "read_database",
    "read_settings",
    "serve",
    "version_of",
    "wait_of",
]
