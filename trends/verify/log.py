"""The Kafka side of an audit: where streams begin and end, how far the flows are, and reading from one to the other.

Nothing joins a group and nothing is committed: an audit cannot disturb what it looks at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker import end_offsets, first_offsets, passes, patiently
from streams.config import KafkaConfig
from streams.errors import StreamTableError, UnavailableError
from streams.io import Partition
from streams.table import DEAD_LETTERS, Stream

CALL_S: Final = 20.0
POLL_S: Final = 0.02
"""How long to wait for a batch to fill; a stream of nothing takes that long."""
BATCH_RECORDS: Final = 2_000
FETCH_KIB: Final = 8_192
"""Prefetched from the broker, all partitions together, as compressed: what is in it may be ten times that."""
STALL_S: Final = 120.0
"""Nothing has come for so long although the end is not reached: longer than a transaction may stay open (60 s)."""


@dataclass(slots=True)
class Part:
    """One stream, as far as the audit looks at it; offsets by partition."""

    stream: Stream
    name: str
    number: int
    """By which places name it."""
    begins: list[int]
    whole: bool
    """Nothing was deleted before, or left out."""
    begins_ms: int
    """Nothing before this arrival time is read (0: everything is)."""
    limits: list[int | None]
    """Where the range ends; None: it does not."""
    asked: list[int] = field(default_factory=list)
    """Up to here everything must be accounted for …"""
    ends: list[int] = field(default_factory=list)
    """… and up to here it is read, to explain what was written meanwhile."""
    records: int = 0

    def cut(self, ends: Sequence[int]) -> None:
        """What stands before these ends must be accounted for."""
        self.asked = [
            max(begin, end if limit is None else min(end, limit))
            for begin, end, limit in zip(self.begins, ends, self.limits, strict=True)
        ]


Take = Callable[[Part, list[Any]], None]
"""What is done with a batch of messages of one stream."""


class Log:
    """All questions to the broker, over one connection each for reading and asking."""

    def __init__(self, kafka: KafkaConfig, generation: str) -> None:
        self._kafka = kafka
        self._generation = generation
        client: dict[str, Any] = kafka.client()
        self._admin = AdminClient(client)
        self._reader = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("verify"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    "fetch.message.max.bytes": 131_072,
                    "queued.min.messages": 2_000,
                    "queued.max.messages.kbytes": FETCH_KIB,
                    "fetch.queue.backoff.ms": 10,
                }
            )
        )

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()

    # -- where streams begin and end ----------------------------------------------------------------------------

    def parts(
        self, streams: Iterable[Stream], log_from: datetime | None, log_to: datetime | None
    ) -> dict[Stream, Part]:
        """Every stream with its begin and limit; compacted ones and letters from their beginning, whatever the range.

        Raises:
            StreamTableError: one does not exist.
            UnavailableError: the broker does not answer.
        """
        known = self._ask("the streams", lambda: self._admin.list_topics(timeout=CALL_S).topics)
        found = {}
        for number, stream in enumerate(streams):
            name = stream.physical(self._kafka, self._generation)
            if name not in known:
                raise StreamTableError(f"stream {name} does not exist; create the streams with `trends streams apply`")
            count = len(known[name].partitions)
            lows = self._offsets(name, count, first_offsets)
            begins, begins_ms = list(lows), 0
            limits: list[int | None] = [None] * count
            if log_from is not None and not (stream.compacted or stream is DEAD_LETTERS):
                begins = [max(low, at) for low, at in zip(lows, self._at(name, count, log_from), strict=True)]
                begins_ms = int(log_from.timestamp() * 1_000)
            if log_to is not None and not (stream.compacted or stream is DEAD_LETTERS):
                limits = [*self._at(name, count, log_to)]
            whole = not any(begins) or stream.compacted
            found[stream] = Part(stream, name, number, begins, whole, begins_ms, limits)
        return found

    def ends(self, part: Part) -> list[int]:
        """The high watermarks, open transactions included."""
        return self._offsets(part.name, len(part.begins), end_offsets)

    def _offsets(self, name: str, count: int, which: Callable[..., dict[tuple[str, int], int]]) -> list[int]:
        wanted = [(name, p) for p in range(count)]
        found = self._ask(f"the offsets of {name}", lambda: which(self._admin, wanted, CALL_S))
        return [found[p] for p in wanted]

    def _at(self, name: str, count: int, when: datetime) -> list[int]:
        """The first offsets that arrived at a time or later; the end where none has."""
        milliseconds = max(0, int(when.timestamp() * 1_000))
        ends = self._offsets(name, count, end_offsets)

        def ask() -> list[int]:
            wanted = [TopicPartition(name, p, milliseconds) for p in range(count)]
            return [p.offset for p in self._reader.offsets_for_times(wanted, CALL_S)]

        found = self._ask(f"the offsets of {name} at {when}", ask)
        return [at if at >= 0 else end for at, end in zip(found, ends, strict=True)]

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return patiently(call, CALL_S)
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for {what}: {error}") from None

    # -- how far the flows are ----------------------------------------------------------------------------------

    def behind(self, flow: str, wanted: Mapping[Partition, int]) -> int:
        """Offsets that a flow has not dealt with yet, of those before ``wanted`` by partition."""
        group = self._kafka.id_of(self._generation, flow)
        client = Consumer(self._kafka.client(**{"group.id": group}))
        try:
            asked = [TopicPartition(*p) for p in wanted]
            done = self._ask(f"how far {flow} is", lambda: client.committed(asked, CALL_S))
        finally:
            client.close()
        missing = 0
        for p in done:
            low = 0
            if p.offset < 0 and wanted[(p.topic, p.partition)]:
                low, _ = self._ask("a beginning", partial(_watermarks, self._reader, p))
            missing += max(0, wanted[(p.topic, p.partition)] - max(p.offset, low))
        return missing

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self, takers: Mapping[str, tuple[Part, Take]], progress: Callable[[int], None]) -> None:
        """Hands all committed messages of some streams (by name), from begin to end, to their takers, in batches of one
        stream, each partition in order; says how many offsets it has passed.

        Raises:
            UnavailableError: nothing comes any more although the end is not reached.
        """
        position = {
            (name, p): begin
            for name, (part, _) in takers.items()
            for p, begin in enumerate(part.begins)
            if begin < part.ends[p]
        }
        reader = self._reader
        reader.assign([TopicPartition(name, p, begin) for (name, p), begin in position.items()])
        moved = time.monotonic()
        try:
            while position:
                before = sum(position.values())
                batches: dict[str, list[Any]] = {}
                message: Any
                for message in reader.consume(BATCH_RECORDS, POLL_S):
                    at = (message.topic(), message.partition())
                    if (error := message.error()) is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            if at in position:
                                position[at] = max(position[at], message.offset())
                        elif not passes(error):
                            raise UnavailableError(f"reading {at[0]}/{at[1]}: {error.str()}")
                    elif at in position:
                        offset, end = message.offset(), takers[at[0]][0].ends[at[1]]
                        position[at] = min(offset + 1, end)
                        if offset < end:
                            batches.setdefault(at[0], []).append(message)
                for name, messages in batches.items():
                    part, take = takers[name]
                    part.records += len(messages)
                    take(part, messages)
                passed = sum(position.values()) - before
                progress(passed)
                if done := [at for at, offset in position.items() if offset >= takers[at[0]][0].ends[at[1]]]:
                    reader.incremental_unassign([TopicPartition(*at) for at in done])
                    for at in done:
                        del position[at]
                if passed or batches:
                    moved = time.monotonic()
                elif time.monotonic() - moved > STALL_S:
                    raise UnavailableError(f"reading: nothing comes any more at {position}")
        finally:
            reader.unassign()

    def one(self, part: Part, partition: int, offset: int) -> Any:
        """A single message; None where it cannot be had any more."""
        self._reader.assign([TopicPartition(part.name, partition, offset)])
        try:
            deadline = time.monotonic() + CALL_S
            while time.monotonic() < deadline:
                message: Any = self._reader.poll(POLL_S)
                if message is None:
                    continue
                if message.error() is None:
                    return message if message.offset() == offset else None
                if message.error().code() == KafkaError._PARTITION_EOF:
                    return None
            return None
        finally:
            self._reader.unassign()


def _watermarks(client: Any, p: Any) -> tuple[int, int]:
    """The low and high watermark of a partition."""
    low, high = client.get_watermark_offsets(TopicPartition(p.topic, p.partition), CALL_S)
    return int(low), int(high)


def now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)
