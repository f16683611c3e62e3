"""Stored again from the streams: a range of what was decided goes to the stores once more, while live traffic goes on.

Every row is a versioned upsert, so a replay changes only what is missing or older, and a second one changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from msgspec.structs import replace

from sinks.postgres import SyncWriter
from streams.broker import passes, patiently
from streams.codec import RecordError, decode
from streams.config import KafkaConfig
from streams.errors import StreamTableError, UnavailableError
from streams.forgotten import FORGOTTEN_TAG, Forgotten, ForgottenFollower
from streams.io import Partition
from streams.records import (
    EnrichedItem,
    Feedback,
    Mention,
    Record,
    TopicSummary,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)
from streams.table import CATALOG, ENRICHED, FEEDBACK, MENTIONS, SCORES, SUMMARIES, UPDATES, Stream
from streams.throttle import Throttle
from trends.settings import Settings

STREAMS: Final = (CATALOG, FEEDBACK, UPDATES, ENRICHED, MENTIONS, SUMMARIES, SCORES)
"""What the store flow reads, in the order of a replay: a topic before what refers to it."""
BATCH_RECORDS: Final = 2_000
"""Read, and written to the shards, at once."""
AHEAD: Final = timedelta(days=1)
"""How far a source's clock may be ahead: an event of some time has arrived at most so long before it."""
CALL_S: Final = 30.0
STALL_S: Final = 120.0
"""Nothing has come for so long although the end is not reached: longer than a transaction may stay open."""
SAMPLES: Final = 5
TOPIC_IDS: Final = 1_000_000
"""Topics of a range that are remembered (about 80 bytes each), to know which summaries belong to it; of a range with
more of them, all summaries are stored again."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Range:
    """What is to be stored again. ``since`` and ``until`` are event time, ``log_since`` and ``log_until`` arrival."""

    since: datetime | None = None
    until: datetime | None = None
    log_since: datetime | None = None
    log_until: datetime | None = None
    partitions: frozenset[int] | None = None
    """Of the keyed streams; None: all (and the catalogue)."""
    sources: frozenset[str] | None = None


@dataclass(slots=True)
class Replayed:
    """What a replay has done."""

    read: int = 0
    """Records looked at."""
    selected: int = 0
    """Of them, those in the range."""
    forgotten: int = 0
    """Of those, records of items that are to be forgotten: left out."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows that were missing or older and are mended now, by table."""
    refused: int = 0
    """Records that cannot be stored; they are in dead letters since they came first."""
    unreadable: int = 0
    samples: list[str] = field(default_factory=list)
    """Why some were refused."""
    dry_run: bool = False
    seconds: float = 0.0


class Selection:
    """Which records are in a range."""

    def __init__(self, range_: Range) -> None:
        self._range = range_
        self._topics: set[int] = set()

    def __call__(self, record: Record) -> bool:
        """Whether a record is. Updates of topics come before their summaries, which have no event time of their own."""
        r = self._range
        if isinstance(record, Feedback) and record.trend_id is None:
            return False
        if isinstance(record, TrendDefinition | Feedback):
            return r.partitions is None and r.sources is None
        if isinstance(record, EnrichedItem):
            return self._within(record.item.event_time, record.item.event_time) and self._from(record.item.source)
        if isinstance(record, Mention):
            return self._within(record.event_time, record.event_time) and self._from(record.source)
        if isinstance(record, TrendScore):
            end = record.slice_start + timedelta(seconds=record.slice_s)
            return self._within(record.slice_start, end) and self._from(*record.sources)
        if isinstance(record, TopicUpdate):
            inside = self._within(record.first_seen, record.last_seen) and self._from(*record.sources)
            if inside and len(self._topics) < TOPIC_IDS:
                self._topics.add(_short(record.topic_id))
            return inside
        if isinstance(record, TopicSummary):
            return _short(record.topic_id) in self._topics or len(self._topics) >= TOPIC_IDS
        return False

    def _within(self, first: datetime, last: datetime) -> bool:
        r = self._range
        return (r.since is None or last >= r.since) and (r.until is None or first < r.until)

    def _from(self, *sources: str) -> bool:
        wanted = self._range.sources
        return wanted is None or not wanted.isdisjoint(sources)


def _short(topic_id: str) -> int:
    return hash(topic_id) & 0xFFFFFFFFFFFFFFFF


