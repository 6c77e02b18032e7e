"""Settings from the environment, read once by whoever starts a process; each mistake is told by the variable's name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar, get_args
from urllib.parse import urlsplit

from msgspec import Struct

from unwind.errors import SettingsError

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
BusName = Literal["memory", "nats", "redis"]
L = TypeVar("L", bound=str)

_OWN = "UNWIND_"
_OUR_NAMES = (
    "UNWIND_HOST",
    "UNWIND_DATA_DIR",
    "UNWIND_BUS",
    "UNWIND_LOG_LEVEL",
    "UNWIND_LOG_FORMAT",
    "UNWIND_MAX_WAITING",
    "UNWIND_RATE_LIMIT",
    "UNWIND_RATE_BURST",
    "UNWIND_CIRCUIT_AFTER",
    "UNWIND_CIRCUIT_SILENCE",
    "UNWIND_CIRCUIT_PROBE",
    "UNWIND_CIRCUIT_RAMP",
    "UNWIND_TRACE_URL",
    "UNWIND_URL",  # these two of the commands that call the API; a process that serves shares their environment
    "UNWIND_API_KEY",
)
_FORMAT = "UNWIND_LOG_FORMAT"
_SQLITE = "sqlite:///"
_POSTGRES = ("postgres", "postgresql")
_NATS = ("nats", "tls")
_REDIS = ("redis://", "rediss://")
_REDIS_FORM = "use host:port, host:port/database or rediss://user@host:port"
OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SAMPLERS = (
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "always_on",
    "always_off",
    "traceidratio",
)
_HTTP = ("http", "https")
_MAX_PORT = 65_535
_MAX_RATE = 100_000
_VARIABLES = MappingProxyType({"host": "UNWIND_HOST", "database": "UNWIND_DATA_DIR", "data_dir": "UNWIND_DATA_DIR"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Secret:
    """Text that may be used and must not be shown."""

    __slots__ = ("reveal",)

    def __init__(self, text: str) -> None:
        """`reveal` is the text itself."""
        self.reveal = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal == self.reveal

    def __hash__(self) -> int:
        return hash(self.reveal)

    def __repr__(self) -> str:
        return "Secret(…)"


class Server(Struct, frozen=True):
    """A service that is reached over the network."""

    url: Secret
    """As it was given: it may hold a password."""
    place: str
    """The same without user, password and options: fit to be shown."""


Database = Path | Server
"""An SQLite file, or a database on a PostgreSQL server."""


def name_of(database: Database) -> str:
    """Its name, without secrets."""
    return str(database) if isinstance(database, Path) else database.place


class Redis(Struct, frozen=True):
    """Where Redis answers, and what it asks for."""

    address: str
    """`host:port`, or one of the longer forms; without a password."""
    password: Secret | None = None


class Settings(Struct, frozen=True):
    """Everything that may differ from one installation to the next."""

    host: str = "127.0.0.1"
    port: int | None = None
    """0: any free one. None: not said; each kind of process then has its own way."""
    data_dir: Path = Path("data")
    """Where files go that no other setting places."""
    database: Database = Path("data/unwind.db")
    """What holds the truth."""
    bus: BusName = "memory"
    nats: Server | None = None
    redis: Redis | None = None
    log_level: LogLevel = "info"
    log_format: LogFormat | None = None
    """None: for people where somebody looks on, else JSON."""
    max_waiting: int = 10_000
    """Sagas with work waiting; above it new ones are answered 503."""
    rate_limit: int = 0
    """Calls per second for each client of the API, reads and writes apart; 0: no limit."""
    rate_burst: int = 0
    """Calls that may come at once."""
    circuit_after: int = 3
    """Commands in a row that a service leaves unanswered before its circuit opens; 0: it never does."""
    circuit_silence: int = 10
    """Seconds for which nobody of the service has answered by then."""
    circuit_probe: int = 5
    """Seconds between two commands that are let go while the circuit is open."""
    circuit_ramp: int = 10
    """Commands let go in the first second after the service has answered."""
    traced: bool = False
    """Whether traces go to an OpenTelemetry collector; where to, and all else about it, its own variables say."""
    trace_url: str = ""
    """Where people look at a trace, with `{trace_id}` in it; empty: nowhere."""
    variables: Mapping[str, str] = _VARIABLES
    """Which variable decided a field, to be named when what it says cannot be used."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from variables; an empty one counts as not set.

    Raises SettingsError naming the first that makes no sense.
    """
    given = _given(environment)
    _refuse_unknown(given)
    data_dir = Path(given.get("UNWIND_DATA_DIR", "data"))
    database = read_database(given, "DATABASE_URL") or data_dir / "unwind.db"
    if "UNWIND_DATA_DIR" not in given and isinstance(database, Path):
        data_dir = database.parent
    nats = _nats(given["NATS_URL"]) if "NATS_URL" in given else None
    redis = _redis(given) if "REDIS_ADDR" in given else None
    rate_limit = _whole(given, "UNWIND_RATE_LIMIT", 0, 0, _MAX_RATE)
    return Settings(
        host=given.get("UNWIND_HOST", given.get("SERVER_HOST", "127.0.0.1")),
        port=_whole(given, "SERVER_PORT", 0, 0, _MAX_PORT) if "SERVER_PORT" in given else None,
        data_dir=data_dir,
        database=database,
        bus=_bus(given, nats, redis),
        nats=nats,
        redis=redis,
        log_level=_one_of(given, "UNWIND_LOG_LEVEL", get_args(LogLevel), "info"),
        log_format=_one_of(given, _FORMAT, get_args(LogFormat), "json") if _FORMAT in given else None,
        max_waiting=_whole(given, "UNWIND_MAX_WAITING", 10_000, 1, 10_000_000),
        rate_limit=rate_limit,
        rate_burst=_whole(given, "UNWIND_RATE_BURST", 2 * rate_limit, min(1, rate_limit), 2 * _MAX_RATE),
        circuit_after=_whole(given, "UNWIND_CIRCUIT_AFTER", 3, 0, 10_000),
        circuit_silence=_whole(given, "UNWIND_CIRCUIT_SILENCE", 10, 1, 3_600),
        circuit_probe=_whole(given, "UNWIND_CIRCUIT_PROBE", 5, 1, 3_600),
        circuit_ramp=_whole(given, "UNWIND_CIRCUIT_RAMP", 10, 1, 100_000),
        traced=_traced(given),
        trace_url=_trace_url(given),
        variables=_deciding(given),
    )


def read_database(environment: Mapping[str, str], variable: str) -> Database | None:
    """The database that a variable names; None where it is not set. Raises SettingsError naming the variable."""
    url = _given(environment).get(variable)
    if url is None:
        return None
    scheme, found, _ = url.partition("://")
    if found and scheme in _POSTGRES:
        return _postgres(variable, url)
    path = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or not path:
        shown = f"{scheme:.20}://…" if found else "what is given"
        raise SettingsError(
            f"{variable}: {shown} is not understood; use sqlite:///relative/file.db, sqlite:////absolute/file.db "
            "or postgres://user:password@host:5432/database"
        )
    if "\0" in path or "?" in path or "#" in path:
        raise SettingsError(f"{variable}: options after the file name are not understood; give the file alone")
    return Path(path)


@contextmanager
def blamed_on(variable: str) -> Iterator[None]:
    """Name the variable in a SettingsError that does not."""
    try:
        yield
    except SettingsError as error:
        text = str(error)
        raise SettingsError(text if variable in text else f"{variable}: {text}") from error


def check_shared(settings: Settings, *, store: bool = True) -> None:
    """Raises SettingsError for what processes cannot share."""
    if settings.bus == "memory":
        raise SettingsError(
            "UNWIND_BUS: the bus inside a process does not reach others; set NATS_URL=nats://host:4222, or "
            "UNWIND_BUS=redis and REDIS_ADDR=host:port, or run everything in one process with `serve`"
        )
    if store and isinstance(settings.database, Path):
        raise SettingsError(
            "DATABASE_URL: processes that share sagas need PostgreSQL, this is an SQLite file; use "
            "postgres://user:password@host:5432/database, or run everything in one process with `serve`"
        )


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in environment.items() if value.strip()}


def unknown_settings(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables of our prefix that are none of ours, each with the one it is most like."""
    for name in _given(environment):
        if name.startswith(_OWN) and name not in _OUR_NAMES:
            yield name, get_close_matches(name, _OUR_NAMES, 1, 0)[0]


