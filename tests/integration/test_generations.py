"""Two generations on the real Kafka and PostgreSQL: promoted by one record that readers follow, back, and dropped."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from sinks.postgres import PostgresConfig, PostgresWriter, SyncReader
from streams.admin import StreamAdmin
from streams.errors import GenerationError, SettingsError
from streams.generations import LIVE, GenerationsFollower, read_generations, save
from streams.records import EnrichedItem, Generation, GenerationState, Mention, Record
from streams.table import ENRICHED, GENERATIONS
from streams.vectors import encode_vector
from tests.conftest import LocalStack
from tests.integration.postgres_world import END, axis, store_world
from tests.waiting import until
from trends.cli import build
from trends.following import described, following, recorded
from trends.generations import caught_up, lag_of, promote
from trends.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
Trends = Callable[..., Result]
DIMENSIONS = 4


async def store_next(old: PostgresConfig, new: PostgresConfig) -> None:
    """The same world in another generation, with other dimensions: a and b were one story from the start, c became
    two, and one item is missing."""
    world = await store_world(old)
    topics = {"topic-a": "next-1", "topic-b": "next-1", "topic-c": "next-2"}
    records: list[Record] = []
    for record in world.records:
        if not isinstance(record, EnrichedItem | Mention):
            continue
        item_id = record.item.item_id if isinstance(record, EnrichedItem) else record.item_id
        if item_id == "item-0":
            continue
        topic_id = "next-3" if item_id == "item-11" else topics[record.topic_id]
        record = msgspec.structs.replace(record, generation=new.generation, topic_id=topic_id)
        if isinstance(record, EnrichedItem):
            record = msgspec.structs.replace(record, vector=None, dimensions=new.dimensions)
        records.append(record)
    centroid = encode_vector(np.ones(new.dimensions, dtype=np.float32))
    for name, size in (("next-1", 7), ("next-2", 3), ("next-3", 1)):
        topic = world.topic("a", size=size, vector=axis(0))
        records.append(
            msgspec.structs.replace(
                topic, generation=new.generation, topic_id=name, centroid=centroid, dimensions=new.dimensions
            )
        )
    writer = PostgresWriter(new, clock=lambda: END)
    await writer.open()
    assert not (await writer.write(records)).refused
    await writer.close()


@pytest.fixture(scope="module")
def settings(stack: LocalStack, dsns: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two generations are stored, and nothing is recorded of them yet."""
    kafka = stack.kafka_named()
    made = load_settings(
        home=tmp_path_factory.mktemp("generations"), kafka_bootstrap=kafka.bootstrap, postgres_dsns=dsns,
        stack=kafka.stack, kafka_partitions=1, embedder="null", embedder_dimensions=8, kafka_session_timeout_ms=3_000,
    )  # fmt: skip
    old = made.postgres()
    asyncio.run(store_next(old, replace(old, generation="g2", dimensions=DIMENSIONS)))
    StreamAdmin(made.kafka(), "g1").apply()
    return made


