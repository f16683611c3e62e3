"""How far a flow is behind: the end of each input minus what its group has committed, asked of the broker itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.broker import patiently
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.io import Addresser
from streams.table import Stream

TIMEOUT_S: Final = 20.0


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
            for partition in patiently(lambda: self._client.committed(wanted, TIMEOUT_S), TIMEOUT_S):
                low, high = patiently(partial(self._watermarks, partition.topic, partition.partition), TIMEOUT_S)
                done = partition.offset if partition.offset >= 0 else low
                before = lags.get(partition.topic, Lag(0, 0))
                lags[partition.topic] = Lag(before.records + max(high - done, 0), before.ends + high)
        except KafkaException as error:
            raise UnavailableError(f"asking for the lag of {self._flow}: {error}") from None
        return lags

    def _watermarks(self, stream: str, partition: int) -> tuple[int, int]:
        ends: tuple[int, int] = self._client.get_watermark_offsets(TopicPartition(stream, partition), TIMEOUT_S)
        return ends

    def close(self) -> None:
        """Leaves the broker."""
        self._client.close()
