"""Who has which partitions of a consumer group, as its coordinator sees it."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from streams.broker import patiently
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.io import Partition

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
OWNERS_S: Final = 5.0
"""So long after a start or a growth it is looked whether every partition has an owner …"""
OWNERS_EVERY_S: Final = 60.0
"""… and then so often."""


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


class OwnersWatch:
    """Looks now and then, where streams have grown, whether every partition has an owner.

    Whoever shares a group's partitions out (its leader) does so by the partitions that it knows, and again when it sees
    that there are more. Started again under its name while they are being made, it finds the group as it was and never
    sees a change.
    """

    def __init__(self, kafka: KafkaConfig, group: str, instance: str) -> None:
        """``instance``: the static name of this process in the group."""
        self._kafka = kafka
        self._group = group
        self._instance = instance
        self._at = 0.0
        """When to look next (monotonic)."""

    def look_soon(self) -> None:
        """In ``OWNERS_S``."""
        self._at = time.monotonic() + OWNERS_S

    def to_share_out(self, wanted: set[Partition]) -> set[Partition]:
        """Partitions without an owner, where it is for this process to have the group share them out anew."""
        if time.monotonic() < self._at:
            return set()
        self._at = time.monotonic() + OWNERS_EVERY_S
        try:
            owned = owners(self._kafka, self._group)
        except UnavailableError as error:
            log.warning("%s", error)
            return set()
        if owned is None:  # it is being done
            self.look_soon()
            return set()
        missing = wanted.difference(*owned.values())
        if not missing:
            return set()
        self.look_soon()
        working = [name for name, partitions in owned.items() if partitions]
        return missing if working and min(working) == self._instance else set()