def _refuse_unknown(given: Mapping[str, str]) -> None:
    for name, near in unknown_settings(given):
        raise SettingsError(f"{name}: there is no such setting; did you mean {near}?")


def _deciding(given: Mapping[str, str]) -> Mapping[str, str]:
    """A host may come from either of two variables; a directory from the file, a file from the directory."""
    host = "SERVER_HOST" if "SERVER_HOST" in given and "UNWIND_HOST" not in given else "UNWIND_HOST"
    by_database = "DATABASE_URL" in given and "UNWIND_DATA_DIR" not in given
    return {
        "host": host,
        "database": "DATABASE_URL" if "DATABASE_URL" in given else "UNWIND_DATA_DIR",
        "data_dir": "DATABASE_URL" if by_database and given["DATABASE_URL"].startswith(_SQLITE) else "UNWIND_DATA_DIR",
    }


# ---------------------------------------------------------------------------------------------------- what each may say


def _postgres(variable: str, url: str) -> Server:
    place = _place(url)
    if place is None:
        raise SettingsError(
            f"{variable}: host, port or database are not understood; use postgres://user:password@host:5432/database, "
            "with signs such as / # ? @ in the password written as %2F %23 %3F %40"
        )
    if not urlsplit(url).path.strip("/"):
        raise SettingsError(f"{variable}: name the database too: postgres://…@{place.strip('/')}/database")
    return Server(Secret(url), place)


