"""Rubbish in the streams that steer every process: it is passed over and counted, and hides nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from streams import metrics
from streams.admin import StreamAdmin
from streams.codec import HEADER_VERSION, encode
from streams.config import KafkaConfig
from streams.errors import GenerationError
from streams.forgotten import ForgottenFollower, author_hash
from streams.generations import LIVE, read_generations
from streams.outages import OutageFollower
from streams.partitions import growth
from streams.producer import CatalogFollower, Publisher
from streams.records import (
    ChangePhase,
    ForgetKind,
    ForgetRequest,
    Generation,
    GenerationState,
    PartitionChange,
    Record,
    SourceCursor,
    SourceGap,
    TrendDefinition,
)
from streams.state import COVER_PREFIX
from streams.table import CATALOG, CURSORS, FORGOTTEN, GENERATIONS, PARTITIONS, SOURCE_GAPS, Stream
from tests.conftest import LocalStack
from trends.build import read_plan
from trends.cli import build
from trends.settings import load_settings

AT = datetime(2026, 3, 1, tzinfo=UTC)
SALT = "ab" * 16
FREE = ("cursor", "category")
"""Fields that may hold nearly anything."""


@pytest.fixture
def kafka(stack: LocalStack) -> KafkaConfig:
    kafka = stack.kafka_named(partitions=2)
    StreamAdmin(kafka, "g1").apply()
    return kafka


Message = tuple[bytes, bytes | None, dict[str, bytes]]


def rubbish(key: bytes, good: Record) -> list[Message]:
    """Whatever a stranger, a broken tool or a newer release may write, also under the key of a good record."""
    fields = msgspec.json.decode(encode(good))
    values = [
        b"\xff\xfe", b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"name":"\\ud800"}', b"9" * 400_000,
        *(msgspec.json.encode(fields | {name: [2**64]}) for name in fields if name not in FREE),
        *(msgspec.json.encode(fields | {name: "x" * 500_000}) for name in fields if name not in FREE),
    ]  # fmt: skip
    found: list[Message] = [(key, value, {}) for value in values]
    found += [(b"another", encode(good), {}), (b"\xff", encode(good), {}), (key, encode(good), {HEADER_VERSION: b"99"})]
    covers = [COVER_PREFIX, COVER_PREFIX + b"x", COVER_PREFIX + b"\xff/\xff", COVER_PREFIX + b"s/0"]
    return found + [(cover, value, {}) for cover in covers for value in (None, b"rubbish", b"5")]


def produce(kafka: KafkaConfig, stream: Stream, messages: Sequence[Message]) -> None:
    producer = Producer(kafka.client(**{"message.max.bytes": 2_000_000}))
    refused: list[Any] = []
    for key, value, headers in messages:
        producer.produce(
            stream.physical(kafka, ""), value, key, 0, headers=dict(headers),
            on_delivery=lambda error, _: refused.append(error) if error else None,
        )  # fmt: skip
    producer.flush(30)
    assert not refused


def between(kafka: KafkaConfig, stream: Stream, key: str, good: Record, later: tuple[str, Record]) -> list[Message]:
    """Writes a good record, rubbish, and another good one."""
    bad = rubbish(key.encode(), good)
    produce(kafka, stream, [(key.encode(), encode(good), {}), *bad, (later[0].encode(), encode(later[1]), {})])
    return [message for message in bad if message[1] is not None]  # a key that is gone is nothing to refuse


def refused(kafka: KafkaConfig, stream: Stream) -> float:
    return float(metrics.CONTROL_REFUSED.labels(stream.physical(kafka, ""))._value.get())


def generation(name: str, **more: Any) -> Generation:
    return Generation(
        name=name, state=GenerationState.READY, embedder="null", dimensions=8, made_at=AT, changed_at=AT, version=1,
        **more,
    )  # fmt: skip


def test_outages_of_sources_are_read_around_rubbish_and_shown(
    kafka: KafkaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        SourceGap(source=name, connector=name, since=AT, until=AT + timedelta(hours=2), reason="HTTP 503")
        for name in ("rss", "hn")
    )
    bad = between(kafka, SOURCE_GAPS, first.key, first, (second.key, second))
    before = refused(kafka, SOURCE_GAPS)
    found: list[SourceGap] = []
    with closing(OutageFollower(kafka, found.append)) as follower:
        follower.catch_up()
    assert sorted(found, key=lambda gap: gap.source) == [second, first]  # one of a key, in any order
    assert refused(kafka, SOURCE_GAPS) - before == len(bad)
    monkeypatch.setenv("TRENDS_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("TRENDS_STACK", kafka.stack)
    shown = CliRunner().invoke(build(), ("streams", "outages"))
    assert "HTTP 503" in shown.stdout, shown.output


def test_generations_are_read_around_rubbish_and_one_goes_by_its_own_name_alone(kafka: KafkaConfig) -> None:
    bad = between(kafka, GENERATIONS, "g1", generation("g1"), (LIVE, generation("g2")))
    found = read_generations(kafka)
    assert found.named == {"g1": generation("g1")}
    assert found.live == generation("g2")
    assert refused(kafka, GENERATIONS) == len(bad)


def test_what_is_to_be_forgotten_is_known_around_rubbish(kafka: KafkaConfig) -> None:
    item = ForgetRequest(request_id="1", kind=ForgetKind.ITEM, item_id="x", requested_at=AT)
    author = ForgetRequest(
        request_id="2", kind=ForgetKind.AUTHOR, author_hash=author_hash(SALT, None, "Ann"), salt=SALT, requested_at=AT
    )
    bad = between(kafka, FORGOTTEN, item.key, item, (author.key, author))
    others = [
        msgspec.structs.replace(author, author_hash=f"other{n}", salt=salt)
        for n, salt in enumerate(["cd" * 16, "no hex", "", None, "ab" * 90])
    ]
    bad += (more := [(other.key.encode(), encode(other), {}) for other in others])
    produce(kafka, FORGOTTEN, more)
    with closing(ForgottenFollower(kafka, "embed")) as follower:
        follower.catch_up()
        assert follower.now.item("x")
        assert follower.now.author("file", "ann")
        assert not follower.now.author("file", "Bob")
        last = ForgetRequest(request_id="3", kind=ForgetKind.ITEM, item_id="y", requested_at=AT)
        produce(kafka, FORGOTTEN, [(COVER_PREFIX, b"5", {}), (last.key.encode(), encode(last), {})])
        for _ in range(100):
            if follower.poll().item("y"):
                break
            asyncio.run(asyncio.sleep(0.05))
        assert follower.now.item("y")
        # Where no author is left, the next request may have another key.
        anew = msgspec.structs.replace(author, author_hash=author_hash("cd" * 16, None, "Bob"), salt="cd" * 16)
        produce(kafka, FORGOTTEN, [(author.key.encode(), None, {}), (anew.key.encode(), encode(anew), {})])
        for _ in range(100):
            if follower.poll().author("file", "Bob"):
                break
            asyncio.run(asyncio.sleep(0.05))
        assert follower.now.author("file", "Bob")
        assert not follower.now.author("file", "Ann")
    assert refused(kafka, FORGOTTEN) == len(bad) + 1


def test_tracked_subjects_are_known_around_rubbish(kafka: KafkaConfig) -> None:
    one, two = (TrendDefinition(trend_id=t, title=t, updated_at=AT, version=1) for t in ("one", "two"))
    bad = between(kafka, CATALOG, "one", one, ("two", two))
    known: list[TrendDefinition] = []
    with closing(CatalogFollower(kafka, "g1", known.append)) as follower:
        follower.catch_up()
    assert known == [one, two]
    assert refused(kafka, CATALOG) == len(bad)


def test_a_connector_and_a_build_go_on_from_the_last_cursor_that_can_be_read(
    kafka: KafkaConfig, tmp_path: Path
) -> None:
    saved, later = (
        SourceCursor(connector=name, cursor=msgspec.Raw(b'{"at":5}'), saved_at=AT, items=5)
        for name in ("rss", "build:g2")
    )
    between(kafka, CURSORS, "rss", saved, (later.connector, later))

    async def load() -> bytes | None:
        async with Publisher(kafka, "g1") as publisher:
            return await publisher.load_cursor("rss")

    assert asyncio.run(load()) == b'{"at":5}'
    settings = load_settings(kafka_bootstrap=kafka.bootstrap, stack=kafka.stack, home=tmp_path)
    with pytest.raises(GenerationError, match="drop g2"):  # a cursor that can be read, and is no plan
        read_plan(settings, generation("g2"))


def test_partitions_are_as_our_own_commands_made_them_whatever_else_is_said(kafka: KafkaConfig) -> None:
    good = PartitionChange(before=2, after=4, phase=ChangePhase.ACTIVE, changed_at=AT)
    wrong = [msgspec.structs.replace(good, before=b, after=a) for b, a in ((4, 7), (4, 1000), (3, 6), (4, 4), (4, 2))]
    produce(kafka, PARTITIONS, [(b"k", encode(change), {}) for change in wrong])
    StreamAdmin(kafka, "g1").grow(4)
    bad = [m for m in rubbish(b"k", good) if m[1] is None or m[1] != encode(good)]
    produce(kafka, PARTITIONS, [*bad, *((b"k", encode(change), {}) for change in wrong)])
    assert growth(kafka).count == 4
    assert len(growth(replace(kafka, partitions=16)).steps) == 1
