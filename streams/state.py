"""State streams: "the log is the state". Reading one back up to its true end, and the cover records in it.

A cover record says which input offset the state partition reflects; :mod:`streams.covers` compares it at start with
what the consumer group has committed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams import metrics
from streams.broker import end_offsets, passes
from streams.codec import decode
from streams.config import KafkaConfig
from streams.dead_letters import headers_of_message
from streams.errors import StateMismatchError, UnavailableError
from streams.io import Outgoing, Partition
from streams.records import Record
from streams.table import Stream

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

COVER_PREFIX: Final = b"\x00cover:"
"""Keys of cover records. No flow's own key starts with it: no record that was decoded holds a NUL character."""
READ_BATCH_RECORDS: Final = 10_000
FETCHED_KBYTES: Final = 16_384
"""Fetched ahead, all partitions together …"""
FETCHED_RECORDS: Final = 10_000
"""… or so many of a partition: one takes some 500 bytes of memory beside its own."""
TELL_EVERY_S: Final = 5.0
"""How often reading says in the log how far it is."""
WATERMARK_S: Final = 30.0
STALL_S: Final = 120.0
"""No progress for so long while the end is not reached: longer than any transaction may stay open (60 s)."""


@dataclass(frozen=True, slots=True)
class InBatches:
    """Takes state by the batch, ``restore(keys, values)``, in log order; a value of None: the key is gone.

    A batch without records says that all there is was read: a good moment for what is dear to do record by record.
    """

    restore: Callable[[Sequence[bytes], Sequence[bytes | None]], None]


Restore: TypeAlias = Callable[[bytes, bytes | None], None] | InBatches
"""What takes a flow's state: record by record, or by the batch."""


def cover_record(
    state_stream: str, state_partition: int, covered: Partition, offset: int, version: int = 1
) -> Outgoing:
    """Says that ``state_partition`` reflects the input partition ``covered`` up to (not with) ``offset``.

    The value is ``OFFSET`` for state of format 1, ``OFFSET VERSION`` for later ones.
    """
    key = COVER_PREFIX + f"{covered[0]}/{covered[1]}".encode()
    return Outgoing(
        state_stream, state_partition, key, (f"{offset}" if version == 1 else f"{offset} {version}").encode()
    )


def parse_cover(key: bytes, value: bytes) -> tuple[Partition, int, int]:
    """What a cover record covers: the input partition, the offset, and the format of the state beside it.

    Raises:
        ValueError: it is none.
    """
    stream, _, number = key[len(COVER_PREFIX) :].decode().rpartition("/")
    offset, _, version = value.decode().partition(" ")
    return (stream, int(number)), int(offset), int(version or 1)


