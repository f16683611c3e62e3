"""How far a flow is behind: what its group has not committed of each input partition, asked of the broker itself.

In records: offsets between what is committed and the end, as Kafka's own tools count. In seconds: how long ago the
oldest of them was appended. A flow that has read everything has committed the ends themselves, behind the markers of
transactions (see ``Session.poll``), so its lag is 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker import end_offsets, first_offsets, passes, patiently
from streams.config import KafkaConfig
from streams.errors import StreamTableError, UnavailableError
from streams.io import Addresser, Partition
from streams.table import Stream

TIMEOUT_S: Final = 20.0
OLDEST_S: Final = 10.0
"""How long the oldest records are waited for; those that have not come by then have no age."""


class Lag(NamedTuple):
    """``records`` offsets behind (transaction markers count) of ``ends``, the ends of all partitions added up."""

    records: int
    ends: int


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a flow is behind in one partition of one input."""

    flow: str
    stream: str
    """Its name on the broker."""
    partition: int
    committed: int | None
    """The next offset that the flow's group reads; None where it has committed nothing."""
    begin: int
    end: int
    """The first offset that the stream still holds, and the one after its last."""
    seconds: float = 0.0
    """Age of the oldest record that is not committed, by the time at which the broker appended it; 0 where there is
    none."""

    @property
    def records(self) -> int:
        """Offsets not committed yet; what is not committed at all is read from the beginning that there is."""
        return max(self.end - (self.begin if self.committed is None else self.committed), 0)

    @property
    def gone(self) -> int:
        """Offsets that were never read and that the stream no longer holds."""
        return 0 if self.committed is None else max(self.begin - self.committed, 0)


class LagProbe:
    """Asks about one group, as often as wanted, over the same connections. It never joins the group."""

    def __init__(self, kafka: KafkaConfig, generation: str, flow: str, inputs: Sequence[Stream]) -> None:
        address = Addresser(kafka, generation)
        self._kafka = kafka
        self._streams = [address.name(s) for s in inputs]
        self._flow = flow
        self._group = kafka.id_of(generation, flow)
        admin: dict[str, Any] = kafka.client()
        self._admin = AdminClient(admin)
        self._client = Consumer(kafka.client(**{"group.id": self._group, "isolation.level": "read_uncommitted"}))
        self._reader: Consumer | None = None

    def lag(self) -> dict[str, Lag]:
        """How far behind, by stream. 0 everywhere means that all that is in the inputs has been dealt with.

        Raises:
            UnavailableError: the broker does not answer.
            StreamTableError: an input does not exist.
        """
        lags: dict[str, Lag] = {}
        for p in self.partitions(ages=False):
            before = lags.get(p.stream, Lag(0, 0))
            lags[p.stream] = Lag(before.records + p.records, before.ends + p.end)
        return lags

    def partitions(self, *, ages: bool = True, clock: Callable[[], float] = time.time) -> list[PartitionLag]:
        """How far behind, partition by partition, in the order of the inputs; with ``ages``, in seconds too.

        Raises:
            UnavailableError, StreamTableError: as :meth:`lag`.
        """
        try:
            wanted = self._partitions()
            committed = patiently(
                lambda: self._client.committed([TopicPartition(*p) for p in wanted], TIMEOUT_S), TIMEOUT_S
            )
            begins = first_offsets(self._admin, wanted, TIMEOUT_S)
            ends = end_offsets(self._admin, wanted, TIMEOUT_S)
        except KafkaException as error:
            raise UnavailableError(f"asking for the lag of {self._flow}: {error}") from None
        done = {(p.topic, p.partition): p.offset if p.offset >= 0 else None for p in committed}
        found = [
            PartitionLag(self._flow, *p, committed=done[p], begin=begins[p], end=max(ends[p], begins[p]))
            for p in wanted
        ]
        return self._aged(found, clock) if ages else found

    def _partitions(self) -> list[Partition]:
        """All partitions that the broker has of the inputs."""
        topics = patiently(lambda: self._admin.list_topics(timeout=TIMEOUT_S), TIMEOUT_S).topics
        for name in self._streams:
            if name not in topics:
                raise StreamTableError(f"stream {name} does not exist; create the streams with `trends streams apply`")
        return [(name, number) for name in self._streams for number in sorted(topics[name].partitions)]

    def _aged(self, lags: list[PartitionLag], clock: Callable[[], float]) -> list[PartitionLag]:
        behind = {(lag.stream, lag.partition): max(lag.begin, lag.end - lag.records) for lag in lags if lag.records}
        appended = self._appended(behind)
        now = clock()
        return [
            PartitionLag(
                lag.flow, lag.stream, lag.partition, lag.committed, lag.begin, lag.end,
                max(0.0, now - at) if (at := appended.get((lag.stream, lag.partition))) is not None else 0.0,
            )
            for lag in lags
        ]  # fmt: skip

    def _appended(self, offsets: dict[Partition, int]) -> dict[Partition, float]:
        """When the first record at or after an offset was appended, seconds since 1970; those with markers alone
        behind it are left out."""
        if not offsets:
            return {}
        reader = self._reader or self._open_reader()
        waiting = dict(offsets)
        found: dict[Partition, float] = {}
        reader.incremental_assign([TopicPartition(*p, offset) for p, offset in waiting.items()])
        deadline = time.monotonic() + OLDEST_S
        try:
            while waiting and (left := deadline - time.monotonic()) > 0:
                message: Any = reader.poll(left)
                if message is None:
                    break
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    if not passes(error):
                        raise UnavailableError(f"asking for the lag of {self._flow}: {error.str()}")
                    continue
                partition = (message.topic(), message.partition())
                if waiting.pop(partition, OFFSET_INVALID) == OFFSET_INVALID:
                    continue
                if error is None:
                    found[partition] = message.timestamp()[1] / 1000
                reader.incremental_unassign([TopicPartition(*partition)])
        finally:
            reader.unassign()
        return found

    def _open_reader(self) -> Consumer:
        self._reader = Consumer(
            self._kafka.client(
                **{
                    "group.id": self._kafka.id_of("lag"),  # never joined, never committed to
                    # What an open transaction holds back waits too.
                    "isolation.level": "read_uncommitted",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    # One record of each partition is wanted.
                    "fetch.message.max.bytes": 4_096,
                    "queued.min.messages": 1,
                    "queued.max.messages.kbytes": 2_048,
                }
            )
        )
        return self._reader

    def close(self) -> None:
        """Leaves the broker."""
        self._client.close()
        if self._reader is not None:
            self._reader.close()
