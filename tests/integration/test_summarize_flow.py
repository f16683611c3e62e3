"""The summarize flow with a model that hangs, is away and comes back: a real broker, real PostgreSQL, real kills."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.codec import decode, encode
from streams.io import Addresser
from streams.records import TopicSummary, TrendDefinition
from streams.table import CATALOG, SUMMARIES, UPDATES
from streams.whole import read_whole
from tests.conftest import LocalStack
from tests.unit.chat_server import ChatRequest, ChatServer
from tests.unit.topics import topic
from tests.waiting import until
from trends.settings import Settings, environment_of, load_settings

NOW = datetime(2016, 9, 8, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
TITLES = (
    "Harbour of Lindau opens for boats",
    "Boats return to the harbour of Lindau",
    "Lindau: harbour open for boats",
)
SOON = (  # what was owed after an outage is tried again after a second, not after a minute
    "import models.summaries.engine as e, models.summaries.cached as c; e.OWED_FIRST_S = 1; c.OUTAGE_FIRST_S = 0.5; "
    "from trends.__main__ import main; main()"
)


class World:
    """One flow process at a time, its model, and what it has said."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        with (self.folder / f"{self.starts}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SOON, "flow", "summarize", "--name", "summarize-0"], cwd=ROOT, stdout=log,
                stderr=subprocess.STDOUT, env=os.environ | environment_of(self.settings),
            )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def send(self, name: str, words: str = "") -> None:
        update = topic(*(f"{title} {words}".strip() for title in TITLES), size=6, topic_id=name)
        kafka = self.settings.kafka()
        out = Addresser(kafka, self.settings.generation).record(UPDATES, update, name, update.trend_id)
        producer = Producer(kafka.client())
        producer.produce(out.stream, out.value, out.key, out.partition, headers=out.headers)  # type: ignore[arg-type]
        producer.flush()

    def track(self, definition: TrendDefinition) -> None:
        producer = Producer(self.settings.kafka().client())
        producer.produce(
            CATALOG.physical(self.settings.kafka(), ""), encode(definition), definition.trend_id.encode(), 0
        )
        producer.flush()

    def said(self, name: str) -> list[TopicSummary]:
        """What readers have been told of a topic, in order."""
        kafka = self.settings.kafka()
        stream = SUMMARIES.physical(kafka, self.settings.generation)
        ends = end_offsets(AdminClient(kafka.client()), [(stream, p) for p in range(SUMMARIES.count(kafka))], 10)
        records = [
            decode(TopicSummary, message.value())
            for batch in read_whole(kafka, stream, {partition: end for (_, partition), end in ends.items()})
            for message in batch
        ]
        return [record for record in records if record.topic_id == name]


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture(scope="module")
def world(
    stack: LocalStack, dsns: tuple[str, ...], server: ChatServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("summarize")
    settings = load_settings(
        home=folder / "home", kafka_bootstrap=stack.bootstrap, postgres_dsns=dsns, stack="saying", generation="say",
        kafka_partitions=2, kafka_session_timeout_ms=3_000, summarizer="openai", summarizer_url=server.url,
        summarizer_model="tiny", summarizer_timeout_s=60,
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    world = World(settings, folder)
    try:
        yield world
    finally:
        world.kill()


def test_a_process_killed_while_it_waits_for_the_model_says_it_once_and_keeps_its_place_until_then(
    world: World, server: ChatServer
) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold(request: ChatRequest) -> None:
        arrived.set()
        release.wait(60)
        request.well()

    server.script(hold)
    world.start()
    world.send("held")
    assert arrived.wait(60)
    world.kill()
    assert world.said("held") == []
    release.set()
    world.start()
    until(lambda: bool(world.said("held")))
    (said,) = world.said("held")
    assert (said.method, said.attempt, said.cached) == ("llm", 1, False)


def test_a_model_that_takes_longer_than_a_session_lasts_costs_no_membership(world: World, server: ChatServer) -> None:
    server.script(lambda request: (threading.Event().wait(5), request.well())[1])
    before = len(server.requests)
    world.send("slow", "slowly")
    until(lambda: bool(world.said("slow")))
    assert len(server.requests) == before + 1, "nothing was begun anew"


def test_while_the_model_is_away_topics_are_said_extractively_and_later_anew_though_nothing_else_comes(
    world: World, server: ChatServer
) -> None:
    server.script(*[lambda request: request.send(503, b"")] * 3)
    world.send("away", "today")
    until(lambda: len(world.said("away")) == 2)
    first, second = world.said("away")
    assert (first.method, first.fallback, first.attempt) == ("extractive", "unavailable", 1)
    assert (second.method, second.fallback, second.topic_seq) == ("llm", None, first.topic_seq)
    assert second.attempt > first.attempt


def test_another_process_finds_what_was_asked_before(world: World, server: ChatServer) -> None:
    world.kill()
    world.track(TrendDefinition(trend_id="term:iphone", title="x", category="transport", updated_at=NOW, version=1))
    world.start()
    before = len(server.requests)
    world.send("again")
    until(lambda: bool(world.said("again")))
    (said,) = world.said("again")
    assert said.category == "transport"
    assert (said.method, said.cached) == ("llm", True)
    assert len(server.requests) == before
