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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from confluent_kafka.admin import AdminClient

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import Posts, posts_of, synthetic_posts
from benchmarks.own_stack import own_stack, stored_after
from connectors import connector_of
from connectors.base import Sighting, routing
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import Embedder, EmbeddingCache, create
from models.engine import ClusterEngine
from models.quality import Agreement, agreement
from models.routing import Router
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.broker import end_offsets
from streams.codec import decode
from streams.dead_letters import headers_of_message
from streams.errors import UnavailableError
from streams.ids import item_id_of
from streams.records import Change, EnrichedItem, Record, TopicUpdate
from streams.table import ENRICHED, UPDATES, Stream
from streams.whole import read_whole
from trends.demo import Stages, processes
from trends.flow_processes import flow_supervisor
from trends.settings import Settings

ITEMS: Final = 5_000
"""Of the synthetic world."""
CHUNK: Final = 256
SETTLE_S: Final = 1_200.0
ASK_S: Final = 20.0

R = TypeVar("R", bound=Record)


@dataclass(slots=True)
class Placed:
    """Which topic each item was given, and which topics went into which."""

    topics: dict[str, str]
    merged: dict[str, str]

    def final(self, topic_id: str) -> str:
        """The topic that it is in the end."""
        while topic_id in self.merged:
            topic_id = self.merged[topic_id]
        return topic_id

    def agreements(self, labels: Mapping[str, str]) -> tuple[Agreement, Agreement]:
        """At emission, and final, over the items that have a label.

        Raises:
            UnavailableError: labelled items have no topic.
        """
        if missing := labels.keys() - self.topics.keys():
            raise UnavailableError(f"{len(missing):,} labelled items have no topic, such as {min(missing)}")
        judged = sorted(labels)
        truth = [labels[i] for i in judged]
        given = [self.topics[i] for i in judged]
        return agreement(given, truth), agreement([self.final(t) for t in given], truth)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Agreement in each order, alone and through the pipeline."""
    columns = dict(pair.split("=", 1) for pair in args.map)
    posts = posts_of(args.data, args.label, columns) if args.data else synthetic_posts(args.items or ITEMS, args.seed)
    orders = [posts, *(posts.shuffled(args.seed + n) for n in range(args.rounds))]
    if args.dilute:
        orders.append(posts.diluted(posts_of(args.dilute, None, columns, labelled=False), args.seed))
    embedder = create("onnx")
    cache = EmbeddingCache(len(orders[-1].sightings))  # the same posts come in several orders
    rows: list[Measures] = []
    for order in orders:
        began = time.perf_counter()
        placed = alone(order.sightings, embedder, cache)
        rows.append(_row(f"alone, {_order(order, posts)}", placed, posts.labels))
        tell(f"{rows[-1].name}: {len(order.sightings) / (time.perf_counter() - began):,.0f} posts/s")
    embedder.close()
    if not args.models_only:
        rows.append(_row("pipeline, in file order", through_pipeline(posts.sightings, tell), posts.labels))
    facts = {
        "data": posts.name, "posts": len(posts.sightings), "labelled": len(posts.labels),
        "stories": len(set(posts.labels.values())), "seed": args.seed,
    }  # fmt: skip
    return Scores("clustering", tuple(rows), facts)


def _order(order: Posts, posts: Posts) -> str:
    return order.name.removeprefix(f"{posts.name}, ") if order is not posts else "in file order"


def _row(name: str, placed: Placed, labels: Mapping[str, str]) -> Measures:
    emitted, final = placed.agreements(labels)
    shown = asdict(final)
    values = {"B3 F1 at emission": emitted.f1} | {
        title: shown[key]
        for title, key in (
            ("B3 F1", "f1"), ("P", "precision"), ("R", "recall"), ("NMI", "nmi"), ("ARI", "ari"),
            ("completeness", "completeness"),
        )
    }  # fmt: skip
    return Measures(name, values, f"{final.clusters:,} topics for {final.classes:,} stories")


def alone(sightings: Iterable[Sighting], embedder: Embedder, cache: EmbeddingCache) -> Placed:
    """What router, embedder and engine decide, without streams and stores."""
    route = routing(Router())
    embed, cluster = EmbedEngine(embedder, cache), ClusterEngine(ClusterConfig(), "bench")
    placed = Placed({}, {})
    observations = [seen.routed(route(seen)) for seen in sightings]
    for begin in range(0, len(observations), CHUNK):
        decided = cluster.apply(embed.apply(observations[begin : begin + CHUNK]))
        _note(placed, decided.enriched, decided.updates)
    return placed


def _note(placed: Placed, enriched: Iterable[EnrichedItem], updates: Iterable[TopicUpdate]) -> None:
    for each in enriched:
        if each.change is Change.FIRST:
            placed.topics[item_id_of(each.item.source, each.item.external_id)] = each.topic_id
    placed.merged.update((each.topic_id, each.merged_into) for each in updates if each.merged_into)


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
        _note(placed, _records(settings, ENRICHED, EnrichedItem), _records(settings, UPDATES, TopicUpdate))
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
