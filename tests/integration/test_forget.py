"""Forgetting on the real parts: an item and an author go from streams, stores and state, and nothing brings them back.

One run of the whole platform serves all tests, in their order.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors import connector_of
from sinks.postgres import SyncReader, migrate
from sinks.postgres.export import Filters
from streams.admin import StreamAdmin
from streams.codec import decode, encode
from streams.forgotten import Forgotten, ForgottenFollower
from streams.ids import item_id_of
from streams.lag import LagProbe
from streams.letters import LetterBox, Selection
from streams.producer import Publisher
from streams.records import ForgetRequest, Kind, Mention, Observation, Record, TopicSummary, TopicUpdate, TrendScore
from streams.table import FORGOTTEN, MENTIONS, SCORES, SUMMARIES, UPDATES, Stream, raw
from tests.conftest import LocalStack
from tests.waiting import until
from trends.collecting import collect
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS, prepare
from trends.forgetting import Forgetter, Wanted
from trends.settings import Settings, load_settings
from trends.supervisor import Supervisor
from trends.verify import audit

AT = datetime(2026, 1, 6, 12, tzinfo=UTC)
AUTHOR = "Élodie  Marchetti"
STORY = "Harbour pilots of Quellmark strike over the new tariff"


def observation(number: int, **changes: object) -> Observation:
    fields: dict[str, object] = {
        "item_id": item_id_of("file", f"story-{number}"), "source": "file", "external_id": f"story-{number}",
        "kind": Kind.POST, "title": f"{STORY}, day {number}",
        "body": f"The pilots of Quellmark said no to offer {number}.",
        "observed_at": AT + timedelta(minutes=number), "published_at": AT, "trend_id": "term:quellmark",
        "mentions": ("term:pilots",), "publisher": f"site{number}.example", "author": f"Writer {number}",
    }  # fmt: skip
    return Observation(**(fields | changes))  # type: ignore[arg-type]


HERS = [observation(n, author=AUTHOR) for n in (1, 4)]
OTHERS = [observation(n) for n in (0, 2, 3, 5, 6)]
LATER = observation(7, author=AUTHOR.upper())
"""Written after the request."""
ITEM = OTHERS[0]
"""The one that founded the topic."""
GONE = {ITEM.item_id, *(item.item_id for item in HERS)}


@dataclass
class World:
    settings: Settings
    flows: Supervisor

    def settle(self, flows: tuple[str, ...] = FLOWS) -> None:
        deadline = time.monotonic() + 120
        for flow in flows:
            inputs = prepare(flow, self.settings)[0].inputs
            with closing(LagProbe(self.settings.kafka(), self.settings.generation, flow, inputs)) as probe:
                while any(lag.records for lag in probe.lag().values()):
                    assert self.flows.failure is None, self.flows.failure
                    assert time.monotonic() < deadline, flow
                    time.sleep(0.2)

    def publish(self, *items: Observation) -> None:
        async def send() -> None:
            async with Publisher(self.settings.kafka(), self.settings.generation) as publisher:
                await publisher.publish(items)

        asyncio.run(send())

    def produce(self, value: bytes) -> None:
        """As a producer does that is not ours and asks nobody."""
        producer = Producer(self.settings.kafka().client())
        name = raw("file").physical(self.settings.kafka(), self.settings.generation)
        producer.produce(name, value, b"term:quellmark", 3)
        producer.flush()

    def read(self, stream: Stream) -> dict[bytes, Record]:
        """The newest record of each key."""
        kafka = self.settings.kafka()
        count = stream.count(kafka)
        with closing(Consumer(kafka.client(**{"group.id": "forget-test", "enable.partition.eof": True}))) as consumer:
            consumer.assign([TopicPartition(stream.physical(kafka, "fg"), p, 0) for p in range(count)])
            found: dict[bytes, Record] = {}
            ended = 0
            while ended < count:
                for message in consumer.consume(2_000, 1.0):
                    if message.error():
                        ended += 1
                    elif message.value() is not None:
                        key = (
                            message.key()
                            if stream is not MENTIONS
                            else b"%d/%d" % (message.partition(), message.offset())
                        )
                        found[key] = decode(stream.record, message.value())  # type: ignore[arg-type]
        return found

    def rows(self, sql: str, *arguments: Any) -> list[Any]:
        async def ask() -> list[Any]:
            found: list[Any] = []
            for dsn in self.settings.dsns():
                connection = await asyncpg.connect(dsn)
                found += await connection.fetch(sql, *arguments)
                await connection.close()
            return found

        return asyncio.run(ask())

    def stored(self) -> set[str]:
        with SyncReader(self.settings.postgres()) as sync:
            return {str(row["item_id"]) for row in sync.export("items", Filters())}

    def read_again(self, flow: str) -> None:
        """The flow begins at the beginning, as a replay does."""
        kafka = self.settings.kafka()
        admin = AdminClient(kafka.client())
        group = kafka.id_of(self.settings.generation, flow)

        def deleted() -> bool:
            with suppress(Exception):  # the member is still in the group
                admin.delete_consumer_groups([group])[group].result(10)
                return True
            return False

        until(deleted)

    def traces(self) -> list[str]:
        """Where the text or id of anything forgotten can be read."""
        found = [f"stored {item}" for item in self.stored() & GONE]
        if self.rows("SELECT 1 FROM fg.mentions WHERE item_id = ANY($1)", sorted(GONE)):
            found.append("mentions")
        for row in self.rows("SELECT leading_items::text AS t FROM fg.topics"):
            found += [f"leading {item}" for item in GONE if item in row["t"]]
        for update in self.read(UPDATES).values():
            assert isinstance(update, TopicUpdate)
            found += [f"update {i.item_id}" for i in update.items if i.item_id in GONE]
        words = [f"offer {n}." for n in (0, 1, 4)] + [f"day {n}" for n in (0, 1, 4)]
        summaries = [f"{s.headline} {s.summary}" for s in self.read(SUMMARIES).values() if isinstance(s, TopicSummary)]
        summaries += [f"{r['headline']} {r['summary']}" for r in self.rows("SELECT * FROM fg.topic_summaries")]
        found += [f"summary {text}" for text in summaries if any(word in text for word in words)]
        return found


@pytest.fixture(scope="module")
def world(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = load_settings(
        home=tmp_path_factory.mktemp("forget"), kafka_bootstrap=stack.bootstrap, postgres_dsns=stack.dsns,
        stack="forget", generation="fg", kafka_partitions=4, kafka_session_timeout_ms=3_000,
    )  # fmt: skip
    StreamAdmin(settings.kafka(), settings.generation).apply()
    asyncio.run(migrate(settings.postgres()))
    with flow_supervisor(settings, dict.fromkeys(FLOWS, 1), lambda _name, _line: None) as flows:
        world = World(settings, flows)
        asyncio.run(collect(settings, [connector_of("synthetic", {"items": 150, "seed": 5})]))
        world.publish(*sorted([*HERS, *OTHERS], key=lambda o: o.observed_at))
        world.produce(encode(HERS[0]).replace(b'"kind":"post"', b'"kind":"poem"'))
        world.produce(b"rubbish of nobody in particular")
        world.settle()
        yield world


def test_what_is_forgotten_leaves_no_trace_that_can_be_read(world: World) -> None:
    assert world.stored() >= GONE
    assert world.traces(), "there must be something to remove"
    box = LetterBox(world.settings.kafka(), "fg")
    assert box.overview(Selection(), 0).letters == 2
    said: list[str] = []
    forgetter = Forgetter(world.settings, said.append)
    item = forgetter.forget(Wanted.item(f"file/{ITEM.external_id}"), "a test", 120)
    author = forgetter.forget(Wanted(author=AUTHOR.lower()), "a test", 120)
    assert (item.done, author.done) == (True, True), (item.left, author.left)
    assert (item.items, author.items) == (1, 2)
    world.settle()
    assert world.traces() == []
    assert {o.item_id for o in OTHERS[1:]} <= world.stored()
    assert box.overview(Selection(), 0).letters == 1, "only the letter that held it is purged"
    assert forgetter.check(author.request.request_id).done


def test_the_request_names_nobody(world: World) -> None:
    text = json.dumps([msgspec.to_builtins(r) for r in world.read(FORGOTTEN).values()]).casefold()
    assert "marchetti" not in text
    assert "quellmark" not in text
    requests = [r for r in world.read(FORGOTTEN).values() if isinstance(r, ForgetRequest)]
    assert {r.item_id for r in requests if r.item_id} == GONE


def test_of_two_first_requests_for_an_author_both_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each made a key for the hashes of authors: the one that comes second takes the first one's."""
    forgetter = Forgetter(world.settings, lambda _line: None)
    asked, really = iter([Forgotten()]), forgetter.requests
    monkeypatch.setattr(forgetter, "requests", lambda: next(asked, None) or really())
    assert forgetter.forget(Wanted(author="Wilma Zwei"), "a test", 60).done
    with closing(ForgottenFollower(world.settings.kafka(), "test")) as follower:
        follower.catch_up()
        for name in ("wilma zwei", AUTHOR):
            assert follower.now.author("file", name), name


