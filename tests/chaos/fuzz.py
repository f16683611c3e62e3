"""Hostile messages through the real pipeline: `python -m tests.chaos.fuzz --seed 1 --records 100000`.

Kafka, PostgreSQL and every flow are real; the embedder is the null one. What was sent must be accepted or in dead
letters, record by record, with a reason that fits; what is well-formed must be stored; no process may have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

from models.clustering import ClusterConfig
from sinks.postgres import SyncReader, migrate
from sinks.postgres.export import Filters
from streams.admin import StreamAdmin
from streams.codec import decode
from streams.keys import is_place_of, partition_of
from streams.partitions import current
from streams.records import DeadLetter, EmbeddedItem, EnrichedItem, Life, Mention, Record, TopicUpdate, TrendScore
from streams.table import CATALOG, DEAD_LETTERS, EMBEDDED, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES, Stream, raw
from tests.chaos.hostile import LIMIT_BYTES, SOURCE, Hostile, Sent, begin_of
from trends.demo import Stages
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS
from trends.settings import Settings, load_settings
from trends.supervisor import Supervisor

STALL_S: Final = 120.0
"""No flow has moved for so long: the run has failed."""
DIMENSIONS: Final = 32
QUEUE_RECORDS: Final = 20_000
SHOWN: Final = 10

Place = tuple[int, int]
"""Partition and offset in the raw stream."""


@dataclass(slots=True)
class Outcome:
    """What became of a run; ``faults`` is empty where everything is as it must be."""

    seed: int
    sent: int = 0
    accepted: int = 0
    dead_letters: int = 0
    well_formed: int = 0
    stored_items: int = 0
    within: int = 0
    """Pieces of rubbish in the inner streams."""
    seconds: float = 0.0
    by_case: dict[str, int] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str, examples: Sequence[object] = ()) -> None:
        shown = "; ".join(str(e)[:300] for e in examples[:SHOWN])
        self.faults.append(f"{what}: {shown}" if shown else what)


def send(settings: Settings, messages: Iterator[Sent]) -> dict[Place, Sent]:
    """Sends them to the raw stream; where each came to stand. Every one is acknowledged."""
    kafka = settings.kafka()
    producer = Producer(
        kafka.client(
            **{
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.max.bytes": 8 * LIMIT_BYTES,
                "queue.buffering.max.messages": QUEUE_RECORDS,
            }
        )
    )
    name, count = raw(SOURCE).physical(kafka, settings.generation), current(kafka).partitions
    places: dict[Place, Sent] = {}
    refused: list[str] = []

    for number, sent in enumerate(messages):

        def done(error: Any, message: Any, sent: Sent = sent) -> None:
            if error is None:
                places[message.partition(), message.offset()] = sent
            else:
                refused.append(f"{sent.case}: {error}")

        partition = number % count if sent.astray or not sent.trend_id else partition_of(sent.trend_id, count)
        while True:
            try:
                produce: Any = producer.produce
                produce(name, sent.value, sent.key, partition, headers=sent.headers or None, on_delivery=done)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    if refused:
        raise AssertionError(f"the broker took {len(refused)} messages not: {refused[:SHOWN]}")
    return places


def messages(settings: Settings, stream: Stream) -> Iterator[Any]:
    """All committed messages of a stream."""
    kafka = current(settings.kafka())
    name, count = stream.physical(kafka, settings.generation), stream.count(kafka)
    consumer = Consumer(
        kafka.client(
            **{
                "group.id": uuid4().hex,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
    )
    consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
    ended: set[int] = set()
    while len(ended) < count:
        message: Any
        for message in consumer.consume(2_000, 1.0):
            if message.error():
                ended.add(message.partition())
            else:
                yield message
    consumer.close()


def read(settings: Settings, stream: Stream) -> Iterator[tuple[Any, Record]]:
    """All committed records of a stream, with their messages."""
    assert stream.record is not None
    for message in messages(settings, stream):
        if message.value() is not None:
            yield message, decode(stream.record, message.value(), message.headers())


def settle(supervisor: Supervisor, stages: Stages) -> str | None:
    """Waits until all flows have read everything; what is wrong where they do not."""
    moved, before = time.monotonic(), -1
    while True:
        if supervisor.failure:
            return supervisor.failure
        seen = stages.look()
        if all(stage.done == stage.total for stage in seen):
            return None
        done = sum(stage.done for stage in seen)
        if done != before:
            moved, before = time.monotonic(), done
        elif time.monotonic() - moved > STALL_S:
            return f"nothing has moved for {STALL_S:.0f} s: {seen}"
        time.sleep(0.5)


def audit(settings: Settings, source: Hostile, places: dict[Place, Sent], outcome: Outcome) -> None:
    """Compares what was sent with what there is, record by record."""
    kafka = settings.kafka()
    name = raw(SOURCE).physical(kafka, settings.generation)
    outcome.sent = len(places)
    outcome.by_case = dict(sorted(Counter(sent.case for sent in places.values()).items()))
    good = {place: sent for place, sent in places.items() if sent.good}
    outcome.well_formed = len(good)

    letters: dict[Place, DeadLetter] = {}
    for _, letter in read(settings, DEAD_LETTERS):
        assert isinstance(letter, DeadLetter)
        if letter.stream != name:
            outcome.fault("a record of our own became a dead letter", [letter.letter_id, letter.reason, letter.error])
        elif (letter.partition, letter.offset) in letters:
            outcome.fault(f"two dead letters of {letter.letter_id}")
        else:
            letters[letter.partition, letter.offset] = letter
    outcome.dead_letters = len(letters)
    outcome.by_reason = dict(Counter(letter.reason.value for letter in letters.values()))

    expected = {place for place, sent in places.items() if not sent.good}
    lost = [places[p].case for p in expected - letters.keys()]
    if lost:
        outcome.fault(f"{len(lost)} refused messages have no dead letter", lost)
    wrongly = [(places[p].case, letters[p].error) for p in letters.keys() & good.keys()]
    if wrongly:
        outcome.fault(f"{len(wrongly)} well-formed records became dead letters", wrongly)
    misjudged = [
        (places[p].case, letters[p].reason.value, letters[p].error)
        for p in letters.keys() & expected
        if letters[p].reason not in places[p].reasons
    ]
    if misjudged:
        outcome.fault(f"{len(misjudged)} dead letters have another reason than theirs", misjudged)

    embedded = Counter(e.item.item_id for _, e in read(settings, EMBEDDED) if isinstance(e, EmbeddedItem))
    outcome.accepted = sum(embedded.values())
    sent = Counter(sent.item_id for sent in good.values())
    if embedded != sent:
        outcome.fault("accepted are not exactly the well-formed", [embedded - sent, sent - embedded])

    alive = {s.item_id for s in good.values() if not s.deletes}
    enriched = {e.item.item_id for _, e in read(settings, ENRICHED) if isinstance(e, EnrichedItem)}
    if alive - enriched:
        outcome.fault(f"{len(alive - enriched)} items were never decided about", sorted(alive - enriched))
    with SyncReader(settings.postgres()) as reader:
        stored = {str(row["item_id"]) for row in reader.export("items", Filters())}
    outcome.stored_items = len(stored)
    if alive - stored:
        outcome.fault(f"{len(alive - stored)} well-formed items are not stored", sorted(alive - stored))
    check_clocks(settings, source, outcome)


def within(settings: Settings, supervisor: Supervisor, stages: Stages, outcome: Outcome) -> None:
    """Rubbish straight into the inner streams, where only our own flows write: each becomes a dead letter too."""
    kafka = settings.kafka()
    producer = Producer(kafka.client())
    sent: list[tuple[str, int, int]] = []

    def done(error: Any, message: Any) -> None:
        assert error is None, error
        sent.append((message.topic(), message.partition(), message.offset()))

    for stream, partition, value in inner_rubbish(settings):
        name = stream.physical(kafka, settings.generation)
        producer.produce(name, value, b"rubbish %d" % len(value), partition, on_delivery=done)
    producer.flush(60)
    stall = settle(supervisor, stages)
    if stall:
        outcome.fault(f"rubbish within: {stall}")
    known = {(r.stream, r.partition, r.offset) for _, r in read(settings, DEAD_LETTERS) if isinstance(r, DeadLetter)}
    outcome.within = len(sent)
    if lost := [place for place in sent if place not in known]:
        outcome.fault(f"{len(lost)} of {len(sent)} pieces of rubbish within have no dead letter", lost)


def inner_rubbish(settings: Settings) -> list[tuple[Stream, int, bytes]]:
    """What no record is, and records that contradict what they stand beside: stream, partition, bytes."""
    found: list[tuple[Stream, int, bytes]] = []
    bytes_of_none = (b"\xff\xfe", b"{}", b"[]", b"\x00", b"[" * 100_000, b'{"generation":"\\ud800"}', b"NaN")
    kafka = current(settings.kafka())
    for stream in (EMBEDDED, MENTIONS, UPDATES, ENRICHED, SUMMARIES, SCORES, CATALOG):
        count = stream.count(kafka)
        found += [(stream, i % count, value) for i, value in enumerate(bytes_of_none)]

    def changed(stream: Stream, **changes: Any) -> None:
        message, _ = next(iter(read(settings, stream)))
        found.append((stream, message.partition(), json.dumps(json.loads(message.value()) | changes).encode()))

    for vector in ("AAAA", "%%%", "", "\u00e4" * 16, "//8=" * DIMENSIONS):
        changed(EMBEDDED, vector=vector)
        changed(ENRICHED, vector=vector, change="first")
        changed(UPDATES, centroid=vector)
    changed(EMBEDDED, model="another")
    changed(EMBEDDED, dimensions=65_536, vector=None)
    changed(ENRICHED, generation="another")
    changed(ENRICHED, seq=2**60)
    changed(MENTIONS, generation="another")
    changed(MENTIONS, first_seen="9999-01-01T00:00:00Z")
    changed(MENTIONS, weight=2)
    changed(UPDATES, life="merged", merged_into=None)
    changed(UPDATES, life="grew", merged_into="another")
    changed(SUMMARIES, generation="another")
    changed(SCORES, slice_s=2**40, version=2**53)
    changed(SCORES, counts=[2**40], version=2**53)
    changed(SCORES, publishers=2**60)
    message, mention = next((m, r) for m, r in read(settings, MENTIONS) if isinstance(r, Mention))
    count = kafka.partitions
    elsewhere = next(p for p in range(count) if not is_place_of(mention.trend_id, p, count))
    found.append((MENTIONS, elsewhere, message.value()))
    return found


def check_clocks(settings: Settings, source: Hostile, outcome: Outcome) -> None:
    """No wrong time has faded a topic that honest items kept alive, nor gone ahead of the true time in a score."""
    early = source.now - ClusterConfig().fade_after
    faded = [
        (u.topic_id, u.last_seen)
        for _, u in read(settings, UPDATES)
        if isinstance(u, TopicUpdate) and u.life is Life.FADED and u.size and u.last_seen > early
    ]
    # The synthetic days pass in minutes: topics may fade that were silent for so long, and none that were not.
    if faded:
        outcome.fault(f"{len(faded)} topics faded before their time", faded)
    ahead = [
        (s.trend_id, s.slice_start, s.last_seen)
        for _, s in read(settings, SCORES)
        if isinstance(s, TrendScore) and s.last_seen.timestamp() > time.time() + 3_600
    ]
    if ahead:
        outcome.fault(f"{len(ahead)} scores are ahead of time", ahead)


def run(settings: Settings, seed: int, records: int, *, say: Any = print) -> Outcome:
    """Streams and tables of their own, every flow, the messages, the audit."""
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    outcome = Outcome(seed)
    source = Hostile(seed, begin_of(records))
    lines: list[str] = []
    began = time.monotonic()
    with (
        flow_supervisor(
            settings, dict.fromkeys(FLOWS, 1), lambda name, line: lines.append(f"{name} {line}")
        ) as supervisor,
        Stages(settings) as stages,
    ):  # fmt: skip
        places = send(settings, source.messages(records))
        say(f"sent {len(places):,} messages in {time.monotonic() - began:.0f} s")
        stall = settle(supervisor, stages)
        if stall:
            outcome.fault(stall)
        outcome.seconds = round(time.monotonic() - began, 1)
        say(f"through the pipeline in {outcome.seconds:.0f} s; comparing")
        audit(settings, source, places, outcome)
        within(settings, supervisor, stages, outcome)
        restarts = {name: n for name, n in supervisor.restarts.items() if n}
        if restarts:
            outcome.fault(f"processes ended: {restarts}", lines[-30:])
    return outcome


@contextlib.contextmanager
def own_stack(home: Path) -> Iterator[Settings]:
    """A Kafka and two PostgreSQL shards of this run's own, stopped at its end."""
    settings = load_settings(
        home=home, kafka_bootstrap=None, postgres_dsns=(), postgres_shards=2, generation="fuzz", embedder="null",
        embedder_dimensions=DIMENSIONS, kafka_partitions=4,
    )  # fmt: skip
    local = settings.local_stack()
    local.up()
    try:
        yield settings
    finally:
        local.down()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="equal seeds send equal messages (1)")
    parser.add_argument("--records", type=int, default=100_000, help="messages (100000)")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trends-fuzz-") as folder, own_stack(Path(folder)) as settings:
        outcome = run(settings, args.seed, args.records, say=lambda line: print(line, file=sys.stderr))
    if args.json:
        print(json.dumps(asdict(outcome), indent=2))
    else:
        for name, value in asdict(outcome).items():
            print(f"{name:>14}  {value}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
