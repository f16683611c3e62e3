"""Labelled posts for benchmarks: of a file (``trends.labelled``), and of the synthetic world, which knows its truth."""

from __future__ import annotations

from connectors.base import Sighting
from connectors.synthetic import SyntheticOptions, World
from streams.ids import item_id_of
from trends.labelled import Posts, posts_of

__all__ = ["Posts", "posts_of", "synthetic_posts"]


def synthetic_posts(items: int, seed: int) -> Posts:
    """The synthetic world, with the topics that it knows."""
    world = World(SyntheticOptions(items=items, seed=seed))
    posts = tuple(first_sightings(world).values())
    labels = {item_id_of(p.source, p.external_id): world.truth[p.external_id].topic for p in posts}
    return Posts("the synthetic world", posts, labels)


def first_sightings(world: World) -> dict[str, Sighting]:
    """Each item as it was first seen, by external id, in that order."""
    seen: dict[str, Sighting] = {}
    for sighting in world:
        seen.setdefault(sighting.external_id, sighting)
    return seen


def subjects_of_the_world(items: int, seed: int) -> Posts:
    """The synthetic world, with the true subject of each item that has one; the noise is not judged."""
    posts = synthetic_posts(items, seed)
    truth = World(SyntheticOptions(items=items, seed=seed)).truth
    subjects = {p.item_id: truth[p.external_id].trend for p in posts.sightings}
    return Posts(posts.name, posts.sightings, {item: trend for item, trend in subjects.items() if trend is not None})
