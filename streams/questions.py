"""What a flow process asks the broker through its consumer: asked again while an error passes, within a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaException, TopicPartition

from streams.broker import patiently, refuse
from streams.config import KafkaConfig
from streams.io import Partition, Positions
from streams.state import high_watermarks

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 30.0
"""Bound on one call to the broker."""


class Questions:
    """Questions of one process. Each raises what :func:`streams.broker.refuse` makes of an error that stays."""

    def __init__(self, kafka: KafkaConfig, consumer: Any, bound_s: float, give_up: Callable[[], bool]) -> None:
        """``bound_s``: for how long a question is asked again; ``give_up`` ends that sooner."""
        self._kafka = kafka
        self._consumer = consumer
        self.bound_s = bound_s
        self.give_up = give_up
        self.call_s = min(CALL_TIMEOUT_S, bound_s)
        """Bound on one call, seconds."""

    def ask_through(self, consumer: Any) -> None:
        """Another consumer, the former one is closed."""
        self._consumer = consumer

    def call(self, doing: str, call: Callable[[], T]) -> T:
        """Any other call, in the same way."""
        try:
            return patiently(call, self.bound_s, self.give_up)
        except KafkaException as error:
            raise refuse(error.args[0], doing) from None

    def streams(self) -> dict[str, Any]:
        """The metadata of all streams, by name. The consumer knows them from then on."""
        known: Any = self.call("asking for the streams", lambda: self._consumer.list_topics(timeout=self.call_s))
        return dict(known.topics)

    def committed(self, partitions: Iterable[Partition]) -> Positions:
        """The committed offsets of some partitions, of those that have any."""
        wanted = [TopicPartition(*p) for p in sorted(partitions)]
        if not wanted:
            return {}
        ask = partial(self._consumer.committed, wanted, CALL_TIMEOUT_S)
        return {
            (p.topic, p.partition): p.offset for p in self.call("asking for committed offsets", ask) if p.offset >= 0
        }

    def ends(self, partition: Partition) -> tuple[int, int]:
        """The first offset that a partition holds, and the one after its last. (Asked again while that may help: a
        partition that has just been made has no leader for a moment.)"""
        ask = partial(self._consumer.get_watermark_offsets, TopicPartition(*partition), CALL_TIMEOUT_S)
        low, high = self.call("asking for the ends of a partition", ask)
        return int(low), int(high)

    def offset_at(self, partition: Partition, at_ms: int) -> int:
        """The first offset that was appended at some time or later; the partition's end where nothing was."""
        ask = partial(self._consumer.offsets_for_times, [TopicPartition(*partition, at_ms)], CALL_TIMEOUT_S)
        found = int(self.call("asking for an offset by time", ask)[0].offset)
        if found >= 0:
            return found
        stream, number = partition
        return high_watermarks(self._kafka, stream, [number])[number]
