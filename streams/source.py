"""The reading half of the transactional pair for Bytewax: chunks of messages, bounded epochs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streams import metrics
from streams.io import Chunk
from streams.session import Session
from streams.spec import Limits

IDLE_MS: Final = (1, 2, 5, 10, 20)
"""How soon to ask again after nothing had arrived once, twice, …: quick under load, cheap when idle."""


CHUNK_COMMITS: Final = 3
"""Larger chunks are embedded faster (titles are sorted by length: 455 a second in chunks of 512, 436 in chunks of 256,
398 of 128); smaller ones are there sooner."""
LEAST_RECORDS: Final = 64
"""A chunk is never made smaller than this for being slow."""


_NOTHING = Chunk([], {})


class ChunkSize:
    """How many records to take at once: no more than are dealt with in ``CHUNK_COMMITS`` times the time of a
    transaction, which waits for a whole chunk, as its readers do for the transaction."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.chunk_records
        self._due_s = CHUNK_COMMITS * limits.commit_ms / 1_000
        self.records = self._most

    def took(self, records: int, seconds: float) -> None:
        """So many records have been dealt with in so long."""
        if seconds > self._due_s:
            able = int(records * self._due_s / seconds)
            self.records = max(min(LEAST_RECORDS, self._most), min(self.records, able))
        elif records == self.records and 2 * seconds <= self._due_s:
            self.records = min(self._most, 2 * self.records)


class _Part(StatefulSourcePartition[Chunk, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = 0
        self._bytes = 0
        self._idle = 0
        self._awake: datetime | None = None
        self._size = ChunkSize(session.limits)
        self._given = 0
        """Records of the last chunk; the next is asked for when it is done."""

    def next_batch(self) -> list[Chunk]:
        session, limits = self._session, self._session.limits
        if session.stopping or session.failure:
            raise StopIteration  # the open epoch is finished: committed, or dropped after a failure
        if self._given:
            self._size.took(self._given, time.monotonic() - session.taken_at)
            self._given = 0
        full = self._records >= limits.commit_records or self._bytes >= limits.commit_bytes
        try:
            chunk = None if full or session.held else session.poll(self._size.records)
        except Exception as error:
            session.failure = error
            raise StopIteration from None
        if chunk and chunk.messages:
            self._idle, self._awake = 0, None
        else:
            self._awake = datetime.now(UTC) + timedelta(milliseconds=IDLE_MS[self._idle])
            self._idle = min(self._idle + 1, len(IDLE_MS) - 1)
        if chunk is None:
            # Bytewax ends an epoch at the sink only where something has come in it: so that what waits there is
            # committed when it is due, an empty chunk is sent on as long as anything waits.
            return [_NOTHING] if (session.pending or session.due()) and not full else []
        self._records += len(chunk.messages)
        self._bytes += sum(map(len, chunk.messages))
        if chunk.messages:
            self._given, session.taken_at = len(chunk.messages), time.monotonic()
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
