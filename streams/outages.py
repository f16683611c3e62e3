"""When sources could not be read (`sources.gaps`): written by who collects, followed by who counts."""

from __future__ import annotations

from collections.abc import Callable

from streams.codec import refuse_key
from streams.config import KafkaConfig
from streams.records import SourceGap
from streams.state import ControlReader
from streams.table import SOURCE_GAPS


class OutageFollower:
    """First all that is known, then every change. Call :meth:`poll` before each batch."""

    def __init__(self, kafka: KafkaConfig, take: Callable[[SourceGap], None]) -> None:
        self._take_gap = take
        self._reader = ControlReader(kafka, SOURCE_GAPS, SourceGap, self._take)

    def _take(self, key: bytes, gap: SourceGap | None) -> None:
        if gap is not None:
            refuse_key(key, gap.key)
            self._take_gap(gap)

    def catch_up(self) -> None:
        """Reads to the present end.

        Raises:
            UnavailableError: the broker does not answer, or the stream does not exist (`trends streams apply`).
        """
        self._reader.catch_up(lambda: None)

    def poll(self) -> None:
        """Takes what has arrived."""
        self._reader.poll(0)

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()
