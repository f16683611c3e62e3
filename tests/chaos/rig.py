"""A chaos run's own stack, flows and feeder, all real processes; does to them what a fault says, and mends what no
supervisor mends (a broker or a database is started again by whoever operates it: here, by the run).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.errors import ExitCode, TrendsError
from streams.table import EMBEDDED, MENTIONS, UPDATES, Stream, raw
from tests.chaos.faults import Fault, Kind
from tests.chaos.feeder import acknowledged, world_of
from tests.chaos.world import SOURCE, World
from tests.waiting import drained
from trends.demo import Stages
from trends.health import ask
from trends.runfiles import running
from trends.settings import environment_of, load_settings
from trends.stack.processes import ProcessId

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 4
GENERATION: Final = "chaos"
DIMENSIONS: Final = 32
SESSION_TIMEOUT_MS: Final = 6_000
TRANSACTION_TIMEOUT_MS: Final = 10_000
START_S: Final = 90.0
STOP_S: Final = 30.0
UP_ATTEMPTS: Final = 4
PROCESSES: Final[Mapping[str, int]] = {"embed": 2, "cluster": 2, "score": 2, "summarize": 1, "store": 2}
MAIN_INPUT: Final[Mapping[str, Stream]] = {
    "embed": raw(SOURCE), "cluster": EMBEDDED, "score": MENTIONS, "summarize": UPDATES, "store": MENTIONS,
}  # fmt: skip
"""The input that tells whether a flow gets on: one in which there is always something."""

Partition = tuple[str, int]


class Rig:
    """Start it, break it, let it settle, look at it.

    ::

        with Rig(home, seed=1, rate=200) as rig:
            rig.inflict(fault)
            rig.mend()              # until nothing is waiting to be continued or started
            rig.drain(120)
    """

    def __init__(
        self, home: Path, seed: int, rate: float, processes: Mapping[str, int] = PROCESSES, shards: int = 2
    ) -> None:
        self.home = home
        self.seed = seed
        self.rate = rate
        self.processes = dict(processes)
        self.shards = shards
        self.journal = home / "feeder.json"
        self.faults: list[str] = []
        """What must not happen, and did: a supervisor that gave up, a server that does not come back."""
        self.exits: list[str] = []
        """Processes that ended, as their supervisor says."""
        self._local = load_settings(
            home=home, kafka_bootstrap=None, postgres_dsns=(), postgres_shards=shards, generation=GENERATION,
            kafka_partitions=PARTITIONS, embedder="null", embedder_dimensions=DIMENSIONS,
            kafka_session_timeout_ms=SESSION_TIMEOUT_MS, kafka_transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        )  # fmt: skip
        self._stack = self._local.local_stack()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._feeder: subprocess.Popen[bytes] | None = None
        self._feeding = True
        self._later: list[tuple[float, Any]] = []
        self._logs: list[IO[bytes]] = []
        self._scaling: list[subprocess.Popen[bytes]] = []
        self._growing: subprocess.Popen[bytes] | None = None
        self._grow_to = self.partitions = PARTITIONS
        """What streams are to have, and what they have for certain."""
        self._supervisors = 0
        self.began = 0.0

    # ------------------------------------------------------------------------------------------------------ running

    def __enter__(self) -> Rig:
        state = self._stack.up()
        try:
            # As in production, where neither brokers nor databases are this machine's: flows that are started while one
            # is away find its address all the same.
            self.settings = load_settings(
                **{name: getattr(self._local, name) for name in self._local.model_fields_set}
                | {"kafka_bootstrap": state.bootstrap, "postgres_dsns": state.dsns}
            )
            StreamAdmin(self.settings.kafka(), GENERATION).apply()
            asyncio.run(migrate(self.settings.postgres()))
            self._start_supervisor()
            self._await_flows()
            self.began = time.time()
            self._start_feeder()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._feeder, self._supervisor, self._growing, *self._scaling):
            if process is not None and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                process.wait(10)
        for log in self._logs:
            log.close()
        state = self._stack.state()
        for server in (state.kafka, *state.shards):
            if server and server.process:
                _send(server.process, signal.SIGCONT)
        self._stack.down()

    @property
    def world(self) -> World:
        """What the feeder sends."""
        return world_of(self.seed, self.began, self.rate)

    @property
    def acknowledged(self) -> int:
        """How many messages of the world are in Kafka for certain."""
        return acknowledged(self.journal)

    def _log(self, name: str) -> IO[bytes]:
        path = self.home / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
        self._logs.append(log)
        return log

    def _start_supervisor(self) -> None:
        self._supervisors += 1
        words = [f"{flow}={count}" for flow, count in self.processes.items()]
        self._supervisor = subprocess.Popen(
            [sys.executable, "-u", "-m", "trends", "run", *words],
            cwd=ROOT, env=environment_of(self.settings), stdin=subprocess.DEVNULL, stdout=self._log("run.log"),
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def _start_feeder(self) -> None:
        kafka = self.settings.kafka()
        self._feeder = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.chaos.feeder", "--bootstrap", kafka.bootstrap,
             "--partitions", str(PARTITIONS), "--seed", str(self.seed), "--began", str(self.began),
             "--rate", str(self.rate), "--journal", str(self.journal)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._log("feeder.log"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def _start_growing(self) -> None:
        self._growing = subprocess.Popen(
            [sys.executable, "-u", "-m", "trends", "streams", "grow", str(self._grow_to)],
            cwd=ROOT, env=environment_of(self.settings), stdin=subprocess.DEVNULL, stdout=self._log("grow.log"),
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def _watch_growth(self) -> None:
        """A growth that was killed, or met a broker that was away, is asked for again, as whoever operates it would."""
        code = None if self._growing is None else self._growing.poll()
        if code is None:
            return
        self._growing = None
        if code == 0:
            self.partitions = self._grow_to
        elif code in (-signal.SIGKILL, ExitCode.UNAVAILABLE):
            self._start_growing()
        else:
            self.faults.append(f"the growth ended with {code}: {self.tail(name='grow.log')}")

    def _await_flows(self) -> None:
        wanted = {f"{flow}-{i}" for flow, count in self.processes.items() for i in range(count)}
        deadline = time.monotonic() + START_S
        while not wanted <= self.ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {START_S:.0f} s: {sorted(wanted - self.ready())}; {self.tail()}")
            time.sleep(0.2)

    def ready(self) -> set[str]:
        """The flow processes that work or stand by."""
        return {name for name, body in self._bodies("/ready").items() if body.get("ready")}

    def owned(self) -> dict[str, str]:
        """What each flow process holds: ``raw.file/0-1``."""
        return {name: str(body.get("partitions", "")) for name, body in self._bodies("/health").items()}

    def _bodies(self, path: str) -> dict[str, dict[str, Any]]:
        entries = [entry for entry in running(self.home) if entry.metrics and entry.role != "run"]

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(ask(str(entry.metrics), path, 2.0) for entry in entries))

        answers = asyncio.run(all_of_them())
        return {
            entry.name: dict(answer.body) | {"ready": answer.ok}
            for entry, answer in zip(entries, answers, strict=True)
            if answer is not None
        }

    def tail(self, lines: int = 15, name: str = "run.log") -> str:
        """The last lines of a log; of the supervisor's output by default."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.home / "logs" / name).read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        return ""

    def restarts(self) -> list[str]:
        """Every process end that the supervisors told of: ``embed-0 │ ended with …``."""
        text = (self.home / "logs" / "run.log").read_text(errors="replace")
        return re.findall(r"^(\S+ +│ (?:ended with|hung|killed).*)$", text, re.MULTILINE)

    # ------------------------------------------------------------------------------------------------------- faults

    def _process_of(self, target: str) -> ProcessId | None:
        state = self._stack.state()
        if target == "kafka":
            return state.kafka.process if state.kafka else None
        if target.startswith("shard-"):
            return state.shards[int(target.removeprefix("shard-"))].process
        if target in ("feeder", "supervisor", "grow"):
            child = {"feeder": self._feeder, "supervisor": self._supervisor, "grow": self._growing}[target]
            return ProcessId.of(child.pid) if child is not None and child.poll() is None else None
        return next((entry.process for entry in running(self.home) if entry.name == target), None)

    def inflict(self, fault: Fault) -> tuple[str, ...]:
        """Does it; which of its targets were there to be hit."""
        if fault.kind is Kind.SCALE:
            self.processes[fault.targets[0]] = fault.processes
            self._scaling.append(
                subprocess.Popen(
                    [sys.executable, "-m", "trends", "scale", fault.targets[0], str(fault.processes), "--wait", "0"],
                    cwd=ROOT, env=environment_of(self.settings), stdin=subprocess.DEVNULL,
                    stdout=self._log("scale.log"), stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
            return fault.targets
        if fault.kind is Kind.GROW:
            self._grow_to = fault.partitions
            self._start_growing()
            return fault.targets
        hit = {target: process for target in fault.targets if (process := self._process_of(target)) is not None}
        number = {Kind.KILL: signal.SIGKILL, Kind.TERM: signal.SIGTERM}.get(fault.kind, signal.SIGSTOP)
        for process in hit.values():
            _send(process, number)
        if number is signal.SIGSTOP:
            due = time.monotonic() + fault.for_s
            self._later += [(due, lambda p=process: _send(p, signal.SIGCONT)) for process in hit.values()]
        elif any(target == "kafka" or target.startswith("shard-") for target in hit):
            self._later.append((time.monotonic() + fault.for_s, self._up))
        return tuple(hit)

    def _up(self) -> None:
        threading.Thread(target=self._start_servers, daemon=True).start()

    def _start_servers(self) -> None:
        for attempt in range(UP_ATTEMPTS):
            try:
                self._stack.up()
                return
            except TrendsError as error:  # such as: killed again while it was starting
                if attempt == UP_ATTEMPTS - 1:
                    self.faults.append(f"a server does not come back: {error}")
                time.sleep(1)

    def tick(self) -> None:
        """Continues, and starts again, what is due. Call it a few times a second."""
        now = time.monotonic()
        due = [each for each in self._later if each[0] <= now]
        self._later = [each for each in self._later if each[0] > now]
        for _, action in due:
            action()
        if self._feeding and self._feeder is not None and self._feeder.poll() is not None:
            self._start_feeder()
        self._watch_growth()
        self._watch_supervisor()

    def _watch_supervisor(self) -> None:
        supervisor = self._supervisor
        if supervisor is None or supervisor.poll() is None:
            return
        if supervisor.returncode != -signal.SIGKILL:
            self.faults.append(f"the supervisor ended with {supervisor.returncode}: {self.tail()}")
            self._supervisor = None
        elif not any(entry.process.alive for entry in running(self.home)):  # its children have died with it
            self._start_supervisor()

    # ---------------------------------------------------------------------------------------------------------- end

    def drain(self, timeout_s: float) -> None:
        """No more faults: everything stands again, the feeder ends, all flows read to the end; then all is stopped."""
        deadline = time.monotonic() + timeout_s
        while self._later:
            self.tick()
            time.sleep(0.1)
        self._start_servers()
        while self.partitions != self._grow_to and not self.faults:
            self.tick()
            if time.monotonic() > deadline:
                self.faults.append(f"not grown after {timeout_s:.0f} s: {self.tail(name='grow.log')}")
            time.sleep(0.1)
        self._feeding = False
        while self._feeder is not None:
            self._feeder.send_signal(signal.SIGTERM)
            code = self._feeder.wait(150)
            if code == 0:
                break
            self._start_feeder()  # it was killed a moment ago: what it had sent is acknowledged by the next one
            time.sleep(3)
        with Stages(self.settings) as stages:
            if why := drained(stages, timeout_s, self._faults_after_a_tick):
                self.faults.append(f"{why}; {self.tail(30)}")

    def _faults_after_a_tick(self) -> list[str]:
        self.tick()
        return self.faults

    def stop_flows(self) -> None:
        """Ends the flows in order."""
        if self._supervisor is not None:
            self._supervisor.send_signal(signal.SIGTERM)
            if (code := self._supervisor.wait(STOP_S)) != 0:
                self.faults.append(f"the supervisor ended with {code} when it was asked to end: {self.tail()}")


def _send(process: ProcessId, number: signal.Signals) -> None:
    if process.alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


# ------------------------------------------------------------------------------------------------------------ commits


Positions = list[tuple[float, int]]
"""Offsets, and when they were first seen (monotonic seconds)."""


@dataclass(slots=True)
class Commits:
    """How each partition of the flows' inputs grew, and was committed."""

    committed: dict[tuple[str, Partition], Positions] = field(default_factory=dict)
    ends: dict[tuple[str, Partition], Positions] = field(default_factory=dict)

    def recovered_s(self, flow: str, partitions: Iterable[Partition], killed_at: float) -> float | None:
        """Seconds from a kill (or from when there was something to read again) until all of these partitions were
        committed anew; None where one was not (yet). Partitions with nothing to read tell nothing."""
        waits = []
        for partition in partitions:
            committed = self.committed.get((flow, partition), [])
            ends = self.ends.get((flow, partition), [])
            done = max((offset for at, offset in committed if at <= killed_at + SEEN_S), default=0)
            asked = next((at for at, offset in ends if offset > done), None)
            if asked is None:
                continue
            later = [at for at, _ in committed if at > killed_at + SEEN_S]
            if not later:
                return None
            waits.append(later[0] - max(asked, killed_at))
        return max(waits, default=0.0)

    def longest_gap_s(self, flow: str, partitions: Iterable[Partition], since: float, until: float) -> float:
        """The longest time without a commit of any of these partitions."""
        longest = 0.0
        for partition in partitions:
            commits = (at for at, _ in self.committed.get((flow, partition), ()))
            times = [since, *(at for at in commits if since < at < until), until]
            longest = max(longest, *(b - a for a, b in pairwise(times)))
        return longest


SEEN_S: Final = 0.4
"""A commit from just before a kill may be seen so long after it."""
LOOK_S: Final = 0.2


class Watcher(threading.Thread):
    """Looks at what the flows have committed, all the time, from outside."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(name="watcher", daemon=True)
        self.commits = Commits()
        self._rig = rig
        self._ended = threading.Event()

    def run(self) -> None:
        kafka = self._rig.settings.kafka()
        admin = AdminClient(kafka.client())
        flows = {}
        for flow, stream in MAIN_INPUT.items():
            name = stream.physical(kafka, GENERATION)
            client = Consumer(kafka.client(**{"group.id": kafka.id_of(GENERATION, flow)}))
            flows[flow] = client, name
        while not self._ended.wait(LOOK_S):
            for flow, (client, name) in flows.items():
                partitions = [(name, p) for p in range(self._rig.partitions)]
                with contextlib.suppress(KafkaException, TrendsError):
                    ends = end_offsets(admin, partitions, 1.0)
                    for found in client.committed([TopicPartition(*p) for p in partitions], 1.0):
                        if found.offset >= 0:
                            _note(self.commits.committed, (flow, (found.topic, found.partition)), found.offset)
                    for partition, end in ends.items():
                        _note(self.commits.ends, (flow, partition), end)
        for client, _ in flows.values():
            client.close()

    def stop(self) -> None:
        """Ends it."""
        self._ended.set()
        self.join(20)


def _note(seen: dict[tuple[str, Partition], Positions], key: tuple[str, Partition], offset: int) -> None:
    positions = seen.setdefault(key, [])
    if not positions or positions[-1][1] != offset:
        positions.append((time.monotonic(), offset))


def partitions_of(held: str, stream: str) -> set[Partition]:
    """The partitions of one stream in what a process says that it holds: ``raw.file/0-1,3 raw.rss/0``."""
    found: set[Partition] = set()
    for word in held.split():
        name, _, spans = word.rpartition("/")
        if name == stream:
            for span in spans.split(","):
                first, _, last = span.partition("-")
                found |= {(stream, p) for p in range(int(first), int(last or first) + 1)}
    return found
