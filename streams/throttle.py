"""Work that yields: how fast history may be read, so that live traffic does not notice.

A token bucket whose rate follows what is asked of the broker every second: how far the live flows are behind. Halved
where they are late, raised again where they are not (additive increase would take minutes, so it is multiplied, and
never to more than twice what was really read). It never stands still: what yields keeps its place in its group.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streams import metrics
from streams.errors import TrendsError

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the live flows are looked at."""
LATE_S: Final = 2.5
"""Live flows this far behind are late: four commits of 500 ms after each other, and some."""
EASY_S: Final = 1.5
"""Below this the rate is raised again; between the two it stays."""
START_RATE: Final = 500.0
MIN_RATE: Final = 50.0
"""Records a second: the first rate, and the lowest."""
STANDING_S: Final = 30.0
"""Live flows that are late and have not moved for so long do not run: yielding would not help them."""
HOLD_S: Final = 20.0
"""The longest that reading is held for a backlog of its own; then one chunk passes (a group expects a poll)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found."""

    behind_s: float
    """How far the live flows are behind: the oldest record that one of them has not dealt with, seconds."""
    done: int
    """Offsets that they have committed, added up: whether they move."""
    backlog: int = 0
    """Records that are read already and wait behind whoever yields."""


class Throttle:
    """Asked before every read, told after it. :meth:`start` looks by itself; tests call :meth:`look`."""

    def __init__(
        self,
        probe: Callable[[], Seen | None],
        *,
        name: str,
        to: str,
        max_backlog: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            probe: one look; None: there is nobody to yield to (any more).
            name: who yields, for logs and metrics.
            to: whom it yields to.
            max_backlog: records that may wait behind it.
        """
        self.rate: float | None = START_RATE
        """Records a second; None: not limited."""
        self.yielding = False
        """Whether the live flows are late, and the rate therefore low."""
        self._probe = probe
        self._name = name
        self._to = to
        self._max_backlog = max_backlog
        self._clock = clock
        self._tokens = 0.0
        self._filled_at = clock()
        self._taken = 0
        self._taken_at = clock()
        self._looked_at = clock()
        self._full = False
        self._done: int | None = None
        self._moved_at = clock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- asked by who reads --------------------------------------------------------------------------------------

    def wait_s(self) -> float:
        """Seconds until something may be read; 0: now."""
        now = self._clock()
        rate = self.rate
        if rate is None:
            return 0.0
        self._tokens = min(self._tokens + (now - self._filled_at) * rate, rate * LOOK_S)
        self._filled_at = now
        if self._full and now - self._taken_at < HOLD_S:
            return min(LOOK_S, HOLD_S - (now - self._taken_at))
        return max(0.0, -self._tokens / rate)

    def took(self, records: int) -> None:
        """So many were read. More than there were tokens for: the next read waits for longer."""
        self._tokens -= records
        self._taken += records
        self._taken_at = self._clock()

    # -- one look ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Looks at the live flows and sets the rate."""
        now = self._clock()
        actual = self._taken / max(now - self._looked_at, 1e-3)
        self._taken, self._looked_at = 0, now
        seen = self._probe()
        if seen is None:
            self._set(None, False, "nobody to yield to")
            return
        if seen.done != self._done:
            self._done, self._moved_at = seen.done, now
        self._full = seen.backlog > self._max_backlog
        rate = self.rate or START_RATE
        if seen.behind_s > LATE_S and now - self._moved_at < STANDING_S:
            slower = max(MIN_RATE, min(rate, actual or rate) / 2)
            self._set(slower, True, f"{self._to} is {seen.behind_s:.1f} s behind")
        elif seen.behind_s < EASY_S or now - self._moved_at >= STANDING_S:
            faster = max(START_RATE, min(rate * 1.5, 2 * actual)) if actual >= rate / 2 else max(rate, START_RATE)
            self._set(faster, False, f"{self._to} is not late")

    def _set(self, rate: float | None, yielding: bool, why: str) -> None:
        if yielding != self.yielding:
            log.info("%s %s: %s", self._name, "yields" if yielding else "goes on", why)
        self.rate, self.yielding = rate, yielding
        metrics.THROTTLE_RATE.labels(self._name).set(rate if rate is not None else float("inf"))

    # -- by itself -----------------------------------------------------------------------------------------------

    def start(self) -> Throttle:
        """Looks every second, in a thread of its own, until :meth:`stop`."""
        self._thread = threading.Thread(target=self._serve, name=f"{self._name}-throttle", daemon=True)
        self._thread.start()
        return self

    def _serve(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.look()
            except TrendsError as error:  # a look that fails says nothing: the rate stays
                log.debug("%s could not look at %s: %s", self._name, self._to, error)

    def stop(self) -> None:
        """No more looks."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * LOOK_S)
