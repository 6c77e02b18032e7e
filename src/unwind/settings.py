"""Settings from the environment, read once by whoever starts a process; each mistake is told by the variable's name."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeVar, get_args

from msgspec import Struct

from unwind.errors import SettingsError

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
L = TypeVar("L", bound=str)

_OWN = "UNWIND_"
_OUR_NAMES = ("UNWIND_HOST", "UNWIND_DATA_DIR", "UNWIND_LOG_LEVEL", "UNWIND_LOG_FORMAT", "UNWIND_MAX_WAITING")
_SQLITE = "sqlite:///"
_LATER = ("postgres", "postgresql")
_MAX_PORT = 65_535


class Settings(Struct, frozen=True):
    """Everything that may differ from one installation to the next."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: any free one."""
    data_dir: Path = Path("data")
    """Where files go that no other setting places."""
    database: Path = Path("data/unwind.db")
    """The SQLite file that holds the truth."""
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"
    max_waiting: int = 10_000
    """Sagas with work waiting; above it new ones are answered 503."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from variables; an empty one counts as not set.

    Raises SettingsError naming the first that makes no sense.
    """
    given = {name: value.strip() for name, value in environment.items() if value.strip()}
    _refuse_unknown(given)
    _refuse_not_yet(given)
    data_dir = Path(given.get("UNWIND_DATA_DIR", "data"))
    database = _database(given["DATABASE_URL"]) if "DATABASE_URL" in given else data_dir / "unwind.db"
    return Settings(
        host=given.get("UNWIND_HOST", given.get("SERVER_HOST", "127.0.0.1")),
        port=_whole(given, "SERVER_PORT", 8080, 0, _MAX_PORT),
        data_dir=data_dir if "UNWIND_DATA_DIR" in given else database.parent,
        database=database,
        log_level=_one_of(given, "UNWIND_LOG_LEVEL", get_args(LogLevel), "info"),
        log_format=_one_of(given, "UNWIND_LOG_FORMAT", get_args(LogFormat), "console"),
        max_waiting=_whole(given, "UNWIND_MAX_WAITING", 10_000, 1, 10_000_000),
    )


def _refuse_unknown(given: Mapping[str, str]) -> None:
    for name in given:
        if name.startswith(_OWN) and name not in _OUR_NAMES:
            near = get_close_matches(name, _OUR_NAMES, 1, 0)
            raise SettingsError(f"{name}: there is no such setting; did you mean {near[0]}?")


def _refuse_not_yet(given: Mapping[str, str]) -> None:
    for name, what in (("NATS_URL", "the in-process bus"), ("REDIS_ADDR", "the engine without a cache")):
        if name in given:
            raise SettingsError(f"{name}: this build has only {what}; unset it, or wait for the next release")


def _database(url: str) -> Path:
    scheme, found, _ = url.partition("://")
    if scheme in _LATER and found:
        raise SettingsError(
            "DATABASE_URL: this build has only SQLite; use sqlite:///path/to/file.db, or wait for the next release"
        )
    path = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or not path:
        shown = f"{scheme}://…" if found else "what is given"
        raise SettingsError(
            f"DATABASE_URL: {shown} is not understood; use sqlite:///relative/file.db or sqlite:////absolute/file.db"
        )
    if "\0" in path or "?" in path or "#" in path:
        raise SettingsError("DATABASE_URL: options after the file name are not understood; give the file alone")
    return Path(path)


def _whole(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise SettingsError(f"{name}: {text!r:.40} is not a whole number from {least} to {most}")
    return int(text)


def _one_of(given: Mapping[str, str], name: str, allowed: tuple[L, ...], default: L) -> L:
    text = given.get(name, default).lower()
    for value in allowed:
        if value == text:
            return value
    raise SettingsError(f"{name}: {text!r:.40} is none of {', '.join(allowed)}")
