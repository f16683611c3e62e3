"""Who has which partitions of a consumer group, as its coordinator sees it."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from streams.broker import patiently
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.io import Partition

TIMEOUT_S: Final = 10.0


def owners(kafka: KafkaConfig, group: str) -> dict[str, frozenset[Partition]] | None:
    """The partitions of each member, by its static name (or member id); None while the group is rebalancing.

    Raises:
        UnavailableError: the broker does not answer.
    """
    config: dict[str, Any] = kafka.client()
    admin = AdminClient(config)
    try:
        futures: dict[str, Any] = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)
        described = patiently(lambda: futures[group].result(TIMEOUT_S), TIMEOUT_S)
    except KafkaException as error:
        raise UnavailableError(f"asking who is in the group {group}: {error}") from None
    if described.state is not ConsumerGroupState.STABLE:
        return None
    return {
        member.group_instance_id or member.member_id: frozenset(
            (p.topic, p.partition) for p in member.assignment.topic_partitions
        )
        for member in described.members
    }
