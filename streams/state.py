"""State streams: "the log is the state". Reading one back up to its true end, and the cover records in it.

A cover record says which input offset the state partition reflects; :mod:`streams.session` compares it at start with
what the consumer group has committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.broker import passes, patiently
from streams.config import KafkaConfig
from streams.errors import StateMismatchError, UnavailableError
from streams.io import Outgoing, Partition

COVER_PREFIX: Final = b"\x00cover:"
"""Keys of cover records. No flow's own key starts with it: no record that was decoded holds a NUL character."""
READ_BATCH_RECORDS: Final = 10_000
WATERMARK_S: Final = 30.0
STALL_S: Final = 120.0
"""No progress for so long while the end is not reached: longer than any transaction may stay open (60 s)."""

Restore = Callable[[bytes, bytes | None], None]


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
        self._restore = restore
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
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("state-reader"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    "queued.max.messages.kbytes": 32_768,
                }
            )
        )
        self._consumer.assign([TopicPartition(stream, p, 0) for p in self.partitions])

    def poll(self, timeout_s: float) -> int:
        """Applies what is there; the number of records."""
        applied = 0
        message: Any
        for message in self._consumer.consume(READ_BATCH_RECORDS, timeout_s):
            error = message.error()
            partition = message.partition()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._position[partition] = max(self._position[partition], message.offset())
                    continue
                if passes(error):
                    continue
                raise UnavailableError(f"reading state from {self._stream}/{partition}: {error.str()}")
            self._apply(partition, message.key(), message.value())
            self._position[partition] = message.offset() + 1
            applied += 1
        self.records += applied
        return applied

    def _apply(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        if key is None:
            raise StateMismatchError(f"{self._stream}/{partition} holds a record without a key: not a state stream")
        if self.unreadable is not None and not key.startswith(COVER_PREFIX):
            return
        try:
            if key.startswith(COVER_PREFIX):
                self._cover(partition, key, value)
            else:
                self._restore(key, value)
        except Exception as error:
            self.unreadable = (
                f"{self._stream}/{partition} holds a record under {key[:80]!r} that cannot be read "
                f"({type(error).__name__}: {error})"
            )

    def _cover(self, partition: int, key: bytes, value: bytes | None) -> None:
        if value is None:
            return
        covered, offset, version = parse_cover(key, value)
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
        moved_at = time.monotonic()
        while any(self._position[p] < ends[p] for p in self.partitions):
            if stop():
                return False
            before = sum(self._position.values())
            self.poll(0.1)
            keep_alive()
            done = sum(min(self._position[p], ends[p]) for p in self.partitions)
            if progress is not None:
                progress(done, sum(ends.values()))
            if sum(self._position.values()) != before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > STALL_S:
                behind = {p: (self._position[p], ends[p]) for p in self.partitions if self._position[p] < ends[p]}
                raise UnavailableError(
                    f"reading state from {self._stream}: no progress for {STALL_S:.0f} s at {behind}"
                )
        return True

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


def high_watermarks(kafka: KafkaConfig, stream: str, partitions: Iterable[int]) -> dict[int, int]:
    """The ends of some partitions, open transactions included (only a read_uncommitted client is told that)."""
    client = Consumer(kafka.client(**{"group.id": kafka.id_of("watermarks"), "isolation.level": "read_uncommitted"}))
    try:
        return {p: patiently(partial(_end, client, stream, p), WATERMARK_S) for p in partitions}
    except KafkaException as error:
        raise UnavailableError(f"asking for the end of {stream}: {error}") from None
    finally:
        client.close()


def _end(client: Consumer, stream: str, partition: int) -> int:
    _, high = client.get_watermark_offsets(TopicPartition(stream, partition), WATERMARK_S)
    return int(high)
