"""Figures over time: what is counted, what is kept, and how it is told and drawn."""

import re
from collections.abc import Sequence

import pytest
from tests.runtime.rig import elapsed, virtual

from unwind.census import Paces
from unwind.dashboard.charts import PLOT, TOP, Chart, charts_of
from unwind.dashboard.course import EVERY, SPANS, Course, Courses, Span, span_of
from unwind.dashboard.words import SECOND, percent
from unwind.errors import InputError, UnavailableError
from unwind.ports import SagaRow, StreamAppend, Unit
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore

MINUTE = 60 * SECOND
NOW = 28_000_000 * MINUTE + 30 * SECOND
"""In the middle of a minute."""
[HOUR, DAY, WEEK] = SPANS


class House:
    """A store whose time is told, and what was asked of it."""

    def __init__(self) -> None:
        self.now = NOW
        self.asked: list[tuple[int, int]] = []
        self.down = False
        self.sagas = 0
        house = self

        class Watched(MemoryStore):
            async def paces(self, since: int, stretch: int) -> Paces:
                house.asked.append((since, stretch))
                if house.down:
                    raise UnavailableError("too much")
                return await super().paces(since, stretch)

        self.store = Watched(lambda: self.now)
        self.queries = Queries(self.store)
        self.courses = Courses()

    async def ended(self, *takes: int, ago: int = 0, status: str = "completed") -> None:
        """Sagas that ended so long ago, after so long."""
        units = []
        for took in takes:
            self.sagas += 1
            saga, at = f"s{self.sagas}", self.now - ago
            row = SagaRow(saga, "trip@1#x", "trip", status, None, "", at - took, at, at)
            units.append(Unit(StreamAppend(saga, "saga", 1, 1, b"[]"), row))
        await self.store.commit(units)

    async def course(self, span: Span = HOUR) -> Course:
        course = await self.courses.read(self.queries, span)
        assert course is not None
        return course


def counts(course: Course) -> list[tuple[int, int, int]]:
    """Begun, completed, compensated of each stretch in which something was."""
    found = [(each.count.started, each.count.completed, each.count.compensated) for each in course.stretches]
    return [each for each in found if any(each)]


@virtual
async def test_each_stretch_tells_what_began_and_ended_in_it() -> None:
    house = House()
    await house.ended(SECOND, SECOND, ago=10 * MINUTE)
    await house.ended(2 * MINUTE, ago=10 * MINUTE, status="compensated")
    await house.ended(5 * SECOND)
    await house.ended(SECOND, ago=61 * MINUTE)
    course = await house.course()
    assert counts(course) == [(1, 0, 0), (2, 2, 1), (1, 1, 0)]
    assert (course.whole.started, course.whole.completed, course.whole.compensated) == (4, 3, 1)
    assert course.whole.failing == 0.25
    assert len(course.stretches) == 60
    assert [each.over for each in course.stretches] == [True] * 59 + [False]
    assert course.stretches[-1].at == NOW - 30 * SECOND
    assert [sum(each) for each in zip(*counts(await house.course(DAY)), strict=True)] == [5, 4, 1]


@virtual
async def test_half_of_them_and_nearly_all_of_them_took_so_long() -> None:
    house = House()
    await house.ended(*(number * SECOND for number in range(1, 101)))
    whole = (await house.course()).whole
    assert (whole.within(0.5), whole.within(0.95)) == (50 * SECOND, 95 * SECOND)
    alone = House()
    await alone.ended(1_234_567)
    assert (await alone.course()).whole.within(0.5) == 1_200_000
    assert (await House().course()).whole.within(0.5) is None


