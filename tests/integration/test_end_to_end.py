"""The whole platform on the real Kafka and PostgreSQL: a world whose truth is known, rubbish in the middle, and kills.

One run serves all assertions: it takes most of a minute.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors import connector_of
from connectors.synthetic import SyntheticConnector
from models.quality import Agreement, agreement
from sinks.postgres import SyncReader, migrate
from sinks.postgres.export import Filters
from streams.admin import StreamAdmin
from streams.codec import decode, encode
from streams.ids import item_id_of
from streams.producer import Publisher
from streams.records import (
    DeadLetter,
    EnrichedItem,
    Kind,
    Mention,
    Observation,
    Reason,
    Record,
    TopicUpdate,
    TrendScore,
)  # fmt: skip
from streams.table import DEAD_LETTERS, ENRICHED, MENTIONS, RAW, SCORES, UPDATES, Stream, raw
from tests.conftest import LocalStack
from trends.collecting import collect
from trends.demo import Stages
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS
from trends.settings import Settings, load_settings
from trends.supervisor import Supervisor

ITEMS = 1_200
SETTLE_S = 150.0


@dataclass(frozen=True)
class Run:
    """What is left when everything is stored."""

    settings: Settings
    world: SyntheticConnector
    restarts: dict[str, int]
    good: tuple[Observation, ...]
    """Sent by hand, around the rubbish."""

    def read(self, stream: Stream) -> list[tuple[str, Record]]:
        """All committed records of a stream, with their ids."""
        kafka = self.settings.kafka()
        name, count = stream.physical(kafka, self.settings.generation), stream.count(kafka)
        consumer = Consumer(
            kafka.client(
                **{"group.id": "end-to-end", "isolation.level": "read_committed", "enable.partition.eof": True}
            )
        )
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        assert stream.record is not None
        found, ended = [], set()
        while len(ended) < count:
            for message in consumer.consume(2_000, 1.0):
                if message.error():
                    ended.add(message.partition())
                else:
                    record = decode(stream.record, message.value(), message.headers())
                    found.append((record.record_id, record))
        consumer.close()
        return found


def observation(number: int, **changes: object) -> Observation:
    external_id, at = f"by-hand-{number}", datetime(2026, 1, 6, 12, tzinfo=UTC)
    fields: dict[str, object] = {
        "item_id": item_id_of("file", external_id), "source": "file", "external_id": external_id, "kind": Kind.POST,
        "title": f"Harbour pilots of Quellmark vote on tariff {number}", "observed_at": at, "published_at": at,
        "trend_id": "term:quellmark", "publisher": f"site{number}.example",
    }  # fmt: skip
    return Observation(**(fields | changes))  # type: ignore[arg-type]


def rubbish() -> list[bytes]:
    """One of each kind: not JSON, wrong types, a missing field, NUL, an id that is not its own, a vector of nothing."""
    fields = msgspec.to_builtins(observation(900))
    return [
        b"\xff\xfe not json",
        msgspec.json.encode(fields | {"title": 5}),
        msgspec.json.encode({k: v for k, v in fields.items() if k != "item_id"}),
        msgspec.json.encode(fields | {"title": "a\x00b"}),
        msgspec.json.encode(fields | {"item_id": item_id_of("file", "someone else")}),
        msgspec.json.encode(fields | {"observed_at": "the day before yesterday"}),
    ]


REASONS = Counter(
    [
        Reason.NOT_JSON,
        Reason.WRONG_TYPE,
        Reason.MISSING_FIELD,
        Reason.NUL_CHARACTER,
        Reason.INVALID_VALUE,
        Reason.INVALID_VALUE,
        Reason.TOO_LARGE,
    ]
)


def send_by_hand(settings: Settings) -> tuple[Observation, ...]:
    """Good and bad, in turn, into one partition; and one that is too large for any."""
    kafka = settings.kafka()
    good = tuple(observation(n) for n in range(7))
    producer = Producer(kafka.client())
    name = raw("file").physical(kafka, settings.generation)
    for item, bad in zip(good, [*rubbish(), None], strict=True):
        producer.produce(name, encode(item), b"term:quellmark", 3)
        if bad is not None:
            producer.produce(name, bad, b"term:quellmark", 3)
    producer.flush()

    async def too_large() -> None:
        async with Publisher(kafka, settings.generation) as publisher:
            await publisher.publish([observation(901, body="x" * 1_100_000), observation(7)])

    asyncio.run(too_large())
    return (*good, observation(7))


def kill_each_once(supervisor: Supervisor, stages: Stages) -> None:
    """kill -9 of one process of every flow, while there is work."""
    for flow in FLOWS:
        deadline = time.monotonic() + 30
        while (pid := supervisor.pids.get(f"{flow}-0")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.7)


def settle(supervisor: Supervisor, stages: Stages) -> None:
    deadline = time.monotonic() + SETTLE_S
    seen = stages.look()
    while any(stage.done != stage.total for stage in seen):
        assert supervisor.failure is None, supervisor.failure
        assert time.monotonic() < deadline, seen
        time.sleep(0.3)
        seen = stages.look()


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = load_settings(
        home=tmp_path_factory.mktemp("end-to-end"), kafka_bootstrap=stack.bootstrap, postgres_dsns=stack.dsns,
        stack="endtoend", generation="e2e", kafka_partitions=4, kafka_session_timeout_ms=3_000,
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    world = connector_of("synthetic", {"items": ITEMS, "seed": 11})
    assert isinstance(world, SyntheticConnector)
    lines: list[str] = []
    with (
        flow_supervisor(settings, dict.fromkeys(FLOWS, 1), lambda name, line: lines.append(f"{name} {line}")) as flows,
        Stages(settings) as stages,
    ):
        asyncio.run(collect(settings, [world]))
        deadline = time.monotonic() + 60
        while stages.look()[-1].done == 0:  # until something has come through to the stores
            assert flows.failure is None, flows.failure
            assert time.monotonic() < deadline, lines[-20:]
            time.sleep(0.1)
        good = send_by_hand(settings)
        kill_each_once(flows, stages)
        settle(flows, stages)
        restarts = flows.restarts
    return Run(settings, world, restarts, good)


def items_of(run: Run) -> list[dict[str, object]]:
    with SyncReader(run.settings.postgres()) as sync:
        return list(sync.export("items", Filters()))


def test_every_flow_was_killed_and_came_back(run: Run) -> None:
    assert {name: count >= 1 for name, count in run.restarts.items()} == {f"{flow}-0": True for flow in FLOWS}


def test_every_item_is_stored_once_with_a_home_trend_and_a_topic(run: Run) -> None:
    expected = {item_id_of("synthetic", external_id) for external_id in run.world.world.truth}
    expected |= {item.item_id for item in run.good}
    rows = items_of(run)
    assert len(rows) == len(expected)
    assert {row["item_id"] for row in rows} == expected
    assert all(row["trend_id"] and row["topic_id"] for row in rows)


def test_rubbish_is_in_dead_letters_with_its_reason_and_its_neighbours_arrived(run: Run) -> None:
    letters = [letter for _, letter in run.read(DEAD_LETTERS) if isinstance(letter, DeadLetter)]
    assert Counter(letter.reason for letter in letters) == REASONS
    assert {letter.stream for letter in letters} == {raw("file").physical(run.settings.kafka(), "e2e")}
    stored = {row["item_id"] for row in items_of(run)}
    assert {item.item_id for item in run.good} <= stored


@pytest.mark.parametrize("stream", [ENRICHED, MENTIONS, UPDATES, SCORES], ids=lambda s: s.name)
def test_no_decision_was_written_twice(run: Run, stream: Stream) -> None:
    twice = [record_id for record_id, count in Counter(i for i, _ in run.read(stream)).items() if count > 1]
    assert twice == []


def test_every_observation_has_been_decided_once(run: Run) -> None:
    """Every item's first sighting, and every later one that changed something: numbered without a hole."""
    enriched = [item for _, item in run.read(ENRICHED) if isinstance(item, EnrichedItem)]
    seqs = [item.seq for item in enriched]
    assert len(set(seqs)) == len(seqs)
    observed = {o.item_id for s in RAW for _, o in read_good(run, s)}
    assert {item.item.item_id for item in enriched} == observed
    assert Counter(item.change.value for item in enriched)["first"] == len(observed)


