"""What a chaos run says about a kill: when the partitions of the one that was killed were committed again."""

from __future__ import annotations

import pytest

from tests.chaos.rig import Commits, Positions

KILLED = 100.0
PARTITION = ("chaos.updates", 1)


@pytest.mark.parametrize(
    ("committed", "ends", "seconds"),
    [
        ([(99.0, 5), (104.0, 9)], [(98.0, 5), (101.0, 9)], 3.0),  # it came after the kill
        ([(99.0, 5), (104.0, 9)], [(98.0, 9)], 4.0),  # it lay there
        ([(99.0, 5), (100.2, 7), (106.0, 9)], [(98.0, 9)], 6.0),  # seen late, committed before the kill
        ([(99.0, 5)], [(98.0, 5)], 0.0),  # nothing has come
        ([(99.0, 5)], [(98.0, 5), (130.0, 9)], None),
        ([], [(98.0, 5)], None),
    ],
)
def test_recovery_is_counted_from_when_there_is_something_to_do(
    committed: Positions, ends: Positions, seconds: float | None
) -> None:
    commits = Commits({("summarize", PARTITION): committed}, {("summarize", PARTITION): ends})
    assert commits.recovered_s("summarize", [PARTITION], KILLED) == seconds
