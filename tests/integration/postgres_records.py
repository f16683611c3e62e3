"""Records for the tests of the PostgreSQL store, and a look into its tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import numpy as np

from sinks.postgres.config import PostgresConfig
from sinks.postgres.rows import TABLES
from streams.records import (
    Change,
    Engagement,
    EnrichedItem,
    Kind,
    Life,
    Mention,
    Observation,
    TopicSummary,
    TopicSums,
    TopicUpdate,
    TrendScore,
)
from streams.vectors import encode_vector

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DIMENSIONS = 8


def clock() -> datetime:
    return NOW


async def query(config: PostgresConfig, sql: str, *arguments: object) -> list[dict[str, object]]:
    """The rows of all shards; ``{g}`` is the generation's schema."""
    rows: list[dict[str, object]] = []
    for dsn in config.dsns:
        connection = await asyncpg.connect(dsn)
        try:
            rows += [dict(row) for row in await connection.fetch(sql.replace("{g}", config.schema), *arguments)]
        finally:
            await connection.close()
    return rows


async def contents(config: PostgresConfig) -> dict[str, set[str]]:
    """Everything stored, as text."""
    return {
        table.name: {
            str(row["row"])
            for row in await query(config, f"SELECT t::text AS row FROM {table.name_in(config.generation)} t")
        }
        for table in TABLES
        if not table.shared
    }


def vector(seed: int) -> str:
    return encode_vector(np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32))


def item(
    config: PostgresConfig, number: int = 1, seq: int = 1, change: Change = Change.FIRST, **more: object
) -> EnrichedItem:
    """An item; ``more`` replaces fields of its observation."""
    when = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)
    observation = Observation(
        item_id=f"item-{number}",
        source="file",
        external_id=str(number),
        kind=Kind.DELETED if change is Change.DELETED else Kind.POST,
        title="" if change is Change.DELETED else f"title {number} at {seq}",
        body=f"body at {seq}",
        observed_at=when + timedelta(minutes=seq),
        published_at=when,
        trend_id=f"term:{number % 7}",
        engagement=Engagement(points=seq),
    )
    observation = msgspec.structs.replace(observation, **more)
    first_seen = more.get("published_at", when)
    return EnrichedItem(
        generation=config.generation,
        item=observation,
        change=change,
        text_hash=f"hash{seq}",
        vector=vector(number + seq) if change in (Change.FIRST, Change.EDIT) else None,
        model="null",
        dimensions=DIMENSIONS,
        topic_id=f"topic-{number // 2}",
        similarity=0.5,
        is_new_topic=False,
        first_seen=first_seen,  # type: ignore[arg-type]
        seq=seq,
    )


def mention(config: PostgresConfig, number: int = 1, seq: int = 1, weight: int = 1) -> Mention:
    when = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)
    return Mention(
        generation=config.generation, trend_id=f"term:{number % 7}", item_id=f"item-{number}", topic_id="topic-1",
        home=True, event_time=when, first_seen=when, source="file", weight=weight, seq=seq,
    )  # fmt: skip


def topic(config: PostgresConfig, number: int = 1, seq: int = 1, size: int = 1, into: str | None = None) -> TopicUpdate:
    when = datetime(2026, 3, 1, tzinfo=UTC)
    return TopicUpdate(
        generation=config.generation, topic_id=f"topic-{number}", life=Life.MERGED if into else Life.GREW,
        merged_into=into, size=size, publishers=1, sources={"file": size}, centroid=vector(seq), model="null",
        dimensions=DIMENSIONS, terms=(("word", 1.0),), sums=TopicSums(items=size, rank=1.0), items=(), first_seen=when,
        last_seen=when + timedelta(seconds=seq), trend_id=f"term:{number % 7}", trends={"term:1": size}, seq=seq,
    )  # fmt: skip


def summary(config: PostgresConfig, number: int = 1, seq: int = 1, attempt: int = 1) -> TopicSummary:
    return TopicSummary(
        generation=config.generation, topic_id=f"topic-{number}", trend_id=f"term:{number % 7}",
        headline=f"headline {seq}.{attempt}", summary="s", keywords=("k",), method="extractive", model="null",
        cached=False, topic_seq=seq, attempt=attempt, created_at=NOW,
    )  # fmt: skip


def score(config: PostgresConfig, number: int = 1, version: int = 1, hour: int = 0) -> TrendScore:
    start = datetime(2026, 3, 1, hour, tzinfo=UTC)
    return TrendScore(
        generation=config.generation, trend_id=f"term:{number}", slice_start=start, slice_s=3600,
        counts=(0, 0, version), items=version, total=version, publishers=1, sources={"file": version}, expected=0.5,
        burst=float(version), velocity=1.0, engagement=Engagement(), spread=1.0, rank=float(version),
        first_seen=start, last_seen=start, version=version,
    )  # fmt: skip