def _nats(urls: str) -> Server:
    """One server or several of a cluster, separated by commas."""
    places = []
    for url in urls.split(","):
        place = _place(url.strip())
        if place is None or url.strip().partition("://")[0] not in _NATS:
            raise SettingsError("NATS_URL: it is not understood; use nats://host:4222, several separated by commas")
        places.append(place)
    return Server(Secret(urls), ",".join(places))


def _place(url: str) -> str | None:
    """Host, port and path of a URL; None: it has a part that cannot be right. What cannot be right is not shown."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    _, user, netloc = parts.netloc.rpartition("@")
    # A password with such signs in it ends the address too early: what then looks like a path may be its other half.
    torn = parts.fragment or "@" in parts.path or ("@" in parts.query and not user)
    if torn or port == 0 or " " in url or not url.isprintable():
        return None
    return f"{netloc}{parts.path}" if netloc or parts.query else None


def _redis(given: Mapping[str, str]) -> Redis:
    address = given["REDIS_ADDR"]
    url = address if "://" in address else f"redis://{address}"
    if _place(url) is None or not url.startswith(_REDIS):
        raise SettingsError(f"REDIS_ADDR: it is not understood; {_REDIS_FORM}")
    if urlsplit(url).password:
        raise SettingsError(f"REDIS_ADDR: it has a password in it; put that into REDIS_PASSWORD, and {_REDIS_FORM}")
    return Redis(address, Secret(given["REDIS_PASSWORD"]) if "REDIS_PASSWORD" in given else None)


def _bus(given: Mapping[str, str], nats: Server | None, redis: Redis | None) -> BusName:
    bus: BusName = _one_of(given, "UNWIND_BUS", get_args(BusName), "memory" if nats is None else "nats")
    if bus == "nats" and nats is None:
        raise SettingsError("UNWIND_BUS: nats needs NATS_URL=nats://host:4222")
    if bus == "redis" and redis is None:
        raise SettingsError("UNWIND_BUS: redis needs REDIS_ADDR=host:port")
    return bus


def _traced(given: Mapping[str, str]) -> bool:
    """An endpoint switches it on. What the SDK would only warn of, and then do otherwise, is a mistake here."""
    endpoint = next((name for name in OTLP_ENDPOINTS if name in given), None)
    off = given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER", "") == "none"
    if endpoint is None or off:
        return False
    if given[endpoint].partition("://")[0] not in _HTTP or not _place(given[endpoint]):
        raise SettingsError(f"{endpoint}: it is not understood; use http://host:4318")
    protocol = next((name for name in _PROTOCOLS if name in given), None)
    if protocol is not None and given[protocol] != "http/protobuf":
        raise SettingsError(f"{protocol}: {given[protocol]!r:.40} is not spoken here; use http/protobuf")
    _one_of(given, "OTEL_TRACES_SAMPLER", _SAMPLERS, _SAMPLERS[0])
    try:
        ratio = float(given.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    except ValueError:
        ratio = -1
    if not 0 <= ratio <= 1:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG: {given['OTEL_TRACES_SAMPLER_ARG']!r:.40} is not from 0 to 1")
    return True


def _trace_url(given: Mapping[str, str]) -> str:
    url = given.get("UNWIND_TRACE_URL", "")
    if url and (url.partition("://")[0] not in _HTTP or "{trace_id}" not in url or not url.isprintable()):
        raise SettingsError("UNWIND_TRACE_URL: use http://host/path with {trace_id} where the id of a trace belongs")
    return url


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
