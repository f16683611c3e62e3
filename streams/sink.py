"""The writing half of the transactional pair for Bytewax: one epoch, one Kafka transaction."""

from __future__ import annotations

import time

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from streams import metrics
from streams.io import Outbox, Outgoing, Positions
from streams.session import Session


class _Part(StatefulSinkPartition[Outbox, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._records: list[Outgoing] = []
        self._positions: Positions = {}

    def write_batch(self, values: list[Outbox]) -> None:
        """Held in memory until the epoch ends: a transaction is open only for as long as it takes to write it."""
        for outbox in values:
            self._records.extend(outbox.records)
            self._positions.update(outbox.positions)

    def snapshot(self) -> None:
        if not self._records and not self._positions:
            return
        session = self._session
        if session.failure is None:
            try:
                session.commit(self._records, self._positions)
            except Exception as error:
                session.failure = error
        if session.epoch_began is not None:
            metrics.EPOCH_SECONDS.labels(session.spec.name).observe(time.monotonic() - session.epoch_began)
            session.epoch_began = None
        self._records = []
        self._positions = {}


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
