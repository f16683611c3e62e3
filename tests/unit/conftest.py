"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from streams.health import FlowStatus


class Clock:
    """A monotonic clock that moves when a test says so, in seconds."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> FlowStatus:
    """What a flow process says of itself, by that clock."""
    return FlowStatus("embed", "embed-0", "g1", clock=clock)
