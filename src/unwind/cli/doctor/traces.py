"""Examines where traces go: whether somebody listens there."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from unwind.cli.doctor.findings import Finding, ok, warning
from unwind.settings import OTLP_ENDPOINTS, Settings

PATIENCE = 2.0
"""Seconds to connect."""
_PORTS = {"http": 80, "https": 443}


async def examine_traces(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """Nothing where no traces are told."""
    if not settings.traced:
        return []
    variable = next(name for name in OTLP_ENDPOINTS if environment.get(name, "").strip())
    url = urlsplit(environment[variable].strip())
    place = f"{url.hostname}:{url.port or _PORTS[url.scheme]}"
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(url.hostname, url.port or _PORTS[url.scheme])
    except (OSError, TimeoutError) as error:
        advice = f"start the collector, or correct {variable}: work goes on without it, and traces are lost"
        return [warning("traces", f"nobody listens at {place}: {str(error) or 'no answer in time'}", advice)]
    writer.close()
    return [ok("traces", f"a collector at {place}")]
