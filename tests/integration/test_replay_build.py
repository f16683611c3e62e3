"""The next generation out of history, on the real Kafka, PostgreSQL and processes: beside live traffic, over a kill.

The live generation's flows run all the while, and one build serves most assertions: it takes a minute or two.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors import connector_of
from sinks.postgres import SyncReader, migrate
from sinks.postgres.export import Filters
from streams.admin import StreamAdmin
from streams.codec import decode
from streams.generations import read_generations
from streams.records import EmbeddedItem, EnrichedItem, GenerationState, Mention, Record, TrendScore
from streams.table import EMBEDDED, ENRICHED, MENTIONS, SCORES, Stream, raw
from tests.conftest import LocalStack
from tests.integration.test_run import ROOT
from tests.waiting import drained, until
from trends.collecting import collect
from trends.demo import Stages
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS
from trends.generations import drop, lag_of, promote, rollback
from trends.reading import open_reader
from trends.settings import Settings, load_settings
from trends.supervisor import Supervisor
from trends.verify import audit

pytestmark = pytest.mark.timeout(600)

ITEMS = 300
DIMENSIONS = 32
OTHER_DIMENSIONS = 16
PATIENCE_S = 240.0


@dataclass
class Live:
    """The live generation: its settings, its flows, what was collected."""

    settings: Settings
    flows: Supervisor
    seeds: list[int] = field(default_factory=list)

    def collect(self, seed: int) -> None:
        asyncio.run(collect(self.settings, [connector_of("synthetic", {"items": ITEMS, "seed": seed})]))
        self.seeds.append(seed)

    def settled(self) -> None:
        """Waits until the live flows have dealt with everything."""
        with Stages(self.settings) as stages:
            assert not (why := drained(stages, PATIENCE_S)), why

    def of(self, generation: str, dimensions: int = DIMENSIONS) -> Settings:
        return self.settings.having(generation=generation, embedder_dimensions=dimensions)

    def ids(self, generation: str) -> set[str]:
        """The items that readers see."""
        return {item_id for item_id, row in self.items(generation).items() if not row["deleted"]}

    def items(self, generation: str) -> dict[str, dict[str, Any]]:
        with SyncReader(self.of(generation).postgres()) as sync:
            rows = list(sync.export("items", Filters()))
        assert len({row["item_id"] for row in rows}) == len(rows)
        return {row["item_id"]: row for row in rows}

    def read(self, stream: Stream, generation: str) -> list[Record]:
        """All committed records of a stream."""
        kafka = self.settings.kafka()
        name, count = stream.physical(kafka, generation), stream.count(kafka)
        consumer = Consumer(
            kafka.client(**{"group.id": "reading", "isolation.level": "read_committed", "enable.partition.eof": True})
        )
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        assert stream.record is not None
        found, ended = [], 0
        while ended < count:
            for message in consumer.consume(2_000, 1.0):
                if message.error():
                    ended += 1
                else:
                    found.append(decode(stream.record, message.value(), message.headers()))
        consumer.close()
        return found


@pytest.fixture(scope="module")
def live(stack: LocalStack, dsns: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live generation with history that its raw stream no longer holds in full."""
    kafka = stack.kafka_named()
    settings = load_settings(
        home=tmp_path_factory.mktemp("build"), kafka_bootstrap=kafka.bootstrap, postgres_dsns=dsns, stack=kafka.stack,
        kafka_partitions=2, embedder="null", embedder_dimensions=DIMENSIONS, kafka_session_timeout_ms=6_000,
        generation="g1",
    )  # fmt: skip
    StreamAdmin(settings.kafka(), "g1").apply()
    asyncio.run(migrate(settings.postgres()))
    with flow_supervisor(settings, dict.fromkeys(FLOWS, 1), lambda _name, _line: None) as flows:
        made = Live(settings, flows)
        made.collect(1)
        made.settled()
        delete_half(settings)
        yield made
        assert flows.failure is None, flows.failure


