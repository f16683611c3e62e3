"""How fast `trends verify` audits, and in how much memory: records made by rule, written into real streams and shards,
audited by a process of its own. The bare way beside it: reading the same streams and doing nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.harness import Result, Row
from benchmarks.own_stack import own_stack
from sinks.postgres import PostgresWriter
from streams.admin import StreamAdmin
from streams.ids import item_id_of, topic_id_of
from streams.io import Addresser
from streams.records import (
    Change,
    EmbeddedItem,
    Engagement,
    EnrichedItem,
    Kind,
    LeadingItem,
    Life,
    Mention,
    Observation,
    Record,
    TopicSummary,
    TopicSums,
    TopicUpdate,
    TrendScore,
)
from streams.table import EMBEDDED, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES, Stream, raw
from streams.vectors import encode_vector
from trends.flows import FLOWS, prepare
from trends.settings import Settings

RECORDS: Final = 100_000
BLOCK_ITEMS: Final = 5_000
"""Made and written at once."""
ITEMS_PER_TOPIC: Final = 4
ITEMS_PER_TREND: Final = 20
SEEN_AGAIN: Final = 5, 2
"""Of so many items, so many are seen again with more engagement."""
START: Final = datetime(2026, 3, 1, tzinfo=UTC)
LEAST_BYTES: Final = 600
"""Of a body, so that records are as long as posts are."""

Address = tuple[Stream, Record, str, str]
"""Stream, record, key, and the trend that places it."""


class World:
    """What all flows would have written about some raw records, in blocks of whole trends."""

    def __init__(self, records: int, generation: str, dimensions: int) -> None:
        of, again = SEEN_AGAIN
        self.items = max(ITEMS_PER_TREND, records * of // (of + again) // ITEMS_PER_TREND * ITEMS_PER_TREND)
        self._generation = generation
        self._dimensions = dimensions
        rng = np.random.default_rng(7)
        self._vectors = [encode_vector(rng.standard_normal(dimensions).astype(np.float32)) for _ in range(64)]
        # Directions would be indexed one by one, which takes longer than all the rest and is not looked at here.
        self._nothing = encode_vector(np.zeros(dimensions, np.float32))
        self._seq = 0

    def blocks(self) -> Iterator[list[Address]]:
        for begin in range(0, self.items, BLOCK_ITEMS):
            block: list[Address] = []
            for first in range(begin, min(begin + BLOCK_ITEMS, self.items), ITEMS_PER_TREND):
                self._trend(first, block)
            yield block

    def _trend(self, first: int, out: list[Address]) -> None:
        trend, base, mentions = f"term:{first // ITEMS_PER_TREND}", self._seq, 0
        for number in range(first, first + ITEMS_PER_TREND):
            topic = topic_id_of(self._generation, str(number // ITEMS_PER_TOPIC))
            at = START + timedelta(seconds=number / 10)
            times = 1 + (number % SEEN_AGAIN[0] < SEEN_AGAIN[1])
            for time_number in range(times):
                self._observation(number, trend, topic, at, time_number, out)
                mentions += 1
            if number % ITEMS_PER_TOPIC == ITEMS_PER_TOPIC - 1:
                self._topic(number, trend, topic, at, out)
        score = TrendScore(
            generation=self._generation, trend_id=trend, slice_start=at.replace(minute=0, second=0, microsecond=0),
            slice_s=3_600, counts=(ITEMS_PER_TREND,), items=ITEMS_PER_TREND, total=ITEMS_PER_TREND, publishers=1,
            sources={"synthetic": ITEMS_PER_TREND}, expected=1.0, burst=0.0, velocity=0.0, engagement=Engagement(),
            spread=0.1, rank=None, first_seen=at, last_seen=at, version=base + mentions,
        )  # fmt: skip
        out.append((SCORES, score, trend, trend))

    def _observation(self, n: int, trend: str, topic: str, at: datetime, again: int, out: list[Address]) -> None:
        external_id, vector = f"b{n}", self._vectors[n % len(self._vectors)]
        item = Observation(
            item_id=item_id_of("synthetic", external_id), source="synthetic", external_id=external_id, kind=Kind.POST,
            title=f"Item {n} of the audit's benchmark", body="word " * (LEAST_BYTES // 5),
            observed_at=at + timedelta(hours=again), published_at=at, trend_id=trend,
            url=f"https://site.example/{n}", publisher="site.example", engagement=Engagement(points=again * 10),
        )  # fmt: skip
        self._seq += 1
        dimensions, model, seq, first_seen = self._dimensions, "bench", self._seq, at.replace(microsecond=0)
        embedded = EmbeddedItem(item=item, text_hash=f"h{n}", vector=vector, model=model, dimensions=dimensions)
        enriched = EnrichedItem(
            generation=self._generation, item=item, change=Change.ENGAGEMENT if again else Change.FIRST,
            text_hash=f"h{n}", vector=None if again else vector, model=model, dimensions=dimensions, topic_id=topic,
            similarity=0.5, is_new_topic=False, first_seen=first_seen, seq=seq,
        )  # fmt: skip
        mention = Mention(
            generation=self._generation, trend_id=trend, item_id=item.item_id, topic_id=topic, home=True,
            event_time=at, first_seen=first_seen, publisher="site.example", source="synthetic",
            weight=0 if again else 1, engagement=Engagement(points=again * 10), seq=seq,
        )  # fmt: skip
        out += [
            (raw("synthetic"), item, trend, trend),
            (EMBEDDED, embedded, trend, trend),
            (ENRICHED, enriched, trend, trend),
            (MENTIONS, mention, trend, trend),
        ]

    def _topic(self, n: int, trend: str, topic: str, at: datetime, out: list[Address]) -> None:
        size = ITEMS_PER_TOPIC
        leading = LeadingItem(item_id=item_id_of("synthetic", f"b{n}"), title="t", source="synthetic", published_at=at)
        update = TopicUpdate(
            generation=self._generation, topic_id=topic, life=Life.GREW, size=size, publishers=1,
            sources={"synthetic": size}, centroid=self._nothing, model="bench", dimensions=self._dimensions,
            terms=(("word", 1.0),), sums=TopicSums(items=size), items=(leading,), first_seen=at, last_seen=at,
            trend_id=trend, trends={trend: size}, seq=self._seq,
        )  # fmt: skip
        summary = TopicSummary(
            generation=self._generation, topic_id=topic, trend_id=trend, headline=f"Topic {n}", summary="s",
            keywords=(), method="extractive", model="m", cached=False, topic_seq=self._seq, created_at=at,
        )  # fmt: skip
        out += [(UPDATES, update, topic, trend), (SUMMARIES, summary, topic, trend)]


def fill(settings: Settings, records: int, tell: Callable[[str], None]) -> int:
    """Writes a world into streams and shards, as if every flow had passed it; the raw records in it."""
    kafka, generation = settings.kafka(), settings.generation
    StreamAdmin(kafka, generation).apply()
    address = Addresser(kafka, generation)
    producer = Producer(kafka.client(**{"linger.ms": 50, "compression.type": "lz4", "batch.size": 1_048_576}))
    world = World(records, generation, settings.embedder_dimensions)
    written = 0

    async def store() -> None:
        nonlocal written
        writer = PostgresWriter(settings.postgres())
        await writer.open()
        stored = (EnrichedItem, Mention, TopicUpdate, TopicSummary, TrendScore)
        for block in world.blocks():
            for stream, record, key, trend in block:
                out = address.record(stream, record, key, trend)
                producer.produce(out.stream, out.value, out.key, out.partition, headers=out.headers)  # type: ignore[arg-type]
                written += isinstance(record, Observation)
            producer.flush()
            report = await writer.write([record for _, record, _, _ in block if isinstance(record, stored)])
            assert not report.refused, report.refused[0]
            tell(f"{written:,} raw records with what derives from them")
        await writer.close()

    asyncio.run(store())
    for flow in FLOWS:
        client = Consumer(kafka.client(**{"group.id": kafka.id_of(generation, flow), "enable.auto.commit": False}))
        ends = []
        for stream in prepare(flow, settings)[0].inputs:
            for p in range(stream.count(kafka)):
                place = TopicPartition(address.name(stream), p)
                ends.append(TopicPartition(place.topic, p, client.get_watermark_offsets(place, 20)[1]))
        client.commit(offsets=ends, asynchronous=False)
        client.close()
    return written


def audited(settings: Settings) -> tuple[float, int, int]:
    """In a process of its own: seconds, MiB at most, and the rows and records that were read."""
    from trends.verify import audit

    report = audit(settings)
    assert report.clean, report.failed
    return report.seconds, report.peak_mib, sum(p.records for p in report.streams) + sum(report.rows.values())


def bare(settings: Settings) -> float:
    """Seconds to read the same streams and do nothing."""
    from trends.verify.audit import STREAMS
    from trends.verify.log import Log

    log = Log(settings.kafka(), settings.generation)
    began = time.perf_counter()
    parts = log.parts(STREAMS, None, None)
    for part in parts.values():
        part.ends = log.ends(part)
    log.read({part.name: (part, lambda _part, _messages: None) for part in parts.values()}, lambda _: None)
    log.close()
    return time.perf_counter() - began


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Fills a stack of its own once, then audits it ``rounds`` times."""
    rates: dict[str, list[float]] = {"verify": [], "reading the streams alone": []}
    facts: dict[str, Any] = {}
    with own_stack(kafka_partitions=4) as settings:
        records = fill(settings, args.items or RECORDS, tell)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for number in range(args.rounds):
                seconds, mib, read = pool.apply(audited, (settings,))
                alone = pool.apply(bare, (settings,))
                rates["verify"].append(records / seconds)
                rates["reading the streams alone"].append(records / alone)
                facts |= {"raw records": records, "records and rows read": read, "MiB at most": mib}
                tell(f"round {number + 1}: {seconds:.1f} s, {mib} MiB; reading alone {alone:.1f} s")
    rows = tuple(Row(name, tuple(each)) for name, each in rates.items())
    return Result("verify", "raw records/s", rows, {"verify / reading alone": rows[0].median / rows[1].median}, facts)
