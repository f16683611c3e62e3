"""Trends that are one subject, from the command line to what readers see, and back."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from sinks.postgres.config import PostgresConfig
from sinks.postgres.reader import PostgresReader
from sinks.postgres.writer import PostgresWriter
from streams.admin import StreamAdmin
from streams.keys import bucket_of
from streams.records import Record, TrendDefinition, TrendStatus
from tests.conftest import LocalStack
from tests.integration.postgres_records import DIMENSIONS, item, mention, score, topic
from tests.integration.postgres_world import END, HOUR
from trends.cli import build

TAIL = uuid.uuid4().hex[:8]
KEPT = f"term:node.js{TAIL}"
NAME = next(n for i in count() if bucket_of(n := f"term:nodejs{TAIL}{i}") % 2 != bucket_of(KEPT) % 2)
"""On another shard, where there are two."""


@pytest.fixture
async def writer(dsns: tuple[str, ...]) -> AsyncIterator[PostgresWriter]:
    config = PostgresConfig(dsns=dsns, generation=f"g{uuid.uuid4().hex[:10]}", dimensions=DIMENSIONS)
    writer = PostgresWriter(config, clock=lambda: END)
    await writer.open()
    yield writer
    await writer.close()


def said(config: PostgresConfig, number: int, trend: str, mentions: tuple[str, ...] = ()) -> list[Record]:
    when = END - timedelta(minutes=5 * number)
    made = item(config, number, seq=number + 1, trend_id=trend, published_at=when, observed_at=when, mentions=mentions)
    counted = msgspec.structs.replace(
        mention(config, number, seq=number + 1), event_time=when, first_seen=when, publisher=f"p{number}",
        topic_id="topic-1",
    )  # fmt: skip
    return [
        msgspec.structs.replace(made, topic_id="topic-1"),
        *(msgspec.structs.replace(counted, trend_id=t, home=t == trend) for t in (trend, *mentions)),
    ]


def standing(config: PostgresConfig, trend: str, counts: tuple[int, ...]) -> Record:
    start = END.replace(minute=0)
    return msgspec.structs.replace(
        score(config, 1), trend_id=trend, slice_start=start, counts=counts, items=counts[-1], total=sum(counts),
        first_seen=END - 3 * HOUR, last_seen=END, version=sum(counts),
    )  # fmt: skip


def named(trend: str, of: str | None, version: int) -> TrendDefinition:
    return TrendDefinition(
        trend_id=trend, title=trend, status=TrendStatus.RETIRED, alias_of=of, updated_at=END, version=version
    )


async def test_two_names_are_shown_as_one_trend_and_each_by_itself_again(writer: PostgresWriter) -> None:
    config = writer.config
    records: list[Record] = [
        *said(config, 1, KEPT), *said(config, 2, KEPT, (NAME,)), *said(config, 3, NAME), *said(config, 4, NAME),
        standing(config, KEPT, (2,)), standing(config, NAME, (3,)),
        msgspec.structs.replace(topic(config, 1, 9, 4), trend_id=KEPT),
    ]  # fmt: skip
    assert not (await writer.write(records)).refused
    reader = PostgresReader(config, clock=lambda: END + timedelta(minutes=1))
    try:
        assert {t.trend_id for t in (await reader.top()).trends} == {KEPT, NAME}
        counted, same = await reader.common_items()
        assert (counted[KEPT], counted[NAME]) == (2, 3)
        assert [pair for pair in same if pair[2] > 1] == []

        await writer.write([named(NAME, KEPT, 1)])
        [row] = (await reader.top()).trends
        assert (row.trend_id, row.aliases, row.total, row.window_items, row.publishers) == (KEPT, (NAME,), 4, 4, 4)
        assert [(t.topic_id, t.items) for t in row.topics] == [("topic-1", 4)]
        for asked in (KEPT, NAME):
            view = await reader.trend(asked)
            assert view is not None
            assert (view.row.trend_id, view.row.window_items, view.row.tracked) == (KEPT, 4, False)
            assert [each.item_id for each in view.items].count("item-2") == 1
            assert len(view.items) == 4

        await writer.write([named(NAME, None, 2)])
        assert {t.trend_id: t.total for t in (await reader.top()).trends} == {KEPT: 2, NAME: 3}
        view = await reader.trend(NAME)
        assert view is not None
        assert (view.row.trend_id, view.row.total, view.status) == (NAME, 3, None)
    finally:
        await reader.close()


def test_names_are_given_listed_and_taken_back(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = stack.kafka_named(partitions=2)
    StreamAdmin(kafka, "g1").apply()
    monkeypatch.setenv("TRENDS_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("TRENDS_STACK", kafka.stack)

    def aliases(*words: str) -> Any:
        return CliRunner().invoke(build(), ["aliases", *words])

    def known() -> dict[str, str]:
        return {row["alias"]: row["shown_as"] for row in json.loads(aliases("list", "--json").stdout)}

    assert aliases("add", "NodeJS", "node.js", "--reason", "spelt alike").exit_code == 0
    assert aliases("add", "node.js", "javascript").exit_code == 0
    assert known() == {"term:nodejs": "term:javascript", "term:node.js": "term:javascript"}
    refused = aliases("add", "javascript", "nodejs")
    assert refused.exit_code != 0
    assert aliases("add", "a", "a").exit_code != 0
    assert aliases("remove", "node.js").exit_code == 0
    assert known() == {"term:nodejs": "term:node.js"}
    assert aliases("remove", "node.js").exit_code != 0
    assert aliases("remove", "nodejs").exit_code == 0
    assert known() == {}