def delete_half(settings: Settings) -> None:
    """What retention does: the older half of each partition of the raw stream is gone."""
    kafka = settings.kafka()
    name = raw("synthetic").physical(kafka, "g1")
    client = Consumer(kafka.client(**{"group.id": "ends"}))
    halves = []
    for number in range(2):
        _, high = client.get_watermark_offsets(TopicPartition(name, number), 20)
        halves.append(TopicPartition(name, number, high // 2))
    client.close()
    admin = AdminClient(kafka.client())
    for future in admin.delete_records(halves).values():
        assert future.result(20).low_watermark > 0


def caught_up(live: Live, generation: str) -> None:
    """Waits until every flow of a generation has dealt with everything."""
    until(lambda: not any(lag.records for lag in lag_of(live.settings, generation, ages=False) or ()), PATIENCE_S)


class Building:
    """``trends replay build`` as a process of its own, as an operator runs it."""

    def __init__(self, settings: Settings, home: Path, *arguments: str) -> None:
        self.home = home
        self.steps: list[dict[str, Any]] = []
        self.errors: list[str] = []
        environment = os.environ | {
            "TRENDS_HOME": str(home), "TRENDS_STACK": settings.stack,
            "TRENDS_KAFKA_BOOTSTRAP": str(settings.kafka_bootstrap), "TRENDS_KAFKA_PARTITIONS": "2",
            "TRENDS_POSTGRES_DSNS": ",".join(settings.postgres_dsns), "TRENDS_EMBEDDER": "null",
            "TRENDS_EMBEDDER_DIMENSIONS": str(DIMENSIONS), "TRENDS_KAFKA_SESSION_TIMEOUT_MS": "6000",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trends", "replay", "build", *arguments, "--json"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=lambda: self.errors.extend(self._process.stderr or ()), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Building:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.steps.append(json.loads(line))

    def until(self, condition: Any) -> dict[str, Any]:
        """The first step that meets a condition."""

        def met() -> bool:
            assert self._process.poll() in (None, 0), "".join(self.errors)
            return any(condition(step) for step in self.steps)

        until(met, PATIENCE_S)
        return next(step for step in self.steps if condition(step))

    def end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(60)
        for reader in self._readers:
            reader.join(5)
        return code

    def ended(self) -> int:
        """How it ends by itself."""
        return self._process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def built(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Building]:
    """g2 from stage raw with other dimensions: killed in the middle, begun again, fed with live traffic."""
    home = tmp_path_factory.mktemp("g2")
    options = ("--generation", "g2", "--from-stage", "raw", "--dimensions", str(OTHER_DIMENSIONS))
    with Building(live.settings, home, *options) as first:
        first.until(lambda step: step["done"] > 0)
        live.collect(2)
        first.end(signal.SIGKILL)
        assert all(step["phase"] != "fed" for step in first.steps)
    with Building(live.settings, home, "--generation", "g2") as second:
        second.until(lambda step: step["phase"] == "fed")
        live.collect(3)
        live.settled()
        until(lambda: live.ids("g2") == live.ids("g1"), PATIENCE_S)
        caught_up(live, "g2")
        yield second


def test_every_item_is_in_the_next_generation_once_although_the_build_was_killed(live: Live, built: Building) -> None:
    old, new = live.items("g1"), live.items("g2")
    seen = live.ids("g1")
    assert len(seen) > 2 * ITEMS
    assert live.ids("g2") == seen
    for field_name in ("first_seen", "trend_id", "points", "title"):
        assert {i: old[i][field_name] for i in seen} == {i: new[i][field_name] for i in seen}
    enriched = [r for r in live.read(ENRICHED, "g2") if isinstance(r, EnrichedItem)]
    assert Counter(r.record_id for r in enriched).most_common(1)[0][1] == 1
    assert Counter(r.change.value for r in enriched)["first"] == len(new)
    assert {r.dimensions for r in enriched} == {OTHER_DIMENSIONS}


def test_items_that_the_raw_stream_no_longer_holds_came_from_the_stores(live: Live, built: Building) -> None:
    held = {r.item.item_id for r in live.read(EMBEDDED, "g2") if isinstance(r, EmbeddedItem)}
    observed = {r.item_id for r in live.read(raw("synthetic"), "g1")}  # type: ignore[attr-defined]
    assert len(live.ids("g1") - observed) > ITEMS / 4
    assert held >= live.ids("g1")


def test_scores_of_the_next_generation_add_up_to_its_mentions(live: Live, built: Building) -> None:
    weights: Counter[str] = Counter()
    for mention in live.read(MENTIONS, "g2"):
        assert isinstance(mention, Mention)
        weights[mention.trend_id] += mention.weight
    newest: dict[str, TrendScore] = {}
    for score in live.read(SCORES, "g2"):
        assert isinstance(score, TrendScore)
        if score.trend_id not in newest or newest[score.trend_id].version < score.version:
            newest[score.trend_id] = score
    assert {t: s.total for t, s in newest.items()} == dict(weights)


def test_progress_only_grows_and_says_when_it_will_end(built: Building) -> None:
    done = [step["done"] for step in built.steps]
    assert done == sorted(done)
    assert all(0 <= step["done"] <= step["total"] for step in built.steps)
    assert any(step["left_s"] is not None for step in built.steps)
    assert built.steps[-1]["phase"] == "fed"


def test_the_build_yields_while_the_live_flows_are_late(live: Live, built: Building) -> None:
    """A live process that stands still makes its generation late, and the other one reads less until it goes on."""
    yielded, gone_on = said(built, "g2.embed yields"), said(built, "g2.embed goes on")
    pid = live.flows.pids["store-0"]
    os.kill(pid, signal.SIGSTOP)
    try:
        live.collect(4)
        until(lambda: said(built, "g2.embed yields") > yielded)
    finally:
        os.kill(pid, signal.SIGCONT)
    live.settled()
    until(lambda: said(built, "g2.embed goes on") > gone_on)
    until(lambda: live.ids("g2") == live.ids("g1"), PATIENCE_S)


def said(built: Building, words: str) -> int:
    """How often the embed flow of the build has said something."""
    return sum(path.read_text().count(words) for path in built.home.glob("logs/embed-*.log"))


def test_a_generation_with_the_vectors_of_another_embeds_nothing_again_and_leaves_out_what_it_was_told_to(
    live: Live, built: Building, tmp_path: Path
) -> None:
    rows = sorted(live.items("g1").values(), key=lambda row: row["first_seen"])
    since = rows[len(rows) // 4]["first_seen"]
    arguments = ("--generation", "g3", "--from-stage", "embedded", "--from", since.isoformat(), "--until-ready")
    with Building(live.settings, tmp_path, *arguments) as third:
        assert third.ended() == 0, "".join(third.errors)
        assert third.steps[-1]["phase"] == "fed"
    assert read_generations(live.settings.kafka()).state_of("g3") is GenerationState.READY
    embedded = [r for r in live.read(EMBEDDED, "g1") if isinstance(r, EmbeddedItem)]
    vectors = {r.item.item_id: r.vector for r in embedded if r.item.event_time >= since}
    copied = {r.item.item_id: r.vector for r in live.read(EMBEDDED, "g3") if isinstance(r, EmbeddedItem)}
    assert copied == vectors
    assert 0 < len(vectors) < len({r.item.item_id for r in embedded})
    assert live.ids("g3") == live.ids("g1") & vectors.keys()

    report = audit(live.of("g3"), wait_s=20)
    assert report.failed == ()
    assert report.since == since
    assert report.left_out > 0
    drop(live.settings, "g3")
    assert read_generations(live.settings.kafka()).state_of("g3") is GenerationState.DROPPED


def test_promoted_it_is_what_readers_read_and_every_old_id_leads_on(live: Live, built: Building) -> None:
    seen = [row for row in live.items("g1").values() if not row["deleted"]]
    old_ids = sorted({row["topic_id"] for row in seen} | {row["joined_topic_id"] for row in seen})
    done = promote(live.settings, "g2")
    assert done.redirects is not None
    assert done.redirects.redirected >= len(old_ids)
    with open_reader(following_none(live)) as sync:
        assert sync.reader.config.generation == "g2"
        for topic_id in old_ids[:: len(old_ids) // 40]:
            view = sync.ask(sync.reader.topic(topic_id))
            assert view is not None
            assert view.asked_generation == "g1"
    assert rollback(live.settings).live == "g1"
    with open_reader(following_none(live)) as sync:
        assert sync.reader.config.generation == "g1"
    promote(live.settings, "g2")
    assert live.ids("g1") == live.ids("g2")


def following_none(live: Live) -> Settings:
    """Settings without a generation: readers follow the live one."""
    given = {name: getattr(live.settings, name) for name in live.settings._given - {"generation"}}
    return load_settings(**given)


def test_it_is_dropped_when_its_flows_have_ended(live: Live, built: Building) -> None:
    rollback(live.settings)
    assert built.end(signal.SIGINT) == 0, "".join(built.errors)
    done = drop(live.settings, "g2")
    assert done.tables
    assert done.groups >= len(FLOWS)

    async def schemas() -> set[str]:
        connection = await asyncpg.connect(live.settings.dsns()[0])
        try:
            return {row["nspname"] for row in await connection.fetch("SELECT nspname FROM pg_namespace")}
        finally:
            await connection.close()

    there = asyncio.run(schemas())
    assert "g1" in there
    assert not there & {"g2", "g3"}
    topics = AdminClient(live.settings.kafka().client()).list_topics(timeout=20).topics
    assert not [name for name in topics if name.startswith(f"{live.settings.stack}.g2.")]
