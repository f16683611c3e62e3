"""The store flow while shards are away: real servers that are stopped, killed and started again. One stack for all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil
import pytest
from confluent_kafka import Producer

from sinks.postgres import PostgresConfig
from streams.admin import StreamAdmin
from streams.errors import ExitCode
from streams.io import Addresser
from streams.lag import LagProbe
from streams.table import MENTIONS
from tests.conftest import LocalStack
from tests.integration.postgres_records import mention
from tests.waiting import until
from trends.flows import prepare
from trends.runfiles import running
from trends.settings import Settings, environment_of, load_settings
from trends.stack import Stack

ROOT = Path(__file__).parents[2]
GROWTH_BYTES = 150 * 1_048_576
"""What a process that waits may grow by while its backlog grows: its fetch queue and a chunk."""


@dataclass
class World:
    settings: Settings
    local: Stack
    folder: Path
    sent: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.folder / f"store-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "trends", "flow", "store", "--name", "store-0"], cwd=ROOT, stdout=log,
            stderr=subprocess.STDOUT, env=os.environ | environment_of(self.settings),
        )  # fmt: skip
        log.close()
        self.processes.append(process)
        return process

    def said(self) -> str:
        return (self.folder / f"store-{len(self.processes) - 1}.log").read_text()

    def send(self, count: int) -> None:
        """Mentions of seven trends, on both shards."""
        kafka = self.settings.kafka()
        config = PostgresConfig(dsns=("postgresql://x/y",), generation=self.settings.generation)
        address, producer = Addresser(kafka, self.settings.generation), Producer(kafka.client(**{"linger.ms": 20}))
        for n in range(self.sent, self.sent + count):
            record = mention(config, n)
            out = address.record(MENTIONS, record, record.trend_id)
            producer.produce(out.stream, out.value, out.key, out.partition, headers=out.headers)  # type: ignore[arg-type]
            producer.poll(0)
        producer.flush()
        self.sent += count

    def rows(self) -> int:
        async def count() -> int:
            total = 0
            for shard in self.local.state().shards:
                connection = await asyncpg.connect(shard.dsn)
                total += await connection.fetchval(f"SELECT count(*) FROM {self.settings.generation}.mentions")
                await connection.close()
            return total

        return asyncio.run(count())

    def caught_up(self) -> bool:
        with_lag = LagProbe(
            self.settings.kafka(), self.settings.generation, "store", prepare("store", self.settings)[0].inputs
        )
        try:
            return all(lag.records == 0 for lag in with_lag.lag().values())
        finally:
            with_lag.close()

    def ask(self, path: str) -> str:
        """/ready or /metrics of the process; empty while it has none."""
        for entry in running(self.settings.home):
            if entry.name == "store-0" and entry.metrics:
                try:
                    return urllib.request.urlopen(f"http://{entry.metrics}{path}", timeout=5).read().decode()
                except urllib.error.HTTPError as error:
                    return error.read().decode()
                except OSError:
                    return ""
        return ""

    def server(self, shard: int) -> psutil.Process:
        process = self.local.state().shards[shard].process
        assert process is not None
        return psutil.Process(process.pid)


@pytest.fixture(scope="module")
def world(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("store-outage")
    settings = load_settings(
        home=folder / "home", kafka_bootstrap=stack.bootstrap, postgres_dsns=(), postgres_shards=2, stack="outage",
        generation="out", kafka_partitions=4, kafka_session_timeout_ms=3_000, postgres_statement_timeout_s=5,
        postgres_connect_timeout_s=2,
    )  # fmt: skip
    local = settings.local_stack()
    local.up()
    world = World(settings, local, folder)
    try:
        StreamAdmin(settings.kafka(), settings.generation).apply()
        yield world
    finally:
        for process in world.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        local.down()


def test_a_shard_that_is_down_is_waited_for_in_bounded_memory_and_caught_up_with(world: World) -> None:
    process = world.start()
    world.send(500)
    until(lambda: world.caught_up() and world.rows() == world.sent)
    before = psutil.Process(process.pid).memory_info().rss

    world.server(1).send_signal(signal.SIGQUIT)  # the server's own word for: at once, without a goodbye
    until(lambda: not world.local.state().shards[1].process.alive)  # type: ignore[union-attr]
    world.send(40_000)
    until(lambda: '"waiting"' in world.ask("/ready"))
    assert "PostgreSQL shard 1" in world.ask("/ready")
    until(lambda: 'trends_store_waiting_seconds{shard="1"}' in world.ask("/metrics"))
    time.sleep(2)  # time in which memory could grow
    assert process.poll() is None
    assert psutil.Process(process.pid).memory_info().rss - before < GROWTH_BYTES

    world.local.up()
    until(world.caught_up)
    assert world.rows() == world.sent
    until(lambda: '"running"' in world.ask("/ready"))
    assert process.poll() is None, "the same process all the time"
    assert "beginning anew" not in world.said(), "it kept its place in the group"


def test_a_server_that_hangs_holds_up_no_stop_and_is_waited_for_by_the_next_start(world: World) -> None:
    process = world.processes[-1]
    server = world.server(0)
    frozen = [server, *server.children(recursive=True)]
    for each in frozen:
        each.suspend()
    try:
        world.send(2_000)
        until(lambda: '"waiting"' in world.ask("/ready"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == ExitCode.OK
        again = world.start()
        until(lambda: '"waiting"' in world.ask("/ready"))
        assert again.poll() is None
    finally:
        for each in frozen:
            each.resume()
    until(world.caught_up)
    assert world.rows() == world.sent
    again.send_signal(signal.SIGTERM)
    assert again.wait(10) == ExitCode.OK
