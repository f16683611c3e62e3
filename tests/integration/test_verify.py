"""trends verify can fail: real damage to real streams and shards, and exactly what was damaged is found.

One damaged copy of the streams, and one damaged state of the shards, serve all of it: each damage is done to a thing of
its own, and says which checks must name that thing. Whatever else is named is a false alarm.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from streams.admin import StreamAdmin
from streams.codec import encode
from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.keys import bucket_of
from streams.partitions import current
from streams.records import ForgetKind, ForgetRequest
from streams.table import (
    EMBEDDED,
    ENRICHED,
    FORGOTTEN,
    MENTIONS,
    PARTITIONS,
    RAW,
    SCORES,
    SUMMARIES,
    UPDATES,
    Stream,
    raw,
)
from tests.integration.end_to_end import PARTITIONS as GROWN
from tests.integration.end_to_end import Run
from trends.cli import build
from trends.flows import FLOWS, prepare
from trends.settings import Settings, load_settings
from trends.verify import CHECKS, EVERYTHING, Report, Span, audit
from trends.verify.audit import STREAMS

pytestmark = pytest.mark.timeout(400)  # the first of the tests waits for the run

Found = dict[str, Counter[tuple[str, str]]]
"""By check: what was named, and what is said to be wrong with it."""
NOWHERE = "00000000-0000-5000-8000-000000000000"


def found(report: Report) -> Found:
    """All examples, and that there are no more than those."""
    assert {c.name for c in report.checks if c.off != len(c.examples) and c.off < 100} == set()
    return {c.name: Counter((e.id, e.what) for e in c.examples) for c in report.checks if c.off}


@dataclass
class Expected:
    """What an audit must name."""

    faults: defaultdict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, check: str, id_: str, what: str) -> None:
        assert check in CHECKS
        self.faults[check][(id_, what)] += 1


# ------------------------------------------------------------------------------------------------------ the streams


@dataclass
class Message:
    """A record of a copy."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None
    fields: Any

    def put(self, **changes: Any) -> None:
        """Changes fields of its value."""
        self.fields = self.fields | changes
        self.value = json.dumps(self.fields).encode()


@dataclass
class Copy:
    """The streams of a stack in memory, to be damaged and written under another name."""

    streams: dict[Stream, list[Message]]

    def of_item(self, stream: Stream, item_id: str) -> list[Message]:
        return [m for m in self.streams[stream] if m.fields.get("item", m.fields)["item_id"] == item_id]

    def of(self, stream: Stream, name: str, value: str) -> list[Message]:
        return [m for m in self.streams[stream] if m.fields[name] == value]

    def drop(self, stream: Stream, message: Message) -> None:
        self.streams[stream] = [m for m in self.streams[stream] if m is not message]

    def append(self, stream: Stream, message: Message, **changes: Any) -> Message:
        made = Message(message.partition, message.key, message.value, message.headers, dict(message.fields))
        made.put(**changes)
        self.streams[stream].append(made)
        return made


def read(kafka: KafkaConfig, generation: str) -> Copy:
    """All streams of a stack, committed records in log order."""
    consumer = Consumer(
        kafka.client(**{"group.id": "copy", "isolation.level": "read_committed", "enable.partition.eof": True})
    )
    streams: dict[Stream, list[Message]] = {}
    grown = current(kafka)
    for stream in STREAMS:
        name, partitions = stream.physical(kafka, generation), stream.count(grown)
        consumer.assign([TopicPartition(name, p, 0) for p in range(partitions)])
        messages, ended = [], 0
        while ended < partitions:
            for m in consumer.consume(5_000, 1.0):
                if m.error():
                    ended += 1
                    continue
                try:
                    fields = json.loads(m.value() or b"null")
                except ValueError:
                    fields = None
                messages.append(Message(m.partition(), m.key(), m.value(), m.headers(), fields))
        streams[stream] = messages
    consumer.close()
    return Copy(streams)


