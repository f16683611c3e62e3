"""Reading several partitions in the order in which their items were observed, not partition by partition.

A consumer hands out what it has fetched, a batch of one partition after the other; a backlog of a month would reach
cluster as the month of partition 0, then that of partition 1. Here the oldest head of all partitions goes first. A
partition that has nothing fetched yet is waited for, but not for long: order is a quality here, never a guarantee.

When a record arrived (LogAppendTime) says less than when its item was observed: a flow writes what it has read at once,
partition by partition, and two processes of one flow are never equally far. So observation decides (the header
``seen-ms``), within ``REORDER_S`` of arrival: what is observed long ago (a replayed archive) is not let in before
everything that happens now, and a time in the future counts as that of the arrival.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final

from confluent_kafka import KafkaError, TopicPartition

from streams.codec import HEADER_SEEN_MS
from streams.dead_letters import headers_of_message
from streams.io import Partition

WAIT_S: Final = 0.25
"""How long a partition without fetched records holds the others back."""
REORDER_S: Final = 30.0
"""By how much a record may go before others that arrived earlier than it."""
PAUSE_RECORDS: Final = 2_000
PAUSE_BYTES: Final = 4 * 1_048_576
"""A partition with so much waiting is paused …"""
RESUME_RECORDS: Final = 500
RESUME_BYTES: Final = 1_048_576
"""… until so little is left."""


class Merge:
    """The fetched records of some partitions, oldest first. Bounded: a partition that is far ahead is paused."""

    def __init__(
        self, consumer: Any, partitions: Iterable[Partition], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._consumer = consumer
        self._clock = clock
        self._waiting: dict[Partition, deque[Any]] = {p: deque() for p in partitions}
        self._bytes: dict[Partition, int] = dict.fromkeys(self._waiting, 0)
        self._empty: set[Partition] = set(self._waiting)
        """Partitions with nothing fetched, whose end has not been seen: more may be on its way."""
        self._heads: list[tuple[int, Partition]] = []
        self._paused: set[Partition] = set()
        self._held_since: float | None = None

    @property
    def resting(self) -> frozenset[Partition]:
        """The partitions that are paused because they are far ahead."""
        return frozenset(self._paused)

    def add(self, partition: Partition) -> None:
        """One more partition, from which nothing has been fetched."""
        self._waiting[partition], self._bytes[partition] = deque(), 0
        self._empty.add(partition)

    def take(self, arrived: Iterable[Any], most: int) -> list[Any]:
        """What may go on now, at most ``most`` records, in order. Ends of partitions and errors pass among them."""
        out: list[Any] = []
        for message in arrived:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                out.append(message)
                continue
            self._put(message, error is not None)
        records = 0
        while self._heads and records < most:
            if self._empty and self._heads[0][0]:
                now = self._clock()
                self._held_since = self._held_since or now
                if now - self._held_since < WAIT_S:
                    break
            records += 1
            self._pop(out)
        if not self._empty or not self._heads:
            self._held_since = None
        self._flow()
        return out

    @property
    def waiting(self) -> int:
        """Records that are held for those of other partitions."""
        return sum(map(len, self._waiting.values()))

    @property
    def bound(self) -> int:
        """How many may be held before fetching pauses."""
        return PAUSE_RECORDS * len(self._waiting)

    def _put(self, message: Any, end: bool) -> None:
        partition = (message.topic(), message.partition())
        queue = self._waiting[partition]
        if not queue:
            self._empty.discard(partition)
            heappush(self._heads, (_moment(message), partition))
        queue.append(message)
        self._bytes[partition] += 0 if end else len(message)

    def _pop(self, out: list[Any]) -> None:
        _, partition = heappop(self._heads)
        queue = self._waiting[partition]
        message = queue.popleft()
        out.append(message)
        end = message.error() is not None
        self._bytes[partition] -= 0 if end else len(message)
        if queue:
            heappush(self._heads, (_moment(queue[0]), partition))
        elif not end:
            self._empty.add(partition)  # more may follow; an end says that nothing does for now

    def _flow(self) -> None:
        """Pauses partitions that are far ahead of the others, and resumes them."""
        waiting, size = self._waiting, self._bytes
        full = [
            p for p in waiting if p not in self._paused and (len(waiting[p]) >= PAUSE_RECORDS or size[p] >= PAUSE_BYTES)
        ]
        low = [p for p in self._paused if len(waiting[p]) <= RESUME_RECORDS and size[p] <= RESUME_BYTES]
        if full:
            self._consumer.pause([TopicPartition(*p) for p in full])
            self._paused.update(full)
        if low:
            self._consumer.resume([TopicPartition(*p) for p in low])
            self._paused.difference_update(low)


def _moment(message: Any) -> int:
    """By what a message is compared, milliseconds since 1970; 0 for an end, which has nothing to be compared by and
    goes at once."""
    if message.error() is not None:
        return 0
    arrived: int = message.timestamp()[1]
    seen = next((value for name, value in headers_of_message(message) or () if name == HEADER_SEEN_MS), None)
    if seen is None or not seen.isdigit():
        return arrived
    return max(arrived - int(REORDER_S * 1_000), min(arrived, int(seen[:16])))
