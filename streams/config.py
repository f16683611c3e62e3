"""How to reach Kafka, and the names that keep two stacks on one broker apart. Filled from the settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

RDKAFKA: Final = logging.getLogger("librdkafka")
"""Lost connections and the like: what matters of it comes back as errors of calls."""
RDKAFKA.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Connection, security and durability of a broker, in librdkafka's words.

    ``stack`` is the prefix of group and transactional ids, and (where not empty) of stream names.
    """

    bootstrap: str
    stack: str = ""
    partitions: int = 4
    """Of every keyed stream of the pipeline; a power of two."""
    replication_factor: int = 1
    min_insync: int = 1
    security: dict[str, str] = field(default_factory=dict, repr=False)
    """librdkafka's TLS and SASL properties (``security.protocol``, ``sasl.mechanism``, …)."""
    max_record_bytes: int = 1_048_576
    session_timeout_ms: int = 6_000
    role_session_timeout_ms: int = 3_000
    """Of one-process flows, where the stand-by waits for it; never above ``session_timeout_ms``."""
    transaction_timeout_ms: int = 60_000

    def client(self, **more: object) -> dict[str, object]:
        """Properties that every client of this broker starts from; its own lines go to the logger ``librdkafka``."""
        return {
            "bootstrap.servers": self.bootstrap,
            "logger": RDKAFKA,
            # A broker that is back is found within a second (default: after up to ten).
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            # Re-bootstrapping drops the broker that transactions are waiting for, and they wait for ever: librdkafka
            # 2.16 (its issue 5511). Brokers are found again under their own addresses, as ever.
            "metadata.recovery.strategy": "none",
            **self.security,
            **more,
        }

    def id_of(self, *parts: str) -> str:
        """A group or transactional id: stack (where set) and parts, joined by dots."""
        return ".".join(p for p in (self.stack, *parts) if p)
