"""What a flow reads and keeps, what it does about records that are gone, and the bounds of one process of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streams.config import KafkaConfig
from streams.io import Partition
from streams.table import Stream


class OnGap(StrEnum):
    """What a flow does about records that were deleted before it read them."""

    STOP = "stop"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """What a flow reads and keeps. With a ``role`` stream one process reads everything and the others stand by."""

    name: str
    inputs: tuple[Stream, ...]
    state: Stream | None = None
    role: Stream | None = None
    ordered: bool = True
    """Whether the inputs are read merged by arrival time, so that a backlog keeps the order in which it came."""
    state_version: int = 1
    """Format of its state records. A release that cannot read the former one raises it and brings a migration."""
    trend_of: Callable[[Any], str] | None = None
    """The trend of an input record, whose partition it belongs to …"""
    state_trend_of: Callable[[bytes, bytes], str] | None = None
    """… and of a state record, from its key and value. Both where state stands beside partitioned inputs."""

    def __post_init__(self) -> None:
        if self.moves_state and (self.trend_of is None or self.state_trend_of is None):
            raise ValueError(
                f"flow {self.name}: its state moves when streams grow: trend_of and state_trend_of say how"
            )

    @property
    def moves_state(self) -> bool:
        """Whether a new partition takes state over."""
        return self.state is not None and self.role is None

    def state_partitions_of(self, partition: Partition, kafka: KafkaConfig) -> Iterable[int]:
        """The state partitions that reflect an input partition."""
        if self.state is None:
            return ()
        # Partitioned: state stands beside its input. One process: every state partition knows all that was read.
        return range(self.state.count(kafka)) if self.role else (partition[1],)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one process."""

    chunk_records: int = 512
    """Taken at once, at most: fewer where these take long (``streams.source.ChunkSize``)."""
    commit_ms: int = 500
    """A transaction ends so long after its first record …"""
    idle_commit_ms: int = 100
    """… or so long, where nothing more has come …"""
    commit_records: int = 20_000
    """… or when it holds so many (at most twice that are held at once) …"""
    commit_bytes: int = 16 * 1_048_576
    """… or so many bytes."""
    fetch_kbytes: int = 16_384
    """Prefetched from the broker, all partitions together."""
    send_records: int = 200_000
    """In the producer's queue."""
    transaction_s: float = 20.0
    """A transaction that has not ended after so long is given up: begun anew, with a new producer. (A producer can wait
    for a broker that it has forgotten, librdkafka's issue 5511.)"""
    broker_gone_s: float = 60.0
    """With every broker down for so long, the process gives up (exit 69); its supervisor tries again. In the middle of
    a transaction librdkafka holds on for the transaction's timeout before it says so."""
