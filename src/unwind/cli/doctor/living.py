"""Examines what lives in a store: whose it is, whether anybody carries it on, and what the store's clock says."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from unwind.access import KeyStore
from unwind.census import CountedStore, Living
from unwind.cli.doctor.findings import Finding, failed, ok, warning
from unwind.core.saga import Saga, revision_of, with_children
from unwind.runtime.limits import SECOND
from unwind.runtime.strangers import ADVICE, key_of, told
from unwind.settings import Settings, is_loopback

SKEW = 2 * SECOND
"""By which the clocks of two machines may differ before it is told."""
OVERDUE = 60 * SECOND
"""After which nobody can be there who carries sagas on: a sweeper is late by seconds at most."""


async def examine_living(
    store: CountedStore, definitions: Sequence[Saga[Any]] | None, wall: Callable[[], int]
) -> list[Finding]:
    """What has not ended. `definitions`: all that will be served, None: not said. `wall` is this machine's clock.

    Raises UnavailableError.
    """
    before = wall()
    now = (await store.load({})).now
    after = wall()
    known = [key_of(saga) for saga in with_children(definitions or ())]
    registered = await store.register(known, note=False)
    living = await store.living([*(revision_of(*each) for each in known), *registered.others])
    found = [_of_clock(now, before, after)]
    if registered.clashes:
        named = ", ".join(f"{name}@{version}" for name, version, _ in registered.clashes)
        text = f"{named} was changed and kept its version: no process starts with it"
        found.append(failed("definitions", text, "give the changed definition the next version"))
    if registered.others and definitions is not None:
        found.append(failed("definitions", f"{told(registered.others)}, which nobody here knows", ADVICE))
    elif registered.others:
        advice = "give the definitions that are served, as MODULE:ATTRIBUTE, to see whether they are all known"
        found.append(ok("definitions", told(registered.others), advice))
    elif not registered.clashes:
        found.append(ok("definitions", "every live saga is known" if known else "there are no live sagas"))
    return [*found, *_of_wakes(living), *_of_blocked(living)]


def _of_clock(now: int, before: int, after: int) -> Finding:
    """The store answered at some moment between the two."""
    skew = max(now - after, before - now, 0)
    if skew <= SKEW:
        return ok("clock", f"this machine and the database agree to {max(SKEW, after - before) / SECOND:g} s")
    way = "behind" if now > after else "ahead of"
    text = f"this machine's clock is {skew / SECOND:,.1f} s {way} the database's"
    return warning("clock", text, "let both follow NTP; sagas go by the database's, but logs and certificates do not")


def _of_wakes(living: Living) -> Iterator[Finding]:
    wakes = [each.wake_at for each in living.standings if each.wake_at is not None]
    if not wakes:
        return
    late = living.now - min(wakes)
    if late > OVERDUE:
        advice = "start a worker that knows them (order-saga worker, or serve), and look at its log"
        text = f"the earliest wake-up of a live saga is {late / SECOND:,.0f} s overdue: nobody carries it on"
        yield failed("wake-ups", text, advice)
    else:
        yield ok("wake-ups", f"the next is due in {-late / SECOND:,.0f} s" if late < 0 else "none is overdue")


def _of_blocked(living: Living) -> Iterator[Finding]:
    blocked = sum(each.count for each in living.standings if each.status == "blocked")
    if blocked:
        text = f"{blocked} saga{'s' if blocked > 1 else ''} need{'' if blocked > 1 else 's'} a person"
        yield warning("blocked", text, "unwind sagas list --status blocked, then unwind sagas explain ID")


async def examine_access(settings: Settings, keys: KeyStore) -> Finding:
    """Whether those who reach the API must have a key. Raises UnavailableError."""
    if is_loopback(settings.host):
        return ok("access", f"only this machine reaches {settings.host}")
    variable, kept = settings.variables["host"], await keys.keys()
    if not kept.keys:
        text = f"{variable}: {settings.host} is reached from other machines, and there is no API key: nothing starts"
        return failed("access", text, "unwind keys create --name NAME --scope admin, or listen on 127.0.0.1")
    active = sum(not key.parent and key.state(kept.now) == "active" for key in kept.keys)
    if not active:
        text = "there were API keys, and none may be used any more: nobody is answered"
        return failed("access", text, "unwind keys create --name NAME --scope admin")
    return ok("access", f"{active} API key{'s' if active > 1 else ''} may be used")
