"""The transactional pair on a real broker: every process here is real, and every fault too."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.codec import decode, encode
from streams.config import KafkaConfig
from streams.errors import ExitCode, UnavailableError
from streams.keys import partition_of
from streams.lag import LagProbe
from streams.records import DeadLetter, Gap, Reason, TrendDefinition
from streams.session import Session
from streams.spec import Limits
from streams.state import COVER_PREFIX, StateReader, high_watermarks
from streams.table import DEAD_LETTERS, GAPS, Stream
from tests.integration.counting import GENERATION, IN, OUT, SINGLE_STATE, STATE, create, spec
from tests.waiting import until
from trends.settings import load_settings
from trends.stack import Stack

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
KEYS = 50


@pytest.fixture
def own(kafka: KafkaConfig) -> KafkaConfig:
    """The broker, with names of this test's own, and its streams."""
    config = KafkaConfig(kafka.bootstrap, stack=f"t{uuid4().hex[:8]}", partitions=PARTITIONS, session_timeout_ms=3_000)
    create(config)
    return config


class Flow:
    """Counting processes of one test; whatever still runs at its end is killed."""

    def __init__(self, kafka: KafkaConfig, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *options: str, bootstrap: str = "") -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.counting", "--bootstrap", bootstrap or self.kafka.bootstrap,
             "--stack", self.kafka.stack, "--name", name, "--partitions", str(PARTITIONS), *options],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        process.log_path = Path(log.name)  # type: ignore[attr-defined]
        self.processes.append(process)
        return process

    @staticmethod
    def said(process: subprocess.Popen[bytes]) -> str:
        return str(process.log_path.read_text())  # type: ignore[attr-defined]


@pytest.fixture
def flow(own: KafkaConfig, tmp_path: Path) -> Iterator[Flow]:
    flow = Flow(own, tmp_path)
    yield flow
    for process in flow.processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def definition(n: int, key: str) -> bytes:
    return encode(TrendDefinition(trend_id=key, title="x", updated_at=datetime.now(UTC), version=n))


def send(kafka: KafkaConfig, count: int, transactional: bool = False, keys: int = KEYS) -> None:
    producer = Producer(kafka.client(**{"linger.ms": 5} | ({"transactional.id": uuid4().hex} if transactional else {})))
    if transactional:
        producer.init_transactions(60)
        producer.begin_transaction()
    for i in range(count):
        key = f"k{i % keys}"
        producer.produce(IN.physical(kafka, GENERATION), definition(i, key), key, partition_of(key, PARTITIONS))
        producer.poll(0)
    if transactional:
        producer.commit_transaction(10)
    producer.flush()


def send_bytes(kafka: KafkaConfig, stream: Stream, partition: int, key: bytes | None, value: bytes) -> None:
    producer = Producer(kafka.client())
    producer.produce(stream.physical(kafka, GENERATION), value, key, partition)
    producer.flush()