def write(copy: Copy, settings: Settings, before: str) -> None:
    """A copy as the streams of ``settings``, as if all flows had read them. ``before``: the stack that letters name."""
    kafka, generation = settings.kafka(), settings.generation
    admin = StreamAdmin(kafka, generation, (*STREAMS, PARTITIONS))
    admin.apply()
    admin.grow(GROWN)
    producer = Producer(kafka.client(**{"linger.ms": 20}))
    for stream, messages in copy.streams.items():
        name = stream.physical(kafka, generation)
        for n, m in enumerate(messages):
            value = m.value
            if stream.name == "dead.letters" and m.fields:
                value = json.dumps(m.fields | {"stream": m.fields["stream"].replace(before, kafka.stack, 1)}).encode()
            producer.produce(name, value, m.key, m.partition, headers=m.headers)  # type: ignore[arg-type]
            if n % 10_000 == 0:
                producer.flush()
        producer.flush()
    pass_all(settings)


def pass_all(settings: Settings) -> None:
    """Commits the ends of all inputs for every flow."""
    kafka, generation = current(settings.kafka()), settings.generation
    for flow in FLOWS:
        client = Consumer(kafka.client(**{"group.id": kafka.id_of(generation, flow), "enable.auto.commit": False}))
        ends = []
        for stream in prepare(flow, settings)[0].inputs:
            if stream in STREAMS:
                for p in range(stream.count(kafka)):
                    place = TopicPartition(stream.physical(kafka, generation), p)
                    ends.append(TopicPartition(place.topic, p, client.get_watermark_offsets(place, 20)[1]))
        client.commit(offsets=ends, asynchronous=False)
        client.close()


@pytest.fixture(scope="module")
def original(end_to_end: Run) -> Copy:
    return read(end_to_end.settings.kafka(), end_to_end.settings.generation)


def fresh(run: Run) -> Settings:
    """Settings of a stack with streams of its own, on the same shards."""
    s = run.settings
    return load_settings(
        home=s.home, kafka_bootstrap=s.kafka_bootstrap, postgres_dsns=s.postgres_dsns, generation=s.generation,
        stack=f"v{uuid.uuid4().hex[:10]}", kafka_partitions=s.kafka_partitions,
    )  # fmt: skip


