"""How well topics agree with known stories: what router, embedder and engine make of labelled posts, and the measures.

No streams and no stores: the models as the flows run them, in one process. ``models.quality`` has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from connectors.base import Sighting, routing
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import Embedder, EmbeddingCache
from models.engine import ClusterEngine
from models.quality import Agreement, agreement
from models.routing import Router
from streams.errors import UnavailableError
from streams.ids import item_id_of
from streams.records import Change, EnrichedItem, TopicUpdate
from trends.labelled import Posts

CHUNK: Final = 256
"""Posts that the models are given at once, about as many as a flow has in a chunk."""
MEASURES: Final = {
    "B3 F1": "f1", "P": "precision", "R": "recall", "NMI": "nmi", "ARI": "ari", "completeness": "completeness",
}  # fmt: skip
"""How tables name the measures of :class:`models.quality.Agreement`."""


@dataclass(slots=True)
class Placed:
    """Which topic each item was given, and which topics went into which."""

    topics: dict[str, str]
    merged: dict[str, str]

    def note(self, enriched: Iterable[EnrichedItem], updates: Iterable[TopicUpdate]) -> None:
        """Takes what cluster decided."""
        for each in enriched:
            if each.change is Change.FIRST:
                self.topics[item_id_of(each.item.source, each.item.external_id)] = each.topic_id
        self.merged.update((each.topic_id, each.merged_into) for each in updates if each.merged_into)

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


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One order of the posts, and how well their stories were found in it."""

    order: str
    at_emission: Agreement
    """By the topic that an item was given when it came."""
    final: Agreement
    """By the topic that it belongs to once merges are followed."""


def alone(
    sightings: Iterable[Sighting], embedder: Embedder, cache: EmbeddingCache,
    done: Callable[[int], None] = lambda _: None, config: ClusterConfig | None = None,
) -> Placed:  # fmt: skip
    """What router, embedder and engine decide, without streams and stores.

    Args:
        done: told after each chunk how many posts it had.
    """
    route = routing(Router())
    embed, cluster = EmbedEngine(embedder, cache), ClusterEngine(config or ClusterConfig(), "eval")
    placed = Placed({}, {})
    observations = [seen.routed(route(seen)) for seen in sightings]
    for begin in range(0, len(observations), CHUNK):
        chunk = observations[begin : begin + CHUNK]
        decided = cluster.apply(embed.apply(chunk))
        placed.note(decided.enriched, decided.updates)
        done(len(chunk))
    return placed


def orders_of(posts: Posts, seed: int, shuffled: int, others: Posts | None = None) -> list[tuple[str, Posts]]:
    """The orders that posts are judged in, with a name each: as they are, shuffled so many times, and diluted."""
    orders = [("in file order", posts), *(("shuffled", posts.shuffled(seed + n)) for n in range(shuffled))]
    if others is not None:
        orders.append((f"diluted with {len(others.sightings):,} others", posts.diluted(others, seed)))
    return orders


def evaluate(
    orders: Iterable[tuple[str, Posts]], embedder: Embedder, cache: EmbeddingCache,
    done: Callable[[int], None] = lambda _: None, config: ClusterConfig | None = None,
) -> Iterator[Evaluated]:  # fmt: skip
    """Each order in turn; ``cache`` saves embedding the same posts anew in each."""
    for name, order in orders:
        yield Evaluated(name, *alone(order.sightings, embedder, cache, done, config).agreements(order.labels))
