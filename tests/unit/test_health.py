"""What a flow process says of itself: which phase is ready, and what counts as hung."""

from __future__ import annotations

import pytest

from streams.health import JOIN_BOUND_S, STOP_BOUND_S, FlowStatus, Phase
from tests.unit.conftest import Clock

HANG_S = 60.0


def test_running_with_lag_and_without_progress_is_hung_and_says_why(status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.RUNNING)
    clock.now += HANG_S
    status.behind(7_000)
    assert status.hung(HANG_S) is None
    clock.now += 1
    reason = status.hung(HANG_S)
    assert reason is not None
    assert "no progress for 61 s" in reason
    assert "7,000 records behind" in reason


def test_a_process_that_has_nothing_to_do_is_not_hung_as_long_as_it_says_so(status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.RUNNING)
    for _ in range(10):
        clock.now += HANG_S - 1
        status.behind(0)
    assert status.hung(HANG_S) is None
    clock.now += HANG_S + 1  # the worker itself stands still: nobody would see new lag
    assert status.hung(HANG_S) is not None


def test_restoring_makes_progress_by_its_counter_alone(status: FlowStatus, clock: Clock) -> None:
    status.restoring(0, 100)
    for done in range(1, 4):
        clock.now += JOIN_BOUND_S - 1
        status.restoring(done, 100)
    assert status.hung(HANG_S) is None
    clock.now += JOIN_BOUND_S + 1
    status.restoring(3, 100)
    assert "restoring" in (status.hung(HANG_S) or "")


def test_waiting_for_something_outside_is_healthy_while_it_is_tried_again(status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.RUNNING)
    status.behind(10**6)
    for _ in range(10):
        clock.now += HANG_S - 1
        status.waiting("shard 1 does not answer")
        assert status.hung(HANG_S) is None
        assert not status.ready
    status.working()
    assert status.ready
    status.waiting("shard 1 does not answer")
    clock.now += HANG_S + 1
    assert "shard 1" in (status.hung(HANG_S) or "")


def test_a_long_call_has_a_bound_of_its_own(status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.RUNNING)
    with status.during("embedding 512 texts", 300):
        clock.now += 299
        assert status.hung(HANG_S) is None
        clock.now += 2
        assert "embedding 512 texts" in (status.hung(HANG_S) or "")
    assert status.hung(HANG_S) is None
    assert status.detail == ""


@pytest.mark.parametrize("phase", Phase)
def test_only_working_and_standing_by_are_ready(status: FlowStatus, phase: Phase) -> None:
    status.enter(phase)
    assert status.ready == (phase in (Phase.RUNNING, Phase.STANDING_BY))


def test_a_process_that_is_stopping_is_not_ready_again_and_may_still_fail(status: FlowStatus) -> None:
    status.enter(Phase.STOPPING)
    status.working()
    status.restoring(1, 2)
    status.enter(Phase.RUNNING)
    assert status.phase is Phase.STOPPING
    assert not status.ready
    status.enter(Phase.FAILED, "the broker is away")
    assert status.phase is Phase.FAILED


def test_stopping_is_bounded(status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.STOPPING)
    clock.now += STOP_BOUND_S + 1
    assert status.hung(HANG_S) is not None


def test_the_report_is_complete(status: FlowStatus, clock: Clock) -> None:
    status.partitions = "raw.rss/0-3"
    status.restoring(5, 10)
    clock.now += 2
    assert status.report() == {
        "flow": "embed",
        "process": "embed-0",
        "generation": "g1",
        "phase": "restoring",
        "detail": "",
        "partitions": "raw.rss/0-3",
        "restore": {"done": 5, "total": 10},
        "lag_records": None,
        "progress_age_s": 2.0,
    }
