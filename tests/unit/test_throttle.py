"""Work that yields to live traffic: slower while that is late, faster while it is not, and never at a standstill."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streams.errors import UnavailableError
from streams.throttle import HOLD_S, LATE_S, MIN_RATE, STANDING_S, START_RATE, Seen, Throttle


class World:
    """Live flows, and somebody who reads as fast as it is allowed to, in steps of a hundredth of a second."""

    def __init__(self, seen: Callable[[int], Seen | None], chunk: int = 512) -> None:
        self.now = 0.0
        self.looks = 0
        self.read = 0
        self.longest_s = 0.0
        self._seen = seen
        self._chunk = chunk
        self._read_at = 0.0
        self.throttle = Throttle(self._look, name="build", to="g1", clock=lambda: self.now)

    def _look(self) -> Seen | None:
        self.looks += 1
        return self._seen(self.looks)

    def run(self, seconds: float, most: float = 1e9) -> float:
        """Records read a second; ``most``: what the reader can do at best."""
        before, end = self.read, self.now + seconds
        while self.now < end:
            if not self.throttle.wait_s():
                self.longest_s = max(self.longest_s, self.now - self._read_at)
                self._read_at = self.now
                step = int(min(self._chunk, most / 100))
                self.throttle.took(step)
                self.read += step
            self.now += 0.01
            if int(self.now) > int(self.now - 0.01):
                self.throttle.look()
        return (self.read - before) / seconds


def late(behind_s: float) -> Callable[[int], Seen]:
    return lambda look: Seen(behind_s, look)


def test_reading_grows_to_all_that_it_can_while_live_traffic_is_not_late() -> None:
    world = World(late(0.2))
    assert world.run(1) <= 2 * START_RATE + 512
    world.run(30, most=8_000)
    assert world.run(10, most=8_000) > 7_000


def test_reading_falls_to_a_trickle_while_live_traffic_is_late_and_recovers_after_it() -> None:
    world = World(lambda look: Seen(10.0 if 20 <= look < 40 else 0.1, look))
    world.run(19)
    fast = world.run(1)
    world.run(10)
    assert world.throttle.yielding
    slow = world.run(9)
    assert slow <= 2 * MIN_RATE
    assert fast > 10 * slow
    world.run(20)
    assert not world.throttle.yielding
    assert world.run(5) > fast / 2


def test_between_late_and_easy_the_rate_stays() -> None:
    world = World(late((LATE_S + 1.5) / 2))
    before = world.throttle.rate
    world.run(10)
    assert world.throttle.rate == before


def test_it_never_stands_still_longer_than_its_group_can_bear() -> None:
    world = World(lambda look: Seen(60.0, look, backlog=10**9))
    world.run(120)
    assert world.read > 0
    assert world.longest_s <= HOLD_S + 512 / MIN_RATE


def test_what_it_has_read_must_be_dealt_with_before_it_reads_more() -> None:
    world = World(lambda look: Seen(0.0, look, backlog=50_000 if look < 15 else 0))
    world.run(2)
    assert world.run(12) == 0.0
    assert world.run(5) > 0


def test_flows_that_do_not_run_at_all_are_not_waited_for() -> None:
    world = World(lambda look: Seen(float(look), 7))
    world.run(STANDING_S - 2)
    assert world.throttle.yielding
    world.run(20)
    assert not world.throttle.yielding


def test_nobody_to_yield_to_means_no_limit() -> None:
    world = World(lambda look: None)
    world.run(2)
    assert world.throttle.rate is None
    assert world.throttle.wait_s() == 0.0


def test_a_look_that_fails_changes_nothing() -> None:
    def fails() -> Seen:
        raise UnavailableError("no broker")

    throttle = Throttle(fails, name="build", to="g1")
    with pytest.raises(UnavailableError):
        throttle.look()
    assert throttle.rate == START_RATE
