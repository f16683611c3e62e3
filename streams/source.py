"""The reading half of the transactional pair for Bytewax: chunks of messages, bounded epochs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from streams import metrics
from streams.io import Chunk
from streams.session import Session

IDLE_MS: Final = (1, 2, 5, 10, 20)
"""How soon to ask again after nothing had arrived once, twice, …: quick under load, cheap when idle."""


_NOTHING = Chunk([], {})


class _Part(StatefulSourcePartition[Chunk, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = 0
        self._bytes = 0
        self._idle = 0
        self._awake: datetime | None = None

    def next_batch(self) -> list[Chunk]:
        session, limits = self._session, self._session.limits
        if session.stopping or session.failure:
            raise StopIteration  # the open epoch is finished: committed, or dropped after a failure
        full = self._records >= limits.commit_records or self._bytes >= limits.commit_bytes
        try:
            chunk = None if full or session.held else session.poll()
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
