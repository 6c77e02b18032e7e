"""Examines what is between processes: the bus, and the Redis that API replicas share."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from unwind.cli.doctor.findings import Finding, failed, of_error, ok, warning
from unwind.errors import SettingsError, UnavailableError, UnwindError
from unwind.settings import Redis, Server, Settings

if TYPE_CHECKING:
    from unwind.buses.nats.streams import Looked

_FULL = 0.8
"""Of what a stream may hold."""


async def examine_bus(settings: Settings) -> list[Finding]:
    """What carries commands and replies."""
    if settings.bus == "nats" and settings.nats is not None:
        return await _of_nats(settings.nats)
    if settings.bus == "redis" and settings.redis is not None:
        return await _of_redis(settings.redis, "bus")
    return [
        ok(
            "bus",
            "in the process: everything runs in one",
            "nothing need be done; several processes need NATS or Redis",
        )
    ]


async def examine_cache(settings: Settings) -> list[Finding]:
    """What serves statuses and counts calls for all API replicas."""
    if settings.redis is None:
        return []
    return await _of_redis(settings.redis, "cache")


# ----------------------------------------------------------------------------------------------------------------- NATS


async def _of_nats(server: Server) -> list[Finding]:
    from unwind.buses.nats.link import Link
    from unwind.buses.nats.streams import Streams
    from unwind.runtime.clock import SystemClock

    try:
        link = await Link.open(server.url.reveal)
    except UnwindError as error:
        return [of_error("bus", error)]
    try:
        streams = Streams(link, SystemClock())
        await streams.check()
        looked = await streams.look()
    except UnwindError as error:
        return [of_error("bus", error)]
    finally:
        await link.close()
    return [ok("bus", f"NATS with JetStream at {server.place}"), *_of_streams(looked)]


def _of_streams(looked: "Mapping[str, Looked | None]") -> Iterator[Finding]:
    for name, stream in looked.items():
        if stream is None:
            continue
        told = f"{name} has another {', '.join(stream.unfit)} than is needed"
        if "retention" in stream.unfit:
            yield failed("streams", told, f"delete or rename {name}: no process starts with it")
        elif stream.unfit:
            yield warning("streams", told, "the next start changes it; or delete it")
        elif stream.most > 0 and stream.stored >= _FULL * stream.most:
            full = f"{name} holds {stream.stored} of at most {stream.most} bytes"
            yield warning("streams", full, "start more workers or participants, or raise its max_bytes")
        else:
            yield ok("streams", name)
    missing = [name for name, stream in looked.items() if stream is None]
    if missing:
        yield ok("streams", f"not there yet: {', '.join(missing)}", "nothing need be done: the next start makes them")


# ---------------------------------------------------------------------------------------------------------------- Redis


async def _of_redis(redis: Redis, check: str) -> list[Finding]:
    from unwind.redis_client import RedisClient

    client = RedisClient(redis.address, "" if redis.password is None else redis.password.reveal)
    try:
        await client.check()
        memory = bytes(await client.call("INFO", "memory"))
    except SettingsError as error:
        return [of_error(check, error)]
    except UnavailableError as error:
        if check == "bus":
            return [of_error(check, error)]
        advice = "start it: meanwhile statuses are read from the database, and each replica limits rates by itself"
        return [warning(check, str(error), advice)]
    finally:
        await client.close()
    if check == "bus" and _evicts(memory):
        text = f"Redis at {redis.address} throws away what it was given when its memory is full"
        return [warning(check, text, "set maxmemory-policy noeviction: what is lost is sent again, but late")]
    return [ok(check, f"Redis at {redis.address}")]


def _evicts(about: bytes) -> bool:
    told = dict(line.split(":", 1) for line in about.decode(errors="replace").splitlines() if ":" in line)
    return told.get("maxmemory", "0") != "0" and told.get("maxmemory_policy", "noeviction") != "noeviction"
