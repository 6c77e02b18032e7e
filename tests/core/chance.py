"""How properties are tried: the same examples every time, however slow the machine is."""

from hypothesis import HealthCheck, settings

TRIED = settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
