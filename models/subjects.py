"""What readers are shown as rising: trends and topics together, each subject once, under the title that stands for it.

A trend says under which name people talk, a topic what they tell; either may see a subject that the other one misses.
How strongly each rises is ``models.scoring``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np

from models.scoring import ScoringConfig
from models.text import salience, terms

MIN_NEAR: Final = 0.35
"""Mean cosine of titles to the most similar other one, below which they are about several things …"""
MIN_MEAN: Final = 0.2
"""… and mean cosine to all others …"""
MIN_TREND_MEAN: Final = 0.25
"""… for a trend, whose items have its word in common anyway. All chosen on labelled headlines, see docs/quality.md."""
TOPIC_ITEMS: Final = 3
"""Items of a topic that make a subject: fewer than a trend's, since it is known what they have in common."""
TOPIC_BURST: Final = 0.3
"""A topic whose burst has faded below this is gone."""
SAME: Final = 0.5
"""Two are one subject where so large a share of the smaller one's items is of both."""
ITEMS: Final = 30
"""Newest items of a subject that are looked at."""
NAMES: Final = 3
"""Trends that one subject is shown under."""


class Told(NamedTuple):
    """An item of a trend or a topic."""

    item_id: str
    title: str
    """As it is shown (``models.text.clean_title``)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trend or a topic that rises."""

    name: str
    """The trend's id, or the topic's."""
    topic: bool
    strength: float
    items: Sequence[Told]
    """Its newest ``ITEMS`` of the burst window before its newest item."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is shown in one line."""

    lead: str
    """The strongest of its trends and topics."""
    trends: tuple[str, ...]
    """The strongest first; none where no trend rises with the topic."""
    topic_id: str | None
    """The strongest topic; None where no topic rises with the trend."""
    item_id: str
    """Whose title stands for it."""
    headline: str


class Likeness(NamedTuple):
    """How much some titles are about one thing."""

    near: float
    """Mean cosine to the most similar other title."""
    mean: float
    """Mean cosine to all others."""
    medoid: int
    """Which title is most like the others."""

    def one_thing(self, topic: bool) -> bool:
        """Whether a topic, or a trend, with these titles is about one thing."""
        return self.near >= MIN_NEAR and self.mean >= (MIN_MEAN if topic else MIN_TREND_MEAN)


def topics_config(config: ScoringConfig) -> ScoringConfig:
    """What a topic must have to rise."""
    return replace(config, min_items=TOPIC_ITEMS)


def looked_at(config: ScoringConfig) -> timedelta:
    """How old an item of what still rises may be."""
    return timedelta(seconds=config.slice_s * (config.window_slices + config.fading_slices))


def likeness(titles: Sequence[str]) -> Likeness:
    """Cosines of the titles' terms, whose squared weight is their salience (as in ``models.clustering``)."""
    said = [frozenset(terms(title)) for title in titles]
    size = len(said)
    if size < 2:
        return Likeness(0.0, 0.0, 0)
    norms = [sum(map(salience, words)) ** 0.5 or 1.0 for words in said]
    cosines = np.zeros((size, size))
    for i, words in enumerate(said):
        for j in range(i):
            if shared := words & said[j]:
                cosines[i, j] = cosines[j, i] = sum(map(salience, sorted(shared))) / (norms[i] * norms[j])
    means = cosines.sum(axis=1) / (size - 1)
    return Likeness(float(cosines.max(axis=1).mean()), float(means.mean()), int(means.argmax()))


def subjects(candidates: Iterable[Candidate], limit: int, tracked: frozenset[str] = frozenset()) -> list[Subject]:
    """The first ``limit`` subjects, the strongest first.

    What is not about one thing is left out: a word that many posts share, a topic that has gathered several stories;
    ``tracked`` trends are never. A candidate that has half of its items in common with a stronger subject (of the
    smaller of the two), or the same title stands for it, is that subject: its name, or its topic, is shown there.
    """
    found: list[Subject] = []
    items: list[frozenset[str]] = []
    for each in sorted(candidates, key=lambda c: (-c.strength, c.name)):
        name, ids = each.name, frozenset(told.item_id for told in each.items)
        place = next((n for n, other in enumerate(items) if _same(ids, other)), None)
        if not ids or (place is None and len(found) >= limit):
            continue
        like = likeness([told.title for told in each.items])
        if not like.one_thing(each.topic) and name not in tracked:
            continue
        told = each.items[like.medoid]
        if place is None:
            place = next((n for n, s in enumerate(found) if s.headline.casefold() == told.title.casefold()), None)
        if place is not None:
            found[place] = _with(found[place], each)
        else:
            names = () if each.topic else (name,)
            found.append(Subject(name, names, name if each.topic else None, told.item_id, told.title))
            items.append(ids)
    return found


def _same(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= SAME * min(len(one), len(other))


def _with(subject: Subject, each: Candidate) -> Subject:
    if each.topic:
        return replace(subject, topic_id=subject.topic_id or each.name)
    return replace(subject, trends=(*subject.trends, each.name)[:NAMES])
