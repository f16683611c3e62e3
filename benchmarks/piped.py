"""Posts through the real pipeline: a file source, Kafka, and all flows as processes of their own, on a stack apart."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from confluent_kafka.admin import AdminClient

from benchmarks.own_stack import own_stack, stored_after
from connectors import connector_of
from connectors.base import Sighting
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.codec import decode
from streams.dead_letters import headers_of_message
from streams.records import Record
from streams.table import Stream
from streams.whole import read_whole
from trends.demo import Stages, processes
from trends.flow_processes import flow_supervisor
from trends.settings import Settings

SETTLE_S: Final = 1_200.0
ASK_S: Final = 20.0

R = TypeVar("R", bound=Record)


@contextmanager
def piped(sightings: Sequence[Sighting], tell: Callable[[str], None]) -> Iterator[Settings]:
    """A stack whose flows have dealt with all of some posts of one source, and have ended."""
    with own_stack() as settings, tempfile.TemporaryDirectory() as folder:
        StreamAdmin(settings.kafka(), settings.generation).apply()
        asyncio.run(migrate(settings.postgres()))
        connector = connector_of(f"file:{written(sightings, Path(folder))}", {"source": sightings[0].source})
        with flow_supervisor(settings, processes(), lambda _name, _line: None) as flows, Stages(settings) as stages:
            seconds = stored_after(settings, connector, flows, stages, SETTLE_S)
            tell(f"pipeline: {len(sightings) / seconds:,.0f} posts/s")
        yield settings


def written(sightings: Sequence[Sighting], folder: Path) -> Path:
    """A file of posts that a file source reads."""
    path = folder / "posts.jsonl"
    path.write_bytes(b"".join(_line(seen) + b"\n" for seen in sightings))
    return path


def _line(seen: Sighting) -> bytes:
    row = {
        "id": seen.external_id, "title": seen.title, "body": seen.body, "url": seen.url, "author": seen.author,
        "publisher": seen.publisher, "lang": seen.lang, "published_at": seen.published_at.isoformat(),
        "observed_at": seen.observed_at.isoformat(), "kind": seen.kind.value, "points": seen.engagement.points,
        "comments": seen.engagement.comments,
    }  # fmt: skip
    return msgspec.json.encode({key: value for key, value in row.items() if value not in (None, "")})


def records_of(settings: Settings, stream: Stream, kind: type[R]) -> Iterator[R]:
    """All records of a stream of the generation."""
    kafka = settings.kafka()
    name = stream.physical(kafka, settings.generation)
    config: dict[str, Any] = kafka.client()
    ends = end_offsets(AdminClient(config), [(name, p) for p in range(stream.count(kafka))], ASK_S)
    for batch in read_whole(kafka, name, {partition: end for (_, partition), end in ends.items()}):
        for message in batch:
            yield decode(kind, message.value(), headers_of_message(message))