def test_counts_stay_exact(world: World) -> None:
    updates = [u for u in world.read(UPDATES).values() if isinstance(u, TopicUpdate)]
    merged_into = {u.topic_id: u.merged_into for u in updates}
    sizes: Counter[str] = Counter()
    for row in world.rows("SELECT topic_id FROM fg.items WHERE NOT deleted"):
        topic_id = row["topic_id"]
        while winner := merged_into[topic_id]:
            topic_id = winner
        sizes[topic_id] += 1
    assert {u.topic_id: u.size for u in updates if u.merged_into is None and u.size} == dict(sizes)
    weights: Counter[str] = Counter()
    for mention in world.read(MENTIONS).values():
        assert isinstance(mention, Mention)
        weights[mention.trend_id] += mention.weight
    totals = {s.trend_id: s.total for s in world.read(SCORES).values() if isinstance(s, TrendScore)}
    assert totals == {t: weights[t] for t in totals}


def test_verify_takes_what_is_gone_for_gone(world: World) -> None:
    report = audit(world.settings, wait_s=120)
    assert [(c.name, c.examples) for c in report.checks if c.off] == []
    assert report.forgotten


def test_neither_collecting_again_nor_other_producers_bring_it_back(world: World) -> None:
    now = datetime.now(UTC)
    again = [msgspec.structs.replace(o, observed_at=now, title=f"{o.title}!") for o in (ITEM, *HERS, LATER)]
    world.publish(*again, observation(8))
    for each in again:
        world.produce(encode(each))
    world.settle()
    assert observation(8).item_id in world.stored()
    assert LATER.item_id not in world.stored()
    assert world.traces() == []


@pytest.mark.parametrize("flow", ["embed", "store"])
def test_reading_everything_again_does_not_bring_it_back(world: World, flow: str) -> None:
    before = world.stored()
    world.flows.stop()
    world.read_again(flow)
    with flow_supervisor(world.settings, dict.fromkeys(FLOWS, 1), lambda _name, _line: None) as flows:
        world.flows = flows
        world.settle()
        assert world.traces() == []
        assert world.stored() == before
