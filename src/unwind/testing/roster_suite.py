"""What every roster must do: inherit `RosterSuite`, give it a `roster` on its `clock`, and pytest runs it.

Needs pytest and pytest-asyncio with asyncio_mode=auto.
"""

import pytest

from unwind.roster import FORGOTTEN, Entry, Roll, Roster
from unwind.testing.store_examples import BEGINNING, StoreClock

SECOND = 1_000_000


class RosterSuite:
    """The promises of `unwind.roster.Roster`."""

    @pytest.fixture
    def clock(self) -> StoreClock:
        return StoreClock()

    async def test_at_first_nobody_is_there(self, roster: Roster) -> None:
        assert await roster.roll() == Roll(BEGINNING, ())

    async def test_everybody_is_there_as_they_said_last(self, roster: Roster, clock: StoreClock) -> None:
        await roster.announce("b", '{"n":1}')
        await roster.announce("á 👩‍👧'", "{}")
        clock.at += SECOND
        await roster.announce("b", '{"text":"ж"}')
        clock.at += SECOND
        here = (Entry("b", BEGINNING + SECOND, '{"text":"ж"}'), Entry("á 👩‍👧'", BEGINNING, "{}"))
        assert await roster.roll() == Roll(BEGINNING + 2 * SECOND, here)

    async def test_who_withdraws_is_not_there(self, roster: Roster) -> None:
        for name in ("a", "b"):
            await roster.announce(name, "{}")
        await roster.withdraw("a")
        await roster.withdraw("a")
        await roster.withdraw("never there")
        assert [entry.id for entry in (await roster.roll()).entries] == ["b"]

    async def test_who_is_silent_for_a_day_is_forgotten_when_another_speaks(
        self, roster: Roster, clock: StoreClock
    ) -> None:
        await roster.announce("old", "{}")
        clock.at += SECOND
        await roster.announce("silent", "{}")
        clock.at = BEGINNING + FORGOTTEN + SECOND
        assert len((await roster.roll()).entries) == 2
        await roster.announce("new", "{}")
        assert [entry.id for entry in (await roster.roll()).entries] == ["new", "silent"]
        clock.at += FORGOTTEN
        await roster.announce("silent", "{}")
        assert [entry.id for entry in (await roster.roll()).entries] == ["new", "silent"]

    async def test_the_store_says_what_it_is(self, roster: Roster) -> None:
        about = await roster.about()
        assert about.kind
        assert about.schema >= 0