def damage(copy: Copy) -> Expected:
    """Every kind of fault once, each to a thing of its own; what must be found of it."""
    expected = Expected()
    streams = copy.streams
    observed = Counter(m.fields["item"]["item_id"] for m in streams[EMBEDDED])
    decided = Counter(m.fields["item"]["item_id"] for m in streams[ENRICHED])
    mentions = Counter(m.fields["trend_id"] for m in streams[MENTIONS])
    scores = Counter(m.fields["trend_id"] for m in streams[SCORES])
    seq = count(1 + max(m.fields["seq"] for m in (*streams[ENRICHED], *streams[UPDATES])))
    used: set[str] = set()

    def simple() -> Message:
        """The only decision about an item that was seen once, of a trend that nothing else is about."""
        for m in streams[ENRICHED]:
            item = m.fields["item"]
            names = {item["item_id"], item["trend_id"]}
            if (
                observed[item["item_id"]] == decided[item["item_id"]] == 1
                and mentions[item["trend_id"]] == 1
                and not item.get("mentions")
                and item["source"] == "synthetic"
                and not names & used
            ):
                used.update(names)
                return m
        raise AssertionError("the world is too small")

    def again() -> Message:
        """The newest decision about an item that has several: its engagement has grown."""
        newest = {m.fields["item"]["item_id"]: m for m in streams[ENRICHED]}
        for item_id, m in newest.items():
            names = {item_id, m.fields["item"]["trend_id"]}
            if m.fields["change"] == "engagement" and decided[item_id] > 1 and not names & used:
                used.update(names)
                return m
        raise AssertionError("the world is too small")

    # -- raw and embedded
    item = simple().fields["item"]["item_id"]
    copy.drop(EMBEDDED, copy.of_item(EMBEDDED, item)[0])
    expected.add("raw.lost", item, "was neither embedded nor is it a dead letter")
    expected.add("decisions.orphaned", item, "this observation was never embedded")

    item = simple().fields["item"]["item_id"]
    copy.append(EMBEDDED, copy.of_item(EMBEDDED, item)[0])
    expected.add("raw.doubled", item, "was embedded more often than it was sent")

    item = simple().fields["item"]["item_id"]
    copy.drop(raw("synthetic"), copy.of_item(raw("synthetic"), item)[0])
    expected.add("embedded.orphaned", item, "no raw record is of this observation")

    # -- decisions
    copy.append(ENRICHED, m := simple())
    expected.add("decisions.doubled", m.fields["item"]["item_id"], "its number was used more than once")

    copy.drop(ENRICHED, m := simple())
    item = m.fields["item"]["item_id"]
    expected.add("items.undecided", item, "was embedded and never decided about")
    expected.add("decisions.missing", f"decision {m.fields['seq']}", "no item and no topic has this number")
    expected.add("mentions", item, "no decision has its number")
    expected.add("store.items", item, "no record of it is in the stream")

    m = again()
    item = m.fields["item"]
    engagement = item.get("engagement", {}) | {"points": item.get("engagement", {}).get("points", 0) + 1_000}
    m.put(item=item | {"engagement": engagement})
    expected.add(
        "items.outdated", item["item_id"],
        "its newest decision does not show the text and engagement of its newest observation",
    )  # fmt: skip
    expected.add("store.items", item["item_id"], "its row differs from its newest record")

    m = again()
    item = m.fields["item"]["item_id"]
    m.put(change="first")
    expected.add("items.first", item, "it was seen for the first time more than once")
    expected.add("mentions", item, "is counted with another weight or trend")

    m = again()
    item = m.fields["item"]["item_id"]
    copy.append(ENRICHED, m, seq=next(seq))
    expected.add("decisions.doubled", item, "this observation was decided about twice")
    expected.add("mentions", item, "is not counted for each of its trends")
    expected.add("store.items", item, "its row is older than its newest record")

    m = simple()
    m.partition = (m.partition + 1) % GROWN
    expected.add("streams.partitions", m.fields["item"]["item_id"], f"its trend {m.fields['item']['trend_id']!r} is in "
                 f"partition {bucket_of(m.fields['item']['trend_id']) % GROWN}")  # fmt: skip

    streams[ENRICHED].append(Message(0, b"nobody", b'{"item": 5}', None, None))

    # -- mentions and scores
    decision = simple()
    item, trend = decision.fields["item"]["item_id"], decision.fields["item"]["trend_id"]
    copy.drop(MENTIONS, copy.of_item(MENTIONS, item)[0])
    expected.add("mentions", item, "is not counted for each of its trends")
    expected.add("scores", trend, "it has a score and no mention")
    expected.add("store.mentions", f"{trend} {item}", "no record of it is in the stream")

    decision = simple()
    item, trend = decision.fields["item"]["item_id"], decision.fields["item"]["trend_id"]
    copy.append(MENTIONS, copy.of_item(MENTIONS, item)[0])
    expected.add("mentions", item, "is counted more often than it has trends")
    expected.add("scores", trend, "its newest score has counted other mentions than there are")

    decision = simple()
    item, trend = decision.fields["item"]["item_id"], decision.fields["item"]["trend_id"]
    copy.of_item(MENTIONS, item)[0].put(weight=0)
    expected.add("mentions", item, "is counted with another weight or trend")
    expected.add("scores", trend, "its newest score has counted other mentions than there are")

    def score(times: int = 1) -> Message:
        for m in streams[SCORES]:
            trend_id = m.fields["trend_id"]
            if scores[trend_id] == times and mentions[trend_id] == times and trend_id not in used:
                used.add(trend_id)
                return m
        raise AssertionError("the world is too small")

    m = score()
    m.put(total=m.fields["total"] + 1)
    expected.add("scores", m.fields["trend_id"], "its newest score has counted other mentions than there are")
    expected.add("store.trends", m.fields["trend_id"], "its row differs from its newest record")

    copy.drop(SCORES, m := score())
    expected.add("scores", m.fields["trend_id"], "its mentions have no score")
    expected.add("store.trends", m.fields["trend_id"], "no record of it is in the stream")

    copy.append(SCORES, m := score())
    expected.add("written.twice", m.fields["trend_id"], "stands more than once in its stream")

    # -- topics
    winners = {m.fields["merged_into"] for m in streams[UPDATES]}
    merged = [m for m in streams[UPDATES] if m.fields["life"] == "merged" and m.fields["topic_id"] not in winners]
    merged[0].put(merged_into=NOWHERE)
    topic = merged[0].fields["topic_id"]
    expected.add("merges", topic, "leads to a topic that is not there")
    expected.add("store.topics", topic, "its row differs from its newest record")

    merged[1].put(merged_into=merged[2].fields["topic_id"])
    merged[2].put(merged_into=merged[1].fields["topic_id"])
    for m in merged[1:3]:
        expected.add("merges", m.fields["topic_id"], "leads in a circle")
        expected.add("store.topics", m.fields["topic_id"], "its row differs from its newest record")

    newest = {m.fields["topic_id"]: m for m in streams[UPDATES]}
    said = {m.fields["topic_id"] for m in streams[SUMMARIES]}
    alive = iter(
        [t for t, m in newest.items() if t in said and m.fields["life"] in ("born", "grew") and m.fields["size"] > 2]
    )
    topic = next(alive)
    streams[SUMMARIES] = [m for m in streams[SUMMARIES] if m.fields["topic_id"] != topic]
    expected.add("summaries", topic, "has no summary")
    expected.add("store.summaries", topic, "no record of it is in the stream")

    topic = next(alive)
    copy.append(SUMMARIES, copy.of(SUMMARIES, "topic_id", topic)[-1], topic_seq=2**40)
    expected.add("summaries", topic, "summarises an update that does not exist")
    expected.add("store.summaries", topic, "its row is older than its newest record")

    single = next(t for t, m in newest.items() if m.fields["size"] == 1 and m.fields["life"] == "born")
    copy.append(UPDATES, newest[single])
    expected.add("written.twice", single, "stands more than once in its stream")
    return expected


