"""What every store of API keys must do: inherit `KeySuite`, give it `keys` on its `clock`, and pytest runs it.

Needs pytest and pytest-asyncio with asyncio_mode=auto.
"""

import pytest

from unwind.access import SCOPES, ApiKey, Fresh, KeyStore, Scope, digest_of
from unwind.errors import RejectedError
from unwind.testing.store_examples import BEGINNING, StoreClock

SECOND = 1_000_000


def fresh(number: int) -> Fresh:
    """A key that is no secret."""
    token = f"unwind_{number:08x}_{'A' * 43}"
    return Fresh(f"{number:08x}", token, digest_of(token))


class KeySuite:
    """The promises of `unwind.access.KeyStore`."""

    @pytest.fixture
    def clock(self) -> StoreClock:
        return StoreClock()

    async def test_a_new_installation_has_none(self, keys: KeyStore) -> None:
        kept = await keys.keys()
        assert (kept.now, kept.keys) == (BEGINNING, ())

    @pytest.mark.parametrize("scope", SCOPES)
    async def test_a_key_is_kept_without_what_makes_it_one(self, keys: KeyStore, scope: Scope) -> None:
        made = fresh(1)
        key = await keys.add(made, "Ада@shop", scope)
        assert key == ApiKey(made.id, "Ада@shop", scope, made.digest, BEGINNING)
        assert (await keys.keys()).keys == (key,)
        assert made.token not in repr((key, made, await keys.keys()))

    async def test_they_are_listed_in_the_order_of_their_making(self, keys: KeyStore, clock: StoreClock) -> None:
        for number in (3, 1, 2):
            await keys.add(fresh(number), "ada", "read")
            clock.at += SECOND
        assert [key.id for key in (await keys.keys()).keys] == ["00000003", "00000001", "00000002"]

    async def test_an_id_is_given_once(self, keys: KeyStore) -> None:
        first = await keys.add(fresh(1), "ada", "read")
        with pytest.raises(RejectedError):
            await keys.add(fresh(1), "eve", "admin")
        assert (await keys.keys()).keys == (first,)

    async def test_a_scope_that_there_is_not_is_refused(self, keys: KeyStore) -> None:
        with pytest.raises(RejectedError):
            await keys.add(fresh(1), "ada", "everything")  # type: ignore[arg-type]

    async def test_a_key_that_has_expired_stays_and_says_so(self, keys: KeyStore, clock: StoreClock) -> None:
        key = await keys.add(fresh(1), "ada", "read", lasts=SECOND)
        assert key.expires_at == BEGINNING + SECOND
        assert key.state(clock.at) == "active"
        clock.at += SECOND
        kept = await keys.keys()
        assert [(each, each.state(kept.now)) for each in kept.keys] == [(key, "expired")]

    async def test_a_revoked_key_stays_with_the_time_of_its_first_end(self, keys: KeyStore, clock: StoreClock) -> None:
        await keys.add(fresh(1), "ada", "read")
        other = await keys.add(fresh(2), "ada", "read")
        clock.at += SECOND
        assert await keys.revoke(fresh(1).id)
        clock.at += SECOND
        assert await keys.revoke(fresh(1).id)
        ended, left = (await keys.keys()).keys
        assert (ended.revoked_at, ended.state(clock.at)) == (BEGINNING + SECOND, "revoked")
        assert left == other

    @pytest.mark.parametrize("key_id", ["", "00000002", "\0", "\ud800", "'; drop table api_keys; --", "%"])
    async def test_to_revoke_what_there_is_not_does_nothing(self, keys: KeyStore, key_id: str) -> None:
        key = await keys.add(fresh(1), "ada", "read")
        assert not await keys.revoke(key_id)
        assert (await keys.keys()).keys == (key,)

    async def test_sessions_end_with_their_key_and_are_then_not_listed(self, keys: KeyStore, clock: StoreClock) -> None:
        for number in (1, 2):
            await keys.add(fresh(number), "ada", "read")
            await keys.add(fresh(number + 2), "ada", "read", lasts=SECOND, parent=fresh(number).id)
        assert [key.parent for key in (await keys.keys()).keys] == ["", "", fresh(1).id, fresh(2).id]
        await keys.revoke(fresh(1).id)
        assert [key.id for key in (await keys.keys()).keys] == [fresh(number).id for number in (1, 2, 4)]
        clock.at += SECOND
        assert [key.id for key in (await keys.keys()).keys] == [fresh(number).id for number in (1, 2)]

    async def test_a_session_ends_alone(self, keys: KeyStore) -> None:
        key = await keys.add(fresh(1), "ada", "read")
        await keys.add(fresh(2), "ada", "read", lasts=SECOND, parent=key.id)
        assert await keys.revoke(fresh(2).id)
        assert (await keys.keys()).keys == (key,)

    async def test_old_sessions_are_forgotten_and_keys_never(self, keys: KeyStore, clock: StoreClock) -> None:
        key = await keys.add(fresh(1), "ada", "read", lasts=SECOND)
        await keys.add(fresh(2), "ada", "read", lasts=SECOND, parent=key.id)
        clock.at += SECOND
        session = await keys.add(fresh(3), "ada", "read", lasts=SECOND, parent=key.id)
        again = await keys.add(fresh(2), "ada", "read", lasts=SECOND, parent=key.id)  # the id is free once more
        assert (await keys.keys()).keys == (key, again, session)
