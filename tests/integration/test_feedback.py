"""``trends feedback`` on a real broker and real shards: whoever decides obeys, and a word can be taken back."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from connectors import connector_of
from connectors.base import Sighting, routing
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding.null import NullEmbedder
from models.engine import ClusterEngine
from models.routing import Router
from sinks.postgres.config import PostgresConfig
from sinks.postgres.reader import PostgresReader, SyncReader
from sinks.postgres.writer import PostgresWriter
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.codec import decode
from streams.config import KafkaConfig
from streams.feedback import FeedbackFollower, read_feedback
from streams.records import Feedback, FeedbackKind, Kind, Observation
from streams.table import FEEDBACK, raw
from streams.whole import read_whole
from tests.conftest import LocalStack
from tests.integration.postgres_records import DIMENSIONS
from tests.integration.postgres_world import END, store_world
from tests.integration.test_control_streams import between, refused
from trends.__main__ import main
from trends.collecting import collect
from trends.exporting import LABEL_COLUMNS, Format, labelled_rows, write_rows
from trends.labelled import posts_of
from trends.settings import load_settings

WORD = Feedback(kind=FeedbackKind.MUTE, trend_id="term:phone", said_at=END, version=1)


@pytest.fixture
def kafka(stack: LocalStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KafkaConfig:
    kafka = stack.kafka_named(partitions=2)
    for name, value in (
        ("HOME", tmp_path / "home"), ("STACK", kafka.stack), ("KAFKA_BOOTSTRAP", kafka.bootstrap),
        ("KAFKA_PARTITIONS", kafka.partitions),
    ):  # fmt: skip
        monkeypatch.setenv(f"TRENDS_{name}", str(value))
    StreamAdmin(kafka, "g1").apply()
    return kafka


def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["trends", "feedback", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def routed(kafka: KafkaConfig) -> dict[str, set[str]]:
    """The trends of each item that stands in the raw stream."""
    name = raw("file").physical(kafka, "g1")
    found: dict[str, set[str]] = {}
    ends = end_offsets(AdminClient(kafka.client()), [(name, p) for p in range(kafka.partitions)], 10.0)
    for batch in read_whole(kafka, name, {partition: end for (_, partition), end in ends.items()}):
        for message in batch:
            seen = decode(Observation, message.value())
            found[seen.external_id] = {seen.trend_id, *seen.mentions}
    return found


def test_a_word_that_is_no_trend_is_not_chosen_by_the_collecting_that_follows(
    kafka: KafkaConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = say(capsys, monkeypatch, "not-a-trend", "Kathmandu", "--reason", "a test")
    assert (said["trend_id"], said["active"]) == ("term:kathmandu", True)
    path = tmp_path / "posts.csv"

    def collected(first: int) -> set[str]:
        path.write_text("id,title\n" + "".join(f"{first + n},Water for Kathmandu {n}\n" for n in range(4)))
        settings = load_settings()
        asyncio.run(collect(settings, [connector_of(f"file:{path}", {})]))
        found = routed(kafka)
        return set().union(*(found[str(first + n)] for n in range(4)))

    assert "term:kathmandu" not in collected(0)
    say(capsys, monkeypatch, "undo", said["id"])
    assert "term:kathmandu" in collected(10)
    assert say(capsys, monkeypatch, "list") == []
    (gone,) = say(capsys, monkeypatch, "list", "--all")
    assert (gone["id"], gone["active"], gone["reason"]) == (said["id"], False, "a test")


def test_what_was_said_is_known_around_rubbish(kafka: KafkaConfig) -> None:
    later = replace(WORD, trend_id="term:rust")
    bad = between(kafka, FEEDBACK, WORD.key, WORD, (later.key, later))
    with closing(FeedbackFollower(kafka)) as follower:
        follower.catch_up()
        assert list(follower.book.said) == [WORD, later]
    assert refused(kafka, FEEDBACK) == len(bad)
    assert read_feedback(kafka).known(WORD.key) == WORD


def test_stories_that_somebody_merged_are_labels_that_eval_reads(
    dsns: tuple[str, ...], kafka: KafkaConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = PostgresConfig(dsns=dsns, generation="gmerge", dimensions=DIMENSIONS)
    asyncio.run(store_world(config))
    with SyncReader(config, clock=lambda: END) as reader:
        topics = reader.ask(reader.reader.topics_of_items(["item-0", "item-8", "none"]))
        assert topics.keys() == {"item-0", "item-8"}
        assert topics["item-0"] == "topic-a"
        apart = labelled_rows(reader, [("item-0", "none"), ("item-8", "none")])
        rows = labelled_rows(reader, [("item-0", "item-8"), ("item-0", "none")])
    assert len({row["story"] for row in apart}) == len({*topics.values()}) == 2
    assert {row["story"] for row in rows} == {min(topics.values())}
    assert [row["id"] for row in rows] == [row["id"] for row in apart]
    path = tmp_path / "labels.csv"
    with path.open("wb") as file:
        assert write_rows(rows, LABEL_COLUMNS, Format.CSV, file, lambda _: None) == len(rows)
    posts = posts_of(path, "story", {})
    assert sorted(seen.external_id for seen in posts.sightings) == sorted(row["id"] for row in rows)
    assert set(posts.labels.values()) == {min(topics.values())}


def test_cluster_obeys_who_merges_two_stories(
    kafka: KafkaConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = say(capsys, monkeypatch, "merge", "file/1", "file/2")
    again = say(capsys, monkeypatch, "merge", "file/2", "file/1")
    assert said["id"] == again["id"]
    engine = ClusterEngine(ClusterConfig(), "g1")
    with closing(FeedbackFollower(kafka, engine.obey)) as follower:
        follower.catch_up()
    posts = [
        Sighting(source="file", external_id=n, kind=Kind.POST, title=title, observed_at=END, published_at=END)
        for n, title in (("1", "Volcano erupts in Iceland"), ("2", "Federal Reserve raises rates"))
    ]
    route = routing(Router())
    embedded = EmbedEngine(NullEmbedder(16)).apply([seen.routed(route(seen)) for seen in posts])
    (merged,) = [update for update in engine.apply(embedded).updates if update.merged_into]
    assert merged.asked_by == said["id"]
    assert engine.active_topics == 1


async def test_a_muted_trend_is_not_listed_as_rising_and_found_by_its_name(dsns: tuple[str, ...]) -> None:
    config = PostgresConfig(dsns=dsns, generation="gmute", dimensions=DIMENSIONS)
    await store_world(config)
    reader, writer = PostgresReader(config, clock=lambda: END), PostgresWriter(config, clock=lambda: END)
    await writer.open()

    async def rising() -> list[str]:
        return [trend.trend_id for trend in (await reader.top(window=timedelta(hours=24))).trends]

    async def stories() -> set[str]:
        week = timedelta(days=7)
        return set((await reader.recent_topics(window=week, recent=week)).topics)

    try:
        assert await rising() == ["term:phone", "rust"]
        assert await stories() == {"topic-a", "topic-c"}
        await writer.write([WORD])
        assert await rising() == ["rust"]
        assert await stories() == {"topic-c"}
        phone = await reader.trend("term:phone")
        assert phone is not None
        assert phone.history
        back = replace(WORD, active=False, version=2)
        await writer.write([back])
        await writer.write([WORD])  # comes again, late
        assert await rising() == ["term:phone", "rust"]
    finally:
        await writer.close()
        await reader.close()
