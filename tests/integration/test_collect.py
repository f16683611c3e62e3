"""``trends collect`` on a real broker: what arrives, what is not sent twice, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors.synthetic import SyntheticOptions, World
from streams.codec import decode
from streams.config import KafkaConfig
from streams.keys import partition_of
from streams.records import DeadLetter, Observation, Reason
from streams.table import CURSORS, DEAD_LETTERS, Stream, raw
from tests.conftest import LocalStack

ROOT = Path(__file__).resolve().parents[2]


class Collecting:
    """The command, with streams and a data folder of one test's own."""

    def __init__(self, stack: LocalStack, home: Path) -> None:
        self.kafka: KafkaConfig = stack.kafka_named()
        self._environment = os.environ | {
            "TRENDS_HOME": str(home),
            "TRENDS_STACK": self.kafka.stack,
            "TRENDS_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TRENDS_KAFKA_PARTITIONS": str(self.kafka.partitions),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trends", "collect", *arguments],
            cwd=ROOT, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, list[dict[str, object]], str]:
        process = self.start(*arguments, "--json")
        said, complained = process.communicate(timeout=60)
        return process.returncode, json.loads(said) if said else [], complained

    def records(self, stream: Stream) -> list[tuple[bytes, bytes, int]]:
        """Everything in a stream: key, value, partition."""
        consumer = Consumer(self.kafka.client(**{"group.id": "reader", "enable.partition.eof": True}))
        name = stream.physical(self.kafka, "g1")
        partitions = stream.count(self.kafka)
        consumer.assign([TopicPartition(name, p, 0) for p in range(partitions)])
        found, open_ends, deadline = [], partitions, time.monotonic() + 30
        while open_ends and time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                open_ends -= 1
                continue
            found.append((message.key() or b"", message.value() or b"", message.partition() or 0))
        consumer.close()
        return found

    def observations(self, source: str) -> list[Observation]:
        return [decode(Observation, value) for _, value, _ in self.records(raw(source))]


@pytest.fixture
def collecting(stack: LocalStack, tmp_path: Path) -> Collecting:
    return Collecting(stack, tmp_path / "home")


def test_a_world_arrives_whole_where_its_trends_live_and_only_once(collecting: Collecting) -> None:
    code, (report,), _ = collecting.run("synthetic", "-o", "items=800", "-o", "seed=3")
    world = list(World(SyntheticOptions(items=800, seed=3)))
    assert (code, report["ok"], report["delivered"]) == (0, True, len(world))

    records = collecting.records(raw("synthetic"))
    sent = [decode(Observation, value) for _, value, _ in records]
    assert sorted((o.external_id, o.observed_at) for o in sent) == sorted((s.external_id, s.observed_at) for s in world)
    assert all(o.trend_id.encode() == key for (key, _, _), o in zip(records, sent, strict=True))
    partitions = collecting.kafka.partitions
    assert all(partition_of(o.trend_id, partitions) == p for (_, _, p), o in zip(records, sent, strict=True))

    code, (again,), _ = collecting.run("synthetic", "-o", "items=800", "-o", "seed=3")
    assert (code, again["delivered"]) == (0, 0)
    code, (longer,), _ = collecting.run("synthetic", "-o", "items=1000", "-o", "seed=3")
    assert code == 0
    assert 0 < int(str(longer["delivered"])) < 600


def test_an_item_over_the_size_limit_ends_in_dead_letters_and_its_neighbours_arrive(
    collecting: Collecting, tmp_path: Path
) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("id,title,body\n1,Before,x\n2,Too large," + "y" * 1_500_000 + "\n3,After,x\n4,No column\n")
    code, (report,), _ = collecting.run(f"file:{path}")
    assert (code, report["delivered"], report["bad"]) == (0, 3, 1)
    assert sorted(o.external_id for o in collecting.observations("file")) == ["1", "3"]
    ((_, value, _),) = collecting.records(DEAD_LETTERS)
    letter = decode(DeadLetter, value)
    assert letter.reason is Reason.TOO_LARGE
    assert letter.letter_id.endswith("raw.file/2")


def test_one_lost_source_leaves_the_others_alone_and_shows_in_the_exit_code(
    collecting: Collecting, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"\x1f\x8b no gzip at all")
    code, reports, _ = collecting.run(f"file:{broken}", "synthetic", "-o", "items=50")
    assert code == 69
    assert [report["ok"] for report in reports] == [False, True]


def test_ctrl_c_ends_cleanly_and_the_next_run_goes_on(collecting: Collecting) -> None:
    arguments = ("synthetic", "-o", "items=400", "-o", "pace_per_s=100", "--json")
    process = collecting.start(*arguments)
    deadline = time.monotonic() + 30
    while not (found := collecting.records(CURSORS)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=20)
    first = json.loads(said)[0]["delivered"]
    assert process.returncode == 130
    assert "Traceback" not in complained
    code, (rest,), _ = collecting.run("synthetic", "-o", "items=400")
    world = list(World(SyntheticOptions(items=400)))
    assert (code, first + rest["delivered"]) == (0, len(world))
    assert len(collecting.observations("synthetic")) == len(world)
