"""What a second process brings, and what transactions and state cost: real flows, a real broker, real shards.

- embed with the null embedder and 100 µs of work a record: one process against two;
- store with 1 ms of latency before each batch, one process against two: in batches of 16 over one shard, where the
  process waits for its shard and the shard for it; and in batches of 64 over two, which one process has work side by
  side already;
- score with transactions and state, against the same flow without them (records flushed, then offsets committed).

Processes have joined and are ready before the first record comes, so start-up is not in it. Broker, PostgreSQL and
feeder share the machine; what each took of the cores is printed. A machine of two cores cannot show more than what they
leave over.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import numpy as np
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from benchmarks.harness import Result, Row, in_turns
from benchmarks.own_stack import own_stack
from benchmarks.scale_flow import FLOWS
from models.text import text_hash
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.errors import UnavailableError
from streams.ids import item_id_of
from streams.io import Addresser, Outgoing
from streams.keys import partition_of
from streams.lag import LagProbe
from streams.records import Change, EnrichedItem, Kind, Mention, Observation
from streams.table import ENRICHED, MENTIONS, TABLE, raw
from streams.vectors import encode_vector
from trends.flow_processes import ONE_THREAD
from trends.health import ask
from trends.runfiles import address_of
from trends.settings import Settings, environment_of

RECORDS: Final = {"embed": 30_000, "store": 16_000, "score": 100_000}
TRENDS: Final = 400
WORK_US: Final = 100
LATENCY_MS: Final = 1
SMALL_BATCH: Final = 16
BATCH: Final = 64
READY_S: Final = 120.0
DONE_S: Final = 300.0
POLL_S: Final = 0.1
WANTED: Final = {"embed: two / one": ">= 1.40", "store: two / one": ">= 1.70", "score: with / without": ">= 0.75"}
BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running one flow."""

    name: str
    flow: str
    processes: int
    options: tuple[str, ...]
    note: str
    shards: int = 2


def _slow(batch: int, shards: str) -> tuple[tuple[str, ...], str]:
    options = ("--latency-ms", str(LATENCY_MS), "--batch", str(batch))
    return options, f"{LATENCY_MS} ms before each batch of {batch}, {shards}"


_EMBED: Final = ("--work-us", str(WORK_US)), f"{WORK_US} µs of work a record"
_STORE: Final = _slow(SMALL_BATCH, "one shard")
_STORE_WIDE: Final = _slow(BATCH, "two shards")
WAYS: Final = (
    Way("embed, one process", "embed", 1, *_EMBED),
    Way("embed, two processes", "embed", 2, *_EMBED),
    Way("score", "score", 1, (), "offsets, records and state in one transaction"),
    Way("score, plain", "score", 1, ("--plain",), "no transactions, no state: at least once, and no recovery"),
    Way("store, one process", "store", 1, *_STORE, shards=1),
    Way("store, two processes", "store", 2, *_STORE, shards=1),
    Way("store, one, two shards", "store", 1, *_STORE_WIDE),
    Way("store, two, two shards", "store", 2, *_STORE_WIDE),
)
_COMPARED: Final = {
    "embed: two / one": ("embed, two processes", "embed, one process"),
    "store: two / one": ("store, two processes", "store, one process"),
    "store, two shards: two / one": ("store, two, two shards", "store, one, two shards"),
    "score: with / without": ("score", "score, plain"),
}


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Rates in records a second, from the first record sent until all are committed."""
    cores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with own_stack(kafka_disk_mib=8_192, postgres_shards=2) as settings:
        dsns = {2: settings.dsns(), 1: (asyncio.run(_database_of_its_own(settings.dsns()[0])),)}

        def rate(way: Way) -> float:
            records = args.items or RECORDS[way.flow]
            seconds, cpu_s = _once(settings, dsns[way.shards], way, records)
            for who, spent_s in cpu_s.items():
                cores[way.name][who].append(spent_s / seconds)
            return records / seconds

        rates = in_turns(args.rounds, {way.name: lambda way=way: rate(way) for way in WAYS}, tell)  # type: ignore[misc]
    rows = tuple(Row(way.name, tuple(rates[way.name]), f"{way.note}; {_shown(cores[way.name])}") for way in WAYS)
    # Within a round both meet the same machine: so the ratio is taken there, and then its median.
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))
        for name, (one, other) in _COMPARED.items()
    }
    taken = {name: {who: round(statistics.median(spent), 2) for who, spent in by.items()} for name, by in cores.items()}
    facts = {
        "records": args.items or RECORDS,
        "partitions": settings.kafka_partitions,
        "wanted": WANTED,
        "cores taken": taken,
    }
    return Result("scale", "records/s", rows, ratios, facts)


async def _database_of_its_own(dsn: str) -> str:
    """A second database on a shard's server, for one that is the only shard."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE DATABASE only_shard")
    finally:
        await connection.close()
    return urlsplit(dsn)._replace(path="/only_shard").geturl()


