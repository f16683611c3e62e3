"""Writing history into a generation that is being built, exactly once: records and how far they reach, one transaction.

The place reached is a record in ``sources.cursors``, written with the records that it covers, so a build that is killed
goes on where it was, and writes nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker import end_offsets, first_offsets, passes, patiently, refuse
from streams.config import KafkaConfig
from streams.dead_letters import Clock, now_utc
from streams.errors import StreamTableError, UnavailableError
from streams.io import Addresser, Outgoing, Partition
from streams.partitions import LOOK_S, PartitionsView, learn_partitions
from streams.producer import read_cursor
from streams.records import SourceCursor
from streams.table import CURSORS, Stream

CALL_S: Final = 30.0
PATIENCE_S: Final = 60.0
"""How long a broker that is away is waited for."""


def _cursor_key(generation: str) -> str:
    return f"build:{generation}"


class HistoryWriter:
    """One transactional producer. A second one of the same generation, anywhere, fences it."""

    def __init__(self, kafka: KafkaConfig, generation: str, clock: Clock = now_utc) -> None:
        self._kafka = kafka
        self._generation = generation
        self._clock = clock
        self._view = PartitionsView(kafka)
        self._producer = Producer(
            kafka.client(
                **{
                    "client.id": kafka.id_of(generation, "build"),
                    "transactional.id": kafka.id_of(generation, "build"),
                    "transaction.timeout.ms": kafka.transaction_timeout_ms,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "message.max.bytes": 2 * kafka.max_record_bytes + 65_536,
                }
            )
        )
        self._call("init_transactions", lambda: self._producer.init_transactions(CALL_S))

    def address(self, streams: Iterable[Stream]) -> Addresser:
        """Places records of these streams by the number of partitions that there is now.

        Raises:
            UnavailableError: the broker does not say how many there are.
        """
        if self._view.age_s > LOOK_S:
            self._view.refresh()
        kafka = replace(self._kafka, partitions=self._view.growth.count)
        names = [stream.physical(kafka, self._generation) for stream in streams]
        learn_partitions(self._producer, names, kafka.partitions)
        return Addresser(kafka, self._generation)

    def close(self) -> None:
        """Leaves the broker."""
        self._view.close()

    def _call(self, doing: str, call: Callable[[], Any]) -> Any:
        try:
            return patiently(call, PATIENCE_S)
        except KafkaException as error:
            raise refuse(error.args[0], f"building {self._generation}, {doing}") from None

    def write(self, records: Iterable[Outgoing], cursor: bytes, items: int) -> None:
        """Writes records and the cursor that covers them; all of it or nothing.

        Args:
            cursor: the caller's own JSON.
            items: how many items were written so far, all writes together.

        Raises:
            FencedError: another build of this generation has taken over.
            UnavailableError: the broker does not answer; a start anew finds what was written.
        """
        key = _cursor_key(self._generation)
        reached = SourceCursor(connector=key, cursor=msgspec.Raw(cursor), saved_at=self._clock(), items=items)
        try:
            self._producer.begin_transaction()
            for out in (*records, Addresser(self._kafka, self._generation).record(CURSORS, reached, key)):
                headers: Any = out.headers
                self._producer.produce(out.stream, out.value, out.key, out.partition, headers=headers)
            self._producer.commit_transaction(CALL_S)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.txn_requires_abort():
                self._producer.abort_transaction(CALL_S)
            raise refuse(cause, f"building {self._generation}, writing") from None


def reached(kafka: KafkaConfig, generation: str) -> bytes | None:
    """The cursor that was written last; None: nothing was written yet.

    Raises:
        UnavailableError: the broker does not answer.
    """
    return read_cursor(kafka, _cursor_key(generation))


def forget(kafka: KafkaConfig, generation: str) -> None:
    """Removes the cursor of a generation that is dropped.

    Raises:
        UnavailableError: it was not acknowledged.
    """
    failed: list[str] = []
    config: dict[str, Any] = kafka.client(**{"enable.idempotence": True, "message.timeout.ms": int(CALL_S * 1000)})
    producer = Producer(config)
    producer.produce(
        CURSORS.physical(kafka, generation), None, _cursor_key(generation).encode(), 0,
        on_delivery=lambda error, _: failed.append(error.str()) if error else None,
    )  # fmt: skip
    if producer.flush(CALL_S + 1) or failed:
        raise UnavailableError(f"forgetting how far {generation} was built: {failed[0] if failed else 'no answer'}")


class Offsets:
    """What a build asks of the broker, and sets, before its flows begin: where partitions begin and end, and what a
    group that nobody has joined yet shall begin with."""

    def __init__(self, kafka: KafkaConfig, generation: str) -> None:
        self._kafka = kafka
        self._generation = generation
        self._client = self._consumer("build")
        config: dict[str, Any] = kafka.client()
        self._admin = AdminClient(config)

    def _consumer(self, group: str) -> Any:
        return Consumer(
            self._kafka.client(
                **{
                    "group.id": self._kafka.id_of(self._generation, group),
                    "isolation.level": "read_committed",  # committed offsets are then those of no open transaction
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                }
            )
        )

    def spans(self, streams: Iterable[Stream]) -> dict[Partition, tuple[int, int]]:
        """First and end offset of every partition that the broker has of these streams.

        Raises:
            StreamTableError: one does not exist.
            UnavailableError: the broker does not answer.
        """
        names = [stream.physical(self._kafka, self._generation) for stream in streams]
        try:
            topics = patiently(lambda: self._client.list_topics(timeout=CALL_S), PATIENCE_S).topics
            if missing := [name for name in names if name not in topics]:
                raise StreamTableError(f"stream {missing[0]} does not exist; create it with `trends streams apply`")
            wanted = [(name, number) for name in names for number in sorted(topics[name].partitions)]
            first = first_offsets(self._admin, wanted, PATIENCE_S)
            ends = end_offsets(self._admin, wanted, PATIENCE_S, committed=True)
            return {partition: (first[partition], ends[partition]) for partition in wanted}
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for its streams: {error}") from None

    def committed(self, generation: str, flow: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """What a flow of any generation has committed, of those partitions of which it has.

        Raises:
            UnavailableError: the broker does not answer.
        """
        client = Consumer(
            self._kafka.client(
                **{"group.id": self._kafka.id_of(generation, flow), "isolation.level": "read_committed"}
            )
        )  # fmt: skip
        wanted = [TopicPartition(*p) for p in partitions]
        try:
            found = patiently(lambda: client.committed(wanted, CALL_S), PATIENCE_S) if wanted else []
        except KafkaException as error:
            raise UnavailableError(f"asking what {flow} of {generation} has committed: {error}") from None
        finally:
            client.close()
        return {(p.topic, p.partition): int(p.offset) for p in found if p.offset >= 0}

    def begin_at(self, flow: str, offsets: Mapping[Partition, int]) -> None:
        """Commits where a flow shall begin, where it has committed nothing: from then on retention cannot delete
        unread what it has not read yet, without somebody being told.

        Raises:
            UnavailableError: the broker does not answer.
        """
        there = self.committed(self._generation, flow, offsets)
        missing = [TopicPartition(*p, offset) for p, offset in offsets.items() if p not in there]
        if not missing:
            return
        client = self._consumer(flow)
        try:
            patiently(lambda: client.commit(offsets=missing, asynchronous=False), PATIENCE_S)
        except KafkaException as error:
            raise UnavailableError(f"setting where {flow} of {self._generation} begins: {error}") from None
        finally:
            client.close()

    def oldest(self, partition: Partition, begin: int) -> datetime | None:
        """When the first record that a partition still holds was appended; None: it is empty.

        Raises:
            UnavailableError: the broker does not answer.
        """
        self._client.assign([TopicPartition(*partition, begin)])
        deadline = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < deadline:
                message = self._client.poll(1.0)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    return datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
                if error.code() == KafkaError._PARTITION_EOF:
                    return None
                if not passes(error):
                    raise UnavailableError(f"reading {partition[0]}/{partition[1]}: {error.str()}")
        finally:
            self._client.unassign()
        raise UnavailableError(f"{partition[0]}/{partition[1]} does not answer")

    def close(self) -> None:
        """Leaves the broker."""
        self._client.close()
