"""Forgetting where streams have grown: a topic's older records stand in a partition that nothing is written to any more
for it, and are read in any order."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.codec import decode, encode
from streams.ids import item_id_of, topic_id_of
from streams.keys import partition_of
from streams.records import (
    LeadingItem,
    Life,
    Record,
    TopicSummary,
    TopicSums,
    TopicUpdate,
)
from streams.table import SUMMARIES, UPDATES, Stream
from tests.conftest import LocalStack
from tests.integration.postgres_records import DIMENSIONS, vector
from trends.forgetting import Forgetter, Wanted
from trends.settings import Settings, load_settings

ITEM = item_id_of("file", "x")
AT = datetime(2026, 3, 1, tzinfo=UTC)
TREND = next(t for t in map("term:t{}".format, range(99)) if partition_of(t, 2) != partition_of(t, 4))
OLD, NEW = partition_of(TREND, 2), partition_of(TREND, 4)
ENDED, GOES_ON, ENDED_LONG_AGO = (topic_id_of("g1", str(n)) for n in range(3))


def update(topic_id: str, seq: int, life: Life, *, quotes: bool = True) -> TopicUpdate:
    items = (LeadingItem(item_id=ITEM, title="said by X", source="file", published_at=AT),) if quotes else ()
    return TopicUpdate(
        generation="g1", topic_id=topic_id, life=life, size=3, publishers=1, sources={"file": 3}, centroid=vector(1),
        model="null", dimensions=DIMENSIONS, terms=(("word", 1.0),), sums=TopicSums(items=3, rank=1.0), items=items,
        first_seen=AT, last_seen=AT, trend_id=TREND, trends={TREND: 3}, seq=seq,
    )  # fmt: skip


def summary(topic_id: str, seq: int, created_at: datetime = AT, headline: str = "said by X") -> TopicSummary:
    return TopicSummary(
        generation="g1", topic_id=topic_id, trend_id=TREND, headline=headline, summary="s", keywords=("k",),
        method="extractive", model="null", cached=False, topic_seq=seq, created_at=created_at,
    )  # fmt: skip


@pytest.fixture
def grown(stack: LocalStack, dsns: tuple[str, ...], tmp_path: Path) -> Settings:
    """Streams that have grown from two partitions to four, with what stood in the old ones."""
    kafka = stack.kafka_named(partitions=2)
    settings = load_settings(
        home=tmp_path, kafka_bootstrap=kafka.bootstrap, postgres_dsns=dsns, stack=kafka.stack, generation="g1",
        kafka_partitions=2, embedder="null", embedder_dimensions=DIMENSIONS,
    )  # fmt: skip
    StreamAdmin(kafka, "g1").apply()
    asyncio.run(migrate(settings.postgres()))
    StreamAdmin(kafka, "g1").grow(4)
    later = datetime.now(UTC) + timedelta(hours=1)
    written: list[tuple[Stream, int, TopicUpdate | TopicSummary]] = [
        (UPDATES, OLD, update(ENDED, 5, Life.GREW)),
        (UPDATES, NEW, update(ENDED, 9, Life.FADED)),
        (UPDATES, OLD, update(GOES_ON, 3, Life.GREW)),
        (UPDATES, NEW, update(GOES_ON, 8, Life.GREW, quotes=False)),
        (UPDATES, OLD, update(ENDED_LONG_AGO, 4, Life.FADED)),
        (SUMMARIES, NEW, summary(ENDED, 9)),
        (SUMMARIES, OLD, summary(ENDED, 5)),
        (SUMMARIES, OLD, summary(GOES_ON, 3)),
        (SUMMARIES, NEW, summary(GOES_ON, 8, later, "anew")),
    ]
    producer = Producer(kafka.client())
    for stream, partition, record in written:
        producer.produce(stream.physical(kafka, "g1"), encode(record), record.topic_id.encode(), partition)
    producer.flush(20)
    return settings


def last(settings: Settings, stream: Stream) -> dict[tuple[int, str], Record | None]:
    """What compaction leaves: the last record of each key in each partition."""
    kafka = settings.kafka()
    found: dict[tuple[int, str], Record | None] = {}
    with closing(Consumer(kafka.client(**{"group.id": "grown", "enable.partition.eof": True}))) as consumer:
        consumer.assign([TopicPartition(stream.physical(kafka, "g1"), p, 0) for p in range(4)])
        ended = 0
        while ended < 4:
            for message in consumer.consume(1_000, 1.0):
                if message.error():
                    ended += 1
                    continue
                value, kind = message.value(), stream.record
                assert kind is not None
                key = message.partition(), (message.key() or b"").decode()
                found[key] = None if value is None else decode(kind, value, message.headers())
    return found


def test_of_a_topic_with_records_in_two_partitions_the_newest_stays_and_nothing_quotes(grown: Settings) -> None:
    report = Forgetter(grown).forget(Wanted.item("file/x"), "a test", 15)
    assert report.done, report.left
    assert last(grown, UPDATES) == {
        (OLD, ENDED): None,
        (NEW, ENDED): update(ENDED, 9, Life.FADED, quotes=False),
        (OLD, GOES_ON): None,
        (NEW, GOES_ON): update(GOES_ON, 8, Life.GREW, quotes=False),
        (OLD, ENDED_LONG_AGO): update(ENDED_LONG_AGO, 4, Life.FADED, quotes=False),
    }
    said = last(grown, SUMMARIES)
    assert said[OLD, ENDED] is None
    assert said[OLD, GOES_ON] is None
    newest, anew = said[NEW, ENDED], said[NEW, GOES_ON]
    assert isinstance(newest, TopicSummary)
    assert (newest.topic_seq, newest.attempt, "X" in newest.headline) == (9, 2, False)
    assert isinstance(anew, TopicSummary)
    assert anew.headline == "anew"
