"""Posts of which it is known what they are about, read from a file, in several orders. How well they are found stands
in ``trends.evaluation``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Final, cast

from msgspec.structs import replace

from connectors.base import Context, Sighting
from connectors.file import FileConnector, FileOptions, MissingColumnError
from streams.errors import SettingsError

LABELS: Final = ("label", "clusterNo", "cluster", "story", "topic")
"""Columns that are taken for the label, the first that a file has, where none is named."""
MAX_POSTS: Final = 500_000
"""Of one file: all are held in memory, with a vector each."""


@dataclass(frozen=True, slots=True)
class Posts:
    """Sightings in the order in which they arrive, and what is known of some of them."""

    name: str
    sightings: tuple[Sighting, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    """By item id; what is not in it is not judged."""
    bad: tuple[str, ...] = ()
    """Rows that could not be read, and why: the line, then the reason."""

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
    """The rows of a CSV or JSON Lines file, in file order; of several rows of one item the first.

    Args:
        label: the column with the label; None: the first of ``LABELS`` that the file has.
        columns: field → column, where names do not tell (as the file source's ``--map``).

    Raises:
        SettingsError: there is no such file or column, no row that can be read, or none with a label; more than
            ``MAX_POSTS``.
    """
    if not labelled:
        return _read(path, None, columns)
    names = LABELS if label is None else (label,)
    for name in names:
        try:
            found = _read(path, name, columns)
        except MissingColumnError as error:
            if error.field != "tags":
                raise
            if label is not None:
                raise SettingsError(f"{path}: no column {label!r} among {error.header}; --label COLUMN") from None
            continue
        if found.labels:
            return found
    raise SettingsError(
        f"{path}: no row has a label in {' or '.join(names)}; say which column says what a post is about: "
        "--label COLUMN (text or whole numbers; posts of one story have the same)"
    )


def _read(path: Path, label: str | None, columns: Mapping[str, str]) -> Posts:
    mapped = dict(columns) | ({"tags": label} if label else {})
    connector = FileConnector(str(path), FileOptions(map=mapped))
    sightings: list[Sighting] = []
    labels: dict[str, str] = {}
    bad: list[str] = []
    known: set[str] = set()

    async def read() -> None:
        context = cast(Context, SimpleNamespace(now=lambda: datetime.now(UTC)))  # a file needs no more of it
        async for batch in connector.batches(None, context):
            bad.extend(batch.bad)
            for seen in batch.sightings:
                if seen.item_id in known:
                    continue
                known.add(seen.item_id)
                # The file source has no field for a label, so it came as a tag; the models must not see it.
                if label and (about := ",".join(seen.tags).strip()):
                    labels[seen.item_id] = about
                sightings.append(replace(seen, tags=()) if label else seen)
            if len(sightings) > MAX_POSTS:
                raise SettingsError(f"{path} has more than {MAX_POSTS:,} posts, which are held in memory: take a part")

    asyncio.run(read())
    if not sightings:
        raise SettingsError(f"{path}: no row can be read" + (f"; {bad[0]}" if bad else ""))
    return Posts(path.name, _not_ahead(sightings), labels, tuple(bad))


def _not_ahead(sightings: list[Sighting]) -> tuple[Sighting, ...]:
    """The file source lets rows without times follow each other from when the file was written: a long file runs into
    the future, which no flow believes. Here all of it lies so much earlier that its last row is of now."""
    ahead = max(seen.observed_at for seen in sightings) - datetime.now(UTC)
    if ahead <= timedelta(0):
        return tuple(sightings)
    back = timedelta(seconds=ceil(ahead.total_seconds()))
    return tuple(
        replace(seen, observed_at=seen.observed_at - back, published_at=seen.published_at - back) for seen in sightings
    )