def read_good(run: Run, stream: Stream) -> Sequence[tuple[str, Observation]]:
    """The observations of a raw stream that are none of the rubbish."""
    kafka = run.settings.kafka()
    name = stream.physical(kafka, run.settings.generation)
    consumer = Consumer(kafka.client(**{"group.id": "end-to-end", "enable.partition.eof": True}))
    consumer.assign([TopicPartition(name, p, 0) for p in range(stream.count(kafka))])
    found, ended = [], 0
    bad = set(rubbish())
    while ended < stream.count(kafka):
        for message in consumer.consume(2_000, 1.0):
            if message.error():
                ended += 1
            elif message.value() not in bad:
                record = decode(Observation, message.value())
                found.append((record.record_id, record))
    consumer.close()
    return found


def test_topic_sizes_are_those_of_their_items(run: Run) -> None:
    newest: dict[str, TopicUpdate] = {}
    for _, update in run.read(UPDATES):
        assert isinstance(update, TopicUpdate)
        if update.topic_id not in newest or newest[update.topic_id].seq < update.seq:
            newest[update.topic_id] = update
    sizes = Counter(str(row["topic_id"]) for row in items_of(run) if not row["deleted"])
    alive = {t.topic_id: t.size for t in newest.values() if t.merged_into is None and t.size}
    assert alive == dict(sizes)


def test_scores_add_up_to_the_mentions(run: Run) -> None:
    weights: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for _, mention in run.read(MENTIONS):
        assert isinstance(mention, Mention)
        weights[mention.trend_id] += mention.weight
        counted[mention.trend_id] += 1
    newest: dict[str, TrendScore] = {}
    for _, score in run.read(SCORES):
        assert isinstance(score, TrendScore)
        if score.trend_id not in newest or newest[score.trend_id].version < score.version:
            newest[score.trend_id] = score
    assert set(newest) == set(counted)
    assert {t: s.total for t, s in newest.items()} == {t: weights[t] for t in newest}


def test_the_found_topics_are_the_true_ones(run: Run) -> None:
    truth = run.world.world.truth
    pairs = [
        (row["topic_id"], truth[str(row["external_id"])].topic)
        for row in items_of(run)
        if str(row["external_id"]) in truth
    ]
    found: Agreement = agreement([t for t, _ in pairs], [t for _, t in pairs])
    assert found.f1 >= 0.85, found


def test_rows_stand_on_the_shard_of_their_bucket(run: Run) -> None:
    async def placed() -> dict[int, set[int]]:
        shards: dict[int, set[int]] = {}
        for number, dsn in enumerate(run.settings.dsns()):
            connection = await asyncpg.connect(dsn)
            rows = await connection.fetch("SELECT DISTINCT bucket FROM e2e.items")
            await connection.close()
            shards[number] = {row["bucket"] for row in rows}
        return shards

    shards = asyncio.run(placed())
    assert all(shards.values())
    assert not shards[0] & shards[1]


def test_home_is_left_clean(run: Run, tmp_path: Path) -> None:
    """Every process said goodbye: no run file is left."""
    assert list((run.settings.home / "run").glob("*.json")) == []
