"""``trends replay store`` on the real Kafka and PostgreSQL: what is missing or older is mended, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from confluent_kafka import Producer
from typer.testing import CliRunner

from sinks.postgres.config import PostgresConfig
from streams.admin import StreamAdmin
from streams.codec import encode, headers_of
from streams.keys import partition_of
from streams.records import (
    EnrichedItem,
    ForgetKind,
    ForgetRequest,
    Mention,
    Record,
    TopicSummary,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)
from streams.table import CATALOG, ENRICHED, FORGOTTEN, MENTIONS, SCORES, SUMMARIES, UPDATES
from tests.conftest import LocalStack
from tests.integration.postgres_records import contents, query
from tests.integration.postgres_world import END, store_world
from trends.cli import build
from trends.settings import load_settings

PARTITIONS = 4
STREAM_OF = {
    EnrichedItem: ENRICHED, Mention: MENTIONS, TopicUpdate: UPDATES, TopicSummary: SUMMARIES, TrendScore: SCORES,
    TrendDefinition: CATALOG,
}  # fmt: skip

Replay = Callable[..., Any]


def send(kafka: Any, generation: str, records: list[Record]) -> None:
    """The records of the world, as flows write them, and some rubbish between them."""
    producer = Producer(kafka.client())
    for record in records:
        stream = STREAM_OF[type(record)]
        trend_id = record.trend_id  # type: ignore[attr-defined]
        key = getattr(record, "topic_id", trend_id) if stream in (UPDATES, SUMMARIES) else trend_id
        partition = 0 if stream is CATALOG else partition_of(trend_id, PARTITIONS)
        headers: Any = headers_of(record)
        producer.produce(stream.physical(kafka, generation), encode(record), key.encode(), partition, headers=headers)
    producer.produce(UPDATES.physical(kafka, generation), None, b"topic-gone", 0)
    assert producer.flush(30) == 0


@pytest.fixture
def replay(stack: LocalStack, config: PostgresConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Replay:
    """The command on a generation whose streams and stores agree."""
    kafka = stack.kafka_named(partitions=PARTITIONS)
    StreamAdmin(kafka, config.generation).apply()
    world = asyncio.run(store_world(config))
    send(kafka, config.generation, world.records)
    for name, value in {
        "HOME": tmp_path, "STACK": kafka.stack, "KAFKA_BOOTSTRAP": kafka.bootstrap, "GENERATION": config.generation,
        "KAFKA_PARTITIONS": PARTITIONS, "POSTGRES_DSNS": ",".join(config.dsns), "EMBEDDER": "null",
        "EMBEDDER_DIMENSIONS": config.dimensions,
    }.items():  # fmt: skip
        monkeypatch.setenv(f"TRENDS_{name}", str(value))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        result: Result = CliRunner().invoke(build(), ["replay", "store", *arguments, "--json"])
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    return run


def test_what_was_lost_or_is_older_is_mended_and_a_second_time_changes_nothing(
    replay: Replay, config: PostgresConfig
) -> None:
    whole = asyncio.run(contents(config))

    async def damage() -> None:
        await query(config, "DELETE FROM {g}.items WHERE item_id IN ('item-3', 'item-9')")
        await query(config, "DELETE FROM {g}.mentions WHERE trend_id = 'term:phone'")
        await query(config, "UPDATE {g}.topics SET version = 1, merged_into = NULL WHERE topic_id = 'topic-b'")
        await query(config, "DELETE FROM {g}.topic_summaries")

    asyncio.run(damage())
    day = ("--from", "2026-03-01", "--to", "2026-03-11")
    tried = replay(*day, "--dry-run")
    assert tried["rows"] == {}
    assert asyncio.run(contents(config)) != whole
    done = replay(*day)
    assert done["rows"] == {"items": 2, "mentions": 9, "topic_summaries": 1, "topics": 1}
    assert (done["selected"], done["refused"], done["unreadable"]) == (tried["selected"], 0, 0)
    assert asyncio.run(contents(config)) == whole
    assert replay(*day)["rows"] == {}


def test_filters_are_honoured(replay: Replay, config: PostgresConfig) -> None:
    asyncio.run(query(config, "TRUNCATE {g}.items, {g}.mentions"))

    async def items() -> set[str]:
        return {str(row["item_id"]) for row in await query(config, "SELECT item_id FROM {g}.items")}

    # item-n is 10·n minutes older than END
    span = (END - timedelta(minutes=35), END - timedelta(minutes=5))
    done = replay("--from", f"{span[0]:%Y-%m-%dT%H:%M}", "--to", f"{span[1]:%Y-%m-%dT%H:%M}")
    assert asyncio.run(items()) == {"item-1", "item-2", "item-3"}
    assert done["rows"] == {"items": 3, "mentions": 3}

    assert replay("--from", "2026-03-01", "--sources", "rss")["rows"] == {}
    assert replay("--from", "2026-03-01", "--sources", "file", "--dry-run")["selected"] > 0
    rust = partition_of("rust", PARTITIONS)
    assert rust != partition_of("term:phone", PARTITIONS)
    replay("--from", "2026-03-01", "--partitions", str(rust))
    assert asyncio.run(items()) == {"item-1", "item-2", "item-3", "item-8", "item-9", "item-10", "item-11"}
    assert replay("--log-to", "2026-01-01")["read"] == 0
    replay("--log-from", "2026-01-01")
    assert len(asyncio.run(items())) == 12

    forget_item_3()
    asyncio.run(query(config, "TRUNCATE {g}.items, {g}.mentions"))
    assert replay("--log-from", "2026-01-01")["forgotten"] == 2
    assert len(asyncio.run(items())) == 11
    assert "item-3" not in asyncio.run(items())


def forget_item_3() -> None:
    kafka = load_settings().kafka()
    request = ForgetRequest(request_id="r1", kind=ForgetKind.ITEM, item_id="item-3", requested_at=END)
    producer = Producer(kafka.client())
    headers: Any = headers_of(request)
    producer.produce(FORGOTTEN.physical(kafka, ""), encode(request), request.key.encode(), 0, headers=headers)
    assert producer.flush(30) == 0