def _shown(cores: dict[str, list[float]]) -> str:
    """Cores that each took, over the time measured (1.00: one whole core)."""
    return ", ".join(f"{who} {statistics.median(spent):.2f}" for who, spent in cores.items())


def _once(base: Settings, dsns: tuple[str, ...], way: Way, count: int) -> tuple[float, dict[str, float]]:
    """Seconds that it took, and the seconds of the cores that each process took meanwhile."""
    settings = base.having(
        stack=f"b{uuid4().hex[:8]}", generation=f"b{uuid4().hex[:8]}", postgres_dsns=dsns,
        kafka_bootstrap=base.kafka().bootstrap,
    )  # fmt: skip
    kafka = settings.kafka()
    StreamAdmin(kafka, settings.generation).apply()
    if way.flow == "store":
        asyncio.run(migrate(settings.postgres()))
    messages = list(_messages(settings, way.flow, count))
    try:
        with _flows(settings, way) as processes:
            watched = _watched(base, processes)
            before = {who: _cpu_s(pids) for who, pids in watched.items()}
            began = time.time()
            _feed(settings, messages)
            _await_done(settings, way.flow, processes)
            spent = {who: _cpu_s(pids) - before[who] for who, pids in watched.items()}
            ended = max(_stop(process, log) for process, log in processes)
    finally:
        names = [stream.physical(kafka, settings.generation) for stream in TABLE]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for future in admin.delete_topics(names).values():
            future.result(60)
    return ended - began, spent


Running = list[tuple[subprocess.Popen[bytes], Path]]


@contextmanager
def _flows(settings: Settings, way: Way) -> Iterator[Running]:
    """The flow's processes, all of them ready; none is left afterwards."""
    environment = environment_of(settings) | ONE_THREAD
    running: Running = []
    try:
        for number in range(way.processes):
            name = f"{way.flow}-{number}"
            log = settings.home / "logs" / f"bench-{settings.stack}-{name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "benchmarks.scale_flow", way.flow, "--name", name, *way.options]
            with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
                running.append((subprocess.Popen(command, stdout=out, stderr=err, env=environment), log))
        _await_ready(settings, way, running)
        yield running
    finally:
        for process, _ in running:
            process.kill()
            process.wait()


def _await_ready(settings: Settings, way: Way, running: Running) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        ready = 0
        for number, (process, log) in enumerate(running):
            if process.poll() is not None:
                raise UnavailableError(f"a process ended: {log.with_suffix('.err').read_text()[-2_000:]}")
            address = address_of(settings.home, f"{way.flow}-{number}", process.pid)
            said = asyncio.run(ask(address, "/ready", 5)) if address else None
            ready += bool(said and said.ok and said.body["phase"] == "running")
        if ready == len(running):
            return
        if time.monotonic() > deadline:
            raise UnavailableError(f"not ready after {READY_S:.0f} s; see {settings.home / 'logs'}")
        time.sleep(POLL_S)


