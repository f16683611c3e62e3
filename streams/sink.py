"""The writing half of the transactional pair for Bytewax: a transaction every few epochs, all of each epoch or none.

Bytewax's epochs are short ticks (``TICK``), so that a transaction can end as soon as it is due: after ``commit_ms``, or
when it holds so many records or bytes. Nothing is recovered from Bytewax, so epochs and transactions need not be one to
one; records and the offsets that they cover always leave together.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from streams import metrics
from streams.io import Outbox, Outgoing, Positions
from streams.session import Session

TICK: Final = timedelta(milliseconds=10)
"""Bytewax's ``epoch_interval`` for every flow."""


class _Part(StatefulSinkPartition[Outbox, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._records: list[Outgoing] = []
        self._bytes = 0
        self._positions: Positions = {}
        self._since: float | None = None
        """When the first chunk of the transaction was taken."""
        self._queue = f"{session.spec.name}.sink"
        session.unwritten = False
        metrics.QUEUE_BOUND.labels(self._queue).set(2 * session.limits.commit_records)
        self._idle = False
        """Whether the source has nothing more for now."""

    def write_batch(self, values: list[Outbox]) -> None:
        """Held in memory until the transaction is due: it is open only for as long as it takes to write it."""
        for outbox in values:
            self._idle = not outbox.positions and not outbox.records
            self._records.extend(outbox.records)
            self._bytes += sum(len(record.value or b"") for record in outbox.records)
            self._positions.update(outbox.positions)
        if self._since is None and (self._positions or self._records):
            self._since = self._session.taken_at or time.monotonic()
        self._tell_held()

    def snapshot(self) -> None:
        """The end of a Bytewax epoch: everything that it became is here, so this is where a transaction may end."""
        session, limits = self._session, self._session.limits
        if self._since is None or session.failure is not None:
            return
        due = (
            session.stopping
            or len(self._records) >= limits.commit_records
            or self._bytes >= limits.commit_bytes
            or time.monotonic() - self._since >= (limits.idle_commit_ms if self._idle else limits.commit_ms) / 1000
        )
        if not due:
            return
        try:
            session.commit(self._records, self._positions)
        except Exception as error:
            session.failure = error
            return
        metrics.EPOCH_SECONDS.labels(session.spec.name).observe(time.monotonic() - self._since)
        self._records, self._bytes, self._positions, self._since = [], 0, {}, None
        self._tell_held()

    def _tell_held(self) -> None:
        self._session.unwritten = bool(self._records)
        metrics.QUEUE_RECORDS.labels(self._queue).set(len(self._records))


class KafkaSink(FixedPartitionedSink[Outbox, None]):
    """One part, one sink for all outputs of a flow; takes ``("only", Outbox)``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list_parts(self) -> list[str]:
        return ["only"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Part:
        return _Part(self._session)

    def part_fn(self, item_key: str) -> int:
        return 0
