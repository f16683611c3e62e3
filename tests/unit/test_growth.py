"""Growing the streams as arithmetic: whose child a partition is, and where a trend has lived."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.growth import Growth, Step, growth_of
from streams.keys import partition_of
from streams.records import ChangePhase, PartitionChange

AT = datetime(2026, 3, 1, tzinfo=UTC)
TWICE = Growth(16, (Step(4, 8, 1), Step(8, 16, 2)))


def change(before: int, after: int, at: int, phase: ChangePhase = ChangePhase.ACTIVE) -> tuple[PartitionChange, int]:
    moment = AT + timedelta(milliseconds=at)
    return PartitionChange(before=before, after=after, phase=phase, changed_at=moment), at


def test_without_a_change_the_configured_number_counts() -> None:
    assert growth_of(4, []) == Growth(4)


def test_what_is_recorded_wins_over_the_setting() -> None:
    assert growth_of(4, [change(8, 16, 5)]) == Growth(16, (Step(8, 16, 5),))
    assert growth_of(16, [change(4, 8, 1), change(8, 16, 2)]) == TWICE


def test_partitions_in_preparation_are_known_and_not_used() -> None:
    preparing = change(4, 8, 1, ChangePhase.PREPARING)
    assert growth_of(4, [preparing]) == Growth(4, (), 8)
    assert growth_of(4, [preparing, change(4, 8, 2)]) == Growth(8, (Step(4, 8, 2),))


def test_partitions_of_a_larger_growth_that_was_given_up_stay_explained() -> None:
    assert growth_of(4, [change(4, 16, 1, ChangePhase.PREPARING), change(4, 8, 2)]).coming == 16


def test_a_change_that_was_overtaken_is_void_for_everyone() -> None:
    assert growth_of(4, [change(4, 8, 1), change(4, 16, 2)]) == Growth(8, (Step(4, 8, 1),))
    assert growth_of(4, [change(4, 8, 1), change(4, 8, 2)]) == Growth(8, (Step(4, 8, 1),))
    assert growth_of(4, [change(4, 8, 1), change(8, 4, 2)]) == Growth(8, (Step(4, 8, 1),))


def test_a_change_to_what_no_trend_could_be_placed_by_is_void() -> None:
    for before, after in ((4, 7), (4, 1000), (3, 6), (5, 8)):
        for phase in ChangePhase:
            assert growth_of(4, [change(before, after, 1, phase)]) == Growth(4)
    assert growth_of(4, [change(4, 12, 1), change(4, 8, 2)]) == Growth(8, (Step(4, 8, 2),))


def test_a_new_partition_is_the_child_of_the_one_that_held_its_trends() -> None:
    assert [TWICE.parent(p) for p in range(16)] == [None] * 4 + [0, 1, 2, 3] + list(range(8))
    assert [(child, step.after) for child, step in TWICE.children(0)] == [(4, 8), (8, 16)]
    assert [(child, step.after) for child, step in TWICE.children(4)] == [(12, 16)]
    assert TWICE.children(12) == []
    assert TWICE.line(12) == [0, 4, 12]


def test_growing_by_more_than_two_at_once_makes_several_children() -> None:
    once = Growth(16, (Step(4, 16, 1),))
    assert [child for child, _ in once.children(1)] == [5, 9, 13]
    assert once.line(13) == [1, 13]


@given(
    trend=st.text(min_size=1, max_size=30),
    exponents=st.lists(st.integers(0, 10), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_a_trend_lives_where_every_number_of_its_time_says(trend: str, exponents: list[int]) -> None:
    counts = [2**e for e in exponents]
    growth = growth_of(1, [change(a, b, i) for i, (a, b) in enumerate(pairwise(counts))])
    if len(counts) == 1:
        growth = Growth(counts[0])
    lived = list(dict.fromkeys(partition_of(trend, count) for count in counts))
    assert growth.line_of(trend) == lived
    for parent, child in pairwise(lived):
        assert child in [c for c, _ in growth.children(parent)]
