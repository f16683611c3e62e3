"""How the two clients of a flow process are set up: its consumer and its transactional producer."""

from __future__ import annotations

from streams.config import KafkaConfig
from streams.spec import FlowSpec, Limits
from streams.table import DEAD_LETTERS


def consumer_config(
    kafka: KafkaConfig, generation: str, spec: FlowSpec, process: str, limits: Limits
) -> dict[str, object]:
    """A member of the flow's group: paused and read by hand, committed by the producer."""
    group = kafka.id_of(generation, spec.name)
    if spec.role is not None:
        session_ms = min(kafka.role_session_timeout_ms, kafka.session_timeout_ms)
        member = {"partition.assignment.strategy": "cooperative-sticky"}
    else:
        session_ms = kafka.session_timeout_ms
        member = {
            "partition.assignment.strategy": "range",
            # Static membership: a process that is started again gets its partitions back without a rebalance.
            "group.instance.id": kafka.id_of(generation, spec.name, process),
        }
    return kafka.client(
        **member
        | {
            "client.id": f"{group}.{process}",
            "group.id": group,
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": max(session_ms // 6, 100),
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            # An offset that has gone is an error, never a silent jump.
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
            # Small bites of each partition where they are merged: what waits for the others waits in memory.
            "fetch.message.max.bytes": 262_144 if spec.ordered else 1_048_576,
            "queued.min.messages": 50_000,
            # A full queue is looked at again after this long; Kafka's client would let a whole second pass.
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": limits.fetch_kbytes,
            "topic.metadata.refresh.interval.ms": 10_000,
        }
    )


def producer_config(
    kafka: KafkaConfig, generation: str, spec: FlowSpec, process: str, limits: Limits
) -> dict[str, object]:
    """The producer of the flow's transactions."""
    # Whoever has the role writes under the role's id: taking it over ends what its former owner left open.
    own = () if spec.role is not None else (process,)
    return kafka.client(
        **{
            "client.id": f"{kafka.id_of(generation, spec.name)}.{process}",
            "transactional.id": kafka.id_of(generation, spec.name, *own),
            "transaction.timeout.ms": kafka.transaction_timeout_ms,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 262_144,
            "message.max.bytes": DEAD_LETTERS.largest_bytes(kafka),
            "queue.buffering.max.messages": limits.send_records,
            "queue.buffering.max.kbytes": 262_144,
        }
    )