@pytest.fixture
def trends(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trends:
    """The command line, with no generation set."""
    for name in settings._given:
        value = getattr(settings, name)
        monkeypatch.setenv(f"TRENDS_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, fails: bool = False) -> Result:
        result = CliRunner().invoke(build(), arguments)
        if not fails and result.exception is not None:
            raise result.exception
        return result

    return run


@pytest.fixture
def follower(settings: Settings) -> Iterator[GenerationsFollower]:
    made = GenerationsFollower(settings.kafka())
    yield made
    made.close()


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def states(trends: Trends) -> dict[str, str]:
    return {row["name"]: row["state"] for row in as_json(trends("generations", "list", "--json"))}


def next_generation(settings: Settings, state: GenerationState = GenerationState.READY) -> Generation:
    return msgspec.structs.replace(described(settings), name="g2", state=state, dimensions=DIMENSIONS)


def records_under_live(settings: Settings) -> int:
    """How many records were ever written under the key ``live``."""
    kafka = settings.kafka()
    consumer = Consumer(
        kafka.client(**{"group.id": "under-live", "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    )
    consumer.assign([TopicPartition(GENERATIONS.physical(kafka, ""), 0, 0)])
    found = 0
    while not (message := consumer.poll(20.0)).error():
        found += message.key() == LIVE.encode()
    consumer.close()
    return found


def killed(place: str, *command: str) -> None:
    """Runs a command that dies at a place; the environment has the settings."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.crashing", place, *command],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (-signal.SIGKILL, [f"dies at {place}"]), done.stderr


def test_before_anything_is_recorded_the_generation_of_the_settings_is_live(trends: Trends, settings: Settings) -> None:
    (row,) = as_json(trends("generations", "list", "--json"))
    assert (row["name"], row["state"], row["dimensions"], row["items"], row["topics"]) == ("g1", "live", 8, 12, 2)
    assert following(settings).settings.generation == "g1"
    assert as_json(trends("show", "topic-b", "--json"))["brief"]["topic_id"] == "topic-a"


def test_promote_refuses_what_is_unknown_being_built_or_behind(trends: Trends, settings: Settings) -> None:
    for wrong in ({"embedder_dimensions": 16}, {"embedder": "onnx", "embedder_dimensions": 384}):
        with pytest.raises(SettingsError, match="generation g1 is made with null of 8 dimensions"):
            recorded(settings.having(**wrong))
    recorded(settings)
    assert "no generation 'g2'" in str(trends("generations", "promote", "g2", fails=True).exception)
    save(settings.kafka(), next_generation(settings, GenerationState.BUILDING))
    assert isinstance(trends("generations", "promote", "g2", fails=True).exception, GenerationError)
    save(settings.kafka(), next_generation(settings))
    assert "has no streams" in str(trends("generations", "promote", "g2", fails=True).exception)
    StreamAdmin(settings.kafka(), "g2").apply()
    producer = Producer(settings.kafka().client())
    for _ in range(1_200):
        producer.produce(ENRICHED.physical(settings.kafka(), "g2"), b"{}", b"key", 0)
    producer.flush()
    until(lambda: not caught_up(lag_of(settings, "g2", ages=True) or []))
    assert "s behind" in str(trends("generations", "promote", "g2", fails=True).exception)
    assert read_generations(settings.kafka()).live == msgspec.structs.replace(
        recorded(settings).named["g1"], state=GenerationState.LIVE
    )


def test_diff_says_what_would_change(trends: Trends) -> None:
    found = as_json(trends("generations", "diff", "g1", "g2", "--json"))
    assert (found["old"]["items"], found["new"]["items"], found["common"]) == (12, 11, 11)
    assert (found["old"]["only_here"], found["new"]["only_here"]) == (1, 0)
    assert found["old"]["examples"] == ["item-0"]
    assert (found["old"]["dimensions"], found["new"]["dimensions"]) == (8, DIMENSIONS)
    assert found["new"]["largest"] == [7, 3, 1]
    assert found["agreement"]["recall"] < 1.0 == found["agreement"]["precision"]
    assert "11 items in both" in trends("generations", "diff", "g1", "g2").stdout


def test_readers_follow_one_record_and_old_ids_lead_on(
    trends: Trends, settings: Settings, follower: GenerationsFollower
) -> None:
    # Killed among the redirects, or between them and the record: the old one is live, and its readers notice nothing.
    before = records_under_live(settings)
    for place in ("redirecting", "redirected"):
        killed(place, "generations", "promote", "g2", "--force")
        assert states(trends) == {"g1": "live", "g2": "ready"}
        assert as_json(trends("show", "topic-c", "--json"))["asked_generation"] is None
    assert records_under_live(settings) == before

    done = as_json(trends("generations", "promote", "g2", "--force", "--json"))
    assert done == {"live": "g2", "before": "g1", "redirects": {"topics": 3, "redirected": 3}}
    assert records_under_live(settings) == before + 1
    until(lambda: (live := follower.poll(0.1).live) is not None and live.name == "g2")
    assert states(trends) == {"g2": "live", "g1": "retired"}
    assert following(settings).settings.embedder_dimensions == DIMENSIONS

    for old, new in (("topic-a", "next-1"), ("topic-b", "next-1"), ("topic-c", "next-2")):
        shown = as_json(trends("show", old, "--json"))
        assert (shown["brief"]["topic_id"], shown["asked_generation"]) == (new, "g1")
    assert "most items of topic-c (generation g1) are here now" in trends("show", "topic-c").stdout
    assert as_json(trends("show", "topic-b", "--generation", "g1", "--json"))["brief"]["topic_id"] == "topic-a"
    assert "live already" in str(trends("generations", "promote", "g2", fails=True).exception)

    assert as_json(trends("generations", "rollback", "--json"))["live"] == "g1"
    assert records_under_live(settings) == before + 2
    until(lambda: (live := follower.poll(0.1).live) is not None and live.name == "g1")
    assert states(trends) == {"g1": "live", "g2": "ready"}
    shown = as_json(trends("show", "next-2", "--json"))
    assert (shown["brief"]["topic_id"], shown["asked_generation"]) == ("topic-c", "g2")
    assert isinstance(trends("generations", "rollback", fails=True).exception, GenerationError)


def test_a_promotion_that_is_killed_behind_its_record_is_done(trends: Trends, settings: Settings) -> None:
    before = records_under_live(settings)
    killed("promoted", "generations", "promote", "g2", "--force")
    assert records_under_live(settings) == before + 1
    assert states(trends) == {"g2": "live", "g1": "retired"}
    assert as_json(trends("show", "topic-c", "--json"))["brief"]["topic_id"] == "next-2"
    assert "live already" in str(trends("generations", "promote", "g2", fails=True).exception)
    assert as_json(trends("generations", "rollback", "--json"))["live"] == "g1"


def test_drop_deletes_all_but_the_live_one_and_old_ids_still_lead_on(trends: Trends, settings: Settings) -> None:
    assert isinstance(trends("generations", "drop", "g1", "--yes", fails=True).exception, GenerationError)
    assert "say --yes" in str(trends("generations", "drop", "g2", fails=True).exception)
    promote(settings, "g2", force=True)

    kafka = settings.kafka()
    member = Consumer(kafka.client(**{"group.id": kafka.id_of("g1", "store")}))
    member.subscribe([ENRICHED.physical(kafka, "g1")])
    until(lambda: member.poll(0.1) is None and bool(StreamAdmin(kafka, "g1").members([kafka.id_of("g1", "store")])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trends.generations.LEAVE_S", 0.0)
        result = trends("generations", "drop", "g1", "--yes", fails=True)
    assert "are running" in str(result.exception)
    assert states(trends)["g1"] == "retired"
    member.close()

    for _ in range(2):  # the second one finds nothing more to do
        trends("generations", "drop", "g1", "--yes")
        topics = AdminClient(kafka.client()).list_topics(timeout=20).topics
        assert not [name for name in topics if name.startswith(f"{kafka.stack}.g1.")]
        assert [name for name in topics if name.startswith(f"{kafka.stack}.g2.")]
    assert states(trends) == {"g2": "live", "g1": "dropped"}
    assert as_json(trends("show", "topic-b", "--json"))["brief"]["topic_id"] == "next-1"
    for command in (("show", "topic-b"), ("flow", "store"), ("run",)):
        refused = trends(*command, "--generation", "g1", fails=True).exception
        assert isinstance(refused, SettingsError)
        assert "is dropped" in str(refused)
    assert isinstance(trends("generations", "rollback", fails=True).exception, GenerationError)
    with SyncReader(settings.having(generation="g2").postgres()) as sync:
        assert sync.ask(sync.reader.counts()).items == 11
