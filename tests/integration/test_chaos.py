"""Faults on every process for three quarters of a minute; `make chaos` goes on for longer, with any seed."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.faults import Kind, schedule
from tests.chaos.rig import PROCESSES
from tests.chaos.run import chaos

SEED = 4
SECONDS = 45.0
RATE = 150.0


def test_whatever_is_killed_or_stopped_nothing_is_lost_doubled_or_wrong(tmp_path: Path) -> None:
    outcome = chaos(tmp_path, SEED, SECONDS, RATE)
    assert outcome.hits >= 6
    assert outcome.counts["acknowledged"] > 0
    assert (outcome.lost, outcome.doubled, outcome.wrong) == ([], [], [])
    assert outcome.verify == []
    assert outcome.faults == []


def test_a_seed_has_one_schedule() -> None:
    one, same, other = (schedule(seed, 600, PROCESSES, 2, freeze_s=9.0) for seed in (1, 1, 2))
    assert one == same != other
    assert {fault.kind.value for fault in one} >= {"kill", "pause", "freeze", "term"}


def test_every_third_seed_grows_the_streams_with_kills_around_it() -> None:
    for seed in range(6):
        faults = schedule(seed, 60, PROCESSES, 2, freeze_s=9.0, partitions=4)
        growths = [f for f in faults if f.kind is Kind.GROW]
        assert [(f.at_s, f.partitions) for f in growths] == ([(30.0, 8)] if seed % 3 == 0 else [])
        if growths:
            around = [f for f in faults if 30 < f.at_s < 42]
            assert sum(f.kind is Kind.KILL for f in around) >= 6
            assert not any("kafka" in f.targets for f in around)
        assert [f.at_s for f in faults] == sorted(f.at_s for f in faults)
