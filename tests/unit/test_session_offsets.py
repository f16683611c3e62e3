"""Where a session begins to read, asked of a broker that cannot say it at once."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.config import KafkaConfig
from streams.io import Partition
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import UPDATES


class Growing:
    """A consumer whose broker refuses the first questions about a partition that it has just made."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def committed(self, wanted: list[TopicPartition], _timeout_s: float) -> list[TopicPartition]:
        return wanted  # nothing is

    def get_watermark_offsets(self, _partition: TopicPartition, _timeout_s: float) -> tuple[int, int]:
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
        return 3, 7


def begins(consumer: Growing) -> dict[Partition, int]:
    session: Any = Session(KafkaConfig("127.0.0.1:1"), "g1", FlowSpec("summarize", (UPDATES,)), "a")
    session._consumer.close()
    session._consumer = consumer
    session._ask.ask_through(consumer)
    return {(p.topic, p.partition): p.offset for p in session._at_committed([TopicPartition(UPDATES.name, 5)])}


def test_a_partition_that_has_no_leader_yet_is_asked_again_where_it_begins() -> None:
    assert begins(Growing(refusals=2)) == {(UPDATES.name, 5): 3}
