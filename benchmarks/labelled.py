"""Posts of which it is known what they are about: a labelled file or the synthetic world, in several orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Final, cast

from msgspec.structs import replace

from connectors.base import Context, Sighting
from connectors.file import FileConnector, FileOptions
from connectors.synthetic import SyntheticOptions, World
from streams.errors import SettingsError
from streams.ids import item_id_of

LABELS: Final = ("label", "clusterNo", "cluster", "story", "topic")
"""Columns that are taken for the label, the first that a file has, where none is named."""


@dataclass(frozen=True, slots=True)
class Posts:
    """Sightings in the order in which they arrive, and what is known of some of them."""

    name: str
    sightings: tuple[Sighting, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    """By item id; what is not in it is not judged."""

    def shuffled(self, seed: int) -> Posts:
        """The same posts in another order; times stay where they are, since streams are in the order of time."""
        mixed = list(self.sightings)
        Random(seed).shuffle(mixed)
        return Posts(
            f"{self.name}, shuffled",
            tuple(
                replace(post, published_at=place.published_at, observed_at=place.observed_at)
                for post, place in zip(mixed, self.sightings, strict=True)
            ),
            self.labels,
        )

    def diluted(self, others: Posts, seed: int) -> Posts:
        """The same posts in their order, with unlabelled ones at random places among them."""
        count = len(self.sightings) + len(others.sightings)
        places = set(Random(seed).sample(range(count), len(others.sightings)))
        begin = self.sightings[0].published_at
        step = (self.sightings[-1].published_at - begin) / max(1, count - 1)
        mine, theirs = iter(self.sightings), iter(others.sightings)
        mixed = tuple(
            replace(next(theirs if number in places else mine), published_at=at, observed_at=at)
            for number in range(count)
            for at in [begin + number * step]
        )
        return Posts(f"{self.name}, diluted with {len(others.sightings):,} others", mixed, self.labels)


def posts_of(path: Path, label: str | None, columns: Mapping[str, str], *, labelled: bool = True) -> Posts:
    """The rows of a CSV or JSON Lines file, in file order.

    Args:
        label: the column with the label; None: the first of ``LABELS`` that the file has.
        columns: field → column, where names do not tell (as the file source's ``--map``).

    Raises:
        SettingsError: there is no such file or column, or no row with a label.
    """
    names = LABELS if label is None else (label,)
    for name in names if labelled else ("",):
        try:
            found = _read(path, name, columns)
        except SettingsError:
            if label is not None or name == names[-1]:
                raise
            continue
        if found.labels or not labelled:
            return found
    raise SettingsError(f"{path}: no row has a label in {' or '.join(names)}; name the column: --label COLUMN")


def _read(path: Path, label: str, columns: Mapping[str, str]) -> Posts:
    mapped = dict(columns) | ({"tags": label} if label else {})
    connector = FileConnector(str(path), FileOptions(map=mapped))

    async def read() -> list[Sighting]:
        context = cast(Context, SimpleNamespace(now=lambda: datetime.now(UTC)))  # a file needs no more of it
        return [seen async for batch in connector.batches(None, context) for seen in batch.sightings]

    sightings: list[Sighting] = []
    labels: dict[str, str] = {}
    known: set[str] = set()
    for seen in asyncio.run(read()):
        if seen.item_id in known:
            continue
        known.add(seen.item_id)
        # The file source has no field for a label, so it came as a tag; the models must not see it.
        if label and seen.tags:
            labels[seen.item_id] = ",".join(seen.tags)
        sightings.append(replace(seen, tags=()) if label else seen)
    return Posts(path.name, tuple(sightings), labels)


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
