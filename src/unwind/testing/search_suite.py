"""What every store must do for those who look for sagas by attributes, and count them. A part of `StoreSuite`."""

import asyncio

import pytest

from unwind.census import CountedStore, Pace, Standing, Tally
from unwind.errors import RejectedError, UnavailableError
from unwind.ports import Query, SagaRow, Unit
from unwind.testing.store_examples import BEGINNING, REVISION, TEXTS, append, contents, row

Pairs = tuple[tuple[str, str], ...]


def begun(saga: str, attributes: Pairs, *, started_at: int = BEGINNING, definition: str = "order") -> Unit:
    """The first decision on a saga that can be found by these."""
    made = SagaRow(saga, REVISION, definition, "running", BEGINNING, "", started_at, started_at)
    return Unit(append(saga), made, attributes=attributes)


async def found(store: CountedStore, *attributes: tuple[str, str], **others: object) -> list[str]:
    """Ids of the sagas that have these, and fit the other fields of a query."""
    return [each.id for each in await store.find(Query(attributes=attributes, **others))]  # type: ignore[arg-type]


class SearchSuite:
    """The promises about attributes and of `unwind.census.Census`."""

    async def test_sagas_are_found_by_all_of_the_attributes_that_are_asked_for(self, store: CountedStore) -> None:
        await store.commit(
            [
                begun("a", (("customer", "ada"), ("express", "true")), started_at=1),
                begun("b", (("customer", "ada"), ("express", "false")), started_at=2),
                begun("c", (("customer", "bob"), ("express", "true")), started_at=3),
                begun("none", (), started_at=4),
            ]
        )
        assert await found(store) == ["none", "c", "b", "a"]
        assert await found(store, ("customer", "ada")) == ["b", "a"]
        for both in ((("customer", "ada"), ("express", "true")), (("express", "true"), ("customer", "ada"))):
            assert await found(store, *both) == ["a"]
        for nothing in (("customer", "ad"), ("customer", "adah"), ("custome", "ada"), ("express", "ada")):
            assert await found(store, nothing) == []
        assert await found(store, ("customer", "ada"), ("customer", "bob")) == []
        assert await found(store, ("customer", "ada"), ids=("a", "c")) == ["a"]
        assert await found(store, ("express", "true"), started_from=2) == ["c"]
        assert await found(store, ("express", "true"), started_to=3, definition="order", statuses=("running",)) == ["a"]
        assert await found(store, ("express", "true"), definition="trip") == []
        assert await found(store, ("express", "true"), statuses=("paused",)) == []

    async def test_attributes_are_written_with_the_first_commit_and_stay(self, store: CountedStore) -> None:
        await store.commit([begun("s", (("customer", "ada"),))])
        again = Unit(append("s", 2), row("s"), attributes=(("customer", "bob"), ("late", "yes")))
        await store.commit([again])
        await store.commit([Unit(append("s", 3), row("s", None, "completed"))])
        assert await found(store, ("customer", "ada")) == ["s"]
        assert await found(store, ("customer", "bob")) == []
        # Without a row there is nothing to be found.
        await store.commit([Unit(append("rowless"), attributes=(("customer", "ada"),))])
        assert await found(store, ("customer", "ada")) == ["s"]

    async def test_a_unit_that_loses_or_is_refused_leaves_no_attributes(self, store: CountedStore) -> None:
        await store.commit([begun("s", (("customer", "ada"),))])
        lost = begun("s", (("customer", "eve"), ("late", "yes")))
        assert (await store.commit([lost, begun("t", (("customer", "eve"),))])).won == {"t"}
        assert await found(store, ("customer", "eve")) == ["t"]
        with pytest.raises(RejectedError):
            await store.commit([begun("u", (("customer", "eve"),)), Unit(append("v"), row("v", None))])
        assert await found(store, ("customer", "eve")) == ["t"]

    async def test_concurrent_batches_share_out_sagas_and_their_attributes(self, store: CountedStore) -> None:
        batches = [
            [begun(f"saga {n:02}", (("batch", str(start)), ("customer", "ada"))) for n in range(start, start + 40)]
            for start in (0, 10, 20, 30)
        ]
        answers = await asyncio.gather(*(store.commit(batch[::-1]) for batch in batches))
        assert sorted(await found(store, ("customer", "ada"), limit=100)) == [f"saga {n:02}" for n in range(70)]
        for start, answer in zip((0, 10, 20, 30), answers, strict=True):
            assert set(await found(store, ("batch", str(start)), limit=100)) == answer.won

    @pytest.mark.parametrize("size", [1, 2, 5, 20])
    async def test_pages_of_what_has_an_attribute_neither_repeat_nor_miss_a_row(
        self, store: CountedStore, size: int
    ) -> None:
        names = [f"saga {n:02}" for n in range(15)]
        await store.commit(
            [begun(name, (("own", str(i % 3)),), started_at=BEGINNING + i // 4) for i, name in enumerate(names)]
        )
        seen: list[str] = []
        before: tuple[int, str] | None = None
        while page := await store.find(Query(before=before, limit=size, attributes=(("own", "1"),))):
            assert len(page) <= size
            seen += [each.id for each in page]
            before = (page[-1].started_at, page[-1].id)
            newer = f"saga {len(seen)} begun meanwhile"
            await store.commit([begun(newer, (("own", "1"),), started_at=BEGINNING + 1_000)])
        assert seen == names[1::3][::-1]

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_an_attribute_comes_back_as_it_was_or_is_refused(self, store: CountedStore, text: str) -> None:
        before = await contents(store, "s")
        try:
            await store.commit([begun("s", (("name", f"is {text}"), (f"name {text}", "is")))])
        except RejectedError:
            assert await contents(store, "s") == before
            assert await found(store, ("name", f"is {text}")) == []
            return
        assert await found(store, ("name", f"is {text}"), (f"name {text}", "is")) == ["s"]
        assert await found(store, ("name", f"is {text}!")) == []

    async def test_sagas_are_found_by_what_their_id_correlation_id_or_an_attribute_begins_with(
        self, store: CountedStore
    ) -> None:
        rows = {
            "ada-1": ("", (("customer", "bob"),)),
            "s2": ("ada-9", (("customer", "Ada"),)),
            "s3": ("", (("customer", "ada"), ("place", "adana"))),
            "s4": ("x-ada", (("customer", "bada"), ("zone", "ada!"))),
            "s5": ("ad", (("customer", "adb"), ("place", "ac"))),
        }
        await store.commit(
            [
                Unit(append(saga), SagaRow(saga, REVISION, "order", "running", 1, correlation, n, n), attributes=pairs)
                for n, (saga, (correlation, pairs)) in enumerate(rows.items())
            ]
        )

        async def begins(text: str, **others: object) -> list[str]:
            fit = [each.id for each in await store.find(Query(text=text, **others))]  # type: ignore[arg-type]
            counted = await store.tally(Query(text=text, **others), {})  # type: ignore[arg-type]
            assert sum(each.count for each in counted) == len(fit)
            return fit

        assert await begins("ada") == ["s4", "s3", "s2", "ada-1"]
        assert await begins("ada-") == ["s2", "ada-1"]
        assert await begins("ad") == ["s5", "s4", "s3", "s2", "ada-1"]
        assert await begins("adb") == ["s5"]
        assert await begins("ADA") == await begins("adaz") == await begins("%") == await begins("a\0") == []
        assert await begins("ada", attributes=(("customer", "ada"),)) == ["s3"]
        assert await begins("ada", attributes=(("customer", "ada"), ("place", "adana"))) == ["s3"]
        assert await begins("ada", attributes=(("customer", "ada"), ("place", "x"))) == []
        assert await begins("ada", ids=("s3", "s5")) == ["s3"]
        assert await begins("ada", started_from=2, started_to=3) == ["s3"]
        assert await begins("ada", statuses=("paused",)) == await begins("ada", definition="trip") == []
        assert list(await store.find(Query(text="ada", live_on="x@1#0"))) == []
        assert [each.id for each in await store.find(Query(text="ada", before=(3, "s4"), limit=2))] == ["s3", "s2"]

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_a_text_is_found_by_each_of_its_beginnings_and_by_no_other(
        self, store: CountedStore, text: str
    ) -> None:
        try:
            await store.commit([begun("s", (("name", f"{text}!"),)), begun("t", (("name", f"{text}\U0010ffff"),))])
        except RejectedError:
            return
        for found_by in (text, f"{text}!", f"{text[:1]}"):
            if found_by:
                assert "s" in [each.id for each in await store.find(Query(text=found_by))]
        assert [each.id for each in await store.find(Query(text=f"{text}\U0010ffff"))] == ["t"]

    # -------------------------------------------------------------------------------------------------------- counts

    async def test_sagas_are_counted_by_definition_and_status_whatever_the_page(self, store: CountedStore) -> None:
        rows = [
            SagaRow(f"{n}", REVISION, f"d{n % 2}", "running" if n % 3 else "paused", n if n % 3 else None, "", n, n)
            for n in range(12)
        ]
        await store.commit([Unit(append(each.id), each) for each in rows])
        every = [
            Tally("d0", "paused", 2),
            Tally("d0", "running", 4),
            Tally("d1", "paused", 2),
            Tally("d1", "running", 4),
        ]
        assert list(await store.tally(Query(), {})) == every
        assert list(await store.tally(Query(before=(3, "3"), limit=1), {"d0": "total"})) == every
        assert list(await store.tally(Query(statuses=("paused", "blocked"), definition="d1"), {})) == [every[2]]
        assert list(await store.tally(Query(ids=("1", "2", "x"), started_from=2), {})) == [Tally("d0", "running", 1)]
        assert list(await store.tally(Query(definition="d2"), {})) == []
        assert list(await store.tally(Query(started_to=0), {})) == []

    async def test_what_lives_is_counted_with_what_is_oldest_of_it(self, store: CountedStore) -> None:
        other = REVISION + "2"
        rows = [
            SagaRow("a", REVISION, "order", "running", 50, "", 3, 7),
            SagaRow("b", REVISION, "order", "running", 40, "", 2, 9),
            SagaRow("c", REVISION, "order", "paused", None, "", 4, 6),
            SagaRow("d", other, "order", "blocked", 60, "", 1, 8),
            SagaRow("e", other, "later", "running", 70, "", 5, 5),
            SagaRow("f", REVISION, "order", "completed", None, "", 0, 9, 9),
            SagaRow("g", "x@1#0", "order", "running", 10, "", 0, 0),
        ]
        await store.commit([Unit(append(each.id), each) for each in rows])
        living = await store.living([REVISION, other, "never@1#seen", "\0"])
        assert living.now == (await store.load({})).now
        assert living.standings == (
            Standing("later", "running", 1, 5, 5, 70),
            Standing("order", "blocked", 1, 1, 8, 60),
            Standing("order", "paused", 1, 4, 6, None),
            Standing("order", "running", 2, 2, 7, 40),
        )
        assert (await store.living([REVISION])).standings == (
            Standing("order", "paused", 1, 4, 6, None),
            Standing("order", "running", 2, 2, 7, 40),
        )
        assert (await store.living([])).standings == ()

    async def test_an_attribute_is_added_up_by_definition_and_what_is_no_number_left_out(
        self, store: CountedStore
    ) -> None:
        most = 2**63 - 1
        given = {
            **{f"s{n}": ("order", str(most)) for n in range(3)},
            "less": ("order", "-5"),
            "text": ("order", "many"),
            "padded": ("order", "007"),
            "decimal": ("order", "1.5"),
            "beyond": ("order", str(most + 1)),
            "other": ("trip", "1"),
        }
        await store.commit(
            [
                begun(saga, (("customer", "ada"), ("total", value)), definition=definition)
                for saga, (definition, value) in given.items()
            ]
        )
        await store.commit([begun("bare", (("customer", "ada"),), definition="trip")])
        for attributes in ((), (("customer", "ada"),)):
            query = Query(attributes=attributes)
            assert list(await store.tally(query, {"order": "total"})) == [
                Tally("order", "running", 8, 3 * most - 5),
                Tally("trip", "running", 2),
            ]
            assert list(await store.tally(query, {"trip": "total", "order": "customer"})) == [
                Tally("order", "running", 8),
                Tally("trip", "running", 2, 1),
            ]
        assert list(await store.tally(Query(attributes=(("total", "1"),)), {"trip": "total"})) == [
            Tally("trip", "running", 1, 1)
        ]

    async def test_beginnings_and_ends_are_counted_by_stretches_of_time(self, store: CountedStore) -> None:
        def ended(saga: str, definition: str, status: str, started_at: int, ended_at: int) -> Unit:
            made = SagaRow(saga, REVISION, definition, status, None, "", started_at, ended_at, ended_at)
            return Unit(append(saga), made)

        await store.commit(
            [
                ended("a", "order", "completed", 99, 100),
                ended("b", "order", "completed", 100, 1_234_667),
                ended("c", "trip", "completed", 101, 1_239_999),
                ended("d", "order", "compensated", 150, 1_234_667),
                ended("e", "trip", "compensated", 1_000_000, 1_234_999),
                ended("clocks apart", "é 日本", "completed", 1_000_005, 1_000_004),
                begun("f", (), started_at=1_234_667),
            ]
        )
        counted = await store.paces(100, 100)
        assert counted.now == (await store.load({})).now
        assert counted.paces == (
            Pace(1, "completed", 1, 1),
            Pace(1, "started", 0, 3),
            Pace(10_000, "completed", 0, 1),
            Pace(10_000, "started", 0, 2),
            Pace(12_346, "compensated", 1_200_000, 1),
            Pace(12_346, "completed", 1_200_000, 1),
            Pace(12_346, "started", 0, 1),
            Pace(12_349, "compensated", 230_000, 1),
            Pace(12_399, "completed", 1_200_000, 1),
        )
        assert (await store.paces(1_239_999, 100)).paces == (Pace(12_399, "completed", 1_200_000, 1),)
        assert (await store.paces(1_240_000, 100)).paces == ()

    async def test_what_ended_last_of_a_definition_comes_first(self, store: CountedStore) -> None:
        await store.commit(
            [
                Unit(append(name), SagaRow(name, REVISION, definition, "completed", None, "", 9 - at, at, at))
                for name, definition, at in (("a", "order", 1), ("b", "order", 3), ("c", "trip", 4), ("d", "order", 3))
            ]
        )
        await store.commit([begun("e", ())])
        assert [each.id for each in await store.ended("order", 9)] == ["d", "b", "a"]
        assert [each.id for each in await store.ended("order", 2)] == ["d", "b"]
        assert [each.ended_at for each in await store.ended("trip", 1)] == [4]
        for nothing in ("", "orde", "orders", "\0", "order\0"):
            assert list(await store.ended(nothing, 9)) == []

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    async def test_what_was_never_stored_is_not_counted(self, store: CountedStore, text: str) -> None:
        await store.commit([begun("a", (("name", "value"),))])
        for query in (
            Query(definition=f"order{text}!"),
            Query(statuses=(f"running{text}!",)),
            Query(ids=(f"a{text}b",)),
            Query(attributes=(("name", f"value{text}!"),)),
            Query(attributes=(("name", "value"), (f"name{text}!", "value"))),
        ):
            assert list(await store.tally(query, {"order": "name"})) == []
            assert list(await store.find(query)) == []

    async def test_a_closed_store_counts_nothing(self, store: CountedStore) -> None:
        await store.close()
        for query in (Query(), Query(attributes=(("name", "value"),))):
            with pytest.raises(UnavailableError):
                await store.tally(query, {})
        with pytest.raises(UnavailableError):
            await store.living([REVISION])
        with pytest.raises(UnavailableError):
            await store.paces(0, 1)
        with pytest.raises(UnavailableError):
            await store.ended("order", 1)
