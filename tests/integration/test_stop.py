"""SIGTERM, whatever a flow process is at: it ends with 0, and soon; and what a container runs, with nowhere to write.

The bound itself is `flows.stopping.STOP_S`, kept by the process; here a machine may be slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from confluent_kafka import Producer

from sinks.postgres import PostgresConfig, migrate
from sinks.postgres.summary_cache import PostgresSummaryStore
from streams.admin import StreamAdmin
from streams.codec import encode
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.ids import item_id_of
from streams.keys import partition_of
from streams.lag import LagProbe
from streams.records import Kind, Observation, TrendDefinition
from streams.table import CATALOG, raw
from tests.conftest import LocalStack
from tests.integration.counting import GENERATION, IN, create, spec
from tests.unit.embedding_server import EmbeddingServer, Request
from tests.waiting import until
from trends.health import ask
from trends.runfiles import address_of

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 2
ENDS_S = 60.0
"""Ten seconds, on a machine that does several other things."""


class Processes:
    """Flow processes of one test: started, listened to, killed where they still run at the end."""

    def __init__(self, folder: Path, kafka: KafkaConfig, dsns: tuple[str, ...]) -> None:
        self.folder, self.kafka = folder, kafka
        (folder / "file").write_text("")
        self.environment = os.environ | {
            "TRENDS_HOME": str(folder / "file" / "home"),  # nobody, not even root, can make a folder in a file
            "TRENDS_STACK": kafka.stack,
            "TRENDS_GENERATION": GENERATION,
            "TRENDS_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "TRENDS_KAFKA_PARTITIONS": str(kafka.partitions),
            "TRENDS_POSTGRES_DSNS": ",".join(dsns),
            "TRENDS_EMBEDDER": "null",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{len(self.running)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT, env=self.environment | environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        process.log_path = Path(log.name)  # type: ignore[attr-defined]
        self.running.append(process)
        return process

    def count(self, name: str, *options: str, bootstrap: str = "") -> subprocess.Popen[bytes]:
        return self.start(
            "tests.integration.counting", "--bootstrap", bootstrap or self.kafka.bootstrap, "--stack",
            self.kafka.stack, "--name", name, "--partitions", str(self.kafka.partitions), *options,
        )  # fmt: skip

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(30)


def said(process: subprocess.Popen[bytes]) -> str:
    return str(process.log_path.read_text())  # type: ignore[attr-defined]


def ends(process: subprocess.Popen[bytes]) -> str:
    """What a process says to SIGTERM; it must end with 0."""
    process.send_signal(signal.SIGTERM)
    code = process.wait(ENDS_S)
    assert code == 0, said(process)
    assert "Traceback" not in said(process)
    return said(process)


def at(process: subprocess.Popen[bytes], path: str) -> tuple[int, dict[str, Any]]:
    """What `trends flow` answers at /health or /ready; (0, {}) before it does."""
    found = re.search(r"health and metrics at (http://\S+)", said(process))
    if found is None:
        return 0, {}
    try:
        with urllib.request.urlopen(found[1] + path, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


@pytest.fixture
def kafka(stack: LocalStack) -> KafkaConfig:
    return stack.kafka_named(partitions=PARTITIONS, session_timeout_ms=3_000)


@pytest.fixture
def processes(tmp_path: Path, kafka: KafkaConfig, dsns: tuple[str, ...]) -> Iterator[Processes]:
    processes = Processes(tmp_path, kafka, dsns)
    yield processes
    processes.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody answers: connections are taken, and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def send(kafka: KafkaConfig, count: int, keys: int = 10) -> None:
    """Something to count."""
    producer = Producer(kafka.client(**{"linger.ms": 5}))
    for i in range(count):
        key = f"k{i % keys}"
        value = encode(TrendDefinition(trend_id=key, title="x", updated_at=datetime.now(UTC), version=i))
        producer.produce(IN.physical(kafka, GENERATION), value, key, partition_of(key, kafka.partitions))
        producer.poll(0)
    producer.flush()


def lag(kafka: KafkaConfig) -> int:
    probe = LagProbe(kafka, GENERATION, "count", spec(False).inputs)
    records = sum(each.records for each in probe.lag().values())
    probe.close()
    return records


def drained(kafka: KafkaConfig) -> bool:
    """Whether all is counted, as far as a broker says so that is just coming back."""
    try:
        return lag(kafka) == 0
    except UnavailableError:
        return False


def test_while_it_joins_and_no_broker_answers(processes: Processes, nobody: str) -> None:
    process = processes.count("a", bootstrap=nobody)
    flow = processes.start("trends", "flow", "embed", TRENDS_KAFKA_BOOTSTRAP=nobody)
    until(lambda: at(flow, "/health")[0] == 200)
    code, body = at(flow, "/ready")
    assert (code, body["phase"]) == (503, "joining")
    ends(flow)
    ends(process)


def test_while_it_stands_by_and_while_it_reads_its_state_back(processes: Processes, kafka: KafkaConfig) -> None:
    create(kafka)
    send(kafka, 4_000, keys=1_000)
    first = processes.count("a")
    until(lambda: lag(kafka) == 0)
    assert ends(first).endswith("stopped\n")
    restoring = processes.count("a", "--restore-s", "0.2")  # minutes
    until(lambda: "assigned" in said(restoring))
    ends(restoring)
    working = [processes.count(name) for name in "abc"]
    until(lambda: any("standing by" in said(process) for process in working))
    for process in working:
        assert ends(process).endswith("stopped\n")


def test_while_it_works_what_was_begun_is_finished(processes: Processes, kafka: KafkaConfig) -> None:
    create(kafka)
    send(kafka, 20_000)
    process = processes.count("a", "--sleep-s", "0.001")
    until(lambda: 0 < lag(kafka) < 19_000)
    assert ends(process).endswith("stopped\n")
    assert lag(kafka) > 0, "it was in the middle of it"
    again = processes.count("a")
    until(lambda: lag(kafka) == 0)
    ends(again)


def test_while_the_broker_does_not_answer(stack: LocalStack, processes: Processes, kafka: KafkaConfig) -> None:
    create(kafka)
    send(kafka, 20_000)
    process = processes.count("a", "--sleep-s", "0.001")
    until(lambda: 0 < lag(kafka) < 19_000)
    broker = stack.stack.state().kafka.process
    assert broker is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        ends(process)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    again = processes.count("a")
    until(lambda: drained(kafka))
    ends(again)


def test_while_a_batch_is_being_embedded(processes: Processes, kafka: KafkaConfig) -> None:
    StreamAdmin(kafka, GENERATION).apply()
    gone = threading.Event()

    def never(_request: Request) -> None:
        gone.wait(300)

    with EmbeddingServer(*[never] * 10) as server:
        flow = processes.start(
            "trends", "flow", "embed", TRENDS_EMBEDDER="openai", TRENDS_EMBEDDER_MODEL="m",
            TRENDS_EMBEDDER_URL=server.url, TRENDS_EMBEDDER_DIMENSIONS="16",
        )  # fmt: skip
        until(lambda: at(flow, "/ready")[0] == 200)
        observe(kafka)
        until(lambda: server.requests)
        code, body = at(flow, "/health")
        assert code == 200
        assert body["detail"] == "1 records in one batch"
        ends(flow)
        gone.set()


def test_while_the_tokens_of_the_day_are_spent_items_wait_and_none_is_lost(
    processes: Processes, kafka: KafkaConfig, dsns: tuple[str, ...]
) -> None:
    StreamAdmin(kafka, GENERATION).apply()
    config = PostgresConfig(dsns=dsns, generation=GENERATION)
    asyncio.run(migrate(config))
    with EmbeddingServer() as server, closing(PostgresSummaryStore(config, "embedding")) as ledger:
        days = [f"{datetime.now(UTC) + timedelta(days=n):%Y-%m-%d}" for n in (0, 1)]  # it may be near midnight
        for day in days:
            ledger.spend(day, 1_000)  # by other processes
        environment = {
            "TRENDS_EMBEDDER": "openai", "TRENDS_EMBEDDER_MODEL": "m", "TRENDS_EMBEDDER_URL": server.url,
            "TRENDS_EMBEDDER_DIMENSIONS": "16",
        }  # fmt: skip
        flow = processes.start("trends", "flow", "embed", TRENDS_EMBEDDER_TOKENS_PER_DAY="1000", **environment)
        observe(kafka)
        until(lambda: at(flow, "/ready")[1].get("phase") == "waiting")
        code, body = at(flow, "/ready")
        assert code == 503
        assert "tokens for embeddings" in body["detail"]
        assert at(flow, "/health")[0] == 200
        ends(flow)
        assert not server.requests
        flow = processes.start("trends", "flow", "embed", TRENDS_EMBEDDER_TOKENS_PER_DAY="2000", **environment)
        until(lambda: server.requests and max(ledger.spend(day, 0) for day in days) > 1_000)
        assert [r.texts for r in server.requests] == [["Harbour pilots vote"]]
        ends(flow)


def observe(kafka: KafkaConfig) -> None:
    """An item to embed."""
    when = datetime(2026, 1, 5, tzinfo=UTC)
    item = Observation(
        item_id=item_id_of("rss", "1"), source="rss", external_id="1", kind=Kind.POST, title="Harbour pilots vote",
        observed_at=when, published_at=when, trend_id="term:harbour", publisher="site.example",
    )  # fmt: skip
    producer = Producer(kafka.client())
    producer.produce(raw("rss").physical(kafka, GENERATION), encode(item), b"term:harbour", 0)
    producer.flush()


class Door:
    """A way to a server that can be shut: to whoever comes through it, the server is gone."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        assert parts.port is not None
        self._behind = ("127.0.0.1", parts.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.shut = False
        at = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.dsn = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{at}"))
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                if self.shut:
                    client.close()
                    continue
                server = socket.create_connection(self._behind)
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def shut_it(self) -> None:
        self.shut = True
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut_it()
        self._server.close()


def test_while_a_store_is_down_and_in_a_container_with_nothing_to_write_to(
    processes: Processes, kafka: KafkaConfig, dsns: tuple[str, ...]
) -> None:
    StreamAdmin(kafka, GENERATION).apply()
    doors = [Door(dsn) for dsn in dsns]
    try:
        flow = processes.start(
            "trends", "flow", "store", TRENDS_PROCESS_NAME="store-7fb4d.pod",
            TRENDS_POSTGRES_DSNS=",".join(door.dsn for door in doors),
        )  # fmt: skip
        until(lambda: at(flow, "/ready")[0] == 200)
        until(lambda: at(flow, "/ready")[1]["lag_records"] == 0)  # told with its first look
        _, body = at(flow, "/ready")
        assert (body["process"], body["phase"]) == ("store-7fb4d.pod", "running")
        for door in doors:
            door.shut_it()
        producer = Producer(kafka.client())
        tracked = TrendDefinition(trend_id="harbours", title="Harbours", updated_at=datetime.now(UTC), version=1)
        producer.produce(CATALOG.physical(kafka, GENERATION), encode(tracked), b"harbours", 0)
        producer.flush()
        until(lambda: "trying again" in said(flow))
        code, body = at(flow, "/health")
        assert code == 200, "what waits for a store does not hang"
        ends(flow)
    finally:
        for door in doors:
            door.close()


def test_a_name_that_is_none_is_refused(processes: Processes) -> None:
    flow = processes.start("trends", "flow", "embed", "--name", "../embed")
    assert flow.wait(60) == 2
    assert "TRENDS_PROCESS_NAME" in said(flow)


def test_collecting_while_the_broker_does_not_answer(stack: LocalStack, processes: Processes, tmp_path: Path) -> None:
    source = processes.start(
        "trends", "collect", "synthetic", "--follow", "-o", "pace_per_s=20", TRENDS_HOME=str(tmp_path)
    )  # fmt: skip

    def ready() -> bool:
        address = address_of(tmp_path, "collect", source.pid)
        return address is not None and bool((verdict := asyncio.run(ask(address, "/ready", 30))) and verdict.ok)

    until(ready)
    broker = stack.stack.state().kafka.process
    assert broker is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        ends(source)
    finally:
        os.kill(broker.pid, signal.SIGCONT)
