"""Records that are gone unread: what is told, what is skipped, and what is no loss at all."""

from __future__ import annotations

import pytest

from streams.errors import OffsetsExpiredError, RestartRequired
from streams.gaps import Gaps
from streams.io import Partition
from streams.spec import OnGap

RAW, OURS = ("raw.rss", 0), ("items.embedded", 3)


class Broker:
    """Knows where partitions begin and end, and counts the questions."""

    def __init__(self, ends: dict[Partition, tuple[int, int]]) -> None:
        self.ends = ends
        self.asked: list[Partition] = []

    def __call__(self, partition: Partition) -> tuple[int, int]:
        self.asked.append(partition)
        return self.ends[partition]


def gaps(on_gap: OnGap) -> Gaps:
    return Gaps("g1", "embed", "g1.embed", "embed-0", frozenset({OURS[0]}), on_gap)


def test_what_is_missing_is_told_and_nothing_skipped() -> None:
    found = gaps(OnGap.STOP)
    with pytest.raises(OffsetsExpiredError, match=r"raw\.rss/0 from 10 to 29, 20 in all"):
        found.look([RAW, OURS], {RAW: 10, OURS: 5}, Broker({RAW: (30, 40), OURS: (5, 9)}))


def test_told_to_skip_it_each_hole_is_due_once_where_the_group_still_stands_before_it() -> None:
    found, broker = gaps(OnGap.SKIP), Broker({RAW: (30, 40), OURS: (7, 9)})
    with pytest.raises(RestartRequired):
        found.look([RAW, OURS], {RAW: 10, OURS: 5}, broker)
    due = found.due({RAW: 10, OURS: 8})  # another process has moved on in OURS meanwhile
    assert [(hole.gap.stream, hole.gap.first, hole.gap.until, hole.missing) for hole in due] == [(RAW[0], 10, 30, True)]
    assert found.due({RAW: 10}) == []
    assert sorted(broker.asked) == sorted([RAW, OURS]), "one question a partition"


@pytest.mark.parametrize("on_gap", OnGap)
def test_the_marker_of_an_emptied_stream_of_ours_is_skipped_and_is_no_loss(on_gap: OnGap) -> None:
    found = gaps(on_gap)
    with pytest.raises(RestartRequired):
        found.look([OURS], {OURS: 6}, Broker({OURS: (7, 7)}))
    assert [hole.missing for hole in found.due({OURS: 6})] == [False]


@pytest.mark.parametrize(
    ("partition", "ends"), [(RAW, (7, 7)), (OURS, (7, 8)), (OURS, (8, 8))], ids=["raw", "not empty", "two offsets"]
)
def test_anything_else_may_be_a_record(partition: Partition, ends: tuple[int, int]) -> None:
    with pytest.raises(OffsetsExpiredError, match="deleted before they were read"):
        gaps(OnGap.STOP).look([partition], {partition: 6}, Broker({partition: ends}))


def test_a_stream_that_ends_before_what_is_committed_is_never_skipped() -> None:
    with pytest.raises(OffsetsExpiredError, match="made anew or cut"):
        gaps(OnGap.SKIP).look([RAW], {RAW: 10}, Broker({RAW: (0, 4)}))
