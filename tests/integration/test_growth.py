"""Streams grow under traffic, twice, while processes are killed: nothing lost, nothing doubled, every key in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.admin import StreamAdmin
from streams.config import KafkaConfig
from streams.errors import ExitCode
from streams.growth import Growth
from streams.keys import partition_of
from streams.partitions import LEASE_S, LOOK_S, PartitionsView, current, growth, learn_partitions
from streams.state import StateReader
from streams.table import Stream
from tests.integration.counting import ALL, COPY_OUT, GENERATION, IN, OUT, SINGLE_OUT, STATE, create
from tests.integration.test_pair import Flow, definition, done, send_bytes
from tests.waiting import until

KEYS = 200


class Feeder:
    """Writes numbered records, each key's in order, by the number of partitions that counts, until it is stopped."""

    def __init__(self, kafka: KafkaConfig, per_s: int = 600) -> None:
        self._kafka = kafka
        self._per_s = per_s
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        name = IN.physical(self._kafka, GENERATION)
        producer = Producer(self._kafka.client(**{"enable.idempotence": True, "linger.ms": 5}))
        with closing(PartitionsView(self._kafka)) as view:
            while not self._enough.wait(0.05):
                if view.age_s > LOOK_S and view.refresh():
                    producer.flush()
                    learn_partitions(producer, [name], view.growth.count)
                for _ in range(self._per_s // 20):
                    key = f"k{self.sent % KEYS}"
                    partition = partition_of(key, view.growth.count)
                    producer.produce(name, definition(self.sent, key), key, partition)
                    self.sent += 1
                producer.poll(0)
            producer.flush()


@dataclass(frozen=True)
class Written:
    """One output record."""

    partition: int
    offset: int
    key: bytes
    value: int
    version: int
    at_ms: int


def read(kafka: KafkaConfig, stream: Stream) -> list[Written]:
    """All committed records of an output, partition by partition."""
    name, count = stream.physical(kafka, GENERATION), current(kafka).partitions
    with closing(Consumer(kafka.client(**{
        "group.id": uuid4().hex, "isolation.level": "read_committed", "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }))) as consumer:  # fmt: skip
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        records, ended = [], set()
        while len(ended) < count:
            m: Any
            for m in consumer.consume(5_000, 1.0):
                if m.error():
                    ended.add(m.partition())
                else:
                    version = int(dict(m.headers())["version"])
                    records.append(
                        Written(m.partition(), m.offset(), m.key(), int(m.value()), version, m.timestamp()[1])
                    )
        return sorted(records, key=lambda r: (r.partition, r.offset))


def by_key(records: list[Written]) -> dict[bytes, list[Written]]:
    found: dict[bytes, list[Written]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found


class Killer:
    """Ends processes when they say something, and starts again what has ended."""

    def __init__(self, flow: Flow, running: dict[str, tuple[str, ...]]) -> None:
        self._flow = flow
        self._options = running
        self.processes: dict[str, Popen[bytes]] = {}
        self.codes: list[int] = []
        self.said: dict[str, str] = dict.fromkeys(running, "")
        """All that the former processes of a name have said."""
        for name, options in running.items():
            self.processes[name] = flow.start(name, *options)

    def all_said(self, name: str) -> str:
        return self.said[name] + self._flow.said(self.processes[name])

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(10)
        self.tend()

    def tend(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.codes.append(process.returncode)
                self.said[name] += self._flow.said(process)
                self.processes[name] = self._flow.start(name, *self._options[name])


@dataclass(frozen=True)
class Run:
    """What is left of one run over two growths."""

    kafka: KafkaConfig
    sent: int
    codes: tuple[int, ...]
    said: dict[str, str]


@pytest.fixture(scope="module")
def run(kafka: KafkaConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    config = KafkaConfig(kafka.bootstrap, stack=f"t{uuid4().hex[:8]}", partitions=4, session_timeout_ms=3_000)
    create(config)
    admin = StreamAdmin(config, GENERATION, ALL)
    flow = Flow(config, tmp_path_factory.mktemp("growth"))
    options: dict[str, tuple[str, ...]] = {
        "a": (), "b": (), "single": ("--single", "--own-out"), "copy-1": ("--copy",), "copy-2": ("--copy",)
    }  # fmt: skip
    try:
        killer = Killer(flow, options)
        with Feeder(config) as feeder:
            until(lambda: all("running" in killer.all_said(name) for name in options))
            admin.prepare_growth(8)  # as a `grow` that was killed leaves it
            killer.kill("a")
            killer.kill("single")
            until(lambda: "running" in flow.said(killer.processes["a"]))
            admin.grow(8)
            _kill_around_births(killer)
            admin.grow(16)
            killer.kill("copy-1")
            killer.kill("single")
            until(lambda: _born_everywhere(killer, config, 16), 120)
        until(lambda: killer.tend() or all(done(config, group)() for group in ("count", "single", "copy")), 90)
        yield Run(config, feeder.sent, tuple(killer.codes), {name: killer.all_said(name) for name in options})
    finally:
        for process in flow.processes:
            process.kill()
            process.wait(10)


def _kill_around_births(killer: Killer) -> None:
    """One process when its state begins to move, the other before it can have seen that it has moved.

    A process that happens to begin anew just then moves state at its start, and never says that it could.
    """
    first = _speaker(killer, "can be born", "state records moved")
    killer.kill(first)
    mover = _speaker(killer, "state records moved")
    killer.kill("b" if mover == "a" else "a")


def _speaker(killer: Killer, *words: str) -> str:
    """Which of the two has said one of the ``words``, as soon as one has."""

    def speakers() -> list[str]:
        killer.tend()
        return [name for name in "ab" if any(word in killer.all_said(name) for word in words)]

    try:
        until(speakers)
    except AssertionError as error:
        said = "\n".join(f"--- {name}:\n{killer.all_said(name)}" for name in "ab")
        raise AssertionError(f"{error}\n{said}") from None
    return speakers()[0]


def _born_everywhere(killer: Killer, kafka: KafkaConfig, count: int) -> bool:
    """Whether every group has committed something in every partition."""
    killer.tend()
    name = IN.physical(kafka, GENERATION)
    for group in ("count", "single", "copy"):
        with closing(Consumer(kafka.client(**{"group.id": kafka.id_of(GENERATION, group)}))) as consumer:
            committed = consumer.committed([TopicPartition(name, p) for p in range(count)], 20)
        if any(p.offset < 0 for p in committed):
            return False
    return True


def test_only_the_kills_ended_a_process(run: Run) -> None:
    assert set(run.codes) == {-signal.SIGKILL}
    assert len(run.codes) >= 6


def test_every_key_is_counted_once_and_in_order_across_its_partitions(run: Run) -> None:
    keys = by_key(read(run.kafka, OUT))
    assert sum(map(len, keys.values())) == run.sent
    for records in keys.values():
        in_order = sorted(records, key=lambda r: r.value)
        assert [r.value for r in in_order] == list(range(1, len(records) + 1))
        assert [r.version for r in in_order] == sorted(r.version for r in records)


def test_one_process_with_the_role_counts_on_over_a_growth_without_beginning_anew(run: Run) -> None:
    keys = by_key(read(run.kafka, SINGLE_OUT))
    assert sum(map(len, keys.values())) == run.sent
    for records in keys.values():
        in_order = sorted(records, key=lambda r: r.value)
        assert [r.value for r in in_order] == list(range(1, len(records) + 1))
        assert [r.version for r in in_order] == sorted(r.version for r in records)
    assert "have grown" not in run.said["single"]


def test_a_flow_without_state_copies_every_record_once(run: Run) -> None:
    assert sorted(r.value for r in read(run.kafka, COPY_OUT)) == list(range(run.sent))


@pytest.mark.parametrize("stream", [OUT, SINGLE_OUT, COPY_OUT], ids=lambda s: s.name)
def test_a_key_moves_to_its_new_partition_and_never_back(run: Run, stream: Stream) -> None:
    """Each partition holds a key's records in order, and what is in the younger one is younger."""
    grown = growth(run.kafka)
    line = {f"k{n}".encode(): grown.line_of(f"k{n}") for n in range(KEYS)}
    assert {len(places) for places in line.values()} == {1, 2, 3}
    for key, records in by_key(read(run.kafka, stream)).items():
        by_place = sorted(records, key=lambda r: (line[key].index(r.partition), r.offset))
        assert all(a.version < b.version for a, b in pairwise(by_place)), (key, by_place)
        assert by_place[-1].partition == line[key][-1]


@pytest.mark.parametrize("stream", [OUT, SINGLE_OUT, COPY_OUT], ids=lambda s: s.name)
def test_nobody_places_a_key_by_the_old_number_when_its_lease_is_over(run: Run, stream: Stream) -> None:
    for step in growth(run.kafka).steps:
        late = [r for r in read(run.kafka, stream) if r.at_ms >= step.at_ms + LEASE_S * 1_000]
        assert late
        assert all(r.partition % step.after == partition_of(r.key.decode(), step.after) for r in late)


def test_state_stands_where_its_trend_lives_and_nowhere_else(run: Run) -> None:
    for p in range(16):
        seen: dict[bytes, bytes | None] = {}
        reader = StateReader(run.kafka, STATE.physical(run.kafka, GENERATION), [p], seen.__setitem__)
        reader.catch_up(lambda: None)
        reader.close()
        kept = {key for key, value in seen.items() if value is not None}
        assert kept == {f"k{n}".encode() for n in range(KEYS) if partition_of(f"k{n}", 16) == p}


def test_both_growths_are_on_record(run: Run) -> None:
    grown = growth(run.kafka)
    assert [(s.before, s.after) for s in grown.steps] == [(4, 8), (8, 16)]
    assert grown.coming is None


# -- one at a time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(kafka: KafkaConfig) -> KafkaConfig:
    """The broker, with names of this test's own, its streams."""
    config = KafkaConfig(kafka.bootstrap, stack=f"t{uuid4().hex[:8]}", partitions=4, session_timeout_ms=3_000)
    create(config)
    return config


@pytest.fixture
def flow(own: KafkaConfig, tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(own, tmp_path)
    yield flow
    for process in flow.processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def feed(kafka: KafkaConfig, count: int, first: int = 0) -> None:
    """Records by the number of partitions that counts now."""
    partitions, name = current(kafka).partitions, IN.physical(kafka, GENERATION)
    producer = Producer(kafka.client(**{"enable.idempotence": True}))
    for n in range(first, first + count):
        key = f"k{n % KEYS}"
        producer.produce(name, definition(n, key), key, partition_of(key, partitions))
        producer.poll(0)
    producer.flush()


def assert_counted(kafka: KafkaConfig, sent: int) -> None:
    keys = by_key(read(kafka, OUT))
    assert sum(map(len, keys.values())) == sent
    for records in keys.values():
        in_order = sorted(records, key=lambda r: r.value)
        assert [r.value for r in in_order] == list(range(1, len(records) + 1))
        assert [r.version for r in in_order] == sorted(r.version for r in records)


def test_a_process_killed_in_the_transaction_that_moves_state_moves_it_again(own: KafkaConfig, flow: Flow) -> None:
    feed(own, 1_000)
    dying = flow.start("a", "--die-in-split")
    until(done(own))
    StreamAdmin(own, GENERATION, ALL).grow(8)
    feed(own, 1_000, 1_000)
    assert dying.wait(60) == -signal.SIGKILL
    again = flow.start("a")
    until(done(own))
    assert "state records moved" in flow.said(again)
    assert_counted(own, 2_000)


def test_a_new_reader_of_a_history_with_growths_keeps_the_order_too(own: KafkaConfig, flow: Flow) -> None:
    admin = StreamAdmin(own, GENERATION, ALL)
    for round_, partitions in enumerate((8, 16, None)):
        feed(own, 1_000, 1_000 * round_)
        if partitions:
            admin.grow(partitions)
    process = flow.start("a")
    until(done(own))
    assert_counted(own, 3_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == ExitCode.OK


def test_a_record_that_comes_late_into_the_old_partition_is_sent_on_to_the_state_of_its_trend(
    own: KafkaConfig, flow: Flow
) -> None:
    feed(own, 400)
    process = flow.start("a")
    until(done(own))
    StreamAdmin(own, GENERATION, ALL).grow(8)
    until(lambda: "state records moved" in flow.said(process))
    moved = next(f"k{n}" for n in range(KEYS) if partition_of(f"k{n}", 8) >= 4)
    send_bytes(own, IN, partition_of(moved, 4), moved.encode(), definition(400, moved))
    until(lambda: sum(r.key == moved.encode() for r in read(own, OUT)) == 3)
    until(done(own))
    assert_counted(own, 401)
    assert process.poll() is None


def test_state_in_a_partition_where_nothing_is_committed_is_an_error_and_not_a_second_birth(
    own: KafkaConfig, flow: Flow
) -> None:
    feed(own, 400)
    process = flow.start("a")
    until(done(own))
    StreamAdmin(own, GENERATION, ALL).grow(8)
    until(lambda: "state records moved" in flow.said(process))
    until(done(own))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == ExitCode.OK
    group, name = own.id_of(GENERATION, "count"), IN.physical(own, GENERATION)
    admin = AdminClient(own.client())

    def forgotten() -> bool:
        try:
            admin.delete_consumer_groups([group])[group].result(10)
        except Exception:  # the member is still in the group
            return False
        return True

    until(forgotten)
    with closing(Consumer(own.client(**{"group.id": group}))) as consumer:  # the parents' offsets alone come back
        ends = [consumer.get_watermark_offsets(TopicPartition(name, p), 10)[1] for p in range(4)]
        consumer.commit(offsets=[TopicPartition(name, p, end) for p, end in enumerate(ends)], asynchronous=False)
    again = flow.start("a")
    assert again.wait(60) == ExitCode.NEEDS_OPERATOR
    assert "committed nothing" in flow.said(again)
    assert_counted(own, 400)


def test_new_partitions_find_an_owner_although_the_process_that_shares_them_out_was_away_when_they_came(
    own: KafkaConfig, flow: Flow
) -> None:
    """Started again under its name, it finds its group as it left it, and the stream as it is now: no change to see."""
    feed(own, 400)
    killed = flow.start("a", "--session-timeout-ms", "30000")
    until(done(own))
    killed.kill()
    StreamAdmin(own, GENERATION, ALL).grow(8)
    feed(own, 400, 400)
    again = flow.start("a", "--session-timeout-ms", "30000")
    until(done(own), 90)
    assert "had no owner" in flow.said(again)
    assert_counted(own, 800)


def test_partitions_that_nothing_explains_stop_a_flow(own: KafkaConfig, flow: Flow) -> None:
    name = IN.physical(own, GENERATION)
    admin = AdminClient(own.client())
    admin.create_partitions([NewPartitions(name, 8)])[name].result(20)
    process = flow.start("a")
    assert process.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "TRENDS_KAFKA_PARTITIONS" in flow.said(process)
    assert growth(own) == Growth(4)
