"""The transactional pair against Bytewax's own Kafka source and sink: a stream copied, Kafka to Kafka, one process.

The stock pair commits no offsets, keeps nothing exactly once and loses what a dead broker does not take; it is what the
transactional one would be replaced by.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.copy_flow import GENERATION, SOURCE, TARGET
from benchmarks.harness import Result, Row, in_turns
from benchmarks.own_stack import own_stack
from streams.config import KafkaConfig

RECORDS = 300_000
RECORD_BYTES = 600
RUN_TIMEOUT_S = 300


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Rates in records a second, from the start of the dataflow until all is acknowledged (start-up is not counted)."""
    records = args.items or RECORDS
    with own_stack(kafka_disk_mib=8_192) as settings:
        kafka = settings.kafka()

        def copy(way: str) -> float:
            own = replace(kafka, stack=f"b{uuid4().hex[:8]}")
            with _filled(own, records):
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.copy_flow", way, "--bootstrap", own.bootstrap,
                     "--stack", own.stack, "--records", str(records)],
                    capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True,
                )  # fmt: skip
            return records / float(json.loads(done.stdout.splitlines()[-1])["seconds"])

        rates = in_turns(args.rounds, {"pair": lambda: copy("pair"), "stock": lambda: copy("stock")}, tell)
    rows = (
        Row("transactional pair", tuple(rates["pair"]), "offsets and records in one transaction"),
        Row("Bytewax's source and sink", tuple(rates["stock"]), "no offsets committed, no delivery reports"),
    )
    facts = {"records": records, "bytes a record": RECORD_BYTES, "partitions": kafka.partitions}
    return Result("kafka", "records/s", rows, {"pair / stock": rows[0].median / rows[1].median}, facts)


class _filled:
    """Two streams of one run: made and filled on entry, deleted on exit."""

    def __init__(self, kafka: KafkaConfig, records: int) -> None:
        self._kafka, self._records = kafka, records
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        self._names = [s.physical(kafka, GENERATION) for s in (SOURCE, TARGET)]

    def __enter__(self) -> None:
        streams = [NewTopic(name, self._kafka.partitions, 1) for name in self._names]
        for future in self._admin.create_topics(streams).values():
            future.result(30)
        producer = Producer(
            self._kafka.client(**{"linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.messages": 500_000})
        )
        half = RECORD_BYTES // 2
        for i in range(self._records):
            producer.produce(self._names[0], os.urandom(half) + b"x" * half, b"key-%d" % (i % 10_000))
            producer.poll(0)
        if left := producer.flush(60):
            raise RuntimeError(f"{left} records were not taken")

    def __exit__(self, *_: object) -> None:
        for future in self._admin.delete_topics(self._names).values():
            future.result(30)
