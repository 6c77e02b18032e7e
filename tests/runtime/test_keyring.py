"""The keyring: who holds a key, how soon an end of one is noticed, and that nobody is let in for want of an answer."""

import asyncio
import hmac
from secrets import token_bytes
from typing import Any

import pytest

from unwind.access import SCOPES, Kept, Scope, check_name, includes, make_key
from unwind.errors import InputError, SettingsError, UnavailableError
from unwind.runtime import keyring as module
from unwind.runtime.keyring import AGAIN, EVERYBODY, LASTS, MOST_SESSIONS, SESSION, Caller, Keyring
from unwind.stores.memory_keys import MemoryKeys
from unwind.testing.manual_clock import ManualClock

SECOND = 1_000_000


class CountedKeys(MemoryKeys):
    """Counts questions; answers none while it is down."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.monotonic)
        self.asked = 0
        self.down = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def keys(self) -> Kept:
        self.asked += 1
        await self.answering.wait()
        if self.down:
            raise UnavailableError("the store is away")
        return await super().keys()


class Desk:
    def __init__(self) -> None:
        self.clock = ManualClock(1_000 * SECOND)
        self.store = CountedKeys(self.clock)
        self.ring = Keyring(self.store, self.clock, token_bytes)

    async def make(self, name: str = "ada", scope: Scope = "read", **more: Any) -> str:
        fresh = make_key(token_bytes)
        await self.store.add(fresh, name, scope, **more)
        return fresh.token


@pytest.fixture
def desk() -> Desk:
    return Desk()


def id_of(token: str) -> str:
    return token.split("_")[1]


# ---------------------------------------------------------------------------------------------------------- who it is


async def test_without_any_key_it_is_everybody(desk: Desk) -> None:
    for token in ("", "nonsense", make_key(token_bytes).token):
        assert await desk.ring.caller(token) is EVERYBODY


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_tells_whose_it_is_and_what_it_may_do(desk: Desk, scope: Scope) -> None:
    token = await desk.make("ada", scope)
    assert await desk.ring.caller(token) == Caller("ada", scope, id_of(token))


async def test_with_one_key_nothing_else_lets_in(desk: Desk) -> None:
    token = await desk.make()
    other = make_key(token_bytes).token
    wrong = [
        *("", "nonsense", other, token[:-1], token + "A", token.upper(), f" {token}", token.replace("unwind", "wind")),
        f"unwind_{id_of(token)}_{other.split('_', 2)[2]}",
        f"unwind_{id_of(other)}_{token.split('_', 2)[2]}",
        *("\0", "ключ", "\ud800"),
    ]
    for each in wrong:
        assert await desk.ring.caller(each) is None


async def test_a_revoked_or_expired_one_is_the_same_as_none_and_opens_nothing(desk: Desk) -> None:
    revoked, expired = await desk.make(), await desk.make(lasts=SECOND)
    assert await desk.ring.caller(expired) is not None
    await desk.store.revoke(id_of(revoked))
    desk.clock.advance(LASTS)
    for token in (revoked, expired, ""):
        assert await desk.ring.caller(token) is None


async def test_it_is_compared_in_a_time_that_says_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is such an id or not, and whatever is right of the rest."""
    compared: list[tuple[str, str]] = []

    def watched(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(module, "compare_digest", watched)
    token = await desk.make()
    for each in (token, token[:-1] + ("A" if token[-1] != "A" else "B"), make_key(token_bytes).token, "nonsense", ""):
        compared.clear()
        await desk.ring.caller(each)
        [(one, other)] = compared
        assert len(one) == len(other) == 64  # hashes: never the keys themselves


# ------------------------------------------------------------------------------------------------------- how it is kept


async def test_many_calls_cost_one_question(desk: Desk) -> None:
    token = await desk.make()
    desk.store.answering.clear()
    calls = [asyncio.create_task(desk.ring.caller(token)) for _ in range(100)]
    await asyncio.sleep(0)
    desk.store.answering.set()
    assert len({str(await call) for call in calls}) == 1
    desk.clock.advance(LASTS - 1)
    await desk.ring.caller(token)
    assert desk.store.asked == 1


async def test_an_end_is_noticed_after_two_seconds(desk: Desk) -> None:
    token = await desk.make()
    assert await desk.ring.caller(token) is not None
    await desk.store.revoke(id_of(token))
    desk.clock.advance(LASTS - 1)
    assert await desk.ring.caller(token) is not None
    desk.clock.advance(1)
    assert await desk.ring.caller(token) is None


async def test_an_end_by_this_process_is_noticed_at_once(desk: Desk) -> None:
    token = await desk.make()
    assert await desk.ring.caller(token) is not None
    assert await desk.ring.revoke(id_of(token))
    assert await desk.ring.caller(token) is None
    assert not await desk.ring.revoke("00000000")


async def test_an_expiry_is_kept_to_without_a_question(desk: Desk) -> None:
    token = await desk.make(lasts=SECOND)
    assert await desk.ring.caller(token) is not None
    desk.clock.advance(SECOND - 1)
    assert await desk.ring.caller(token) is not None
    desk.clock.advance(1)
    assert await desk.ring.caller(token) is None
    assert desk.store.asked == 1


async def test_a_new_key_is_known_a_moment_later_and_invented_ones_cost_little(desk: Desk) -> None:
    await desk.make()
    await desk.ring.caller("")
    new = await desk.make()
    assert await desk.ring.caller(new) is None
    for _ in range(1_000):
        assert await desk.ring.caller(make_key(token_bytes).token) is None
    assert desk.store.asked == 1
    desk.clock.advance(AGAIN)
    assert await desk.ring.caller(new) is not None
    assert desk.store.asked == 2


async def test_the_first_key_closes_within_a_moment(desk: Desk) -> None:
    assert await desk.ring.caller("") is EVERYBODY
    await desk.make()
    desk.clock.advance(AGAIN)
    assert await desk.ring.caller("") is None


async def test_while_the_store_is_away_nobody_is_let_in(desk: Desk) -> None:
    token = await desk.make()
    assert await desk.ring.caller(token) is not None
    desk.store.down = True
    desk.clock.advance(LASTS)
    for _ in range(100):
        with pytest.raises(UnavailableError):
            await desk.ring.caller(token)
    assert desk.store.asked == 2
    desk.store.down = False
    desk.clock.advance(AGAIN)
    assert await desk.ring.caller(token) is not None


async def test_who_goes_away_takes_no_answer_from_the_others(desk: Desk) -> None:
    token = await desk.make()
    desk.store.answering.clear()
    gone, stays = (asyncio.create_task(desk.ring.caller(token)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    desk.store.answering.set()
    assert await stays is not None
    assert desk.store.asked == 1


# ------------------------------------------------------------------------------------------------------------ sessions


async def test_a_session_is_the_key_s_holder_with_the_key_s_scope(desk: Desk) -> None:
    token = await desk.make("ada", "operate")
    session = await desk.ring.log_in(token)
    assert session is not None
    assert session.lasts == 12 * 3_600
    assert session.token not in repr(session)
    assert await desk.ring.caller(session.token) == Caller("ada", "operate", id_of(token), session=True)


async def test_a_session_ends_by_itself_by_log_out_and_with_its_key(desk: Desk) -> None:
    token = await desk.make()
    one, other, third = [await desk.ring.log_in(token) for _ in range(3)]
    assert one is not None
    assert other is not None
    assert third is not None
    await desk.ring.log_out(one.token)
    assert await desk.ring.caller(one.token) is None
    assert await desk.ring.caller(other.token) is not None
    await desk.ring.log_out(token)  # is no session: nothing ends
    assert await desk.ring.caller(token) is not None
    desk.clock.advance(SESSION)
    assert await desk.ring.caller(other.token) is None
    late = await desk.ring.log_in(token)
    assert late is not None
    await desk.ring.revoke(id_of(token))
    assert await desk.ring.caller(late.token) is None
    await desk.ring.log_out(late.token)


async def test_a_session_does_not_outlive_a_key_that_expires(desk: Desk) -> None:
    token = await desk.make(lasts=SECOND)
    session = await desk.ring.log_in(token)
    assert session is not None
    assert await desk.ring.caller(session.token) is not None
    desk.clock.advance(SECOND)
    assert await desk.ring.caller(session.token) is None


async def test_a_key_has_so_many_sessions_and_one_more_ends_the_oldest(desk: Desk) -> None:
    token, other = await desk.make(), await desk.make("eve")
    beside = await desk.ring.log_in(other)
    sessions = []
    for _ in range(MOST_SESSIONS + 2):
        desk.clock.advance(1)
        sessions.append(await desk.ring.log_in(token))
    alive = [each for each in (*sessions, beside) if each and await desk.ring.caller(each.token)]
    assert alive == [*sessions[2:], beside]


async def test_only_a_key_opens_a_session(desk: Desk) -> None:
    assert await desk.ring.log_in("") is None  # where there are no keys there is nothing to log in to
    token = await desk.make()
    desk.clock.advance(AGAIN)
    session = await desk.ring.log_in(token)
    assert session is not None
    for token in ("", "nonsense", make_key(token_bytes).token, session.token):
        assert await desk.ring.log_in(token) is None


# -------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example", ""])  # noqa: S104
async def test_an_address_for_others_needs_a_key(desk: Desk, host: str) -> None:
    with pytest.raises(SettingsError, match=r"UNWIND_HOST: .* there is no API key"):
        await desk.ring.check(host, "UNWIND_HOST")
    await desk.make()
    await desk.ring.check(host, "UNWIND_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
async def test_an_address_for_this_machine_needs_none(desk: Desk, host: str) -> None:
    await desk.ring.check(host, "UNWIND_HOST")


def test_each_scope_includes_those_before_it() -> None:
    assert [[includes(held, needed) for needed in SCOPES] for held in SCOPES] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


@pytest.mark.parametrize("name", ["ada", "Ада", "ada@shop.example", "billing-2", "_", "a" * 64])
def test_names_that_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", " ada", "a b", "-x", "a" * 65, "a\n", "<b>", "anonymous", "\ud800", "a\u202eb"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InputError):
        check_name(name)
