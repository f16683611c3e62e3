"""The reading half of the transactional pair for Bytewax: chunks of messages, bounded epochs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streams import metrics
from streams.io import Chunk
from streams.session import Session

IDLE = timedelta(milliseconds=20)
"""How soon to ask again after nothing had arrived, or while an epoch is full."""


class _Part(StatefulSourcePartition[Chunk, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = 0
        self._bytes = 0
        self._awake: datetime | None = None

    def next_batch(self) -> list[Chunk]:
        session, limits = self._session, self._session.limits
        if session.stopping or session.failure:
            raise StopIteration  # the open epoch is finished: committed, or dropped after a failure
        full = self._records >= limits.epoch_records or self._bytes >= limits.epoch_bytes
        try:
            chunk = None if full else session.poll()
        except Exception as error:
            session.failure = error
            raise StopIteration from None
        self._awake = None if chunk and chunk.messages else datetime.now(UTC) + IDLE
        if chunk is None:
            return []
        if chunk.messages and not self._records:
            session.epoch_began = time.monotonic()
        self._records += len(chunk.messages)
        self._bytes += sum(map(len, chunk.messages))
        metrics.BATCH_RECORDS.labels(session.spec.name).observe(len(chunk.messages))
        return [chunk]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> None:
        """An epoch ends; the next one may be filled. Nothing is kept here: the log is the state."""
        self._records = self._bytes = 0


class KafkaSource(FixedPartitionedSource[Chunk, None]):
    """One part: all that the consumer group has given this process."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list_parts(self) -> list[str]:
        return ["only"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Part:
        return _Part(self._session)
