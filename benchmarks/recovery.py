"""Reading state back from the log, and taking over from a process that was killed: seconds, memory, records read.

Each state stream is filled with what the models write, ``--updates`` times a key, compacted by the broker as the stream
table says, and read back by a process of its own. Sizes follow ``--items`` (the largest item index); the defaults are
200,000 topics, 1,000,000 trends and up to 15 million items.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from benchmarks.harness import Result, Row
from benchmarks.own_stack import own_stack
from benchmarks.read_state import GENERATION
from flows.cluster import SPEC
from models.clustering import SCALE
from models.echoes import ROW
from models.scoring import ScoringConfig, TrendScorer, trend_of_state
from models.state import ENGINE_KEY, ITEM, STATE_VERSION, EngineState, TopicState, pack_sums
from models.topics import MEMBERS, Member
from streams.admin import StreamAdmin
from streams.codec import encode, headers_of
from streams.config import KafkaConfig
from streams.ids import item_id_of, stable_id
from streams.keys import partition_of
from streams.records import EmbeddedItem, Engagement, Kind, Mention, Observation
from streams.state import cover_record
from streams.table import CLUSTER_STATE, EMBEDDED, ENRICHED, SCORE_STATE, Stream
from streams.vectors import encode_vector
from trends.settings import Settings

ITEMS: Final = 15_000_000
TOPICS: Final = 200_000
TRENDS: Final = 1_000_000
UPDATES: Final = 20
SHARES: Final = (0.1, 1 / 3, 1.0)
"""Of the largest item index: the points of the curve."""
PROJECTED_ITEMS: Final = 150_000_000
DIMENSIONS: Final = 384
MODELS: Final = 4_000
"""Topics, members and trends that are made; the others are like these, under keys of their own."""
BLOCK: Final = 50_000
"""Items made at once."""
NAMES: Final = 50_000
PER_TOPIC: Final = 3
"""Items of a topic."""
DEDUPE_BYTES: Final = 128 * 1_048_576
"""Of the broker's cleaner: Kafka's own default; that of the local stack is for a laptop."""
DISK_MIB: Final = 60_000
COMPACTION_S: Final = 1_800.0
READ_S: Final = 1_800.0
TAKE_OVER_ITEMS: Final = 1_500_000
TAKE_OVER_TOPICS: Final = 10_000
"""As many as ``ClusterConfig`` lets live."""
TAKE_OVERS: Final = 3
STEADY_S: Final = 5.0
"""Items flow for so long before each kill: a broker that has just seen its first transaction ever takes two seconds
more, which is no figure of this product."""
FEED_EVERY_S: Final = 0.02
START_S: Final = 180.0
NOW: Final = datetime(2026, 9, 1, tzinfo=UTC)

State = Iterator[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """A state to be read back."""

    name: str
    flow: str
    stream: Stream
    records: Callable[[], State]
    """All of its records once; called again for each update."""


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Milliseconds to read each state back, and to take over."""
    scale = (args.items or ITEMS) / ITEMS
    updates = max(1, args.updates or UPDATES)
    topics, trends = max(1, round(TOPICS * scale)), max(1, round(TRENDS * scale))
    sizes = [max(1, round((args.items or ITEMS) * share)) for share in SHARES]
    cases = [
        Case(f"{topics:,} topics", "cluster", CLUSTER_STATE, lambda: topic_state(topics)),
        Case(f"{trends:,} trends", "score", SCORE_STATE, lambda: trend_state(trends)),
        *(
            Case(f"{size:,} items", "cluster", CLUSTER_STATE, lambda size=size: item_state(size))  # type: ignore[misc]
            for size in sizes
        ),
    ]
    rows: list[Row] = []
    read: dict[str, dict[str, Any]] = {}
    with own_stack(kafka_disk_mib=DISK_MIB) as settings:
        _as_in_production(settings.kafka())
        # All are written before the first is read: the broker has nothing else to do then.
        filled = [(case, *_filled(settings.kafka(), case, updates, tell)) for case in cases]
        for case, kafka, _ in filled:
            ratio = float(case.stream.broker_config(kafka)["min.cleanable.dirty.ratio"])
            _compacted(settings, case.stream.physical(kafka, GENERATION), ratio, tell)
        for case, kafka, written in filled:
            found = _read_back(kafka, case.flow) | {"keys": written // updates, "written": written}
            read[case.name] = found
            rows.append(Row(case.name, (1_000 * found["seconds"],), _note(found)))
            tell(f"{case.name}: {found['seconds']:.1f} s, {_note(found)}")
        seconds = _take_over(settings, round(TAKE_OVER_ITEMS * min(1.0, 10 * scale)), tell)
    rows.append(Row("take-over by a stand-by", tuple(1_000 * s for s in seconds), "kill -9 to its first commit"))
    points = [(size, read[f"{size:,} items"]) for size in sizes]
    facts = {"updates a key": updates, "dimensions": DIMENSIONS} | _projection(points)
    return Result("recovery", "ms", tuple(rows), {}, facts)


def _note(found: dict[str, Any]) -> str:
    return (
        f"{found['written']:,} records written, {found['records']:,} read ({found['records'] / found['keys']:.2f} a "
        f"key), {found['records'] / found['seconds']:,.0f}/s; {found['cpu_s']:.1f} s of CPU; "
        f"{found['rss_mb']:,} MB, at most {found['peak_mb']:,}"
    )


def _projection(points: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, str]:
    """A straight line through the measured points, followed to what a big deployment has. Not measured."""
    sizes = np.array([size for size, _ in points], np.float64)
    line = {
        what: np.polyfit(sizes, [found[key] for _, found in points], 1)
        for what, key in (("seconds", "seconds"), ("MB", "rss_mb"))
    }
    said = ", ".join(f"{np.polyval(fit, PROJECTED_ITEMS):,.0f} {what}" for what, fit in line.items())
    each = f"{line['seconds'][0] * 1e6:.2f} µs and {line['MB'][0] * 1e6:.0f} bytes an item"
    return {f"{PROJECTED_ITEMS:,} items, projected (a line through the points above)": f"{said} ({each})"}


# ------------------------------------------------------------------------------------------------- filling a stream


def _filled(kafka: KafkaConfig, case: Case, updates: int, tell: Callable[[str], None]) -> tuple[KafkaConfig, int]:
    """A state stream under a stack name of its own, and the records that were written to it."""
    kafka = replace(kafka, stack=f"b{uuid4().hex[:8]}")
    _made(_admin(kafka), kafka, [case.stream])
    written, began = 0, time.monotonic()
    for number in range(updates):
        written += _produce(kafka, case.stream.physical(kafka, GENERATION), case.stream.count(kafka), case.records())
        tell(f"{case.name}: update {number + 1} of {updates}, {written / (time.monotonic() - began):,.0f} records/s")
    return kafka, written


def _admin(kafka: KafkaConfig) -> AdminClient:
    config: dict[str, Any] = kafka.client()
    return AdminClient(config)


def _made(admin: AdminClient, kafka: KafkaConfig, streams: Sequence[Stream]) -> None:
    new = [NewTopic(s.physical(kafka, GENERATION), s.count(kafka), 1, config=s.broker_config(kafka)) for s in streams]
    for future in admin.create_topics(new).values():
        future.result(60)


def _produce(kafka: KafkaConfig, name: str, partitions: int, records: State) -> int:
    producer = _producer(kafka)
    produce, count = producer.produce, 0
    for key, value in records:
        count += 1
        while True:
            try:
                produce(name, value, key, count % partitions if key == ENGINE_KEY else key[-1] % partitions)
                break
            except BufferError:
                producer.poll(0.05)
        if not count % 1_000:
            producer.poll(0)
    if left := producer.flush(120):
        raise RuntimeError(f"{left} records were not taken")
    return count


def _producer(kafka: KafkaConfig) -> Any:
    return Producer(
        kafka.client(
            **{
                "linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.messages": 500_000,
                "batch.size": 262_144, "batch.num.messages": 20_000,
            }
        )
    )  # fmt: skip


def _as_in_production(kafka: KafkaConfig) -> None:
    """The cleaner's memory decides how many keys it takes at once."""
    admin = _admin(kafka)
    resource = ConfigResource(
        ResourceType.BROKER,
        "1",  # the local stack's one node
        incremental_configs=[
            ConfigEntry(
                "log.cleaner.dedupe.buffer.size", str(DEDUPE_BYTES), incremental_operation=AlterConfigOpType.SET
            )
        ],
    )
    futures: dict[Any, Any] = admin.incremental_alter_configs([resource])
    for future in futures.values():
        future.result(30)


def _compacted(settings: Settings, name: str, ratio: float, tell: Callable[[str], None]) -> None:
    """Waits until the broker's cleaner has nothing left to do: it leaves alone what is less dirty than ``ratio``.

    Raises:
        RuntimeError: it is not done in ``COMPACTION_S``.
    """
    data = settings.home / "kafka" / "data"
    began = time.monotonic()
    while (dirty := _dirty(data, name)) > ratio:
        if time.monotonic() - began > COMPACTION_S:
            raise RuntimeError(f"{dirty:.0%} of {name} were not compacted within {COMPACTION_S:.0f} s")
        time.sleep(1)
    size = sum(size for partition in data.glob(f"{name}-*") for _, size in _segments(partition))
    tell(f"compacted to {size / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s")


def _dirty(data: Path, name: str) -> float:
    """The largest share of a partition's closed segments that the cleaner has not looked at (what Kafka compares with
    ``min.cleanable.dirty.ratio``), by the checkpoint that the cleaner writes after each pass."""
    checkpoint = data / "cleaner-offset-checkpoint"
    lines = checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else []
    cleaned = {f"{topic}-{partition}": int(offset) for topic, partition, offset in (line.split() for line in lines)}
    shares = []
    for partition in data.glob(f"{name}-*"):
        closed = _segments(partition)[:-1]
        dirty = sum(size for base, size in closed if base >= cleaned.get(partition.name, 0))
        shares.append(dirty / max(1, sum(size for _, size in closed)))
    return max(shares)


def _segments(partition: Path) -> list[tuple[int, int]]:
    """First offset and bytes of each segment of a partition; the last is the one that is written to."""
    found = []
    for segment in partition.glob("*.log"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            found.append((int(segment.stem), segment.stat().st_size))
    return sorted(found)


def _read_back(kafka: KafkaConfig, flow: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.read_state", flow, "--bootstrap", kafka.bootstrap, "--stack", kafka.stack,
         "--partitions", str(kafka.partitions)],
        stdout=subprocess.PIPE, text=True, timeout=READ_S, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# -------------------------------------------------------------------------------------------- what the models write

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def item_state(items: int) -> State:
    """Items: one in three mentions a second trend, trends are as unequal as words, three items a topic."""
    names = [_encode((f"term:word{i}",)) for i in range(NAMES)]
    pairs = [_encode((f"term:word{i}", f"term:word{NAMES - i}")) for i in range(NAMES)]
    begin_s = int(NOW.timestamp()) - 30 * 86_400
    for begin in range(0, items, BLOCK):
        rng = np.random.default_rng(begin)
        count = min(BLOCK, items - begin)
        ids = rng.bytes(16 * count)
        row = np.zeros(count, ROW)
        row["text"] = rng.integers(1, 2**48, count, np.uint64) << np.uint64(16) | np.uint64(0b1100)
        row["link"] = rng.integers(1, 2**48, count, np.uint64)
        topic = np.arange(begin, begin + count, dtype=np.uint64) // np.uint64(PER_TOPIC) + np.uint64(1)
        row["topic_high"] = topic * np.uint64(0x9E37_79B9_7F4A_7C15)
        row["topic_low"] = topic * np.uint64(0xC2B2_AE3D_27D4_EB4F)
        row["first"] = row["seen"] = begin_s + rng.integers(0, 30 * 86_400, count)
        row["sums"] = rng.integers(0, 500, count)
        fixed, size = row.tobytes(), ROW.itemsize
        which = (rng.zipf(1.3, count) % NAMES).tolist()
        for i in range(count):
            tail = names[which[i]] if i % 3 else pairs[which[i]]
            yield ITEM + ids[16 * i : 16 * i + 16], fixed[size * i : size * i + size] + tail


def topic_state(topics: int, dimensions: int = DIMENSIONS, made: int = MODELS) -> State:
    """Topics: three of four have one member, the others up to twelve. ``made`` of them differ."""
    models = _topics(min(made, topics), dimensions)
    engine = EngineState(seq=1, clock_us=int(NOW.timestamp()) * 1_000_000, model="made", dimensions=dimensions)
    yield ENGINE_KEY, _encode(engine)
    for number in range(topics):
        state, members = models[number % len(models)]
        topic_id = stable_id("topic", str(number))
        yield f"t:{topic_id}".encode(), state
        for place, member in enumerate(members):
            yield f"m:{topic_id}:{place}".encode(), member


@lru_cache(maxsize=1)
def _topics(count: int, dimensions: int) -> list[tuple[bytes, list[bytes]]]:
    rng = random.Random(1)
    return [_topic(rng, dimensions) for _ in range(count)]


def _topic(rng: random.Random, dimensions: int) -> tuple[bytes, list[bytes]]:
    size = rng.randint(2, MEMBERS) if rng.random() < 0.25 else 1
    now_us = int(NOW.timestamp()) * 1_000_000
    vector = np.random.default_rng(rng.randrange(2**32)).normal(size=dimensions)
    unit = vector / np.linalg.norm(vector)
    words = sorted(rng.sample(range(20_000), min(96, 9 * size)))
    state = TopicState(
        trend_id=f"term:word{words[0]}", founded_us=now_us, first_us=now_us, last_us=now_us, round=0, size=size,
        echoes=0, publishers=sorted((rng.getrandbits(63), 1) for _ in range(size)), sources={"hackernews": size},
        trends={f"term:word{words[0]}": size}, engagement=(9 * size, size, 0, 0, 0), rank=1.0, seq=1, summed=size,
        sums=pack_sums(np.rint(unit * SCALE * size).astype(np.int32)),
        terms={f"word{word}": rng.randint(1, size) for word in words}, heard_us=now_us,
    )  # fmt: skip
    direction = np.rint(unit * (127 / np.abs(unit).max())).astype(np.int8).tobytes()
    members = [
        Member(
            joined=place, item_id=item_id_of("made", f"{rng.random()}"), vector=direction, square=1_000_000,
            source="hackernews", title="A title of some sixty characters, as most are: " + "x" * rng.randrange(20),
            url=f"https://example.com/{rng.random()}", body="b" * rng.choice([0, 0, 0, 600]), publisher="example.com",
            published_us=now_us, points=9, comments=1,
        )
        for place in range(size)
    ]  # fmt: skip
    return _encode(state), [_encode(member) for member in members]


def trend_state(trends: int) -> State:
    """Trends: as the scorer writes them, from a few days of mentions each."""
    made = _trends(min(MODELS, trends))
    for number in range(trends):
        for key, value in made[number % len(made)]:
            yield key.partition(b"/")[0] + f"/term:word{number}".encode(), value


@lru_cache(maxsize=1)
def _trends(count: int) -> list[list[tuple[bytes, bytes]]]:
    rng = random.Random(2)
    scorer = TrendScorer(ScoringConfig(), GENERATION)
    for day in range(7, 0, -1):
        scorer.apply([_mention(rng, f"term:{i}", day) for i in range(count) for _ in range(rng.choice([0, 1, 1, 3]))])
    scorer.apply([_mention(rng, f"term:{i}", 0) for i in range(count)])
    return [list(of_one) for _, of_one in groupby(scorer.snapshot(), key=lambda record: trend_of_state(record[0]))]


def _mention(rng: random.Random, trend_id: str, day: int) -> Mention:
    at = NOW - timedelta(days=day, seconds=rng.randrange(3_600 * 12))
    name = str(rng.getrandbits(40))
    return Mention(
        generation=GENERATION, trend_id=trend_id, item_id=item_id_of("made", name), topic_id=stable_id("topic", name),
        home=True, event_time=at, first_seen=at, publisher=f"p{rng.randrange(500)}",
        source=rng.choice(["hackernews", "rss"]), weight=1, echo=False,
        engagement=Engagement(points=rng.randrange(50), comments=rng.randrange(9)), seq=1 + rng.getrandbits(40),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- take-over


def _take_over(settings: Settings, items: int, tell: Callable[[str], None]) -> list[float]:
    """Seconds from the kill of the active cluster process to the first commit of the one that stood by."""
    kafka = replace(settings.kafka(), stack=f"b{uuid4().hex[:8]}")
    StreamAdmin(kafka, GENERATION).apply()
    name, partitions = CLUSTER_STATE.physical(kafka, GENERATION), CLUSTER_STATE.count(kafka)
    _produce(kafka, name, partitions, item_state(items))
    topics = min(TAKE_OVER_TOPICS, items)
    _produce(kafka, name, partitions, topic_state(topics, made=topics))  # none like another: they would merge
    _cover(kafka)
    seconds = []
    with _Pair(kafka, settings.home) as pair, closing(_Feed(kafka)) as feed:

        def flowing_since(at: float) -> float:
            while not feed.arrived_since(at):
                if time.time() - at > START_S:
                    raise RuntimeError(f"nothing came through within {START_S:.0f} s; logs: {pair.logs()}")
            return time.time() - at

        for number in range(TAKE_OVERS):
            flowing_since(time.time())
            feed.keep_on(STEADY_S)
            killed = time.time()
            pair.kill_active()
            seconds.append(flowing_since(killed))
            tell(f"take-over {number + 1} with {items:,} items: {seconds[-1]:.1f} s")
            pair.start_stand_by()
    return seconds


def _cover(kafka: KafkaConfig) -> None:
    """Says that the state reflects the beginning of the input, as the group has it committed."""
    inputs = [(EMBEDDED.physical(kafka, GENERATION), p) for p in range(EMBEDDED.count(kafka))]
    producer = _producer(kafka)
    name = CLUSTER_STATE.physical(kafka, GENERATION)
    for state_partition in range(CLUSTER_STATE.count(kafka)):
        for covered in inputs:
            record = cover_record(name, state_partition, covered, 0, STATE_VERSION)
            producer.produce(record.stream, record.value, record.key, record.partition)
    producer.flush(60)
    with closing(Consumer(kafka.client(**{"group.id": kafka.id_of(GENERATION, SPEC.name)}))) as member:
        member.commit(offsets=[TopicPartition(*p, 0) for p in inputs], asynchronous=False)


class _Pair:
    """Two cluster processes: one works, one stands by and has read the state."""

    def __init__(self, kafka: KafkaConfig, folder: Path) -> None:
        self._kafka, self._folder = kafka, folder
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._started = 0

    def __enter__(self) -> _Pair:
        try:
            self._start("running")
            self.start_stand_by()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start_stand_by(self) -> None:
        """One more process; returns when it has caught up with the other."""
        self._start("to its end")

    def kill_active(self) -> None:
        """Ends the one that works, without a warning."""
        process, _ = self._running.pop(0)
        process.send_signal(signal.SIGKILL)

    def logs(self) -> str:
        """The last lines of each."""
        return " | ".join(log.read_text()[-300:] for _, log in self._running)

    def _start(self, until: str) -> None:
        self._started += 1
        name = f"cluster-{self._started}"
        log = self._folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.read_state", "process", "--bootstrap", self._kafka.bootstrap,
                 "--stack", self._kafka.stack, "--partitions", str(self._kafka.partitions), "--name", name],
                stdout=out, stderr=out,
            )  # fmt: skip
        self._running.append((process, log))
        deadline = time.monotonic() + START_S
        while until not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a cluster process did not start: {log.read_text()[-1_000:]}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        for process, _log in self._running:
            process.kill()
            process.wait(30)


class _Feed:
    """Items sent to cluster one by one, and what comes out of it."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._sent = 0
        self._producer = _producer(kafka)
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("bench"), "isolation.level": "read_committed",
                    "enable.auto.commit": False, "fetch.wait.max.ms": 10,
                }
            )
        )  # fmt: skip
        name = ENRICHED.physical(kafka, GENERATION)
        self._consumer.assign([TopicPartition(name, p, 0) for p in range(ENRICHED.count(kafka))])

    def arrived_since(self, at: float) -> bool:
        """Sends one more; whether anything that was written after an instant (seconds since 1970) has arrived."""
        self._send()
        message: Any = self._consumer.poll(FEED_EVERY_S)
        return message is not None and not message.error() and message.timestamp()[1] > at * 1_000

    def keep_on(self, seconds: float) -> None:
        """Items come and go for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.arrived_since(time.time())

    def _send(self) -> None:
        self._sent += 1
        at, external = NOW + timedelta(seconds=self._sent), str(self._sent)
        vector = np.random.default_rng(self._sent).normal(size=DIMENSIONS)
        item = EmbeddedItem(
            item=Observation(
                item_id=item_id_of("made", external), source="made", external_id=external, kind=Kind.POST,
                title=f"Item {external} of the benchmark", observed_at=at, published_at=at, trend_id="term:bench",
            ),
            text_hash=external, model="made", dimensions=DIMENSIONS,
            vector=encode_vector((vector / np.linalg.norm(vector)).astype(np.float32)),
        )  # fmt: skip
        self._producer.produce(
            EMBEDDED.physical(self._kafka, GENERATION), encode(item), item.item.trend_id.encode(),
            partition_of(item.item.trend_id, EMBEDDED.count(self._kafka)), headers=headers_of(item),
        )  # fmt: skip
        self._producer.poll(0)

    def close(self) -> None:
        """Leaves the broker."""
        self._producer.flush(10)
        self._consumer.close()
