"""One run of the whole platform that several test modules look at: it takes most of a minute."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from connectors import connector_of
from connectors.synthetic import SyntheticConnector
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.codec import decode, encode
from streams.ids import item_id_of
from streams.partitions import current
from streams.producer import Publisher
from streams.records import Kind, Observation, Reason, Record
from streams.table import Stream, raw
from tests.conftest import LocalStack
from tests.waiting import drained
from trends.collecting import collect
from trends.demo import Stages
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS
from trends.settings import Settings, load_settings
from trends.supervisor import Supervisor
from trends.verify import Report, audit

ITEMS = 1_200
PARTITIONS = 8
"""What the streams grow to in the middle, from half as many; the settings are not told."""
SETTLE_S = 150.0


@dataclass(frozen=True)
class Run:
    """What is left when everything is stored."""

    settings: Settings
    world: SyntheticConnector
    restarts: dict[str, int]
    good: tuple[Observation, ...]
    """Sent by hand, around the rubbish."""
    meanwhile: Report
    """An audit that began when the first items were stored, and ran beside everything else."""

    def read(self, stream: Stream) -> list[tuple[str, Record]]:
        """All committed records of a stream, with their ids."""
        kafka = current(self.settings.kafka())
        name, count = stream.physical(kafka, self.settings.generation), stream.count(kafka)
        consumer = Consumer(
            kafka.client(
                **{"group.id": "end-to-end", "isolation.level": "read_committed", "enable.partition.eof": True}
            )
        )
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        assert stream.record is not None
        found, ended = [], set()
        while len(ended) < count:
            for message in consumer.consume(2_000, 1.0):
                if message.error():
                    ended.add(message.partition())
                else:
                    record = decode(stream.record, message.value(), message.headers())
                    found.append((record.record_id, record))
        consumer.close()
        return found


def observation(number: int, **changes: object) -> Observation:
    external_id, at = f"by-hand-{number}", datetime(2026, 1, 6, 12, tzinfo=UTC)
    fields: dict[str, object] = {
        "item_id": item_id_of("file", external_id), "source": "file", "external_id": external_id, "kind": Kind.POST,
        "title": f"Harbour pilots of Quellmark vote on tariff {number}", "observed_at": at, "published_at": at,
        "trend_id": "term:quellmark", "publisher": f"site{number}.example",
    }  # fmt: skip
    return Observation(**(fields | changes))  # type: ignore[arg-type]


def rubbish() -> list[bytes]:
    """One of each kind: not JSON, wrong types, a missing field, NUL, an id that is not its own, a vector of nothing."""
    fields = msgspec.to_builtins(observation(900))
    return [
        b"\xff\xfe not json",
        msgspec.json.encode(fields | {"title": 5}),
        msgspec.json.encode({k: v for k, v in fields.items() if k != "item_id"}),
        msgspec.json.encode(fields | {"title": "a\x00b"}),
        msgspec.json.encode(fields | {"item_id": item_id_of("file", "someone else")}),
        msgspec.json.encode(fields | {"observed_at": "the day before yesterday"}),
    ]


REASONS = Counter(
    [
        Reason.NOT_JSON,
        Reason.WRONG_TYPE,
        Reason.MISSING_FIELD,
        Reason.NUL_CHARACTER,
        Reason.INVALID_VALUE,
        Reason.INVALID_VALUE,
        Reason.TOO_LARGE,
    ]
)


def send_by_hand(settings: Settings) -> tuple[Observation, ...]:
    """Good and bad, in turn, into one partition; and one that is too large for any."""
    kafka = settings.kafka()
    good = tuple(observation(n) for n in range(7))
    producer = Producer(kafka.client())
    name = raw("file").physical(kafka, settings.generation)
    for item, bad in zip(good, [*rubbish(), None], strict=True):
        producer.produce(name, encode(item), b"term:quellmark", 3)
        if bad is not None:
            producer.produce(name, bad, b"term:quellmark", 3)
    producer.flush()

    async def too_large() -> None:
        async with Publisher(kafka, settings.generation) as publisher:
            await publisher.publish([observation(901, body="x" * 1_100_000), observation(7)])

    asyncio.run(too_large())
    return (*good, observation(7))


def kill_each_once(supervisor: Supervisor, stages: Stages) -> None:
    """kill -9 of one process of every flow, while there is work."""
    for flow in FLOWS:
        deadline = time.monotonic() + 30
        while (pid := supervisor.pids.get(f"{flow}-0")) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.7)


def run_end_to_end(stack: LocalStack, home: Path) -> Run:
    """The whole of it, from an empty stack until everything is stored."""
    settings = load_settings(
        home=home, kafka_bootstrap=stack.bootstrap, postgres_dsns=stack.dsns,
        stack="endtoend", generation="e2e", kafka_partitions=PARTITIONS // 2, kafka_session_timeout_ms=3_000,
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    world = connector_of("synthetic", {"items": ITEMS, "seed": 11})
    assert isinstance(world, SyntheticConnector)
    lines: list[str] = []
    with (
        flow_supervisor(settings, dict.fromkeys(FLOWS, 1), lambda name, line: lines.append(f"{name} {line}")) as flows,
        Stages(settings) as stages,
    ):
        asyncio.run(collect(settings, [world]))
        deadline = time.monotonic() + 60
        while stages.look()[-1].done == 0:  # until something has come through to the stores
            assert flows.failure is None, flows.failure
            assert time.monotonic() < deadline, lines[-20:]
            time.sleep(0.1)
        StreamAdmin(settings.kafka(), settings.generation).grow(PARTITIONS)
        with ThreadPoolExecutor(1) as auditor:
            meanwhile = auditor.submit(audit, settings, wait_s=SETTLE_S)
            good = send_by_hand(settings)
            kill_each_once(flows, stages)
            assert not (why := drained(stages, SETTLE_S, lambda: flows.failure)), why
            restarts = flows.restarts
            return Run(settings, world, restarts, good, meanwhile.result(SETTLE_S))
