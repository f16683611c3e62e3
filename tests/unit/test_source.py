"""How much a flow takes at once."""

from __future__ import annotations

from streams.source import LEAST_RECORDS, ChunkSize
from streams.spec import Limits

LIMITS = Limits(chunk_records=512, commit_ms=500)


def dealt_with(size: ChunkSize, per_s: float, chunks: int) -> list[int]:
    """The sizes of full chunks, one after the other, of a flow that deals with so many records a second."""
    sizes = []
    for _ in range(chunks):
        sizes.append(size.records)
        size.took(size.records, size.records / per_s)
    return sizes


def test_a_slow_flow_takes_what_it_can_deal_with_in_about_the_time_of_a_transaction() -> None:
    size = ChunkSize(LIMITS)
    assert dealt_with(size, 300, 4)[0] == 512
    assert 440 <= size.records <= 450
    assert 140 <= dealt_with(size, 100, 3)[-1] <= 150
    assert dealt_with(size, 20, 4)[-1] == LEAST_RECORDS


def test_a_flow_that_is_fast_again_takes_all_it_may_and_one_that_waits_for_records_takes_no_more() -> None:
    size = ChunkSize(LIMITS)
    dealt_with(size, 200, 4)
    slow = size.records
    size.took(slow // 2, 0.001)
    assert size.records == slow
    assert dealt_with(size, 50_000, 6)[-1] == 512
    few = ChunkSize(Limits(chunk_records=16))
    assert dealt_with(few, 1, 3) == [16, 16, 16]
