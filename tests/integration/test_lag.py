"""``trends lag`` beside Kafka's own tools, about a real flow: it is true, and it reaches 0."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from streams.codec import encode
from streams.config import KafkaConfig
from streams.ids import item_id_of
from streams.keys import partition_of
from streams.records import Kind, Observation
from streams.table import raw
from tests.conftest import LocalStack
from trends.stack.kafka import find_java, prepare_jars

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 2
TREND = "term:quellmark"
PLACE = partition_of(TREND, PARTITIONS)


@dataclass
class Bench:
    """The command line about a stack name of this test's own, and the processes that it has started."""

    kafka: KafkaConfig
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def trends(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trends", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-u", "-m", "trends", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def lag(self, *more: str) -> list[dict[str, object]]:
        done = self.trends("lag", "--flow", "embed", "--json", *more)
        assert done.returncode == 0, done.stderr
        return [row for row in json.loads(done.stdout) if row["stream"].endswith("raw.synthetic")]

    def send(self, numbers: range) -> None:
        """In one transaction, so that the stream ends with its marker."""
        producer = Producer(self.kafka.client(**{"transactional.id": uuid4().hex}))
        producer.init_transactions(30)
        producer.begin_transaction()
        name = raw("synthetic").physical(self.kafka, "g1")
        for number in numbers:
            producer.produce(name, encode(observation(number)), TREND, PLACE)
        producer.commit_transaction(30)


def observation(number: int) -> Observation:
    at = datetime(2026, 1, 6, 12, tzinfo=UTC)
    return Observation(
        item_id=item_id_of("synthetic", str(number)), source="synthetic", external_id=str(number), kind=Kind.POST,
        title=f"Harbour pilots vote on tariff {number}", observed_at=at, published_at=at, trend_id=TREND,
    )  # fmt: skip


@pytest.fixture
def bench(stack: LocalStack, tmp_path: Path) -> Iterator[Bench]:
    kafka = stack.kafka_named(partitions=PARTITIONS)
    environment = os.environ | {
        "TRENDS_HOME": str(tmp_path),
        "TRENDS_STACK": kafka.stack,
        "TRENDS_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "TRENDS_KAFKA_PARTITIONS": str(PARTITIONS),
        "TRENDS_POSTGRES_DSNS": ",".join(stack.dsns),
        "TRENDS_EMBEDDER": "null",
        "TRENDS_KAFKA_SESSION_TIMEOUT_MS": "3000",
    }
    bench = Bench(kafka, environment)
    assert bench.trends("streams", "apply").returncode == 0
    yield bench
    for process in bench.processes:
        process.kill()
        process.wait(10)


def described(stack: LocalStack, kafka: KafkaConfig, jars: Path) -> dict[tuple[str, int], tuple[int, int, int]]:
    """What Kafka's ConsumerGroupCommand says: committed, end and lag of each partition of embed's group."""
    tools = jars / "kafka-tools"
    if not tools.exists():
        pom = Path(__file__).with_name("kafka_tools.xml")
        subprocess.run(
            ["mvn", "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies",
             f"-DoutputDirectory={tools}"],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    broker = prepare_jars((stack.stack.cache, stack.home / "cache"))
    done = subprocess.run(
        [find_java(None).program, "-classpath", f"{tools}/*:{broker}/*",
         "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", kafka.bootstrap,
         "--describe", "--group", kafka.id_of("g1", "embed")],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines() if kafka.stack in line]
    assert rows, done.stdout + done.stderr
    return {(row[1], int(row[2])): (int(row[3]), int(row[4]), int(row[5])) for row in rows}


def test_lag_is_what_kafkas_own_tools_say_and_reaches_zero(bench: Bench, stack: LocalStack, tmp_path: Path) -> None:
    [*before] = bench.lag()
    assert {(row["committed"], row["records"], row["seconds"]) for row in before} == {(None, 0, 0.0)}

    bench.send(range(300))
    flow = bench.start("flow", "embed")
    [*read] = bench.lag("--wait", "90")
    assert {row["records"] for row in read} == {0}, "the marker of the transaction is no lag"
    assert next(row for row in read if row["partition"] == PLACE)["committed"] == 301
    assert all(lag == 0 for _, _, lag in described(stack, bench.kafka, tmp_path).values())
    flow.send_signal(signal.SIGTERM)
    assert flow.wait(30) == 0

    sent_at = time.time()
    bench.send(range(300, 340))
    bench.send(range(340, 350))
    late = bench.trends("lag", "--flow", "embed", "--wait", "0.5", "--json")
    assert late.returncode == 1, "it waits no longer than it was told to"
    behind = bench.lag()
    assert {(row["stream"], row["partition"]): (row["committed"], row["end"], row["records"]) for row in behind} == {
        key: value for key, value in described(stack, bench.kafka, tmp_path).items() if "raw.synthetic" in key[0]
    }
    assert {row["partition"]: row["records"] for row in behind} == {PLACE: 52, 1 - PLACE: 0}
    oldest = next(row for row in behind if row["partition"] == PLACE)["seconds"]
    assert isinstance(oldest, float)
    assert 0.0 < oldest <= time.time() - sent_at + 1.0
    assert "52" in bench.trends("lag", "--flow", "embed").stdout

    watching = bench.start("lag", "--flow", "embed", "--watch", "--every", "0.1", "--json")
    assert watching.stdout is not None
    looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
    assert all(sum(row["records"] for row in look) == 52 for look in looks)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130
