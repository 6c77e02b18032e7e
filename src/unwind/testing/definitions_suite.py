"""The part of `StoreSuite` about definitions: which are registered, and how many live sagas are bound to which."""

from msgspec.structs import replace

from unwind.ports import COUNTED, Query, Registered, SagaRow, Store, Unit
from unwind.testing.store_examples import ASLEEP, BEGINNING, LIVE, REVISION, append, row


class DefinitionsSuite:
    """Needs a fixture `store`."""

    async def test_a_definition_keeps_the_hash_it_was_registered_with(self, store: Store) -> None:
        for revisions, clashes in (
            ([("a", 1, "x"), ("b", 1, "y")], []),
            ([("a", 1, "x"), ("a", 2, "z"), ("b", 1, "other")], [("b", 1, "other")]),
            ([("b", 1, "y"), ("a", 2, "x")], [("a", 2, "x")]),
        ):
            assert list((await store.register(revisions)).clashes) == clashes

    async def test_a_definition_that_is_only_asked_about_is_not_noted(self, store: Store) -> None:
        assert await store.register([("a", 1, "x")], note=False) == Registered([], {})
        assert await store.register([("a", 1, "y")]) == Registered([], {})
        assert await store.register([("a", 1, "x")], note=False) == Registered([("a", 1, "x")], {})

    async def test_live_sagas_of_other_definitions_are_counted(self, store: Store) -> None:
        assert await store.register([]) == Registered([], {})
        for number, status in enumerate([*LIVE, *ASLEEP]):
            for revision in ("order@1#abc", "order@2#def", "trip@1#é") if status == "paused" else ("order@1#abc",):
                row = SagaRow(f"{revision} {number}", revision, "d", status, None if status in ASLEEP else 1, "", 1, 1)
                await store.commit([Unit(append(row.id), row)])
        living = {"order@1#abc": len(LIVE) + 1, "order@2#def": 1, "trip@1#é": 1}
        assert (await store.register([])).others == living
        assert (await store.register([("order", 2, "def")], note=False)).others == {
            revision: count for revision, count in living.items() if revision != "order@2#def"
        }
        assert (await store.register([("order", 1, "def"), ("trip", 1, "é")])).others.keys() == {
            "order@1#abc",
            "order@2#def",
        }

    async def test_of_very_many_live_sagas_no_more_are_counted_than_enough(self, store: Store) -> None:
        names = [f"saga {n:05}" for n in range(COUNTED + 1)]
        await store.commit([Unit(append(name), row(name)) for name in names])
        assert (await store.register([])).others == {REVISION: COUNTED}

    async def test_find_goes_through_the_live_sagas_of_one_definition(self, store: Store) -> None:
        for number, status in enumerate((*LIVE, *ASLEEP) * 2):
            live = SagaRow(
                f"{number}", REVISION, "d", status, None if status in ASLEEP else 1, "", BEGINNING + number // 5, 1
            )
            other = replace(live, id=f"{number} of another", revision="order@2#def")
            await store.commit([Unit(append(each.id), each) for each in (live, other)])

        async def found(query: Query) -> list[str]:
            return [each.id for each in await store.find(query)]

        living = ["11", "8", "7", "6", "5", "2", "1", "0"]
        assert await found(Query(live_on=REVISION)) == living
        assert await found(Query(live_on=REVISION, limit=3)) == living[:3]
        assert await found(Query(live_on=REVISION, before=(BEGINNING + 1, "6"), limit=3)) == living[4:7]
        assert await found(Query(("1", "3", "7", "8"), ("running", "compensating"), live_on=REVISION)) == ["7", "1"]
        assert await found(Query(live_on=REVISION, definition="e")) == []
        assert await found(Query(live_on="order@3#abc")) == []
