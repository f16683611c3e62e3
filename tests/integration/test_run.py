"""``trends run`` with a real flow on a real broker, while data flows: killed, stopped, scaled, asked, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.config import KafkaConfig
from streams.lag import LagProbe
from streams.table import EMBEDDED, RAW, raw
from tests.conftest import LocalStack
from tests.waiting import until
from trends.runfiles import RunFile, running
from trends.stack.processes import ProcessId

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 2
ITEMS = 2_000
PER_S = 60
"""Of the source: it flows for about as long as the test needs."""


def get(address: str | None, path: str) -> tuple[int, dict[str, Any]]:
    assert address is not None
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Run:
    """A `trends run embed` over a data folder of its own, and the commands beside it."""

    def __init__(self, stack: LocalStack, home: Path) -> None:
        self.home = home
        self.kafka: KafkaConfig = stack.kafka_named(partitions=PARTITIONS)
        self.environment = os.environ | {
            "TRENDS_HOME": str(home),
            "TRENDS_STACK": self.kafka.stack,
            "TRENDS_GENERATION": "g1",
            "TRENDS_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TRENDS_KAFKA_PARTITIONS": str(PARTITIONS),
            "TRENDS_POSTGRES_DSNS": ",".join(stack.dsns),
            "TRENDS_EMBEDDER": "null",
            "TRENDS_SILENT_S": "3",
        }
        self.trends("streams", "apply")
        self.process = self.start("run", "embed")
        self.lines: list[str] = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout or ()), daemon=True)
        self._reader.start()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trends", *arguments],
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def trends(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "trends", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=150,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(self.trends("status", "--json"))["processes"]}

    def found(self, name: str) -> RunFile | None:
        return next((entry for entry in running(self.home) if entry.name == name), None)

    def said(self, name: str) -> dict[str, Any]:
        """What the supervisor knows of one of its processes."""
        entry = self.found("run-embed-0")
        assert entry is not None
        _, body = get(entry.metrics, "/health")
        return next((each for each in body["processes"] if each["name"] == name), {})

    def embedded(self) -> int:
        """Committed records of items.embedded."""
        consumer = Consumer(
            self.kafka.client(
                **{"group.id": "count", "isolation.level": "read_committed", "enable.partition.eof": True}
            )
        )
        name = EMBEDDED.physical(self.kafka, "g1")
        consumer.assign([TopicPartition(name, p, 0) for p in range(PARTITIONS)])
        count = ended = 0
        while ended < PARTITIONS:
            messages = consumer.consume(5_000, 1.0)
            ended += sum(message.error() is not None for message in messages)
            count += sum(message.error() is None for message in messages)
        consumer.close()
        return count

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(10)


@pytest.fixture
def run(stack: LocalStack, tmp_path: Path) -> Iterator[Run]:
    run = Run(stack, tmp_path)
    yield run
    run.close()


@pytest.mark.timeout(400)
def test_a_flow_is_kept_running_and_scaled_while_data_flows(run: Run) -> None:
    until(lambda: run.found("embed-0"))
    source = run.start("collect", "synthetic", "-o", f"items={ITEMS}", "-o", f"pace_per_s={PER_S}", "--json")
    try:
        # Every process says how it is, on the port of its metrics.
        first = run.found("embed-0")
        assert first is not None
        until(lambda: get(first.metrics, "/ready")[0] == 200)
        code, body = get(first.metrics, "/health")
        assert code == 200
        assert (body["flow"], body["process"], body["generation"], body["phase"]) == (
            "embed",
            "embed-0",
            "g1",
            "running",
        )
        assert f"{raw('rss').physical(run.kafka, 'g1')}/0-1" in body["partitions"]
        until(lambda: run.said("embed-0").get("ready"))
        supervisor = run.found("run-embed-0")
        assert supervisor is not None
        assert get(supervisor.metrics, "/ready")[0] == 200
        until(lambda: (entry := run.found("collect")) and get(entry.metrics, "/ready")[0] == 200)

        # Killed, it is started again, and everything that lists processes says so.
        os.kill(first.process.pid, signal.SIGKILL)
        until(lambda: (again := run.found("embed-0")) and again.process.pid != first.process.pid)
        until(lambda: run.said("embed-0").get("ready"))
        status = run.status()
        assert set(status) == {"embed-0", "run-embed-0", "collect"}
        assert (status["embed-0"]["phase"], status["embed-0"]["restarts"]) == ("running", 1)
        until(lambda: run.status()["embed-0"]["lag_records"] is not None)

        # Two more: one for each partition, and one that stands by.
        scaled = json.loads(run.trends("scale", "embed", "3", "--wait", "120", "--json"))
        assert (scaled["before"], scaled["after"], scaled["ready"]) == (1, 3, True)
        phases = [run.said(f"embed-{n}")["phase"] for n in range(3)]
        assert sorted(phases) == ["running", "running", "standing_by"]

        # Stopped, so that it neither works nor answers, it is found and started again.
        stopped = run.found("embed-0")
        assert stopped is not None
        os.kill(stopped.process.pid, signal.SIGSTOP)
        until(lambda: run.said("embed-0").get("hangs") == 1)
        until(lambda: run.said("embed-0").get("ready"))
        assert ProcessId.of(stopped.process.pid) is None

        # Two less: what is left has all partitions long before the sessions of those that went would time out.
        scaled = json.loads(run.trends("scale", "embed", "1", "--wait", "120", "--json"))
        assert (scaled["before"], scaled["after"]) == (3, 1)
        assert [(each["code"], each["killed"]) for each in scaled["removed"]] == [(0, False), (0, False)]
        (left,) = [name for name in run.status() if name.startswith("embed-")]
        until(lambda: "/0-1" in (run.said(left).get("partitions") or ""))

        said, _ = source.communicate(timeout=180)
        (report,) = json.loads(said[said.index("[\n") :])
        probe = LagProbe(run.kafka, "g1", "embed", RAW)
        until(lambda: sum(lag.records for lag in probe.lag().values()) == 0)
        probe.close()
        assert run.embedded() == report["delivered"], "nothing is lost, nothing doubled"

        # With none left, records wait; the run goes on, and can be asked for one again.
        assert json.loads(run.trends("scale", "embed", "0", "--json"))["after"] == 0
        assert run.process.poll() is None
        assert json.loads(run.trends("scale", "embed", "1", "--wait", "120", "--json"))["ready"]

        last = [entry.process.pid for entry in running(run.home)]
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 0
        assert all(ProcessId.of(pid) is None for pid in last)
        assert running(run.home) == ()
    finally:
        source.kill()
        source.wait()
    text = "".join(run.lines)
    assert "embed-0     │ " in text
    assert "Traceback" not in text


def test_scaling_where_nothing_runs_says_so(stack: LocalStack, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trends", "--home", str(tmp_path), "scale", "embed", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 69
    assert "no `trends run` runs over" in done.stderr