@virtual
async def test_what_is_over_is_counted_once_and_the_newest_again() -> None:
    house = House()
    await house.ended(SECOND, ago=10 * MINUTE)
    first = NOW // MINUTE - 59
    for seconds, expected in (
        (0, first),
        (EVERY / 2, None),
        (EVERY, first + 58),
        (90, first + 58),
        (EVERY, first + 60),
    ):
        await elapsed(seconds)
        house.now += int(seconds * SECOND)
        house.asked.clear()
        assert counts(await house.course()) == [(1, 1, 0)]
        assert [since // MINUTE for since, _ in house.asked] == ([] if expected is None else [expected])


@virtual
async def test_a_count_that_fails_is_told_by_its_absence_and_tried_again() -> None:
    house = House()
    await house.course()
    house.down = True
    await elapsed(EVERY)
    assert await house.courses.read(house.queries, HOUR) is None
    house.down = False
    await elapsed(EVERY)
    assert (await house.course()).whole.started == 0


def test_a_span_is_one_of_three() -> None:
    assert span_of("") is HOUR
    assert span_of("7d") is WEEK
    for wrong in ("1y", "1H", "<b>"):
        with pytest.raises(InputError, match="1h, 24h, 7d"):
            span_of(wrong)


# ------------------------------------------------------------------------------------------------------------- pictures


def named(charts: Sequence[Chart]) -> dict[str, Chart]:
    return {chart.name: chart for chart in charts}


@virtual
async def test_the_pictures_say_in_words_what_they_show() -> None:
    house = House()
    await house.ended(*[SECOND] * 18, ago=3 * MINUTE)
    await house.ended(90 * SECOND, 90 * SECOND, ago=3 * MINUTE, status="compensated")
    told = {name: chart.told for name, chart in named(charts_of(await house.course())).items()}
    assert told["throughput"].startswith("Within 1 hour 20 sagas began, 18 were completed and 2 undone.")
    assert told["throughput"].endswith("20 within one minute.")
    assert told["failures"] == "10 % of those that ended were undone. At most 10 % within one minute."
    assert told["durations"] == "Half of those that ended took 1.0 s or less (p50), 95 % took 90 s or less (p95)."
    week = {name: chart.told for name, chart in named(charts_of(await house.course(WEEK))).items()}
    assert "within 3 hours" in week["throughput"]


@virtual
async def test_columns_stand_on_one_another_and_lines_break_where_nothing_ended() -> None:
    house = House()
    await house.ended(*[SECOND] * 30, ago=3 * MINUTE)
    await house.ended(*[SECOND] * 10, ago=3 * MINUTE, status="compensated")
    await house.ended(SECOND)
    charts = named(charts_of(await house.course()))
    done, undone, now = charts["throughput"].bars
    assert (done.look, undone.look, now.look) == ("done", "undone", "done part")
    assert done.y + done.height == TOP + PLOT
    assert undone.y + undone.height == pytest.approx(done.y)
    assert undone.y == TOP
    assert [text for _, text in charts["throughput"].levels] == ["40", "20", "0"]
    [line] = charts["failures"].lines
    assert re.fullmatch(r"M933\.3 60H950M983\.3 120H1000", line.path)
    assert [text for _, text in charts["failures"].levels] == ["50 %", "25 %", "0 %"]
    assert [text for _, text in charts["durations"].levels] == ["1 s", "500 ms", "0"]
    assert [text for _, text in charts["throughput"].times] == ["09:41", "09:56", "10:11", "10:26", "now"]


@virtual
async def test_one_is_not_told_as_many() -> None:
    house = House()
    await house.ended(SECOND, ago=3 * MINUTE)
    assert charts_of(await house.course())[0].told.startswith(
        "Within 1 hour 1 saga began, 1 was completed and 0 undone."
    )


@virtual
async def test_where_nothing_happened_there_is_a_field_and_the_word_for_it() -> None:
    for span in SPANS:
        charts = charts_of(await House().course(span))
        assert [chart.bars for chart in charts] == [(), (), ()]
        assert charts[0].told == f"Within {span.text} 0 sagas began, 0 were completed and 0 undone."
        assert [chart.told for chart in charts[1:]] == ["None ended.", "None ended: there is nothing to show."]
        assert charts[2].levels == (), "no figure says how high the field is"


@virtual
async def test_what_took_a_year_or_no_time_at_all_is_drawn_too() -> None:
    for took in (0, 1, 365 * 86_400 * SECOND, 3_650 * 86_400 * SECOND):
        house = House()
        await house.ended(took)
        for chart in charts_of(await house.course()):
            for line in chart.lines:
                heights = [float(number) for number in re.findall(r"[V ]([\d.]+)", line.path)]
                assert all(0 <= height <= PLOT for height in heights)


def test_shares_are_told_to_two_digits_where_they_are_small() -> None:
    assert [percent(share) for share in (0, 0.004, 0.0312, 0.1, 0.555, 1)] == [
        "0 %",
        "0.4 %",
        "3.1 %",
        "10 %",
        "56 %",
        "100 %",
    ]
    assert percent(None) == "\N{EN DASH}"