@pytest.fixture(scope="module")
def damaged_streams(end_to_end: Run, original: Copy) -> tuple[Settings, Expected]:
    copy = Copy({stream: [Message(m.partition, m.key, m.value, m.headers, m.fields) for m in messages]
                 for stream, messages in original.streams.items()})  # fmt: skip
    expected = damage(copy)
    settings = fresh(end_to_end)
    write(copy, settings, end_to_end.settings.stack)
    return settings, expected


def test_every_fault_of_the_streams_is_found_and_nothing_else(damaged_streams: tuple[Settings, Expected]) -> None:
    settings, expected = damaged_streams
    report = audit(settings, examples=100)
    seen = found(report)
    readable = seen.pop("streams.readable")
    assert [id_ for id_, _ in readable] == ["nobody"]
    assert seen == expected.faults


def test_the_command_says_what_is_off_and_ends_with_1(
    damaged_streams: tuple[Settings, Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, expected = damaged_streams
    monkeypatch.setattr("trends.cli.verify.current_settings", lambda **_more: settings)
    shown = CliRunner().invoke(build(), ["verify"])
    assert shown.exit_code == 1
    assert NOWHERE not in shown.stdout
    for check in expected.faults:
        assert check in shown.stdout
    told = CliRunner().invoke(build(), ["verify", "--json", "-n", "1"])
    assert told.exit_code == 1
    report = json.loads(told.stdout)
    assert set(report["failed"]) == {*expected.faults, "streams.readable"}
    assert all(len(check["examples"]) <= 1 for check in report["checks"])


# ------------------------------------------------------------------------------------------------------- the shards


async def on(dsn: str, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


TOUCHED = ("items", "mentions", "topics", "topic_summaries", "trends")


@pytest.fixture
def shards(end_to_end: Run) -> Iterator[tuple[str, ...]]:
    """The shards of the run; all their rows are put back afterwards."""
    dsns = end_to_end.settings.dsns()

    async def keep() -> None:
        for dsn in dsns:
            await on(dsn, "CREATE SCHEMA kept")
            for table in TOUCHED:
                await on(dsn, f"CREATE TABLE kept.{table} AS TABLE e2e.{table}")

    async def put_back() -> None:
        for dsn in dsns:
            for table in TOUCHED:
                await on(dsn, f"TRUNCATE e2e.{table}")
                await on(dsn, f"INSERT INTO e2e.{table} SELECT * FROM kept.{table}")
            await on(dsn, "DROP SCHEMA kept CASCADE")

    asyncio.run(keep())
    yield dsns
    asyncio.run(put_back())


async def damage_shards(dsns: tuple[str, ...]) -> Expected:
    """Every kind of fault once, on the first shard, each to a row of its own."""
    expected = Expected()
    one, other = dsns
    single = "(SELECT topic_id FROM e2e.topics WHERE size = 1 AND merged_into IS NULL)"
    items = iter(
        await on(one, f"SELECT item_id FROM e2e.items WHERE topic_id IN {single} AND version > 0 ORDER BY item_id")
    )

    def item() -> str:
        return str(next(items)["item_id"])

    deleted = item()
    await on(one, "DELETE FROM e2e.items WHERE item_id = $1", deleted)
    expected.add("store.items", deleted, "has no row")

    for change, what in (
        ("version = version - 1", "its row is older than its newest record"),
        ("version = version + 1000000", "its row is newer than its newest record"),
        ("topic_id = 'another'", "its row differs from its newest record"),
        ("points = points + 1", "its row differs from its newest record"),
        ("deleted = NOT deleted", "its row differs from its newest record"),
    ):
        changed = item()
        await on(one, f"UPDATE e2e.items SET {change} WHERE item_id = $1", changed)
        expected.add("store.items", changed, what)

    copied = item()
    row = (await on(one, "SELECT bucket FROM e2e.items WHERE item_id = $1", copied))[0]
    records = await on(one, "SELECT i::text AS row FROM e2e.items i WHERE item_id = $1", copied)
    await on(other, "INSERT INTO e2e.items SELECT ($1::text::e2e.items).*", records[0]["row"])
    expected.add("store.items", copied, "has more than one row")
    expected.add("store.shards", copied, f"bucket {row['bucket']} is on shard 0")

    orphan = str(uuid.uuid4())
    text = records[0]["row"].replace(copied, orphan)
    await on(one, "INSERT INTO e2e.items SELECT ($1::text::e2e.items).*", text)
    expected.add("store.items", orphan, "no record of it is in the stream")

    # -- mentions
    alone = f"home AND present AND topic_id IN {single}"
    home = await on(one, f"SELECT * FROM e2e.mentions WHERE {alone} ORDER BY item_id DESC LIMIT 3")
    lost, moved, bucketed = home
    await on(one, "DELETE FROM e2e.mentions WHERE item_id = $1 AND home", lost["item_id"])
    expected.add("store.mentions", f"{lost['trend_id']} {lost['item_id']}", "has no row")
    expected.add("topics.sizes", lost["topic_id"], "its size is not the number of its items")

    records = await on(one, "SELECT m::text AS row FROM e2e.mentions m WHERE item_id = $1 AND home", moved["item_id"])
    await on(one, "DELETE FROM e2e.mentions WHERE item_id = $1 AND home", moved["item_id"])
    await on(other, "INSERT INTO e2e.mentions SELECT ($1::text::e2e.mentions).*", records[0]["row"])
    name = f"{moved['trend_id']} {moved['item_id']}"
    expected.add("store.shards", name, f"bucket {moved['bucket']} is on shard 0")

    wrong = (bucketed["bucket"] + 2) % 1024
    await on(one, "UPDATE e2e.mentions SET bucket = $2 WHERE item_id = $1 AND home", bucketed["item_id"], wrong)
    expected.add("store.shards", f"{bucketed['trend_id']} {bucketed['item_id']}",
                 f"bucket {wrong}, but its trend {bucketed['trend_id']!r} has bucket {bucketed['bucket']}")  # fmt: skip

    away = (await on(one, "SELECT * FROM e2e.mentions WHERE NOT home LIMIT 1"))[0]
    await on(one, "UPDATE e2e.mentions SET present = NOT present WHERE item_id = $1 AND trend_id = $2",
             away["item_id"], away["trend_id"])  # fmt: skip
    expected.add("store.mentions", f"{away['trend_id']} {away['item_id']}", "its row does not say whether it counts")

    # -- topics
    winners = [r["merged_into"] for d in dsns for r in await on(d, "SELECT merged_into FROM e2e.topics")]
    plain = "size >= 3 AND merged_into IS NULL AND NOT topic_id = ANY($1)"
    topics = iter(await on(one, f"SELECT * FROM e2e.topics WHERE {plain} ORDER BY topic_id", [w for w in winners if w]))
    grown = next(topics)["topic_id"]
    await on(one, "UPDATE e2e.topics SET size = size + 1 WHERE topic_id = $1", grown)
    expected.add("store.topics", grown, "its row differs from its newest record")
    expected.add("topics.sizes", grown, "its size is not the number of its items")

    a, b = next(topics)["topic_id"], next(topics)["topic_id"]
    for loser, winner in ((a, b), (b, a)):
        await on(one, "UPDATE e2e.topics SET merged_into = $2 WHERE topic_id = $1", loser, winner)
        expected.add("merges", loser, "leads in a circle")
        expected.add("store.topics", loser, "its row differs from its newest record")

    astray = next(topics)["topic_id"]
    await on(one, "UPDATE e2e.topics SET merged_into = $2 WHERE topic_id = $1", astray, NOWHERE)
    expected.add("merges", astray, "leads to a topic that is not there")
    expected.add("store.topics", astray, "its row differs from its newest record")
    for dsn in dsns:
        for r in await on(dsn, "SELECT trend_id, item_id FROM e2e.mentions WHERE home AND topic_id = $1", astray):
            expected.add("topics.sizes", f"{r['trend_id']} {r['item_id']}", "its topic has no row")

    # -- summaries and trends
    said = await on(one, "SELECT topic_id FROM e2e.topic_summaries ORDER BY topic_id LIMIT 2")
    await on(one, "DELETE FROM e2e.topic_summaries WHERE topic_id = $1", said[0]["topic_id"])
    expected.add("store.summaries", said[0]["topic_id"], "has no row")
    await on(one, "UPDATE e2e.topic_summaries SET headline = 'another' WHERE topic_id = $1", said[1]["topic_id"])
    expected.add("store.summaries", said[1]["topic_id"], "its row differs from its newest record")

    trends = await on(one, "SELECT trend_id FROM e2e.trends ORDER BY trend_id LIMIT 2")
    await on(one, "DELETE FROM e2e.trends WHERE trend_id = $1", trends[0]["trend_id"])
    expected.add("store.trends", trends[0]["trend_id"], "has no row")
    await on(one, "UPDATE e2e.trends SET total = total + 1 WHERE trend_id = $1", trends[1]["trend_id"])
    expected.add("store.trends", trends[1]["trend_id"], "its row differs from its newest record")
    return expected


def test_every_fault_of_the_shards_is_found_and_nothing_else(end_to_end: Run, shards: tuple[str, ...]) -> None:
    expected = asyncio.run(damage_shards(shards))
    assert found(audit(end_to_end.settings, examples=100)) == expected.faults


def test_what_was_put_back_is_clean(end_to_end: Run) -> None:
    assert audit(end_to_end.settings).clean


# --------------------------------------------------------------------------------------------------- what is asked


def test_records_that_a_flow_has_not_read_yet_are_waited_for_and_named(end_to_end: Run, original: Copy) -> None:
    """Nothing is said about what is still on its way: not that it is lost, not that all is well."""
    settings = fresh(end_to_end)
    write(original, settings, end_to_end.settings.stack)
    producer = Producer(settings.kafka().client())
    new = next(m for m in original.streams[raw("synthetic")] if m.fields)
    producer.produce(raw("synthetic").physical(settings.kafka(), settings.generation), new.value, new.key, 0)
    producer.flush()
    with pytest.raises(UnavailableError, match="embed is 1 records behind"):
        audit(settings, wait_s=0.5)
    pass_all(settings)
    report = audit(settings)
    assert found(report) == {"raw.lost": {(new.fields["item_id"], "was neither embedded nor is it a dead letter"): 1}}

    # Retention: whatever is gone, nothing that is left is taken for lost, doubled or an orphan.
    cut(settings, {EMBEDDED: 0.5, ENRICHED: 0.4, MENTIONS: 0.6, **dict.fromkeys(RAW, 0.3)})
    report = audit(settings)
    assert {c.name for c in report.checks if c.off} <= {"raw.lost"}
    unexamined = {c.name for c in report.checks if c.unexamined}
    assert {"embedded.orphaned", "decisions.orphaned", "mentions"} <= unexamined
    assert not all(part.whole for part in report.streams)


def cut(settings: Settings, shares: dict[Stream, float]) -> None:
    """Deletes the first records of streams, as retention does."""
    kafka = settings.kafka()
    admin = AdminClient(kafka.client())  # type: ignore[arg-type]
    client = Consumer(kafka.client(**{"group.id": "cut"}))
    wanted = []
    for stream, share in shares.items():
        for p in range(stream.count(kafka)):
            place = TopicPartition(stream.physical(kafka, settings.generation), p)
            wanted.append(TopicPartition(place.topic, p, int(share * client.get_watermark_offsets(place, 20)[1])))
    client.close()
    for future in admin.delete_records(wanted).values():
        future.result(20)


def event_time(message: Message) -> datetime:
    item = message.fields["item"]
    return min(datetime.fromisoformat(item["observed_at"]), datetime.fromisoformat(item["published_at"]))


def test_a_range_asks_for_its_records_and_finds_their_faults_alone(end_to_end: Run, original: Copy) -> None:
    copy = Copy(dict(original.streams))
    simple = [m for m in copy.streams[EMBEDDED] if m.fields["item"]["source"] == "synthetic"]
    times = Counter(m.fields["item"]["item_id"] for m in simple)
    simple = sorted((m for m in simple if times[m.fields["item"]["item_id"]] == 1), key=event_time)
    early, late = simple[10], simple[-10]
    copy.drop(EMBEDDED, early)
    copy.drop(EMBEDDED, late)
    settings = fresh(end_to_end)
    write(copy, settings, end_to_end.settings.stack)

    def lost(span: Span) -> set[str]:
        return {id_ for id_, _ in found(audit(settings, span, examples=100)).get("raw.lost", {})}

    ids = [m.fields["item"]["item_id"] for m in (early, late)]
    middle = event_time(simple[len(simple) // 2])
    assert lost(EVERYTHING) == set(ids)
    assert lost(Span(event_to=middle)) == {ids[0]}
    assert lost(Span(event_from=middle)) == {ids[1]}
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert lost(Span(log_from=now - hour, log_to=now + hour)) == set(ids)
    report = audit(settings, Span(log_from=now + hour))
    assert report.clean
    assert next(c for c in report.checks if c.name == "raw.lost").examined == 0


def test_a_removed_letter_accounts_for_its_record_and_what_was_to_be_forgotten_must_be_gone(
    end_to_end: Run, original: Copy
) -> None:
    copy = Copy(dict(original.streams))
    letters = next(s for s in copy.streams if s.name == "dead.letters")
    settings = fresh(end_to_end)
    stack = settings.stack.encode()

    def removed(m: Message) -> Message:
        key = (m.key or b"").replace(end_to_end.settings.stack.encode(), stack, 1)
        return Message(m.partition, key, None, None, None)

    copy.streams[letters] = [removed(m) for m in copy.streams[letters]]
    write(copy, settings, end_to_end.settings.stack)
    assert audit(settings).clean

    # On the same streams: a request to forget an item that the shards still hold, and one that was made just now.
    stored = [m.fields["item"] for m in original.streams[ENRICHED] if not m.fields["item"].get("mentions")]
    kept, fresh_one = stored[0], stored[-1]
    now = datetime.now(UTC)
    for item, at in ((kept, now - timedelta(minutes=5)), (fresh_one, now)):
        request = ForgetRequest(
            request_id=item["item_id"], kind=ForgetKind.ITEM, item_id=item["item_id"], requested_at=at
        )  # fmt: skip
        producer = Producer(settings.kafka().client())
        producer.produce(
            FORGOTTEN.physical(settings.kafka(), settings.generation), encode(request), request.key.encode()
        )
        producer.flush()
    report = audit(settings)
    assert report.failed == ("store.forgotten",)
    check = next(c for c in report.checks if c.name == "store.forgotten")
    assert {e.id for e in check.examples} == {kept["item_id"], f"{kept['trend_id']} {kept['item_id']}"}
    assert report.forgotten == 2
