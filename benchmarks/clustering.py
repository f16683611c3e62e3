"""How well topics agree with known stories: router, embedder and engine alone, and end to end through the pipeline.

Any labelled file (``--data``, ``--label``, ``--map``), else the synthetic world; in file order, shuffled, and with
``--dilute FILE`` among unlabelled posts. ``at emission`` is the topic that an item was given when it came, ``final``
the one that it belongs to once merges are followed. Seeded: the same call prints the same figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import posts_of, synthetic_posts
from benchmarks.piped import piped, records_of
from connectors.base import Sighting
from models.embedding import EmbeddingCache, create
from models.quality import Agreement
from streams.records import EnrichedItem, TopicUpdate
from streams.table import ENRICHED, UPDATES
from trends.evaluation import MEASURES, Placed, evaluate, orders_of

ITEMS: Final = 5_000
"""Of the synthetic world."""


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
    """The same from the streams of the real pipeline."""
    with piped(sightings, tell) as settings:
        placed = Placed({}, {})
        placed.note(records_of(settings, ENRICHED, EnrichedItem), records_of(settings, UPDATES, TopicUpdate))
        return placed
