"""History from some event time on: what a build of a generation leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streams.records import Observation


@dataclass(frozen=True, slots=True)
class Since:
    """Leaves out older events among what had arrived when the build was begun; what came after that is live traffic,
    and all of it counts."""

    event_time: datetime
    begun_at: datetime

    def keeps(self, item: Observation, message: Any) -> bool:
        """Whether an observation, that came in this message, belongs to the generation."""
        return self.counts(item.event_time, message.timestamp()[1])

    def counts(self, event_time: datetime, arrived_ms: int) -> bool:
        """Whether what happened and arrived (LogAppendTime, ms) then belongs to the generation."""
        return event_time >= self.event_time or arrived_ms >= self.begun_at.timestamp() * 1000