def _await_done(settings: Settings, flow: str, running: Running) -> None:
    probe = LagProbe(settings.kafka(), settings.generation, flow, FLOWS[flow].inputs)
    deadline = time.monotonic() + DONE_S
    try:
        while any(lag.records for lag in probe.lag().values()):
            for process, log in running:
                if process.poll() is not None:
                    raise UnavailableError(f"a process ended: {log.with_suffix('.err').read_text()[-2_000:]}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"{flow} was not done after {DONE_S:.0f} s")
            time.sleep(POLL_S)
    finally:
        probe.close()


def _stop(process: subprocess.Popen[bytes], log: Path) -> float:
    """Ends a process; the wall clock of its last commit."""
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return float(json.loads(log.read_text().splitlines()[-1])["last_commit"])


def _watched(base: Settings, processes: Running) -> dict[str, list[int]]:
    """Whose time is taken, by name: with all processes below them."""
    state = base.local_stack().state()
    broker = state.kafka.process if state.kafka else None
    shards = [shard.process.pid for shard in state.shards if shard.process]
    flows = {f"process {number}": [process.pid] for number, (process, _) in enumerate(processes)}
    return flows | {"broker": [broker.pid] if broker else [], "PostgreSQL": shards, "feeder": [os.getpid()]}


def _cpu_s(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        below = [] if pid == os.getpid() else process.children(recursive=True)
        for each in (process, *below):
            with contextlib.suppress(psutil.NoSuchProcess):  # its time is its parent's then
                times = each.cpu_times()
                total += times.user + times.system
                total += 0.0 if pid == os.getpid() else times.children_user + times.children_system
    return total


def _feed(settings: Settings, messages: list[Outgoing]) -> None:
    producer = Producer(
        settings.kafka().client(
            **{"linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.messages": len(messages) + 1,
               "queue.buffering.max.kbytes": 1_048_576}
        )
    )  # fmt: skip
    for message in messages:
        headers: Any = message.headers
        producer.produce(message.stream, message.value, message.key, message.partition, headers=headers)
        producer.poll(0)
    if left := producer.flush(60):
        raise UnavailableError(f"{left} records were not taken")


def _messages(settings: Settings, flow: str, count: int) -> Iterator[Outgoing]:
    """Input of a flow: as many records in each partition, of many trends."""
    address = Addresser(settings.kafka(), settings.generation)
    trends = _trends(settings.kafka_partitions)
    random = np.random.default_rng(7)
    for number in range(count):
        trend_id = trends[number % len(trends)]
        if flow == "embed":
            yield address.record(raw("rss"), _observation(number, trend_id), trend_id)
        elif flow == "score":
            yield address.record(MENTIONS, _mention(settings, number, trend_id), trend_id)
        else:
            vector = encode_vector(random.standard_normal(settings.embedder_dimensions).astype(np.float32))
            yield address.record(ENRICHED, _enriched(settings, number, trend_id, vector), trend_id)


def _trends(partitions: int) -> list[str]:
    """Names that take turns through the partitions."""
    by_partition: list[list[str]] = [[] for _ in range(partitions)]
    number = 0
    while any(len(names) < TRENDS // partitions for names in by_partition):
        name = f"term:word{number}"
        by_partition[partition_of(name, partitions)].append(name)
        number += 1
    return [name for names in zip(*by_partition, strict=False) for name in names][:TRENDS]


def _observation(number: int, trend_id: str) -> Observation:
    when = BEGIN + timedelta(seconds=number)
    return Observation(
        item_id=item_id_of("rss", str(number)), source="rss", external_id=str(number), kind=Kind.POST,
        title=f"Harbour pilots of Quellmark vote on tariff number {number}", url=f"https://site.example/{number}",
        observed_at=when, published_at=when, trend_id=trend_id, publisher=f"site{number % 97}.example",
    )  # fmt: skip


def _mention(settings: Settings, number: int, trend_id: str) -> Mention:
    when = BEGIN + timedelta(seconds=number)
    return Mention(
        generation=settings.generation, trend_id=trend_id, item_id=item_id_of("rss", str(number)), topic_id="topic",
        home=True, event_time=when, first_seen=when, source="rss", weight=1, seq=number + 1,
        publisher=f"site{number % 97}.example",
    )  # fmt: skip


def _enriched(settings: Settings, number: int, trend_id: str, vector: str) -> EnrichedItem:
    item = _observation(number, trend_id)
    return EnrichedItem(
        generation=settings.generation, item=item, change=Change.FIRST, text_hash=text_hash(item.title), vector=vector,
        model="null", dimensions=settings.embedder_dimensions, topic_id=f"topic-{number // 4}", similarity=0.5,
        is_new_topic=number % 4 == 0, first_seen=item.observed_at, seq=number + 1,
    )  # fmt: skip
