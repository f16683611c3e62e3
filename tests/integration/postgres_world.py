"""A small world for the tests of what reads the store: three stories in two trends, one of them merged away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from sinks.postgres.config import PostgresConfig
from sinks.postgres.writer import PostgresWriter
from streams.records import (
    Engagement,
    EnrichedItem,
    LeadingItem,
    Life,
    Mention,
    Record,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)
from streams.vectors import encode_vector
from tests.integration.postgres_records import DIMENSIONS, item, mention, score, summary, topic

END = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
"""The newest event of the world."""
HOUR = timedelta(hours=1)


def axis(number: int, other: int = 0, lean: float = 0.0) -> np.ndarray:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    vector[number] = 1.0
    vector[other] += lean
    return vector / np.linalg.norm(vector)


class World:
    """Two stories under `term:phone` (the second one merged away into the first), one under `rust`, and noise."""

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self.records: list[Record] = []
        for number in range(12):
            story = "a" if number < 5 else "b" if number < 8 else "c"
            title = {"a": "A phone that catches fire", "b": "Burning phones recalled", "c": "Crab language released"}
            trend = "rust" if story == "c" else "term:phone"
            self.add(number, trend, f"topic-{story}", title[story], echo_of="item-8" if number in (9, 10) else None)
        self.records += [
            self.topic("a", size=5, vector=axis(0), leads=(0, 1)),
            self.topic("b", size=3, vector=axis(0, 1, 0.5)),
            self.topic("c", size=4, trend="rust", vector=axis(3)),
            self.topic("a", size=8, vector=axis(0), leads=(0, 1), seq=100),
            self.topic("b", size=3, vector=axis(0), into="topic-a", seq=101),
            msgspec.structs.replace(
                summary(config, 1, 100), topic_id="topic-a", trend_id="term:phone", headline="Phones burn",
                summary="Makers recall handsets whose battery overheats.", keywords=("battery", "recall"),
                entities=("Acme Phone",), lang="en", category="electronics", fallback="budget",
            ),
            self.score("term:phone", END - HOUR, (0, 0, 1, 7), rank=9.0, burst=4.0, version=8),
            self.score("rust", END, (2, 2), rank=5.0, burst=1.0, version=4),
            self.score("term:old", END - 50 * HOUR, (3,), rank=1.0, burst=2.0, version=3),
            self.score("rust", END - 30 * HOUR, (9,), rank=2.0, burst=8.0, version=2),
            TrendDefinition(
                trend_id="rust", title="Rust the language", keywords=("rust",), category="software", updated_at=END,
                version=1,
            ),
            TrendDefinition(trend_id="quiet", title="Quiet subject", updated_at=END, version=1),
        ]  # fmt: skip

    def add(self, number: int, trend: str, topic_id: str, title: str, echo_of: str | None) -> None:
        when = END - timedelta(minutes=10 * number)
        made: EnrichedItem = item(
            self.config, number, seq=number + 1, title=f"{title} {number}", body="", trend_id=trend, published_at=when,
            observed_at=when, engagement=Engagement(points=100 - number), publisher=f"site{number % 4}.example",
        )  # fmt: skip
        self.records.append(msgspec.structs.replace(made, topic_id=topic_id, echo_of=echo_of))
        said: Mention = mention(self.config, number, seq=number + 1)
        said = msgspec.structs.replace(said, trend_id=trend, topic_id=topic_id, event_time=when, first_seen=when)
        self.records.append(said)
        if number == 8:  # the language's release is talked about among phones, too
            self.records.append(msgspec.structs.replace(said, trend_id="term:phone", home=False))

    def topic(
        self, name: str, *, size: int, vector: np.ndarray, trend: str = "term:phone", into: str | None = None,
        leads: tuple[int, ...] = (), seq: int = 50,
    ) -> TopicUpdate:  # fmt: skip
        return msgspec.structs.replace(
            topic(self.config, 1, seq, size, into), topic_id=f"topic-{name}", trend_id=trend, merged_into=into,
            life=Life.MERGED if into else Life.GREW, centroid=encode_vector(vector), first_seen=END - 2 * HOUR,
            last_seen=END, reason="alike: similarity 0.51" if into else None,
            items=tuple(
                LeadingItem(item_id=f"item-{n}", title=f"leading {n}", url=f"https://a.example/{n}", source="file",
                            published_at=END)
                for n in leads
            ),
        )  # fmt: skip

    def score(
        self, trend: str, when: datetime, counts: tuple[int, ...], *, rank: float, burst: float, version: int
    ) -> TrendScore:
        start = when.replace(minute=0)
        return msgspec.structs.replace(
            score(self.config, 1, version), trend_id=trend, slice_start=start, counts=counts, items=counts[-1],
            total=sum(counts),
            publishers=4, rank=rank, burst=burst, first_seen=start, last_seen=when,
        )  # fmt: skip


async def store_world(config: PostgresConfig) -> World:
    """The world, stored."""
    world = World(config)
    writer = PostgresWriter(config, clock=lambda: END)
    await writer.open()
    assert not (await writer.write(world.records)).refused
    await writer.close()
    return world
