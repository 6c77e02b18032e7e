"""What an operator sees first: how many sagas there are, which need a person, which have been on their way for long."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec import Struct

from unwind.dashboard.filters import LIVE, STATUSES
from unwind.dashboard.words import SECOND, duration, micros_of
from unwind.errors import CodecError, NotFoundError, UnavailableError
from unwind.ports import Query
from unwind.runtime.circuits import CircuitView
from unwind.runtime.queries import Queries, SagaSummary, SagaView

_DAY = 86_400 * SECOND
_AGES = tuple(SECOND * age for age in (31_536_000, 2_592_000, 604_800, 86_400, 21_600, 3_600, 600, 60, 0))
"""Where the oldest are looked for: the store lists the newest first, and all of them are too many."""
_BLOCKED = 20
_OLDEST = 8


class Case(Struct, frozen=True):
    """A saga that needs a person, and why; or may soon."""

    saga_id: str
    definition: str
    what: Literal["blocked", "parked", "past its deadline"]
    step: str
    why: str
    age: str


class Overview(Struct, frozen=True):
    """What is shown first."""

    live: Mapping[str, int] | None
    """By status; None: there are too many to be counted in time."""
    ended: Mapping[str, int] | None
    """Begun within the last day."""
    cases: tuple[Case, ...]
    blocked: int
    """Of all, those that are listed among the cases and those that are not."""
    silent: tuple[CircuitView, ...]
    """Participants that answer nobody."""
    oldest: tuple[tuple[SagaSummary, str], ...]
    """Each with its age."""

    @property
    def mark(self) -> str:
        """Changes with whatever it shows, ages aside."""
        shown = (
            self.live,
            self.ended,
            [(case.saga_id, case.what, case.step, case.why) for case in self.cases],
            [(each.service, each.stage, each.parked) for each in self.silent],
            [(each.saga_id, each.status) for each, _ in self.oldest],
        )
        return blake2b(msgspec.json.encode(shown), digest_size=9).hexdigest()


async def look_over(queries: Queries, circuits: Sequence[CircuitView]) -> Overview:
    """The overview now. Raises UnavailableError."""
    now = await queries.now()
    live = await _counted(queries, Query(statuses=LIVE))
    ended = await _counted(queries, Query(statuses=("completed", "compensated"), started_from=now - _DAY))
    blocked = (await queries.find(Query(statuses=("blocked",), limit=_BLOCKED))).sagas
    oldest = await _oldest(queries, now)
    looked = [await _case(queries, each, now) for each in {row.saga_id: row for row in (*blocked, *oldest)}.values()]
    cases = [case for case in looked if case is not None]
    order = {"blocked": 0, "past its deadline": 1, "parked": 2}
    return Overview(
        live,
        ended,
        tuple(sorted(cases, key=lambda case: (order[case.what], case.saga_id))),
        len(blocked) if live is None else live.get("blocked", 0),
        tuple(each for each in circuits if each.stage != "closed"),
        tuple((each, duration(now - micros_of(each.started_at))) for each in oldest),
    )


async def _counted(queries: Queries, query: Query) -> Mapping[str, int] | None:
    found = dict.fromkeys((status for status in STATUSES if status in query.statuses), 0)
    try:
        for tally in await queries.count(query, {}):
            found[tally.status] += tally.count
    except UnavailableError:
        return None
    return found


async def _oldest(queries: Queries, now: int) -> Sequence[SagaSummary]:
    for age in _AGES:
        page = await queries.find(Query(statuses=LIVE, started_to=now - age + 1, limit=_OLDEST))
        if page.sagas:
            return page.sagas[::-1]
    return ()


async def _case(queries: Queries, row: SagaSummary, now: int) -> Case | None:
    try:
        saga = await queries.show(row.saga_id)
    except (NotFoundError, CodecError) as error:
        return Case(row.saga_id, row.definition, "blocked", "", f"its log cannot be read: {error}", "")
    return _told(saga, now)


def _told(saga: SagaView, now: int) -> Case | None:
    def case(what: Literal["blocked", "parked", "past its deadline"], step: str, why: str, since: str) -> Case:
        return Case(saga.saga_id, saga.definition, what, step, why, duration(now - micros_of(since)))

    if saga.ended_at is not None:
        return None
    if (blocked := saga.blocked) is not None:
        step = blocked.step if blocked.direction == "do" else f"the undo of {blocked.step}"
        return case("blocked", step, blocked.reason, blocked.since)
    if saga.deadline is not None and micros_of(saga.deadline) <= now:
        return case("past its deadline", saga.current_step or "", f"it is {saga.status}", saga.deadline)
    if (parked := saga.parked) is not None:
        return case("parked", parked.step, f"{parked.participant} answers nobody", parked.since)
    return None
