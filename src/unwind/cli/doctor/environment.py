"""Examines the settings: each one that makes no sense, and what is left when the unknown ones are taken away."""

from collections.abc import Iterator, Mapping

from unwind.cli.doctor.findings import Finding, failed, of_error, ok
from unwind.errors import SettingsError
from unwind.settings import Settings, read_settings, unknown_settings


def examine_settings(environment: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, as far as they can be read; and what is wrong with them."""
    unknown = dict(unknown_settings(environment))
    found = [
        failed(
            "settings", f"{name}: there is no such setting, and no process starts with it", f"say {near}, or unset it"
        )
        for name, near in unknown.items()
    ]
    try:
        settings = read_settings({name: value for name, value in environment.items() if name not in unknown})
    except SettingsError as error:
        return None, [*found, of_error("settings", error)]
    return settings, found or [ok("settings", _told(settings))]


def _told(settings: Settings) -> str:
    return ", ".join(_parts(settings))


def _parts(settings: Settings) -> Iterator[str]:
    database = settings.database
    yield f"database {getattr(database, 'place', database)}"
    yield f"bus {settings.bus}" + (f" at {settings.nats.place}" if settings.nats and settings.bus == "nats" else "")
    if settings.redis is not None:
        yield f"redis {settings.redis.address}"
    yield f"listens on {settings.host}"