def replay_store(
    settings: Settings,
    range_: Range,
    *,
    throttle: Throttle,
    dry_run: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Replayed:
    """Stores a range again, from the streams of the settings' generation, up to their ends as they are now.

    Reads with a consumer of its own: the store flow's group does not notice. Memory is bounded by a batch, and the ids
    of the topics in the range.

    Raises:
        StreamTableError: a stream does not exist.
        UnavailableError: a broker or a shard does not answer; a repetition completes it.
    """
    began = time.monotonic()
    done = Replayed(dry_run=dry_run)
    selection = Selection(range_)
    rows: Counter[str] = Counter()
    reader = _Reader(settings.kafka(), settings.generation, range_)
    follower = ForgottenFollower(settings.kafka(), "replay")
    writer = None if dry_run else SyncWriter(settings.postgres())
    try:
        total = reader.plan()
        follower.catch_up()
        for stream in STREAMS:
            for batch in reader.read(stream, throttle):
                kept: list[Record] = []
                forgotten = follower.poll()
                for value, headers in batch:
                    done.read += 1
                    try:
                        assert stream.record is not None
                        record = decode(stream.record, value, headers)
                    except RecordError:
                        done.unreadable += 1
                        continue
                    if not selection(record):
                        continue
                    done.selected += 1
                    allowed = _without_forgotten(record, forgotten)
                    if allowed is None:
                        done.forgotten += 1
                    else:
                        kept.append(allowed)
                if kept and writer is not None:
                    report = writer.write(kept)
                    rows.update(report.rows_by_table)
                    done.refused += len(report.refused)
                    done.samples += [why for _, why in report.refused][: SAMPLES - len(done.samples)]
                progress(reader.done, total)
        progress(total, total)
    finally:
        reader.close()
        follower.close()
        if writer is not None:
            writer.close()
    done.rows = {table: count for table, count in sorted(rows.items()) if count}
    done.seconds = round(time.monotonic() - began, 3)
    return done


def _without_forgotten(record: Record, forgotten: Forgotten) -> Record | None:
    """What may be stored of a record; None: nothing, its item is to be forgotten."""
    if isinstance(record, EnrichedItem):
        gone = forgotten.item(record.item.item_id) or FORGOTTEN_TAG in record.item.tags
        return None if gone else record
    if isinstance(record, Mention):
        return None if forgotten.item(record.item_id) else record
    if isinstance(record, TopicUpdate) and (leading := forgotten.leading(record)) is not None:
        return replace(record, items=leading)
    return record


class _Reader:
    """The records of some streams between two offsets of each partition, committed ones alone."""

    def __init__(self, kafka: KafkaConfig, generation: str, range_: Range) -> None:
        self._kafka = kafka
        self._names = {stream: stream.physical(kafka, generation) for stream in STREAMS}
        self._range = range_
        self._spans: dict[Stream, dict[Partition, tuple[int, int]]] = {}
        self.done = 0
        """Offsets passed so far."""
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("replay"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "queued.max.messages.kbytes": 32_768,
                }
            )
        )

    def plan(self) -> int:
        """From where to where each partition is read; how many offsets that is."""
        try:
            topics = patiently(lambda: self._consumer.list_topics(timeout=CALL_S), CALL_S).topics
            for stream, name in self._names.items():
                if name not in topics:
                    raise StreamTableError(f"stream {name} does not exist; create it with `trends streams apply`")
                numbers = sorted(topics[name].partitions)
                if (wanted := self._range.partitions) is not None:
                    numbers = [n for n in numbers if n in wanted] if stream.partitions is None else []
                self._spans[stream] = self._between([(name, number) for number in numbers])
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for its streams: {error}") from None
        return sum(end - begin for spans in self._spans.values() for begin, end in spans.values())

    def _between(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        r = self._range
        arrived = max((t for t in (r.log_since, r.since and r.since - AHEAD) if t is not None), default=None)
        begins, ends = self._at(partitions, arrived), self._at(partitions, r.log_until)
        spans = {}
        for p in partitions:
            low, high = patiently(
                partial(self._consumer.get_watermark_offsets, TopicPartition(*p), CALL_S), CALL_S
            )  # fmt: skip
            begin = max(low, high if begins[p] == -1 else begins[p] or low)
            end = high if ends[p] in (None, -1) else min(ends[p] or 0, high)
            if begin < end:
                spans[p] = (begin, end)
        return spans

    def _at(self, partitions: Sequence[Partition], time_: datetime | None) -> Mapping[Partition, int | None]:
        """The first offset that arrived at or after a time; -1: none did; None: no time was given."""
        if time_ is None or not partitions:
            return dict.fromkeys(partitions)
        asked = [TopicPartition(*p, int(time_.timestamp() * 1000)) for p in partitions]
        found = patiently(lambda: self._consumer.offsets_for_times(asked, CALL_S), CALL_S)
        return {(p.topic, p.partition): int(p.offset) for p in found}

    def read(self, stream: Stream, throttle: Throttle) -> Any:
        """Batches of (value, headers); tombstones are passed over."""
        left = dict(self._spans[stream])
        self._consumer.assign([TopicPartition(*p, begin) for p, (begin, _) in left.items()])
        at = {p: begin for p, (begin, _) in left.items()}
        moved_at = time.monotonic()
        while left:
            if wait_s := throttle.wait_s():
                time.sleep(min(wait_s, 0.5))
                moved_at = time.monotonic()
                continue
            messages: list[Any] = self._consumer.consume(BATCH_RECORDS, 0.5)
            batch = []
            for message in messages:
                p, error = (message.topic(), message.partition()), message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    if not passes(error):
                        raise UnavailableError(f"reading {p[0]}/{p[1]}: {error.str()}")
                    continue
                if p not in left:
                    continue
                end = left[p][1]
                ended = error is not None or message.offset() >= end
                reached = end if ended else message.offset() + 1
                self.done += reached - at[p]
                at[p] = reached
                if ended or reached == end:
                    del left[p]
                    self._consumer.incremental_unassign([TopicPartition(*p)])
                if error is None and message.offset() < end and message.value() is not None:
                    batch.append((message.value(), message.headers()))
            throttle.took(len(batch))
            if batch:
                moved_at = time.monotonic()
                yield batch
            elif not messages and time.monotonic() - moved_at > STALL_S:
                raise UnavailableError(f"reading {self._names[stream]}: nothing has come for {STALL_S:.0f} s at {at}")
        self._consumer.unassign()

    def close(self) -> None:
        self._consumer.close()
