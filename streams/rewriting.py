"""Writing a flow's state from outside, in transactions, so that a kill at any point leaves it refused or whole.

The first transaction takes the covers away: from there on no process of the flow starts. The last one writes them anew,
with the offsets that they equal. Between them stands what is being written; done again, it is written again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams.broker import in_transaction, patiently, refuse
from streams.config import KafkaConfig
from streams.errors import StateMismatchError, UnavailableError
from streams.groups import FlowGroup, Hold
from streams.io import Outgoing, Partition, Positions
from streams.state import StateReader, cover_record, high_watermarks

MIGRATION: Final[Partition] = ("migration", 0)
"""What a state partition covers, of the former format, while it is migrated; no stream has this name."""
TRANSACTION_RECORDS: Final = 20_000
TRANSACTION_BYTES: Final = 16 * 1_048_576
CALL_S: Final = 30.0
QUEUE_S: Final = 60.0
"""How long a full queue of the producer is waited for."""


def key_hash(key: bytes) -> int:
    """64 bits for a state key: among 15 million of them two are the same once in 160,000 times."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class Rewrite:
    """One rewrite of a flow's state, under a :class:`Hold` of its group.

    ``begin``, ``write`` as often as needed, ``finish``. Where it is left before ``finish`` the state has no covers, and
    no process of the flow starts.
    """

    def __init__(self, group: FlowGroup, hold: Hold, generation: str) -> None:
        self._group = group
        self._hold = hold
        assert group.spec.state is not None
        self._count = group.spec.state.count(group.kafka)
        self._committed: Positions = {}
        self._ends: dict[int, int] = {}
        self.written = 0
        """State records written so far."""
        self._batch: list[Outgoing] = []
        self._bytes = 0
        # A one-process flow has one transactional id: a process of it that still hangs somewhere is fenced.
        name = () if group.spec.role else ("state-tool",)
        self._producer = Producer(
            group.kafka.client(
                **{
                    "client.id": f"{group.name}.state-tool",
                    "transactional.id": group.kafka.id_of(generation, group.spec.name, *name),
                    "transaction.timeout.ms": group.kafka.transaction_timeout_ms,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "batch.size": 262_144,
                    "message.max.bytes": 2 * group.kafka.max_record_bytes + 65_536,
                }
            )
        )

    def begin(self, migrated_from: int | None = None) -> Positions:
        """Takes the covers away.

        Args:
            migrated_from: the format of what stands there, where it is brought into another one: until ``finish`` the
                state says that it is of this format, and a second try begins where the first one did.

        Returns:
            The offsets that the group has committed: what the state will have to reflect.

        Raises:
            UnavailableError, FencedError, GroupBusyError: nothing was changed.
        """
        with self._refusing("taking its transactional id"):
            patiently(lambda: self._producer.init_transactions(CALL_S), CALL_S)
        self._committed = self._group.committed()
        self._ends = high_watermarks(self._group.kafka, self._group.state_stream, range(self._count))
        if migrated_from is not None:
            self._ends |= migration_ends(self._group)
        self._transaction(chain(self._cover(None), self._marks(migrated_from)), self._committed)
        return self._committed

    @property
    def ends(self) -> dict[int, int]:
        """Where the former state ends, by state partition."""
        return self._ends

    def write(self, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """State records of one state partition.

        Raises:
            UnavailableError, FencedError, GroupBusyError: the state stays without covers.
        """
        for key, value in records:
            self._batch.append(Outgoing(self._group.state_stream, partition, key, value))
            self._bytes += len(key) + len(value or b"")
            self.written += 1
            if len(self._batch) >= TRANSACTION_RECORDS or self._bytes >= TRANSACTION_BYTES:
                self._flush()

    def finish(self, covered: Positions) -> None:
        """Deletes the former state, and writes covers and offsets: from here on the flow starts.

        Raises:
            as :meth:`write`.
        """
        self._flush()
        self._hold.keep(0.0)
        cut(self._group.kafka, self._group.state_stream, self._ends)
        self._transaction(chain(self._cover(covered), self._marks(None)), covered)

    def commit_only(self, offsets: Positions) -> None:
        """Commits offsets, and leaves the state as it is.

        Raises:
            UnavailableError, FencedError, GroupBusyError: nothing was committed.
        """
        with self._refusing("taking its transactional id"):
            patiently(lambda: self._producer.init_transactions(CALL_S), CALL_S)
        self._transaction(iter(()), offsets)

    def _flush(self) -> None:
        if self._batch:
            self._transaction(iter(self._batch), self._committed)
            self._batch, self._bytes = [], 0

    def _cover(self, covered: Positions | None) -> Iterator[Outgoing]:
        """Covers for all input partitions; None, or one without an offset: no cover."""
        stream, version = self._group.state_stream, self._group.spec.state_version
        for partition in self._group.partitions:
            for state_partition in self._group.state_partitions_of(partition):
                offset = None if covered is None else covered.get(partition)
                made = cover_record(stream, state_partition, partition, offset or 0, version)
                yield made if offset is not None else made._replace(value=None)

    def _marks(self, migrated_from: int | None) -> Iterator[Outgoing]:
        """That a migration is under way, and where the former state ends; None: that there is none."""
        for partition, end in self._ends.items():
            mark = cover_record(self._group.state_stream, partition, MIGRATION, end, migrated_from or 1)
            yield mark if migrated_from is not None else mark._replace(value=None)

    def _transaction(self, records: Iterator[Outgoing], offsets: Positions) -> None:
        """The offsets are committed with every transaction, as a member: where that is not the only one any more, none
        of it is written."""
        self._hold.keep(0.0)
        producer = self._producer
        with self._refusing("writing its state"):
            producer.begin_transaction()
            try:
                for stream, partition, key, value, _ in records:
                    self._produce(stream, partition, key, value)
                positions = [TopicPartition(*p, offset) for p, offset in offsets.items()]
                if positions:
                    member = self._hold.member()
                    in_transaction(lambda: producer.send_offsets_to_transaction(positions, member, CALL_S), QUEUE_S)
                in_transaction(lambda: producer.commit_transaction(CALL_S), QUEUE_S)
            except BaseException:
                with contextlib.suppress(KafkaException):
                    producer.purge()
                    producer.abort_transaction(5.0)
                raise

    def _produce(self, stream: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        deadline = time.monotonic() + QUEUE_S
        while True:
            try:
                self._producer.produce(stream, value, key, partition)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from None
                self._producer.poll(0.05)

    @contextlib.contextmanager
    def _refusing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise refuse(error.args[0], f"state of {self._group.spec.name}, {doing}") from None


def migration_ends(group: FlowGroup) -> dict[int, int]:
    """Where the former state ends in each state partition, as a migration that was broken off has left it; empty where
    there was none.

    Raises:
        UnavailableError: the broker does not answer.
    """
    assert group.spec.state is not None
    reader = StateReader(group.kafka, group.state_stream, range(group.spec.state.count(group.kafka)), _ignore)
    try:
        reader.catch_up(lambda: None)
        return {p: covers[MIGRATION] for p, covers in reader.covers.items() if MIGRATION in covers}
    finally:
        reader.close()


def _ignore(key: bytes, value: bytes | None) -> None:
    """Only the covers are wanted."""


def cut(kafka: KafkaConfig, stream: str, ends: Mapping[int, int]) -> None:
    """Deletes the first records of a compacted stream, up to (not with) an offset of each partition.

    Kafka deletes on request only where a stream may be deleted from: so it may be, for the moment, by request alone.
    What is cut off is gone at once: no later reader stumbles over a record that nobody can read.

    Raises:
        UnavailableError: the broker does not answer, or does not allow it.
    """
    wanted = [TopicPartition(stream, partition, end) for partition, end in ends.items() if end > 0]
    if not wanted:
        return
    properties: dict[str, Any] = kafka.client()
    admin = AdminClient(properties)
    try:
        _alter(admin, stream, {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "-1"})
        deadline = time.monotonic() + CALL_S
        while True:
            try:
                for future in admin.delete_records(wanted).values():
                    future.result(CALL_S)
                break
            except KafkaException as error:  # the broker has not heard of the change yet
                if error.args[0].code() != KafkaError.POLICY_VIOLATION or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        _alter(admin, stream, {"cleanup.policy": "compact", "retention.ms": None, "retention.bytes": None})
    except KafkaException as error:
        raise UnavailableError(f"deleting the former state from {stream}: {error}") from None


def _alter(admin: AdminClient, stream: str, settings: Mapping[str, str | None]) -> None:
    """Sets a stream's settings; None: as the broker has it."""
    operation = {True: AlterConfigOpType.DELETE, False: AlterConfigOpType.SET}
    entries = [
        ConfigEntry(name, value or "", incremental_operation=operation[value is None])
        for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, stream, incremental_configs=entries)
    futures: dict[Any, Any] = admin.incremental_alter_configs([resource])
    for future in futures.values():
        future.result(CALL_S)


def set_offsets(group: FlowGroup, hold: Hold, offsets: Positions, generation: str) -> None:
    """Commits offsets in the name of the group, and touches nothing else.

    Raises:
        StateMismatchError: an offset lies behind the end of its stream.
        UnavailableError, FencedError, GroupBusyError: nothing was committed.
    """
    for partition, (_, end) in group.ends().items():
        if offsets.get(partition, 0) > end:
            raise StateMismatchError(
                f"{partition[0]}/{partition[1]} ends at {end:,}, the state covers it up to {offsets[partition]:,}: the "
                "stream was made anew. Nothing was changed."
            )
    rewrite = Rewrite(group, hold, generation)
    rewrite.commit_only(offsets)
