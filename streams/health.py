"""What a flow process is doing, told to whoever asks: written by the worker's thread, read by the server of /health.

Progress is what the process itself says: a heartbeat of some other thread would go on although the work stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

JOIN_BOUND_S: Final = 150.0
"""Joining a group ends by itself (exit 69) after ``Limits.broker_gone_s`` and one more call to the broker; reading
state back after ``state.STALL_S`` without a record. What takes longer than either hangs."""
STOP_BOUND_S: Final = 15.0
"""A process that was asked to end, and has not after this, hangs (it gives up by itself after ``STOP_S``)."""


class Phase(StrEnum):
    """What a flow process is at. Only ``running`` and ``standing_by`` are ready; ``waiting`` is healthy."""

    JOINING = "joining"
    STANDING_BY = "standing_by"
    RESTORING = "restoring"
    RUNNING = "running"
    WAITING = "waiting"
    """For something outside (a store, a broker, a model) that is away; ``detail`` says for what."""
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(slots=True)
class FlowStatus:
    """One process's own account of itself. Each field is written whole by one thread, so any thread may read it."""

    flow: str
    process: str
    generation: str
    phase: Phase = Phase.JOINING
    detail: str = ""
    partitions: str = ""
    """For a person: ``raw.rss/0-3``."""
    restored: int = 0
    """State records (or offsets) read back so far …"""
    to_restore: int = 0
    """… of so many."""
    lag: int | None = None
    """Offsets behind the ends of its own partitions; None: not known yet."""
    clock: Callable[[], float] = time.monotonic
    progressed_at: float = field(init=False)
    """When it last did something (``clock``): committed, read state, found nothing to do, tried a store again."""
    _bound_s: float | None = None

    def __post_init__(self) -> None:
        self.progressed_at = self.clock()

    # -- told by the worker -------------------------------------------------------------------------------------

    def enter(self, phase: Phase, detail: str = "") -> None:
        """Begin a phase. Entered again: it still gets on with it (joining and standing by say so at each poll).

        A process that is stopping (another thread may have said so) begins nothing any more; it can still fail.
        """
        self.progressed_at = self.clock()
        if self.phase is Phase.STOPPING and phase is not Phase.FAILED:
            return
        self.phase, self.detail = phase, detail

    def progressed(self) -> None:
        """Something was done: a transaction committed, or nothing there to do."""
        self.progressed_at = self.clock()

    def restoring(self, done: int, total: int) -> None:
        """State was read back up to ``done`` of ``total``; only a change is progress."""
        if self.phase is not Phase.RESTORING or done != self.restored:
            self.enter(Phase.RESTORING, self.detail if self.phase is Phase.RESTORING else "")
        self.restored, self.to_restore = done, total

    def behind(self, records: int) -> None:
        """The lag as it is now, told every few seconds; none is as good as progress."""
        self.lag = records
        if records == 0:
            self.progressed()

    def waiting(self, detail: str) -> None:
        """Waits for something outside; said again at each try. :meth:`progressed` does not end it, ``working`` does."""
        self.enter(Phase.WAITING, detail)

    def working(self) -> None:
        """What was waited for is back."""
        if self.phase is Phase.WAITING:
            self.enter(Phase.RUNNING)
        else:
            self.progressed()

    @contextmanager
    def during(self, detail: str, bound_s: float) -> Iterator[None]:
        """A call that may take long without a sign of progress (a model, an API): hung only after ``bound_s``."""
        before = self.detail
        self.progressed_at = self.clock()
        self._bound_s, self.detail = bound_s, detail
        try:
            yield
        finally:
            self.progressed_at = self.clock()
            self._bound_s, self.detail = None, before

    # -- asked by others ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it works, or stands by for one that does."""
        return self.phase in (Phase.RUNNING, Phase.STANDING_BY)

    @property
    def idle_s(self) -> float:
        """Seconds since it last got on."""
        return max(0.0, self.clock() - self.progressed_at)

    def hung(self, hang_s: float) -> str | None:
        """Why it counts as hung: no progress for longer than what it is at may take; None where it does not.

        Args:
            hang_s: how long a running process with lag may go without progress, in seconds.
        """
        phase, idle_s = self.phase, self.idle_s
        bound_s = {
            Phase.JOINING: max(hang_s, JOIN_BOUND_S),
            Phase.RESTORING: max(hang_s, JOIN_BOUND_S),
            Phase.STOPPING: STOP_BOUND_S,
        }.get(phase, hang_s)
        bound_s = max(bound_s, self._bound_s or 0.0)
        if idle_s <= bound_s:
            return None
        what = f"{phase.value}, {self.detail}" if self.detail else phase.value
        lag = f", {self.lag:,} records behind" if self.lag else ""
        return f"no progress for {idle_s:.0f} s ({what}{lag}; at most {bound_s:.0f} s are expected)"

    def report(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "flow": self.flow,
            "process": self.process,
            "generation": self.generation,
            "phase": self.phase.value,
            "detail": self.detail,
            "partitions": self.partitions,
            "restore": {"done": self.restored, "total": self.to_restore},
            "lag_records": self.lag,
            "progress_age_s": round(self.idle_s, 1),
        }
