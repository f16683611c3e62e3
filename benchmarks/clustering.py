"""How well topics agree with known stories: router, embedder and engine alone, and end to end through the pipeline.

Any labelled file (``--data``, ``--label``, ``--map``), else the synthetic world; in file order, shuffled, and with
``--dilute FILE`` among unlabelled posts. ``at emission`` is the topic that an item was given when it came, ``final``
the one that it belongs to once merges are followed. Seeded: the same call prints the same figures.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from confluent_kafka.admin import AdminClient

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import posts_of, synthetic_posts
from benchmarks.own_stack import own_stack, stored_after
from connectors import connector_of
from connectors.base import Sighting
from models.embedding import EmbeddingCache, create
from models.quality import Agreement
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.codec import decode
from streams.dead_letters import headers_of_message
from streams.records import EnrichedItem, Record, TopicUpdate
from streams.table import ENRICHED, UPDATES, Stream
from streams.whole import read_whole
from trends.demo import Stages, processes
from trends.evaluation import MEASURES, Placed, evaluate, orders_of
from trends.flow_processes import flow_supervisor
from trends.settings import Settings

ITEMS: Final = 5_000
"""Of the synthetic world."""
SETTLE_S: Final = 1_200.0
ASK_S: Final = 20.0

R = TypeVar("R", bound=Record)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Agreement in each order, alone and through the pipeline."""
    columns = dict(pair.split("=", 1) for pair in args.map)
    posts = posts_of(args.data, args.label, columns) if args.data else synthetic_posts(args.items or ITEMS, args.seed)
    others = posts_of(args.dilute, None, columns, labelled=False) if args.dilute else None
    orders = orders_of(posts, args.seed, args.rounds, others)
    embedder = create("onnx")
    cache = EmbeddingCache(len(orders[-1][1].sightings))  # the same posts come in several orders
    rows: list[Measures] = []
    began = time.perf_counter()
    for each, (_, order) in zip(evaluate(orders, embedder, cache), orders, strict=True):
        rows.append(_row(f"alone, {each.order}", each.at_emission, each.final))
        tell(f"{rows[-1].name}: {len(order.sightings) / (time.perf_counter() - began):,.0f} posts/s")
        began = time.perf_counter()
    embedder.close()
    if not args.models_only:
        rows.append(_row("pipeline, in file order", *through_pipeline(posts.sightings, tell).agreements(posts.labels)))
    facts = {
        "data": posts.name, "posts": len(posts.sightings), "labelled": len(posts.labels),
        "stories": len(set(posts.labels.values())), "seed": args.seed,
    }  # fmt: skip
    return Scores("clustering", tuple(rows), facts)


def _row(name: str, emitted: Agreement, final: Agreement) -> Measures:
    values = {"B3 F1 at emission": emitted.f1} | {title: getattr(final, key) for title, key in MEASURES.items()}
    return Measures(name, values, f"{final.clusters:,} topics for {final.classes:,} stories")


def through_pipeline(sightings: Sequence[Sighting], tell: Callable[[str], None]) -> Placed:
    """The same from the streams: file source, Kafka and all flows as processes of their own, on a stack of its own."""
    with own_stack() as settings, tempfile.TemporaryDirectory() as folder:
        StreamAdmin(settings.kafka(), settings.generation).apply()
        asyncio.run(migrate(settings.postgres()))
        path = Path(folder) / "posts.jsonl"
        path.write_bytes(b"\n".join(line_of(seen) for seen in sightings) + b"\n")
        with flow_supervisor(settings, processes(), lambda _name, _line: None) as flows, Stages(settings) as stages:
            connector = connector_of(f"file:{path}", {"source": sightings[0].source})
            seconds = stored_after(settings, connector, flows, stages, SETTLE_S)
            tell(f"pipeline: {len(sightings) / seconds:,.0f} posts/s")
        placed = Placed({}, {})
        placed.note(_records(settings, ENRICHED, EnrichedItem), _records(settings, UPDATES, TopicUpdate))
        return placed


def line_of(seen: Sighting) -> bytes:
    """A post as a line of a file that a file source reads."""
    row = {
        "id": seen.external_id, "title": seen.title, "body": seen.body, "url": seen.url, "author": seen.author,
        "publisher": seen.publisher, "lang": seen.lang, "published_at": seen.published_at.isoformat(),
        "observed_at": seen.observed_at.isoformat(), "kind": seen.kind.value, "points": seen.engagement.points,
        "comments": seen.engagement.comments,
    }  # fmt: skip
    return msgspec.json.encode({key: value for key, value in row.items() if value not in (None, "")})


def _records(settings: Settings, stream: Stream, kind: type[R]) -> Iterator[R]:
    """All records of a stream of the generation."""
    kafka = settings.kafka()
    name = stream.physical(kafka, settings.generation)
    config: dict[str, Any] = kafka.client()
    ends = end_offsets(AdminClient(config), [(name, p) for p in range(stream.count(kafka))], ASK_S)
    for batch in read_whole(kafka, name, {partition: end for (_, partition), end in ends.items()}):
        for message in batch:
            yield decode(kind, message.value(), headers_of_message(message))