class StateReader:
    """Reads partitions of a state stream, committed records only, in log order, up to the true end.

    The end is the high watermark as ``read_uncommitted`` sees it: what ``read_committed`` reports can lie behind
    another process's open transaction, whose records would be lost silently.
    """

    def __init__(self, kafka: KafkaConfig, stream: str, partitions: Iterable[int], restore: Restore) -> None:
        self._kafka = kafka
        self._stream = stream
        self._restore = restore if isinstance(restore, InBatches) else InBatches(partial(_one_by_one, restore))
        self.partitions = tuple(sorted(partitions))
        self.covers: dict[int, dict[Partition, int]] = {p: {} for p in self.partitions}
        self.versions: set[int] = set()
        """Formats that the covers speak of: more than one after a migration that was broken off."""
        self.unreadable: str | None = None
        """The first record that could not be taken, and why; from there on none is. Told at the end, by whoever knows
        what the covers say: a state of another format is no broken state."""
        self._versions: dict[tuple[int, Partition], int] = {}
        self.records = 0
        self._position = dict.fromkeys(self.partitions, 0)
        self._ends: dict[int, int] = {}
        """Where each partition's end was, when it was met last."""
        self._unsettled = self._followed = False
        # Where the log begins, which is not 0 once a rewrite has cut off what was there before.
        self._assigned = [TopicPartition(stream, p, OFFSET_BEGINNING) for p in self.partitions]
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("state-reader"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    "queued.max.messages.kbytes": FETCHED_KBYTES,
                    "queued.min.messages": FETCHED_RECORDS,
                    # A full queue is looked at again after this long; Kafka's client would let a whole second pass.
                    "fetch.queue.backoff.ms": 5,
                }
            )
        )
        self._consumer.assign(self._assigned)

    def poll(self, timeout_s: float) -> int:
        """Applies what is there; the number of records."""
        messages: list[Any] = self._consumer.consume(READ_BATCH_RECORDS, timeout_s)
        keys: list[bytes | None] = [message.key() for message in messages]
        if None in keys:
            messages = [message for message in messages if not self._is_event(message)]
            keys = [message.key() for message in messages]
        if messages:
            self._apply(messages, keys)  # type: ignore[arg-type]  # without events none is None
            for p in self._consumer.position(self._assigned):
                self._position[p.partition] = max(self._position[p.partition], p.offset)
            self._unsettled = True
        elif self._unsettled and all(self._position[p] == self._ends.get(p) for p in self.partitions):
            self._unsettled = False
            self._take([], [])
            if not self._followed:
                self._followed = True
                log.info("read %s to its end: %s records; following it", self._stream, f"{self.records:,}")
        self.records += len(messages)
        return len(messages)

    def _is_event(self, message: Any) -> bool:
        """Whether a message without a key is one of the client's own: the end of a partition, a passing error."""
        error, partition = message.error(), message.partition()
        if error is None:
            if message.key() is None:
                raise StateMismatchError(f"{self._stream}/{partition} holds a record without a key: no state stream")
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self._position[partition] = max(self._position[partition], message.offset())
            self._ends[partition] = message.offset()
        elif not passes(error):
            raise UnavailableError(f"reading state from {self._stream}/{partition}: {error.str()}")
        return True

    def _apply(self, messages: list[Any], keys: list[bytes]) -> None:
        values: list[bytes | None] = [message.value() for message in messages]
        covers = [i for i, key in enumerate(keys) if key[: len(COVER_PREFIX)] == COVER_PREFIX]
        if covers:
            for i in covers:
                self._cover(messages[i].partition(), keys[i], values[i])
            others = sorted({*range(len(keys))}.difference(covers))
            keys, values = [keys[i] for i in others], [values[i] for i in others]
        if keys:
            self._take(keys, values)

    def _take(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        if self.unreadable is not None:
            return
        try:
            self._restore.restore(keys, values)
        except Exception as error:
            self.unreadable = f"{self._stream} holds a record that cannot be read ({type(error).__name__}: {error})"

    def _cover(self, partition: int, key: bytes, value: bytes | None) -> None:
        try:
            covered, offset, version = parse_cover(key, b"0" if value is None else value)
        except ValueError as error:
            self.unreadable = f"{self._stream}/{partition} holds a cover under {key[:80]!r} that is none ({error})"
            return
        if value is None:  # a rewrite of this state has begun
            self.covers[partition].pop(covered, None)
            self._versions.pop((partition, covered), None)
        else:
            self.covers[partition][covered] = offset
            self._versions[partition, covered] = version
        self.versions = set(self._versions.values())

    def catch_up(
        self,
        keep_alive: Callable[[], None],
        progress: Callable[[int, int], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Reads until the end that stood when this was called; calls ``keep_alive`` between batches.

        Returns:
            False where ``stop`` said so before the end was reached.

        Raises:
            UnavailableError: the end is not reached although nothing has moved for ``STALL_S`` seconds.
        """
        ends = high_watermarks(self._kafka, self._stream, self.partitions)
        moved_at = began = told_at = time.monotonic()
        total, before_records = sum(ends.values()), self.records
        while any(self._position[p] < ends[p] for p in self.partitions):
            if stop():
                return False
            before = sum(self._position.values())
            self.poll(0.1)
            keep_alive()
            done = sum(min(self._position[p], ends[p]) for p in self.partitions)
            if progress is not None:
                progress(done, total)
            if time.monotonic() - told_at > TELL_EVERY_S:
                told_at = time.monotonic()
                rate = (self.records - before_records) / (told_at - began)
                log.info(
                    "reading state from %s: %.0f%%, %s records, %s a second",
                    self._stream, 100 * done / max(1, total), f"{self.records:,}", f"{rate:,.0f}",
                )  # fmt: skip
            if sum(self._position.values()) != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > STALL_S:
                behind = {p: (self._position[p], ends[p]) for p in self.partitions if self._position[p] < ends[p]}
                raise UnavailableError(
                    f"reading state from {self._stream}: no progress for {STALL_S:.0f} s at {behind}. Where it is the "
                    "same after a restart, a transaction hangs there: docs/operations.md, Lag grows"
                )
        return True

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


class ControlReader(StateReader, Generic[R]):
    """Reads a control stream (the catalogue, cursors, generations, requests): records in one partition, no covers.

    It steers every process, and rubbish in it is not the flow's own broken state: what cannot be decoded, and what
    ``take`` refuses with whatever exception, is passed over, counted and told; what stood under its key before still
    holds, and what comes after it is taken.
    """

    def __init__(
        self, kafka: KafkaConfig, stream: Stream, kind: type[R], take: Callable[[bytes, R | None], None]
    ) -> None:
        """``take``: key and record, in log order; None: the key is gone."""
        super().__init__(kafka, stream.physical(kafka, ""), (0,), _ignored)
        self._kind = kind
        self._take_one = take

    def _apply(self, messages: list[Any], keys: list[bytes]) -> None:
        for message, key in zip(messages, keys, strict=True):
            try:
                value = message.value()
                record = None if value is None else decode(self._kind, value, headers_of_message(message))
                self._take_one(key, record)
            except Exception as error:
                metrics.CONTROL_REFUSED.labels(self._stream).inc()
                log.warning(
                    "%s/0/%d is passed over, what stood under %r before still holds: %s",
                    self._stream, message.offset(), key[:80], error,
                )  # fmt: skip

    def _take(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Nothing to settle at the end."""


def _ignored(key: bytes, value: bytes | None) -> None:
    """A control reader takes records, not bytes."""


def _one_by_one(
    restore: Callable[[bytes, bytes | None], None], keys: Sequence[bytes], values: Sequence[bytes | None]
) -> None:
    for key, value in zip(keys, values, strict=True):
        try:
            restore(key, value)
        except Exception as error:
            raise ValueError(f"under {key[:80]!r}: {type(error).__name__}: {error}") from error


def high_watermarks(kafka: KafkaConfig, stream: str, partitions: Iterable[int]) -> dict[int, int]:
    """The ends of some partitions, open transactions included."""
    config: dict[str, Any] = kafka.client()
    try:
        ends = end_offsets(AdminClient(config), [(stream, p) for p in partitions], WATERMARK_S)
    except KafkaException as error:
        raise UnavailableError(f"asking for the end of {stream}: {error}") from None
    return {partition: end for (_, partition), end in ends.items()}
