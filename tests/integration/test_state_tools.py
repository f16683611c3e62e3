"""``trends state check | rebuild | offsets`` about real flows whose state or offsets have been lost or damaged.

One run serves all: half a world flows through, everything is broken in a way of its own, mended, and the other half
follows.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from connectors import connector_of
from flows import cluster, score
from models.echoes import unpack_entry
from models.packed import id_text
from models.state import ITEM
from streams.admin import StreamAdmin
from streams.codec import decode
from streams.config import KafkaConfig
from streams.errors import ExitCode, TrendsError
from streams.groups import FlowGroup, Hold
from streams.records import Change, EnrichedItem, Kind, Life, Mention, Observation, Record, TopicUpdate, TrendScore
from streams.rewriting import TRANSACTION_RECORDS, Rewrite
from streams.state import COVER_PREFIX
from streams.table import CLUSTER_STATE, ENRICHED, MENTIONS, SCORE_STATE, SCORES, SUMMARIZE_STATE, UPDATES, Stream, raw
from tests.conftest import LocalStack
from trends.cli import build
from trends.collecting import collect
from trends.flow_processes import flow_supervisor
from trends.settings import Settings, environment_of, load_settings

ROOT = Path(__file__).resolve().parents[2]
FLOWS = ("embed", "cluster", "score", "summarize")
HALF = 300
R = TypeVar("R", bound=Record)
pytestmark = pytest.mark.timeout(500)


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Story:
    """What was seen on the way."""

    settings: Settings
    said: dict[str, Said] = field(default_factory=dict)
    before: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    rebuilt: dict[bytes, bytes] = field(default_factory=dict)
    after: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    topics_before: set[str] = field(default_factory=set)

    @property
    def kafka(self) -> KafkaConfig:
        return self.settings.kafka()

    def trends(self, name: str, *arguments: str) -> Said:
        """Runs a command in this process, and remembers under a name what it said."""
        with patch.dict(os.environ, environment_of(self.settings)):
            done = CliRunner().invoke(build(), arguments)
        error = done.exception
        code = int(error.exit_code) if isinstance(error, TrendsError) else done.exit_code
        self.said[name] = Said(code, done.stdout, f"{done.stderr}{error or ''}")
        return self.said[name]

    def start_cluster(self, name: str) -> Said:
        """Starts a process of cluster that is expected to end by itself."""
        done = subprocess.run(
            [sys.executable, "-m", "trends", "flow", "cluster"],
            cwd=ROOT, env=os.environ | environment_of(self.settings), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        self.said[name] = Said(done.returncode, done.stdout, done.stderr)
        return self.said[name]

    def flow_through(self, first: int, number: int) -> None:
        """So many items of the world, through all flows, to the end."""
        world = connector_of("synthetic", {"items": first + number, "seed": 5})
        lines: list[str] = []
        with flow_supervisor(
            self.settings, dict.fromkeys(FLOWS, 1), lambda name, line: lines.append(f"{name} {line}")
        ) as flows:
            asyncio.run(collect(self.settings, [world]))
            flags = [word for flow in FLOWS for word in ("--flow", flow)]
            done = self.trends("lag", "lag", "--wait", "150", *flags)
            assert flows.failure is None, flows.failure
            assert done.code == 0, (done.out, done.err, lines[-20:])

    def records(self, stream: Stream) -> list[tuple[bytes, bytes | None]]:
        """All committed records of a stream, partition by partition in log order."""
        name, count = stream.physical(self.kafka, self.settings.generation), stream.count(self.kafka)
        consumer = Consumer(self.kafka.client(**{
            "group.id": "state-tools", "isolation.level": "read_committed", "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }))  # fmt: skip
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        found: list[tuple[bytes, bytes | None]] = []
        ended: set[int] = set()
        while len(ended) < count:
            for message in consumer.consume(2_000, 1.0):
                if message.error():
                    ended.add(message.partition())
                else:
                    found.append((message.key(), message.value()))
        consumer.close()
        return found

    def all(self, stream: Stream, kind: type[R]) -> list[R]:
        return [decode(kind, value) for _, value in self.records(stream)]

    def state(self, stream: Stream) -> dict[bytes, bytes]:
        """What a flow would read: the newest value of each key, covers left out."""
        newest: dict[bytes, bytes | None] = {}
        for key, value in self.records(stream):
            if not key.startswith(COVER_PREFIX):
                newest[key] = value
        return {key: value for key, value in newest.items() if value is not None}


def lose_state(story: Story) -> None:
    """Cluster's state stream is deleted, and made anew, empty."""
    admin = AdminClient(story.kafka.client())
    name = CLUSTER_STATE.physical(story.kafka, story.settings.generation)
    for future in admin.delete_topics([name]).values():
        future.result(30)
    deadline = time.monotonic() + 30
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    StreamAdmin(story.kafka, story.settings.generation).apply()


