"""Every flow is killed at each of its dangerous places, on purpose, and streams and stores end exact all the same.

One pipeline serves all: messages come without a pause while each flow dies at one place after the other, those of
different flows at the same time; then state is rebuilt by commands that die, too, and more messages follow.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.errors import ExitCode
from streams.keys import partition_of
from streams.table import raw
from tests.chaos.audit import Audit, audit
from tests.chaos.world import SOURCE, World, truth_of
from tests.conftest import LocalStack
from tests.waiting import drained
from trends import verify
from trends.demo import Stages
from trends.flow_processes import ONE_THREAD
from trends.flows import FLOWS
from trends.settings import Settings, environment_of, load_settings
from trends.supervisor import ProcessSpec, Supervisor

pytestmark = pytest.mark.timeout(600)  # it starts three dozen interpreters
ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
DIES_S = 150.0
"""Bound on how long a process may take until it comes to its place, and on every other wait."""

TRANSACTIONS = ("produced:2", "offsets:3", "committed:2")
PLACES = {
    "embed": (*TRANSACTIONS, "revoked", "assigned"),
    "cluster": (*TRANSACTIONS, "restore", "assigned"),
    "score": (*TRANSACTIONS, "restore", "revoked", "assigned"),
    "summarize": (*TRANSACTIONS, "restore", "revoked", "assigned"),
    "store": ("shards:2", *TRANSACTIONS, "revoked", "assigned"),
}
REBUILDS = ("rebuild-begun", "rebuild-written:2", "rebuild-cut")


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    said: str

    def died_at(self, place: str) -> bool:
        return self.code == -signal.SIGKILL and f"dies at {place.partition(':')[0]}" in self.said.splitlines()


@dataclass
class Line:
    """The pipeline, and what became of each process that was started to die."""

    settings: Settings
    world: World
    ended: dict[tuple[str, str], Ended] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    """Of the processes that are to live."""
    alive: list[Supervisor] = field(default_factory=list)
    sent: int = 0
    failed: threading.Event = field(default_factory=threading.Event)

    def send(self, count: int) -> None:
        """The next messages of the world."""
        kafka = self.settings.kafka()
        producer = Producer(kafka.client(**{"enable.idempotence": True, "linger.ms": 5}))
        name = raw(SOURCE).physical(kafka, self.settings.generation)
        for made in self.world.messages(self.sent, count):
            producer.produce(name, made.value, made.trend_id.encode(), partition_of(made.trend_id, PARTITIONS))
        assert producer.flush(30) == 0
        self.sent += count

    def crash(self, place: str, *command: str, meanwhile: Callable[[], object] = lambda: None) -> Ended:
        """Runs a command until it dies at a place. ``meanwhile`` is called once a flow has its partitions."""
        return self._run("-m", "tests.integration.crashing", place, *command, meanwhile=meanwhile)

    def trends(self, *command: str) -> Ended:
        """Runs a command to its end."""
        return self._run("-m", "trends", *command)

    def _run(self, *command: str, meanwhile: Callable[[], object] = lambda: None) -> Ended:
        said: list[str] = []
        with subprocess.Popen(
            [sys.executable, "-u", *command], cwd=ROOT, env=os.environ | environment_of(self.settings) | ONE_THREAD,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            limit = threading.Timer(DIES_S, process.terminate)
            limit.start()
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if "assigned " in line:
                    meanwhile()
            code = process.wait()
            limit.cancel()
        return Ended(code, "".join(said[-60:]))

    @contextmanager
    def running(self, *names: str) -> Iterator[Supervisor]:
        """Ordinary processes of these names, kept running."""
        specs = [
            ProcessSpec(
                name, (sys.executable, "-u", "-m", "trends", "flow", name.rpartition("-")[0], "--name", name),
                environment=ONE_THREAD,
            )
            for name in names
        ]  # fmt: skip
        environment = environment_of(self.settings)
        with Supervisor(specs, echo=lambda n, line: self.lines.append(f"{n} {line}"), environment=environment) as them:
            self.alive.append(them)
            yield them
            assert them.failure is None, them.failure
            self.alive.remove(them)

    def die(self, flow: str, others: ExitStack) -> None:
        """A flow's process dies at one place after the other, and lives then, so that those behind it are fed; a second
        one stays, once it has come."""
        joined = False

        def second() -> None:
            nonlocal joined
            if not joined:
                joined = True
                others.enter_context(self.running(f"{flow}-1"))

        for place in PLACES[flow]:
            if self.failed.is_set():
                return
            meanwhile = second if place == "revoked" else lambda: None
            done = self.crash(place, "flow", flow, "--name", f"{flow}-0", meanwhile=meanwhile)
            self.ended[flow, place] = done
            if not done.died_at(place):
                self.failed.set()
        others.enter_context(self.running(f"{flow}-0"))

    def settle(self) -> None:
        """Waits until all that was sent is stored."""
        with Stages(self.settings) as stages:
            why = drained(stages, DIES_S, lambda: [each.failure for each in self.alive if each.failure])
        assert not why, (why, self.lines[-40:])


@pytest.fixture(scope="module")
def line(stack: LocalStack, dsns: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Line:
    kafka = stack.kafka_named()
    settings = load_settings(
        home=tmp_path_factory.mktemp("crash-points"), kafka_bootstrap=kafka.bootstrap, postgres_dsns=dsns,
        stack=kafka.stack, generation="g1", kafka_partitions=PARTITIONS, kafka_session_timeout_ms=2_000,
        kafka_transaction_timeout_ms=5_000, embedder="null", embedder_dimensions=16, commit_ms=100,
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    line = Line(settings, World(5, datetime.now(UTC) - timedelta(hours=1), timedelta(seconds=0.2)))
    line.send(400)
    with ExitStack() as others:
        with ThreadPoolExecutor(len(FLOWS)) as pool:
            dying = [pool.submit(line.die, flow, others) for flow in FLOWS]
            while not all(each.done() for each in dying):
                line.send(10)
                time.sleep(0.2)
        for each in dying:
            each.result()
        if line.failed.is_set():
            return line
        line.send(100)
        line.settle()
    for place in REBUILDS:
        line.ended["rebuild", place] = line.crash(place, "state", "rebuild", "cluster")
        line.ended["refused", place] = line.trends("flow", "cluster")
    line.ended["rebuild", "whole"] = line.trends("state", "rebuild", "cluster")
    line.send(300)
    with line.running(*(f"{flow}-0" for flow in FLOWS)):
        line.settle()
    return line


@pytest.fixture(scope="module")
def audited(line: Line) -> Audit:
    assert not line.failed.is_set(), "not every process died where it was to"
    return audit(line.settings, truth_of(line.world, line.sent))


@pytest.mark.parametrize(("flow", "place"), [(flow, place) for flow, places in PLACES.items() for place in places])
def test_a_flow_dies_at_each_dangerous_place(line: Line, flow: str, place: str) -> None:
    done = line.ended.get((flow, place))
    assert done is not None, "it did not come to this: an earlier place was not reached"
    assert done.died_at(place), done.said


@pytest.mark.parametrize("place", REBUILDS)
def test_a_rebuild_of_state_that_is_killed_leaves_a_state_that_is_refused(line: Line, place: str) -> None:
    assert line.ended["rebuild", place].died_at(place), line.ended["rebuild", place].said
    refused = line.ended["refused", place]
    assert refused.code == ExitCode.NEEDS_OPERATOR, refused.said
    assert "trends state rebuild cluster" in refused.said


def test_a_rebuild_that_was_killed_is_completed_by_running_it_again(line: Line) -> None:
    assert line.ended["rebuild", "whole"].code == 0, line.ended["rebuild", "whole"].said


def test_nothing_is_lost_doubled_or_wrong_after_all_of_it(audited: Audit, line: Line) -> None:
    assert (audited.lost, audited.doubled, audited.wrong) == ([], [], [])
    assert audited.counts["raw"] == line.sent


def test_verify_finds_nothing_after_all_of_it(line: Line, audited: Audit) -> None:
    report = verify.audit(line.settings)
    assert [(c.name, c.examples) for c in report.checks if c.off] == []
    assert report.clean