def read(kafka: KafkaConfig, stream: Stream) -> list[tuple[bytes, bytes]]:
    """All committed records of a stream."""
    name, count = stream.physical(kafka, GENERATION), stream.count(kafka)
    with closing(Consumer(kafka.client(**{
        "group.id": uuid4().hex, "isolation.level": "read_committed", "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }))) as consumer:  # fmt: skip
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        records, ended = [], set()
        while len(ended) < count:
            for message in consumer.consume(5_000, 1.0):
                if message.error():
                    ended.add(message.partition())
                else:
                    records.append((message.key(), message.value()))
        return records


def delete_records(kafka: KafkaConfig) -> None:
    """What retention does: everything in the input is gone."""
    name = IN.physical(kafka, GENERATION)
    ends = high_watermarks(kafka, name, range(PARTITIONS))
    admin = AdminClient(kafka.client())
    for future in admin.delete_records([TopicPartition(name, p, end) for p, end in ends.items()]).values():
        future.result(10)


def lag(kafka: KafkaConfig, group: str = "count") -> int:
    """As Kafka's own tools compute it: end of the log minus committed offset."""
    with closing(LagProbe(kafka, GENERATION, group, [IN])) as probe:
        return sum(lag.records for lag in probe.lag().values())


def assert_exact(kafka: KafkaConfig, sent: int) -> None:
    """Nothing lost, nothing doubled: every key's counts are 1, 2, 3, … each once."""
    counts = Tally(read(kafka, OUT))
    assert max(counts.values()) == 1
    per_key = Tally(key for key, _ in counts)
    assert sum(per_key.values()) == sent
    assert all((key, b"%d" % n) in counts for key, total in per_key.items() for n in range(1, total + 1))


def done(kafka: KafkaConfig, group: str = "count") -> Callable[[], bool]:
    return lambda: lag(kafka, group) == 0


def test_lag_reaches_zero_although_the_input_ends_with_transaction_markers(own: KafkaConfig, flow: Flow) -> None:
    send(own, 1_000, transactional=True)
    process = flow.start("a")
    until(done(own))
    assert_exact(own, 1_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == ExitCode.OK


def test_a_process_started_again_goes_on_from_its_state(own: KafkaConfig, flow: Flow) -> None:
    for round_ in (1, 2):
        send(own, 500)
        process = flow.start("a")
        until(done(own))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == ExitCode.OK
        assert_exact(own, round_ * 500)


def test_kills_and_a_scale_out_in_the_middle_lose_and_double_nothing(own: KafkaConfig, flow: Flow) -> None:
    send(own, 12_000)
    rng = random.Random(7)
    running = {name: flow.start(name, "--sleep-s", "0.0004") for name in ("a", "b")}
    codes: Tally[int] = Tally()
    began, kills = time.monotonic(), 0
    while not (kills == 4 and lag(own) == 0):
        assert time.monotonic() - began < 90
        time.sleep(0.2)
        if time.monotonic() - began > 3 and "c" not in running:
            running["c"] = flow.start("c", "--sleep-s", "0.0004")
        if kills < 4 and time.monotonic() - began > 1.5 + 1.5 * kills:
            running[rng.choice(sorted(running))].kill()
            kills += 1
        for name, process in running.items():
            if process.poll() is not None:
                codes[process.returncode] += 1
                running[name] = flow.start(name, "--sleep-s", "0.0004")
    assert set(codes) == {-signal.SIGKILL}
    assert_exact(own, 12_000)


def test_a_process_of_the_same_name_fences_the_older_one(own: KafkaConfig, flow: Flow) -> None:
    older = flow.start("a", "--sleep-s", "0.001")
    until(lambda: "running" in flow.said(older))
    send(own, 3_000)
    newer = flow.start("a")
    assert older.wait(30) == ExitCode.FENCED
    until(done(own))
    assert newer.poll() is None
    assert_exact(own, 3_000)


def test_the_one_process_role_has_a_stand_by_that_takes_over(own: KafkaConfig, flow: Flow) -> None:
    send(own, 1_000)
    first = flow.start("a", "--single")
    until(done(own, "single"))
    second = flow.start("b", "--single")
    until(lambda: "standing by" in flow.said(second))
    first.kill()
    send(own, 1_000)
    until(done(own, "single"))
    assert "running" in flow.said(second)
    assert_exact(own, 2_000)


def test_an_owner_of_the_role_that_stood_still_writes_nothing_more_and_stands_by(own: KafkaConfig, flow: Flow) -> None:
    send(own, 4_000)
    first = flow.start("a", "--single", "--sleep-s", "0.001")
    until(lambda: len(read(own, OUT)) > 0)
    second = flow.start("b", "--single")
    until(lambda: "standing by" in flow.said(second))
    first.send_signal(signal.SIGSTOP)
    until(done(own, "single"))
    first.send_signal(signal.SIGCONT)
    until(lambda: "standing by" in flow.said(first))
    send(own, 500)
    until(done(own, "single"))
    assert first.poll() is None
    assert_exact(own, 4_500)


def test_a_process_that_leaves_for_good_frees_its_partitions_at_once(own: KafkaConfig, flow: Flow) -> None:
    """Not after its session has timed out: that would take minutes here."""
    send(own, 2_000)
    leaving, staying = (flow.start(name, "--session-timeout-ms", "120000") for name in "ab")
    until(done(own))
    until(lambda: all("running" in flow.said(p) for p in (leaving, staying)))
    leaving.send_signal(signal.SIGUSR1)
    assert leaving.wait(10) == ExitCode.OK
    send(own, 2_000)
    until(done(own))
    assert f"assigned {IN.physical(own, GENERATION)}/0-3" in flow.said(staying)
    assert_exact(own, 4_000)


def test_more_processes_than_partitions_stand_by_healthy(own: KafkaConfig, flow: Flow) -> None:
    processes = [flow.start(name) for name in "abcde"]
    send(own, 200)
    until(lambda: sum("standing by" in flow.said(p) for p in processes) >= 1)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert {p.wait(15) for p in processes} == {ExitCode.OK}


def test_lost_offsets_are_an_error_and_not_a_fresh_start(own: KafkaConfig, flow: Flow) -> None:
    send(own, 300)
    process = flow.start("a")
    until(done(own))
    process.kill()
    process.wait()
    admin = AdminClient(own.client())
    group = own.id_of(GENERATION, "count")

    def deleted() -> bool:
        try:
            admin.delete_consumer_groups([group])[group].result(10)
        except Exception:  # the dead member is still in the group
            return False
        return True

    until(deleted)
    again = flow.start("a")
    assert again.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "has committed nothing" in flow.said(again)
    assert_exact(own, 300)


def test_state_that_covers_something_else_is_an_error(own: KafkaConfig, flow: Flow) -> None:
    send(own, 300)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    key = COVER_PREFIX + f"{IN.physical(own, GENERATION)}/2".encode()
    send_bytes(own, STATE, 2, key, b"1")
    again = flow.start("a")
    assert again.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "covers" in flow.said(again)


def test_state_of_another_format_is_an_error_that_names_the_migration(own: KafkaConfig, flow: Flow) -> None:
    send(own, 300)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    newer = flow.start("a", "--state-version", "2")
    assert newer.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "trends state migrate count" in flow.said(newer)
    assert_exact(own, 300)


def test_state_that_cannot_be_read_is_an_error_that_names_the_rebuild(own: KafkaConfig, flow: Flow) -> None:
    send(own, 300)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    send_bytes(own, STATE, 1, b"k1", b"many")
    again = flow.start("a")
    assert again.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "trends state rebuild count" in flow.said(again)


def trends(*arguments: str, **environment: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "trends", *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_records_deleted_unread_are_an_error(own: KafkaConfig, flow: Flow) -> None:
    send(own, 400)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    send(own, 400)
    delete_records(own)
    again = flow.start("a")
    assert again.wait(30) == ExitCode.NEEDS_OPERATOR
    said = flow.said(again)
    assert "deleted before they were read" in said
    assert "--on-gap skip" in said
    assert read(own, GAPS) == []


def test_records_deleted_unread_are_skipped_and_recorded_where_an_operator_says_so(
    own: KafkaConfig, flow: Flow
) -> None:
    send(own, 400)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    before = high_watermarks(own, IN.physical(own, GENERATION), range(PARTITIONS))
    send(own, 400)
    delete_records(own)
    again = flow.start("a", "--on-gap", "skip")
    until(done(own))
    send(own, 100)
    until(done(own))
    assert again.poll() is None
    assert_exact(own, 500)
    gaps = [decode(Gap, value) for _, value in read(own, GAPS)]
    assert {gap.partition: gap.first for gap in gaps} == before
    assert sum(gap.until - gap.first for gap in gaps) == 400
    shown = trends("streams", "gaps", "--json", TRENDS_KAFKA_BOOTSTRAP=own.bootstrap, TRENDS_STACK=own.stack)
    assert {(row["partition"], row["first"], row["until"]) for row in json.loads(shown)} == {
        (gap.partition, gap.first, gap.until) for gap in gaps
    }
    assert f"{before[0]}–" in trends("streams", "gaps", TRENDS_KAFKA_BOOTSTRAP=own.bootstrap, TRENDS_STACK=own.stack)


def test_a_stream_that_ends_before_what_was_read_of_it_is_an_error(own: KafkaConfig, flow: Flow) -> None:
    """As after an unclean election of a leader: the log is shorter than it was."""
    send(own, 400)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    name = IN.physical(own, GENERATION)
    beyond = high_watermarks(own, name, [2])[2] + 50
    admin, group = AdminClient(own.client()), own.id_of(GENERATION, "count")

    def altered() -> bool:
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 2, beyond)])
        try:
            result = admin.alter_consumer_group_offsets([request])[group].result(10)
        except Exception:  # the member that has ended is still in the group
            return False
        return all(p.error is None for p in result.topic_partitions)

    until(altered)
    send_bytes(own, STATE, 2, COVER_PREFIX + f"{name}/2".encode(), b"%d" % beyond)
    again = flow.start("a", "--on-gap", "skip")
    assert again.wait(60) == ExitCode.NEEDS_OPERATOR
    assert "made anew or cut" in flow.said(again)


def test_an_emptied_partition_that_was_read_to_its_end_is_no_gap(own: KafkaConfig, flow: Flow) -> None:
    send(own, 400, transactional=True)
    process = flow.start("a")
    until(done(own))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    delete_records(own)
    again = flow.start("a")
    send(own, 100)
    until(done(own))
    assert again.poll() is None
    assert_exact(own, 500)


def test_a_missing_stream_is_an_error_that_says_how_to_make_it(kafka: KafkaConfig, tmp_path: Path) -> None:
    config = KafkaConfig(kafka.bootstrap, stack=f"t{uuid4().hex[:8]}", partitions=PARTITIONS)
    process = Flow(config, tmp_path).start("a")
    assert process.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "trends streams apply" in Flow.said(process)


def test_settings_that_disagree_with_the_number_of_partitions_are_refused(own: KafkaConfig, flow: Flow) -> None:
    process = flow.start("a", "--partitions", "8")
    assert process.wait(30) == ExitCode.NEEDS_OPERATOR
    assert "has 4 partitions" in flow.said(process)


def test_bad_records_become_dead_letters_and_their_neighbours_arrive(own: KafkaConfig, flow: Flow) -> None:
    send(own, 100)
    send_bytes(own, IN, 1, b"k1", b"not json")
    send_bytes(own, IN, 2, None, b'{"trend_id": "x"}')
    send(own, 100)
    process = flow.start("a")
    until(done(own))
    assert_exact(own, 200)
    letters = [decode(DeadLetter, value) for _, value in read(own, DEAD_LETTERS)]
    assert {letter.reason for letter in letters} == {Reason.NOT_JSON, Reason.MISSING_FIELD}
    assert {(letter.stream, letter.partition) for letter in letters} == {
        (IN.physical(own, GENERATION), 1),
        (IN.physical(own, GENERATION), 2),
    }
    process.kill()


def test_state_is_read_up_to_the_end_behind_another_process_s_open_transaction(own: KafkaConfig) -> None:
    name = SINGLE_STATE.physical(own, GENERATION)
    other = Producer(own.client(**{"transactional.id": uuid4().hex}))
    other.init_transactions(10)
    other.begin_transaction()
    other.produce(name, b"1", b"key", 0)
    other.flush()
    seen: dict[bytes, bytes | None] = {}
    reader = StateReader(own, name, (0, 1), seen.__setitem__)
    thread = threading.Thread(target=reader.catch_up, args=(lambda: None,))
    thread.start()
    thread.join(1.0)
    assert thread.is_alive(), "the reader did not wait for the open transaction"
    other.commit_transaction(10)
    thread.join(10)
    assert not thread.is_alive()
    assert seen == {b"key": b"1"}
    reader.close()


def test_a_transaction_is_bounded(own: KafkaConfig, flow: Flow) -> None:
    send(own, 12_000, keys=1)
    flow.start("a")
    until(done(own))
    assert_exact(own, 12_000)
    sizes = transaction_sizes(own, partition_of("k0", PARTITIONS))
    assert len(sizes) >= 3
    assert max(sizes) <= 4_200  # twice commit_records, and one chunk


def transaction_sizes(kafka: KafkaConfig, partition: int) -> list[int]:
    """Records in each transaction of an output partition: its marker leaves a gap of one offset."""
    offsets = []
    with closing(Consumer(kafka.client(**{"group.id": uuid4().hex, "enable.partition.eof": True}))) as consumer:
        consumer.assign([TopicPartition(OUT.physical(kafka, GENERATION), partition, 0)])
        while True:
            for message in consumer.consume(5_000, 1.0):
                if message.error():
                    ends = [i for i, offset in enumerate(offsets) if i and offset != offsets[i - 1] + 1]
                    return [b - a for a, b in pairwise([0, *ends, len(offsets)])]
                offsets.append(message.offset())


def test_a_broker_that_never_answers_ends_in_an_exit_code(own: KafkaConfig, flow: Flow) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        process = flow.start("a", "--broker-gone-s", "3", bootstrap=f"127.0.0.1:{silent.getsockname()[1]}")
        assert process.wait(60) == ExitCode.UNAVAILABLE


@dataclass
class OwnBroker:
    """A broker that may be killed, and a flow on it."""

    local: Stack
    flow: Flow

    @property
    def pid(self) -> int:
        broker = self.local.state().kafka
        assert broker is not None
        assert broker.process is not None
        return broker.process.pid


@pytest.fixture(scope="module")
def local_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("own-broker")
    local = load_settings(home=home, kafka_bootstrap=None, postgres_dsns=("postgresql://none",)).local_stack()
    try:
        yield local
    finally:
        local.down()


@pytest.fixture
def broker(local_broker: Stack, tmp_path: Path) -> Iterator[OwnBroker]:
    bootstrap = local_broker.up().bootstrap
    assert bootstrap is not None
    config = KafkaConfig(bootstrap, stack=f"t{uuid4().hex[:8]}", partitions=PARTITIONS, session_timeout_ms=3_000)
    create(config)
    flow = Flow(config, tmp_path)
    yield OwnBroker(local_broker, flow)
    for started in flow.processes:
        started.kill()
        started.wait()


def test_a_broker_that_is_killed_and_comes_back_is_found_by_the_same_process(broker: OwnBroker) -> None:
    flow, kafka = broker.flow, broker.flow.kafka
    send(kafka, 4_000)
    process = flow.start("a", "--sleep-s", "0.001")
    for round_ in (1, 2):
        until(lambda n=round_: len(read(kafka, OUT)) > 500 * n)  # type: ignore[misc]
        os.kill(broker.pid, signal.SIGKILL)
        time.sleep(1.0)
        broker.local.up()
        send(kafka, 500)
    until(done(kafka), 90)
    assert process.poll() is None
    assert_exact(kafka, 5_000)


def test_a_transaction_that_does_not_end_is_begun_anew_by_the_same_process(broker: OwnBroker) -> None:
    flow, kafka = broker.flow, broker.flow.kafka
    send(kafka, 4_000)
    process = flow.start("a", "--sleep-s", "0.001", "--transaction-s", "2")
    until(lambda: len(read(kafka, OUT)) > 0)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        until(lambda: "did not end within 2 s" in flow.said(process))
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    until(done(kafka), 90)
    assert process.poll() is None
    assert_exact(kafka, 4_000)


def test_a_broker_that_goes_away_for_good_ends_the_process_and_loses_nothing(broker: OwnBroker) -> None:
    flow, kafka = broker.flow, broker.flow.kafka
    send(kafka, 6_000)
    process = flow.start("a", "--sleep-s", "0.0005", "--broker-gone-s", "3")
    until(lambda: len(read(kafka, OUT)) > 0)
    os.kill(broker.pid, signal.SIGKILL)
    assert process.wait(60) == ExitCode.UNAVAILABLE
    broker.local.up()
    flow.start("a")
    until(done(kafka))
    assert_exact(kafka, 6_000)


def test_opening_a_session_without_a_broker_says_so(kafka: KafkaConfig) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    config = KafkaConfig(f"127.0.0.1:{port}", stack="nobody")
    session = Session(config, GENERATION, spec(single=False), "a", Limits(broker_gone_s=1))
    with pytest.raises(UnavailableError, match="init_transactions"):
        session.open()
    session.close()


def test_the_process_ends_with_its_work_committed_on_sigterm(own: KafkaConfig, flow: Flow) -> None:
    send(own, 5_000)
    process = flow.start("a", "--sleep-s", "0.001")
    until(lambda: len(read(own, OUT)) > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == ExitCode.OK
    written = len(read(own, OUT))
    assert 0 < written < 5_000
    assert lag(own) == 5_000 - written
