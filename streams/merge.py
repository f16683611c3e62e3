"""Reading several partitions in the order in which their items were observed, not partition by partition.

A consumer hands out what it has fetched, a batch of one partition after the other; a backlog of a month would reach
cluster as the month of partition 0, then that of partition 1. Here the oldest head of all partitions goes first. A
partition that has nothing fetched yet is waited for, but not for long: order is a quality here, never a guarantee.

When a record arrived (LogAppendTime) says less than when its item was observed: a flow writes what it has read at once,
partition by partition, and two processes of one flow are never equally far. So observation decides (the header
``seen-ms``); but no record waits for others that arrived ``REORDER_S`` later, however long ago they were observed, and
a time in the future counts as that of the arrival. What was observed long before it arrived is a replay, and in no
hurry: it also waits for partitions that have brought something within ``REPLAY_WAIT_S``, though they have been read to
their end, since the slower one of two processes writes to them again soon.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, TopicPartition

from streams.codec import HEADER_SEEN_MS
from streams.dead_letters import headers_of_message
from streams.io import Partition

WAIT_S: Final = 0.25
"""How long a partition without fetched records holds the others back."""
REORDER_S: Final = 60.0
"""No record waits for others that arrived so much later, whenever they were observed."""
REPLAY_WAIT_S: Final = 2.0
"""For how long after its last record an empty partition holds back what is replayed: two transactions of a slow
embedder."""
PAUSE_RECORDS: Final = 2_000
PAUSE_BYTES: Final = 4 * 1_048_576
"""A partition with so much waiting is paused …"""
RESUME_RECORDS: Final = 500
RESUME_BYTES: Final = 1_048_576
"""… until so little is left."""


class _Head(NamedTuple):
    """The first record that waits of a partition; compared by when it was observed."""

    seen: int
    """When its item was observed, milliseconds since 1970, never later than it arrived; 0 for an end, which has nothing
    to be compared by and goes at once."""
    partition: Partition
    arrived: int

    @property
    def replayed(self) -> bool:
        return self.arrived - self.seen > REORDER_S * 1_000


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
        self._brought: dict[Partition, float] = {}
        """When each partition has brought something last."""
        self._heads: dict[Partition, _Head] = {}
        self._by_seen: list[_Head] = []
        self._by_arrival: list[tuple[int, _Head]] = []
        """Heaps of the same heads, and of some that are gone."""
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
            head = self._next()
            if head.seen and self._hold(head):
                break
            records += 1
            self._pop(head.partition, out)
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
            self._lead(message, partition)
        queue.append(message)
        if not end:
            self._bytes[partition] += len(message)
            self._brought[partition] = self._clock()

    def _lead(self, message: Any, partition: Partition) -> None:
        """A message is the first that waits of its partition."""
        head = self._heads[partition] = _head(message, partition)
        heappush(self._by_seen, head)
        heappush(self._by_arrival, (head.arrived, head))

    def _next(self) -> _Head:
        """The head that goes on next."""
        while self._heads.get((first := self._by_seen[0]).partition) is not first:
            heappop(self._by_seen)
        while self._heads.get((longest := self._by_arrival[0][1]).partition) is not longest:
            heappop(self._by_arrival)
        return longest if first.arrived - longest.arrived > REORDER_S * 1_000 else first

    def _hold(self, head: _Head) -> bool:
        """Whether a head waits for partitions with nothing fetched."""
        now = self._clock()
        if self._empty:
            self._held_since = self._held_since or now
            if now - self._held_since < WAIT_S:
                return True
        if not head.replayed:
            return False
        for partition in [p for p, brought in self._brought.items() if now - brought >= REPLAY_WAIT_S]:
            del self._brought[partition]
        return not self._brought.keys() <= self._heads.keys()

    def _pop(self, partition: Partition, out: list[Any]) -> None:
        del self._heads[partition]
        queue = self._waiting[partition]
        message = queue.popleft()
        out.append(message)
        end = message.error() is not None
        self._bytes[partition] -= 0 if end else len(message)
        if queue:
            self._lead(queue[0], partition)
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


def _head(message: Any, partition: Partition) -> _Head:
    if message.error() is not None:
        return _Head(0, partition, 0)
    arrived: int = message.timestamp()[1]
    seen = next((value for name, value in headers_of_message(message) or () if name == HEADER_SEEN_MS), None)
    if seen is None or not seen.isdigit():
        return _Head(arrived, partition, arrived)
    return _Head(max(1, min(arrived, int(seen[:16]))), partition, arrived)
