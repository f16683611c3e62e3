"""Reading streams as they stand: every committed record from the beginning to a fixed end, also merged by a number.

For what goes over a whole stream once (rebuilding, checking); flows read with :mod:`streams.session`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Any, Final, Generic, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from streams.broker import passes
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.io import Partition

T = TypeVar("T")

BATCH_RECORDS: Final = 5_000
STALL_S: Final = 120.0
"""Nothing has come for so long although the end is not reached: longer than any transaction may stay open."""
FETCH_KBYTES: Final = 32_768

Progress = Callable[[int, int], None]
"""Told how many offsets are done, of how many."""


class _Reader:
    """One consumer over some partitions, each from its beginning to its end."""

    def __init__(self, kafka: KafkaConfig, ends: Mapping[Partition, int]) -> None:
        self.ends = {p: end for p, end in ends.items() if end > 0}
        self.done: dict[Partition, int] = dict.fromkeys(self.ends, 0)
        self.open = set(self.ends)
        """Partitions of which more is to come."""
        self._moved_at = time.monotonic()
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("whole-reader"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    "queued.min.messages": 10_000,
                    "queued.max.messages.kbytes": FETCH_KBYTES,
                }
            )
        )
        if self.open:
            self._consumer.assign([TopicPartition(*p, OFFSET_BEGINNING) for p in sorted(self.open)])

    def read(self, timeout_s: float = 0.2) -> list[Any]:
        """What has come; ends and what lies beyond them left out.

        Raises:
            UnavailableError: the broker does not answer, or nothing comes any more.
        """
        good: list[Any] = []
        message: Any
        for message in self._consumer.consume(BATCH_RECORDS, timeout_s):
            partition = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._at(partition, message.offset())
                elif not passes(error):
                    raise UnavailableError(f"reading {partition[0]}/{partition[1]}: {error.str()}")
                continue
            if message.offset() < self.ends.get(partition, 0):
                good.append(message)
            self._at(partition, message.offset() + 1)
        if self.open and time.monotonic() - self._moved_at > STALL_S:
            places = ", ".join(f"{s}/{p} at {self.done[s, p]:,} of {self.ends[s, p]:,}" for s, p in sorted(self.open))
            raise UnavailableError(f"reading streams: nothing has come for {STALL_S:.0f} s ({places[:300]})")
        return good

    def _at(self, partition: Partition, position: int) -> None:
        if partition not in self.open:
            return
        if position > self.done[partition]:
            self.done[partition] = min(position, self.ends[partition])
            self._moved_at = time.monotonic()
        if position >= self.ends[partition]:
            self.open.discard(partition)

    def pause(self, partitions: list[Partition]) -> None:
        self._consumer.pause([TopicPartition(*p) for p in partitions])

    def resume(self, partitions: list[Partition]) -> None:
        self._moved_at = time.monotonic()
        self._consumer.resume([TopicPartition(*p) for p in partitions])

    def waited_for_others(self) -> None:
        """Nothing could come: all that is left is paused."""
        self._moved_at = time.monotonic()

    def close(self) -> None:
        self._consumer.close()


def read_whole(
    kafka: KafkaConfig, stream: str, ends: Mapping[int, int], progress: Progress | None = None
) -> Iterator[list[Any]]:
    """All committed records of some partitions up to their ends, each partition in order, in batches.

    Args:
        stream: its name on the broker.
        ends: by partition, the offset to stop before.

    Raises:
        UnavailableError: see :class:`_Reader`.
    """
    reader = _Reader(kafka, {(stream, p): end for p, end in ends.items()})
    total = sum(reader.ends.values())
    try:
        while reader.open:
            if batch := reader.read():
                yield batch
            if progress is not None:
                progress(sum(reader.done.values()), total)
    finally:
        reader.close()


class InOrder(Generic[T]):
    """The records of many partitions, merged by a number that each carries, in bounded memory.

    Args:
        ends: partitions, and the offset to stop before.
        number_of: from a message to its number and what is handed on; None leaves it out.
        window: by stream, how many records of a partition may stand out of order.
    """

    def __init__(
        self,
        kafka: KafkaConfig,
        ends: Mapping[Partition, int],
        number_of: Callable[[Any], tuple[int, T] | None],
        window: Mapping[str, int],
        progress: Progress | None = None,
    ) -> None:
        self._reader = _Reader(kafka, ends)
        self._number_of = number_of
        self._window = window
        self._progress = progress
        self._heaps: dict[Partition, list[tuple[int, int, T]]] = {p: [] for p in self._reader.ends}
        self._paused: set[Partition] = set()
        self._count = 0

    def batches(self, most: int = 1_000) -> Iterator[list[T]]:
        """Everything, in order, at most so many at once.

        Raises:
            UnavailableError: see :class:`_Reader`.
        """
        try:
            while True:
                out: list[T] = []
                while len(out) < most and (head := self._ready()) is not None:
                    out.append(heappop(self._heaps[head])[2])
                if out:
                    yield out
                    self._flow()
                elif not self._reader.open and not any(self._heaps.values()):
                    return
                else:
                    self._fill()
        finally:
            self._reader.close()

    def _fill(self) -> None:
        for message in self._reader.read():
            numbered = self._number_of(message)
            if numbered is not None:
                self._count += 1
                heap = self._heaps[message.topic(), message.partition()]
                heappush(heap, (numbered[0], self._count, numbered[1]))
        if self._progress is not None:
            self._progress(sum(self._reader.done.values()), sum(self._reader.ends.values()))
        self._flow()

    def _ready(self) -> Partition | None:
        """The partition with the lowest number; None while a lower one may still come."""
        best: Partition | None = None
        for partition, heap in self._heaps.items():
            if len(heap) <= self._window[partition[0]] and partition in self._reader.open:
                return None
            if heap and (best is None or heap[0][:2] < self._heaps[best][0][:2]):
                best = partition
        return best

    def _flow(self) -> None:
        """Partitions that are far ahead of the others wait for them."""
        full = [
            p for p, heap in self._heaps.items()
            if p in self._reader.open and p not in self._paused and len(heap) > 2 * self._window[p[0]] + BATCH_RECORDS
        ]  # fmt: skip
        low = [p for p in self._paused if len(self._heaps[p]) <= self._window[p[0]] + BATCH_RECORDS // 4]
        if full:
            self._reader.pause(full)
            self._paused.update(full)
        if low:
            self._reader.resume(low)
            self._paused.difference_update(low)
