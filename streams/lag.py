"""How far a flow is behind: the end of each input minus what its group has committed, asked of the broker itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.broker import patiently
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.io import Addresser, Partition
from streams.table import Stream

TIMEOUT_S: Final = 20.0
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Lag(NamedTuple):
    """``records`` offsets behind (transaction markers count) of ``ends``, the ends of all partitions added up."""

    records: int
    ends: int


class LagProbe:
    """Asks about one group, as often as wanted, over one connection. It never joins the group."""

    def __init__(self, kafka: KafkaConfig, generation: str, flow: str, inputs: Sequence[Stream]) -> None:
        address = Addresser(kafka, generation)
        self._partitions = [(address.name(s), p) for s in inputs for p in range(s.count(kafka))]
        self._flow = flow
        admin: dict[str, Any] = kafka.client()
        self._admin = AdminClient(admin)
        self._client = Consumer(
            kafka.client(**{"group.id": kafka.id_of(generation, flow), "isolation.level": "read_uncommitted"})
        )

    def lag(self) -> dict[str, Lag]:
        """How far behind, by stream. 0 everywhere means that all that is in the inputs has been dealt with.

        Raises:
            UnavailableError: the broker does not answer.
        """
        lags: dict[str, Lag] = {}
        try:
            wanted = [TopicPartition(*p) for p in self._partitions]
            committed = patiently(lambda: self._client.committed(wanted, TIMEOUT_S), TIMEOUT_S)
            ends = patiently(lambda: self._offsets(_LATEST), TIMEOUT_S)
            if any(p.offset < 0 for p in committed):
                begins = patiently(lambda: self._offsets(_EARLIEST), TIMEOUT_S)
        except KafkaException as error:
            raise UnavailableError(f"asking for the lag of {self._flow}: {error}") from None
        for p in committed:
            end = ends[(p.topic, p.partition)]
            done = p.offset if p.offset >= 0 else begins[(p.topic, p.partition)]
            before = lags.get(p.topic, Lag(0, 0))
            lags[p.topic] = Lag(before.records + max(end - done, 0), before.ends + end)
        return lags

    def _offsets(self, which: OffsetSpec) -> dict[Partition, int]:
        """The first or last offsets of all partitions, in one request."""
        futures = self._admin.list_offsets({TopicPartition(*p): which for p in self._partitions})
        return {(p.topic, p.partition): future.result(TIMEOUT_S).offset for p, future in futures.items()}

    def close(self) -> None:
        """Leaves the broker."""
        self._client.close()