def lose_offsets(story: Story) -> None:
    """Score's consumer group is deleted with its offsets."""
    group = story.kafka.id_of(story.settings.generation, "score")
    admin = AdminClient(story.kafka.client())
    deadline = time.monotonic() + 30
    while True:
        try:
            admin.delete_consumer_groups([group])[group].result(30)
            return
        except KafkaException:  # a member that has just stopped is still in it
            assert time.monotonic() < deadline
            time.sleep(0.2)


def damage(story: Story) -> None:
    """Somebody writes rubbish into summarize's state."""
    producer = Producer(story.kafka.client())
    producer.produce(SUMMARIZE_STATE.physical(story.kafka, story.settings.generation), b"\xc1", b"no topic", 1)
    producer.flush()


def break_off(story: Story) -> None:
    """A rebuild of cluster's state that is killed in the middle."""
    group = FlowGroup(story.kafka, story.settings.generation, cluster.SPEC)
    with Hold(group) as hold:
        rewrite = Rewrite(group, hold, story.settings.generation)
        rewrite.begin()
        rewrite.write(0, [(b"m:half:0", b"half of it")] * TRANSACTION_RECORDS)
    group.close()


def as_of_the_former_release(story: Story) -> None:
    """Cluster's state as the release before this one wrote it."""
    group = FlowGroup(story.kafka, story.settings.generation, replace(cluster.SPEC, state_version=1))
    with Hold(group) as hold:
        rewrite = Rewrite(group, hold, story.settings.generation)
        committed = rewrite.begin()
        for key, value in story.before["cluster"].items():
            if key.startswith(ITEM):
                key, value = ITEM + id_text(key[2:]).encode(), msgspec.msgpack.encode(unpack_entry(value))
            rewrite.write(cluster.state_partition(key, CLUSTER_STATE.count(story.kafka)), [(key, value)])
        rewrite.finish(committed)
    group.close()


def break_off_a_migration(story: Story) -> None:
    """It is killed when some of the new state is written."""
    group = FlowGroup(story.kafka, story.settings.generation, cluster.SPEC)
    with Hold(group) as hold:
        rewrite = Rewrite(group, hold, story.settings.generation)
        rewrite.begin(migrated_from=1)
        key, value = next(iter(story.before["cluster"].items()))
        rewrite.write(
            cluster.state_partition(key, CLUSTER_STATE.count(story.kafka)), [(key, value)] * TRANSACTION_RECORDS
        )
    group.close()


