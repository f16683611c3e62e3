"""How well copies are told from what is new: the echoes that the engine finds against the true ones.

Over the synthetic world, which knows of every copy what it copies and how, or over any labelled file (``--data``),
where the column ``--label`` names a group of copies: all items of a group but the first are echoes of it, and an item
without a label is none. In file order, by the engine alone and through the pipeline. Seeded: the same call prints the
same figures (those of the pipeline depend a little on how its batches fall).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import first_sightings, posts_of
from benchmarks.piped import piped, records_of
from connectors.base import Sighting, routing
from connectors.synthetic import COPIES, RETOLD, SyntheticOptions, World
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import Embedder, EmbeddingCache, create
from models.engine import ClusterEngine
from models.routing import Router
from streams.ids import item_id_of
from streams.records import Change, EnrichedItem
from streams.table import ENRICHED
from trends.evaluation import CHUNK

ITEMS: Final = 5_000
"""Of the synthetic world."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Posts, and which of them are copies of what."""

    name: str
    sightings: tuple[Sighting, ...]
    group: Mapping[str, str]
    """By item id: the item that is the first of its kind; itself for what is new."""
    how: Mapping[str, str]
    """By item id of a copy: in which way it is one."""
    open: frozenset[str] = frozenset()
    """Items of which nobody can say; they are not judged."""


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Precision, recall and F1 over all, and the recall of each kind of copy."""
    columns = dict(pair.split("=", 1) for pair in args.map)
    copies = labelled(args, columns) if args.data else synthetic_copies(args.items or ITEMS, args.seed)
    embedder = create("onnx")
    found = echoes(copies.sightings, embedder, EmbeddingCache())
    embedder.close()
    tell(f"{len(copies.sightings):,} posts")
    rows = agreement(found, copies)
    if not args.models_only:
        rows.append(
            replace(agreement(through_pipeline(copies.sightings, tell), copies)[0], name="all, through the pipeline")
        )
    facts = {
        "data": copies.name, "posts": len(copies.sightings), "copies": len(copies.how), "found": len(found),
        "seed": args.seed,
    }  # fmt: skip
    return Scores("echoes", tuple(rows), facts)


def echoes(sightings: Iterable[Sighting], embedder: Embedder, cache: EmbeddingCache) -> dict[str, str]:
    """Each item that was found to be an echo, and of what."""
    route = routing(Router())
    embed, cluster = EmbedEngine(embedder, cache), ClusterEngine(ClusterConfig(), "bench")
    observations = [seen.routed(route(seen)) for seen in sightings]
    found: dict[str, str] = {}
    for begin in range(0, len(observations), CHUNK):
        found |= _found(cluster.apply(embed.apply(observations[begin : begin + CHUNK])).enriched)
    return found


def through_pipeline(sightings: Sequence[Sighting], tell: Callable[[str], None]) -> dict[str, str]:
    """The same from the streams of the real pipeline."""
    with piped(sightings, tell) as settings:
        return _found(records_of(settings, ENRICHED, EnrichedItem))


def _found(enriched: Iterable[EnrichedItem]) -> dict[str, str]:
    return {each.item.item_id: each.echo_of for each in enriched if each.change is Change.FIRST and each.echo_of}


def agreement(found: Mapping[str, str], copies: Copies) -> list[Measures]:
    """All copies, then each kind; ``right original`` is the share of those found that were laid to their own group."""
    found = {item_id: origin for item_id, origin in found.items() if item_id not in copies.open}
    right = found.keys() & copies.how.keys()
    kinds: dict[str, set[str]] = defaultdict(set)
    for item_id, how in copies.how.items():
        kinds[how].add(item_id)
    precision = len(right) / max(1, len(found))
    rows = [_row("all", precision, len(right), set(copies.how), found, copies)]
    # What is falsely called a copy is of no kind, so a kind has a recall alone.
    rows += [_row(how, 1.0, len(kinds[how] & right), kinds[how], found, copies) for how in sorted(kinds)]
    return rows


def _row(
    name: str, precision: float, right: int, true: set[str], found: Mapping[str, str], copies: Copies
) -> Measures:  # fmt: skip
    recall = right / max(1, len(true))
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    own = sum(copies.group[found[i]] == copies.group[i] for i in true & found.keys())
    values = {"recall": recall, "right original": own / max(1, right)}
    if name == "all":
        values |= {"precision": precision, "F1": f1}
    return Measures(name, values, f"{len(true):,} copies")


def synthetic_copies(items: int, seed: int) -> Copies:
    """The synthetic world, with the copies that it knows of."""
    world = World(SyntheticOptions(items=items, seed=seed))
    seen = first_sightings(world)
    group, how, retold = {}, {}, set()
    for external_id, sighting in seen.items():
        truth = world.truth[external_id]
        group[sighting.item_id] = item_id_of(sighting.source, truth.copy_of or external_id)
        if truth.how == RETOLD:
            retold.add(sighting.item_id)
        elif truth.how:
            how[sighting.item_id] = truth.how
    assert set(how.values()) <= set(COPIES)
    return Copies("the synthetic world", tuple(seen.values()), group, how, frozenset(retold))


def labelled(args: argparse.Namespace, columns: Mapping[str, str]) -> Copies:
    """A file, with the copies that its label tells."""
    posts = posts_of(args.data, args.label, columns)
    first: dict[str, str] = {}
    group, how = {}, {}
    for seen in posts.sightings:
        label = posts.labels.get(seen.item_id)
        group[seen.item_id] = first.setdefault(label, seen.item_id) if label else seen.item_id
        if group[seen.item_id] != seen.item_id:
            how[seen.item_id] = "labelled"
    return Copies(posts.name, posts.sightings, group, how)
