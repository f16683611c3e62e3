"""A disk that fills under everything: Kafka, PostgreSQL and the flows stop, and go on when there is room again.

The disk is a real file system of a bounded size under a stack of its own. (Making one takes root.)
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sinks.postgres import SyncReader
from sinks.postgres.export import Filters
from streams.codec import encode
from streams.config import KafkaConfig
from streams.ids import item_id_of
from streams.keys import partition_of
from streams.records import Kind, Observation
from streams.table import raw
from tests.waiting import until
from trends.flow_processes import flow_supervisor
from trends.settings import Settings, load_settings
from trends.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
DISK_MIB = 400
FLOWS = {"embed": 1, "cluster": 1, "store": 1}
BATCH = 400


@dataclass(frozen=True)
class Small:
    """A stack on a small disk, and the file that fills it."""

    settings: Settings
    stack: Stack
    filler: Path

    def fill(self) -> None:
        """Nothing is left, whatever the servers write meanwhile."""
        with self.filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(1 << 20))
                except OSError:
                    return

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    if os.geteuid() != 0:
        pytest.skip("making a small disk takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "tmpfs", str(disk)], check=True)
    settings = load_settings(
        home=disk / "home", kafka_bootstrap=None, postgres_dsns=(), postgres_shards=1, kafka_partitions=2,
        kafka_session_timeout_ms=3_000, kafka_transaction_timeout_ms=10_000, embedder="null",
    )  # fmt: skip
    stack = settings.local_stack()
    try:
        yield Small(settings, stack, disk / "filler")
    finally:
        (disk / "filler").unlink(missing_ok=True)
        stack.down()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def observation(number: int) -> Observation:
    at, external_id = datetime(2026, 1, 6, tzinfo=UTC) + timedelta(seconds=number), f"d{number}"
    return Observation(
        item_id=item_id_of("file", external_id), source="file", external_id=external_id, kind=Kind.POST,
        title=f"harbour {number} vote {number * 7} tariff {number * 13}", observed_at=at, published_at=at,
        trend_id=f"term:{number % 40}", body="word " * 100,
    )  # fmt: skip


def send(kafka: KafkaConfig, first: int, timeout_s: float) -> set[str]:
    """Sends a batch; the ids of those that the broker acknowledged."""
    acknowledged: set[str] = set()
    producer = Producer(kafka.client(**{"enable.idempotence": True, "message.timeout.ms": int(timeout_s * 1000)}))
    name = raw("file").physical(kafka, "g1")
    for number in range(first, first + BATCH):
        item = observation(number)

        def told(error: object, _message: object, item_id: str = item.item_id) -> None:
            if error is None:
                acknowledged.add(item_id)

        key = item.trend_id
        producer.produce(name, encode(item), key.encode(), partition_of(key, kafka.partitions), on_delivery=told)
    producer.flush(timeout_s + 5)
    return acknowledged


def stored(settings: Settings) -> set[str]:
    with SyncReader(settings.postgres()) as reader:
        return {str(row["item_id"]) for row in reader.export("items", Filters())}


def test_a_full_disk_stops_everything_and_loses_nothing(small: Small) -> None:
    settings = small.settings
    small.stack.up()
    kafka = settings.kafka()
    command = [sys.executable, "-m", "trends", "--home", str(settings.home), "streams", "apply"]
    environment = os.environ | {"TRENDS_KAFKA_PARTITIONS": "2"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    lines: list[str] = []
    with flow_supervisor(settings, FLOWS, lambda name, line: lines.append(f"{name} {line}")) as flows:
        sent = send(kafka, 0, 20)
        assert len(sent) == BATCH
        until(lambda: "g1" in asyncio.run(_schemas(settings)) and stored(settings) == sent)
        small.fill()
        doubtful = send(kafka, BATCH, 5)
        until(lambda: not all(part.status == "up" for part in small.stack.status().parts))
        assert flows.failure is None, flows.failure
        small.free()
        small.stack.up()
        assert settings.kafka().bootstrap == kafka.bootstrap, "the ports are kept"
        again = send(kafka, 2 * BATCH, 30)
        assert len(again) == BATCH
        wanted = sent | doubtful | again
        until(lambda: flows.failure is not None or stored(settings) >= wanted, 120)
        assert flows.failure is None, flows.failure


async def _schemas(settings: Settings) -> set[str]:
    import asyncpg

    connection = await asyncpg.connect(settings.dsns()[0])
    try:
        return {row[0] for row in await connection.fetch("SELECT nspname FROM pg_namespace")}
    finally:
        await connection.close()
