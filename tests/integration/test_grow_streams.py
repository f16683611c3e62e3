"""Growing the streams on a real broker: the partitions, the record that makes them count, and who writes by it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.admin import StreamAdmin
from streams.codec import decode
from streams.config import KafkaConfig
from streams.errors import SettingsError, StreamTableError
from streams.growth import Growth
from streams.ids import item_id_of
from streams.keys import partition_of
from streams.partitions import LEASE_S, LOOK_S, PartitionsView, current, growth
from streams.producer import Publisher
from streams.records import Kind, Observation
from streams.table import EMBEDDED, PARTITIONS, SCORES, SOURCES, TABLE, raw
from tests.chaos import fuzz
from tests.conftest import LocalStack
from tests.waiting import until
from trends.settings import load_settings

FILE = raw("file")
KEYED = [s for s in TABLE if s.partitions is None]


@pytest.fixture
def small(stack: LocalStack) -> KafkaConfig:
    """A stack of its own with two partitions, its streams created."""
    kafka = stack.kafka_named(partitions=2)
    create(kafka, "g1")
    return kafka


def create(kafka: KafkaConfig, generation: str) -> None:
    """The streams of a generation; on return the broker tells everybody of them."""
    admin = StreamAdmin(kafka, generation)
    admin.apply()
    until(lambda: {s.verdict for s in admin.describe()} == {"ok"})


def counts(kafka: KafkaConfig) -> dict[str, int]:
    topics = AdminClient(kafka.client()).list_topics(timeout=20).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if name.startswith(f"{kafka.stack}.")}


def test_all_keyed_streams_of_all_generations_grow_together_and_no_other_does(small: KafkaConfig) -> None:
    create(small, "g2")
    before = counts(small)
    report = StreamAdmin(small, "g1").grow(8)
    after = counts(small)
    grown = {s.physical(small, g) for s in KEYED for g in ("g1", "g2")}
    assert {name for name in after if after[name] != before[name]} == grown == set(report.grown)
    assert {after[name] for name in grown} == {8}
    assert (report.before, report.after, report.active) == (2, 8, True)
    assert current(small).partitions == 8
    assert {s.verdict for g in ("g1", "g2") for s in StreamAdmin(small, g).describe()} == {"ok"}


def test_a_grown_stack_is_what_is_recorded_whatever_the_setting_says(small: KafkaConfig) -> None:
    StreamAdmin(small, "g1").grow(4)
    for configured in (2, 4, 16):
        stale = replace(small, partitions=configured)
        assert {s.verdict for s in StreamAdmin(stale, "g1").apply()} == {"ok"}
        assert current(stale).partitions == 4
    create(replace(small, partitions=2), "g3")  # the next generation begins with as many
    assert counts(small)[EMBEDDED.physical(small, "g3")] == 4


def test_a_growth_that_was_killed_before_it_counted_changes_nothing_and_goes_on(small: KafkaConfig) -> None:
    admin = StreamAdmin(small, "g1")
    admin.prepare_growth(4)
    assert growth(small) == Growth(2, (), 4)
    assert counts(small)[SCORES.physical(small, "g1")] == 4
    assert {s.verdict for s in admin.apply()} == {"ok"}
    assert admin.grow(4).active
    assert growth(small).count == 4
    assert admin.grow(4).grown == ()  # and once more: nothing
    assert len(growth(small).steps) == 1


def test_streams_that_were_created_in_the_middle_of_a_growth_get_their_partitions_by_the_same_command(
    small: KafkaConfig,
) -> None:
    admin = StreamAdmin(small, "g1")
    admin.grow(4)
    late = StreamAdmin(small, "late")
    late._create([replace(s, wanted_partitions=s.stream.partitions or 2) for s in late.describe() if not s.partitions])
    with pytest.raises(StreamTableError, match="trends streams grow 4"):
        late.apply()
    assert set(late.grow(4).grown) == {s.physical(small, "late") for s in KEYED if s.scope.value == "generation"}
    assert {s.verdict for s in late.apply()} == {"ok"}


def test_what_cannot_be_grown_to_is_refused_and_nothing_changes(small: KafkaConfig) -> None:
    admin = StreamAdmin(small, "g1")
    for number, words in ((3, "power of two"), (1, "never shrunk"), (2048, "power of two")):
        with pytest.raises(SettingsError, match=words):
            admin.grow(number)
    assert admin.grow(8, dry_run=True).grown
    assert growth(small) == Growth(2)
    assert set(counts(small).values()) <= {1, 2, 4}


def test_partitions_that_somebody_added_by_hand_are_refused_before_any_growth(small: KafkaConfig) -> None:
    name = FILE.physical(small, "g1")
    admin = AdminClient(small.client())
    admin.create_partitions([NewPartitions(name, 4)])[name].result(20)
    until(lambda: counts(small)[name] == 4)
    with pytest.raises(StreamTableError, match="TRENDS_KAFKA_PARTITIONS"):
        StreamAdmin(small, "g1").grow(4)
    assert growth(small) == Growth(2)


def test_a_setting_that_is_wrong_is_no_growth(small: KafkaConfig) -> None:
    with pytest.raises(StreamTableError, match="TRENDS_KAFKA_PARTITIONS"):
        StreamAdmin(replace(small, partitions=4), "g1").grow(4)
    assert counts(small)[FILE.physical(small, "g1")] == 2


def test_a_view_sees_the_change_and_that_its_stream_was_made_meanwhile(stack: LocalStack) -> None:
    kafka = stack.kafka_named(partitions=2)
    view = PartitionsView(kafka)
    assert not view.refresh()  # a stack from before there was such a stream
    StreamAdmin(kafka, "g1").apply()
    assert not view.refresh()
    StreamAdmin(kafka, "g1").grow(4)
    assert view.refresh()
    assert view.growth.count == 4
    assert not view.refresh()
    view.close()


def observation(number: int) -> Observation:
    at = datetime(2026, 1, 6, tzinfo=UTC)
    return Observation(
        item_id=item_id_of("file", str(number)), source="file", external_id=str(number), kind=Kind.POST, title="x",
        observed_at=at, published_at=at, trend_id=f"term:t{number % 40}",
    )  # fmt: skip


def read(kafka: KafkaConfig) -> list[tuple[int, int, Observation]]:
    """(partition, LogAppendTime, observation) of everything in the stream of files, partition by partition."""
    name, partitions = FILE.physical(kafka, "g1"), current(kafka).partitions
    consumer = Consumer(kafka.client(**{"group.id": uuid4().hex, "enable.partition.eof": True}))
    consumer.assign([TopicPartition(name, p, 0) for p in range(partitions)])
    found, ended = [], 0
    while ended < partitions:
        for message in consumer.consume(1_000, 1.0):
            if message.error():
                ended += 1
            else:
                record = decode(Observation, message.value(), message.headers())
                found.append((message.partition(), message.timestamp()[1], record))
    consumer.close()
    return found


def test_a_publisher_follows_within_seconds_and_loses_nothing(small: KafkaConfig) -> None:
    sent = 0

    async def work() -> None:
        nonlocal sent
        async with Publisher(small, "g1") as publisher:

            async def stream_for(seconds: float) -> None:
                nonlocal sent
                until_ = time.monotonic() + seconds
                while time.monotonic() < until_:
                    batch = [observation(sent + i) for i in range(20)]
                    sent += len(batch)
                    await publisher.publish(batch)

            await stream_for(0.5)
            growing = asyncio.create_task(asyncio.to_thread(StreamAdmin(small, "g1").grow, 4))
            while not growing.done():
                await stream_for(0.1)
            await growing
            await stream_for(2 * LOOK_S)

    asyncio.run(work())
    records = read(small)
    assert sorted(int(o.external_id) for _, _, o in records) == list(range(sent))
    by_trend: dict[str, list[tuple[int, int, int]]] = {}
    for partition, at_ms, o in records:
        by_trend.setdefault(o.trend_id, []).append((int(o.external_id), partition, at_ms))
    changed_ms = growth(small).steps[0].at_ms
    for trend, sightings in by_trend.items():
        old, new = partition_of(trend, 2), partition_of(trend, 4)
        assert {p for _, p, _ in sightings} == {old, new}
        assert all(at < changed_ms + LEASE_S * 1000 for _, p, at in sightings if p == old != new)
        in_order = [p for _, p, _ in sorted(sightings)]
        assert all(b == a or (a, b) == (old, new) for a, b in pairwise(in_order))  # from old to new, and never back
    assert {partition_of(t, 4) >= 2 for t in by_trend} == {True, False}


def test_whoever_audits_a_grown_stack_by_its_old_settings_reads_all_of_it(small: KafkaConfig, tmp_path: Path) -> None:
    StreamAdmin(small, "g1").grow(8)
    sent = [observation(n) for n in range(40)]

    async def send() -> None:
        async with Publisher(small, "g1") as publisher:
            await publisher.publish(sent)

    asyncio.run(send())
    stale = load_settings(
        home=tmp_path, kafka_bootstrap=small.bootstrap, stack=small.stack, generation="g1", kafka_partitions=2
    )
    found = list(fuzz.read(stale, FILE))
    assert {r.record_id for _, r in found} == {o.record_id for o in sent}
    assert max(message.partition() for message, _ in found) >= 4


def test_the_command_says_what_it_does_and_a_second_run_has_nothing_to_do(
    stack: LocalStack, small: KafkaConfig, tmp_path: Path
) -> None:
    environment = os.environ | {
        "TRENDS_HOME": str(tmp_path), "TRENDS_KAFKA_BOOTSTRAP": small.bootstrap, "TRENDS_STACK": small.stack,
        "TRENDS_KAFKA_PARTITIONS": "2", "NO_COLOR": "1", "COLUMNS": "120",
    }  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trends", "streams", *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    dry = run("grow", "4", "--dry-run")
    assert dry.returncode == 0
    assert f"{small.stack}.raw.file" in dry.stdout
    assert "2 → 4" in dry.stdout
    assert growth(small) == Growth(2)
    done = run("grow", "4")
    assert done.returncode == 0, done.stderr
    assert "keys are placed in 4 partitions from now on" in done.stderr
    again = run("grow", "4")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    assert "TRENDS_KAFKA_PARTITIONS=2 no longer counts" in run("apply").stderr
    assert run("describe").returncode == 0
    assert run("grow", "2").returncode == 2


def test_the_number_of_partitions_is_kept_for_good(small: KafkaConfig) -> None:
    assert PARTITIONS.compacted
    StreamAdmin(small, "g1").grow(4)
    StreamAdmin(small, "g1").grow(16)
    assert [(s.before, s.after) for s in growth(small).steps] == [(2, 4), (4, 16)]
    assert SOURCES  # every source's stream is among those that grew
    assert {counts(small)[raw(s).physical(small, "g1")] for s in SOURCES} == {16}