@pytest.fixture(scope="module")
def story(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Story:
    settings = load_settings(
        home=tmp_path_factory.mktemp("state-tools"), kafka_bootstrap=stack.bootstrap, postgres_dsns=stack.dsns,
        stack="statetools", generation="g1", kafka_partitions=2, kafka_session_timeout_ms=2_000, embedder="null",
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    story = Story(settings)
    story.flow_through(0, HALF)
    story.trends("whole", "state", "check", "--json")
    states = {"cluster": CLUSTER_STATE, "score": SCORE_STATE, "summarize": SUMMARIZE_STATE}
    story.before = {flow: story.state(stream) for flow, stream in states.items()}
    story.topics_before = {item.topic_id for item in story.all(ENRICHED, EnrichedItem)}

    lose_state(story)
    lose_offsets(story)
    damage(story)
    story.trends("broken", "state", "check", "--json")
    story.start_cluster("refused")
    story.trends("dry run", "state", "rebuild", "cluster", "--dry-run", "--json")
    story.trends("no offsets", "state", "rebuild", "score")
    break_off(story)
    story.start_cluster("half")

    story.trends("rebuilt cluster", "state", "rebuild", "cluster", "--json")
    story.trends("offsets", "state", "offsets", "score", "--json")
    story.trends("rebuilt score", "state", "rebuild", "score", "--json")
    story.trends("rebuilt summarize", "state", "rebuild", "summarize", "--json")
    story.trends("mended", "state", "check", "--json")
    story.rebuilt = story.state(CLUSTER_STATE)

    as_of_the_former_release(story)
    story.start_cluster("former")
    story.trends("former checked", "state", "check", "cluster", "--json")
    break_off_a_migration(story)
    story.start_cluster("half migrated")
    story.trends("would migrate", "state", "migrate", "cluster", "--dry-run", "--json")
    story.trends("migrated", "state", "migrate", "cluster", "--json")
    story.trends("migrated again", "state", "migrate", "cluster", "--json")
    story.trends("migrated checked", "state", "check", "cluster", "--json")
    story.after = {flow: story.state(stream) for flow, stream in states.items()}
    story.flow_through(HALF, HALF)
    return story


def test_state_that_fits_is_said_to(story: Story) -> None:
    done = story.said["whole"]
    assert done.code == 0, done.err
    found = {flow["flow"]: flow for flow in json.loads(done.out)}
    assert set(found) == {"cluster", "score", "summarize"}
    for flow in found.values():
        assert flow["problems"] == []
        assert {cover["verdict"] for cover in flow["covers"]} == {"ok"}
        assert sum(p["keys"] for p in flow["partitions"]) == len(story.before[flow["flow"]])


def test_what_is_off_is_found_with_the_way_on(story: Story) -> None:
    done = story.said["broken"]
    assert done.code == ExitCode.FAILED
    problems = {flow["flow"]: flow["problems"] for flow in json.loads(done.out)}
    assert "does not cover what is committed" in problems["cluster"][0]["what"]
    assert "trends state rebuild cluster" in problems["cluster"][0]["way_on"]
    assert "no offsets" in problems["score"][0]["what"]
    assert "trends state offsets score" in problems["score"][0]["way_on"]
    assert "cannot be read" in problems["summarize"][0]["what"]
    assert "trends state rebuild summarize" in problems["summarize"][0]["way_on"]


def test_a_flow_whose_state_is_lost_or_half_written_does_not_start(story: Story) -> None:
    for done in (story.said["refused"], story.said["half"]):
        assert done.code == ExitCode.NEEDS_OPERATOR
        assert "trends state rebuild cluster" in done.out + done.err


def test_a_group_without_offsets_is_never_given_a_state_of_nothing(story: Story) -> None:
    done = story.said["no offsets"]
    assert done.code == ExitCode.NEEDS_OPERATOR
    assert "trends state offsets score" in done.err


def test_a_dry_run_writes_nothing_and_says_what_it_would(story: Story) -> None:
    told = json.loads(story.said["dry run"].out)
    assert told["written"] == len(story.before["cluster"])
    assert json.loads(story.said["rebuilt cluster"].out)["figures"] == told["figures"]


def test_cluster_has_its_state_back_bit_by_bit(story: Story) -> None:
    assert story.said["rebuilt cluster"].code == 0, story.said["rebuilt cluster"].err
    assert story.rebuilt == story.before["cluster"]


def test_state_of_the_former_release_is_refused_with_the_command_that_migrates_it(story: Story) -> None:
    for name in ("former", "half migrated"):
        assert story.said[name].code == ExitCode.NEEDS_OPERATOR
        assert "trends state migrate cluster" in story.said[name].out + story.said[name].err
    (found,) = json.loads(story.said["former checked"].out)
    assert [problem["way_on"] for problem in found["problems"]] == ["`trends state migrate cluster`"]


def test_a_migration_that_was_broken_off_is_run_again_and_loses_nothing(story: Story) -> None:
    done = json.loads(story.said["migrated"].out)
    assert json.loads(story.said["would migrate"].out)["records"] == done["records"]
    assert (done["before"], done["after"], done["records"]) == (1, 2, len(story.before["cluster"]))
    assert story.after["cluster"] == story.before["cluster"]
    assert json.loads(story.said["migrated again"].out)["records"] == 0
    assert story.said["migrated checked"].code == 0, story.said["migrated checked"].out


def test_offsets_are_set_to_what_the_state_covers(story: Story) -> None:
    rows = json.loads(story.said["offsets"].out)
    assert [row["before"] for row in rows] == [None, None]
    assert all(row["after"] > 0 for row in rows)


def test_score_and_summarize_go_on_from_what_they_have_written(story: Story) -> None:
    for flow in ("score", "summarize"):
        assert story.said[f"rebuilt {flow}"].code == 0, story.said[f"rebuilt {flow}"].err
        assert story.after[flow].keys() == story.before[flow].keys()


def test_all_is_well_afterwards(story: Story) -> None:
    assert story.said["mended"].code == 0, story.said["mended"].out


def test_nothing_was_lost_or_doubled_and_topics_go_on_under_their_ids(story: Story) -> None:
    enriched = story.all(ENRICHED, EnrichedItem)
    first = Counter(item.item.item_id for item in enriched if item.change is Change.FIRST)
    observed = {item.item_id for item in story.all(raw("synthetic"), Observation) if item.kind is not Kind.DELETED}
    assert len(observed) > HALF
    assert set(first) == observed
    assert set(first.values()) == {1}
    seqs = [item.seq for item in enriched]
    assert len(set(seqs)) == len(seqs)
    newest: dict[str, TopicUpdate] = {}
    for update in story.all(UPDATES, TopicUpdate):
        if update.topic_id not in newest or newest[update.topic_id].seq < update.seq:
            newest[update.topic_id] = update
    ended = {u.seq for u in newest.values() if u.life is not Life.GREW and u.life is not Life.BORN}
    assert set(range(1, max(seqs) + 1)) - set(seqs) <= ended, "no number of a decision is missing"
    later = {item.topic_id for item in enriched if item.seq > sorted(seqs)[len(seqs) // 2]}
    assert later & story.topics_before


def test_scores_still_add_up_to_the_mentions(story: Story) -> None:
    weights: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    for mention in story.all(MENTIONS, Mention):
        weights[mention.trend_id] += mention.weight
        versions[mention.trend_id] += 1
    newest: dict[str, TrendScore] = {}
    for found in story.all(SCORES, TrendScore):
        if found.trend_id not in newest or newest[found.trend_id].version < found.version:
            newest[found.trend_id] = found
    assert {trend_id: found.total for trend_id, found in newest.items()} == {t: weights[t] for t in newest}
    assert set(newest) == set(versions)


def test_while_processes_of_the_flow_run_nothing_is_rebuilt(story: Story) -> None:
    with flow_supervisor(story.settings, {"score": 1}, lambda name, line: None) as flows:
        group = FlowGroup(story.kafka, story.settings.generation, score.SPEC)
        deadline = time.monotonic() + 60
        while not group.members():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        done = story.trends("busy", "state", "rebuild", "score")
        group.close()
        assert flows.failure is None
    assert done.code == ExitCode.NEEDS_OPERATOR
    assert "stop them first" in done.err
