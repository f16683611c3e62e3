"""How well trends agree with known subjects, how large the largest gets, and how fast the router is.

Any labelled file (``--data``, ``--label``, ``--map``), else the synthetic world, whose true subjects are known; a file
without labels shows the shares and the speed. In file order and shuffled. Seeded: but for the speed, the same call
prints the same figures.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import Posts, posts_of, subjects_of_the_world
from connectors.base import Sighting, routing
from models.catalogue import words
from models.quality import agreement
from models.routing import Route, Router, is_misc
from models.text import clean_title
from streams.errors import SettingsError
from streams.keys import partition_of
from streams.records import TrendDefinition

ITEMS: Final = 20_000
"""Of the synthetic world."""
PARTITIONS: Final = 8
"""Among which the load is looked at: ``fullest`` is the share of the one that takes most."""
HOT: Final = 0.1
SUBJECTS: Final = (0, 1_000, 100_000)
"""Tracked, where the speed is measured."""
KEYWORDS: Final = 3
"""Of each such subject."""
FOUND: Final = 0.02
"""Share of their phrases that stand somewhere in the posts."""


@dataclass(frozen=True, slots=True)
class Way:
    """Which trends each post was given, by item id, in the order of the posts."""

    routes: Mapping[str, Route]

    def measures(self, labels: Mapping[str, str]) -> dict[str, float]:
        """Agreement of the home trends with the labels, and the shares of all posts that some trends have."""
        homes = Counter(route.trend_id for route in self.routes.values())
        posts = len(self.routes)
        found: dict[str, float] = {}
        if labels:
            judged = [item for item in self.routes if item in labels]
            shown = agreement([self.routes[i].trend_id for i in judged], [labels[i] for i in judged])
            found = {
                "B3 F1": shown.f1, "P": shown.precision, "R": shown.recall, "NMI": shown.nmi,
                "completeness": shown.completeness, "reach": self.reach(labels),
            }  # fmt: skip
        named = [count for trend, count in homes.items() if not is_misc(trend)]
        return found | {
            "largest": max(named, default=0) / posts,
            "misc": (posts - sum(named)) / posts,
            "alone": sum(1 for count in named if count == 1) / posts,
            "fullest": max(Counter(partition_of(t, PARTITIONS) for t in homes.elements()).values()) / posts,
        }

    def with_a_hot_trend(self, seed: int) -> Way:
        """The same, but for a tenth of the posts, at random: they are all of one more trend."""
        rng = Random(seed)
        return Way({i: Route("term:hot") if rng.random() < HOT else route for i, route in self.routes.items()})

    def reach(self, labels: Mapping[str, str]) -> float:
        """What who follows the one trend that has most of a subject sees of it, as home or mention; mean over posts."""
        by_label: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for item, label in labels.items():
            route = self.routes[item]
            by_label[label].update({route.trend_id, *route.mentions})
        best = sum(max(c for trend, c in trends.items()) for trends in by_label.values())
        return best / len(labels)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Agreement and shares in each order, and items a second by how many subjects are tracked."""
    columns = dict(pair.split("=", 1) for pair in args.map)
    posts = (
        _posts(args.data, args.label, columns) if args.data else subjects_of_the_world(args.items or ITEMS, args.seed)
    )
    rows = []
    for order in (posts, *(posts.shuffled(args.seed + n) for n in range(args.rounds))):
        way = routed(order.sightings)
        homes = Counter(route.trend_id for route in way.routes.values())
        largest = ", ".join(trend for trend, _ in homes.most_common(3))
        name = "in file order" if order is posts else order.name.removeprefix(f"{posts.name}, ")
        rows.append(Measures(name, way.measures(posts.labels), f"{len(homes):,} trends; {largest}"))
        tell(rows[-1].name)
        if order is posts:
            note = f"{HOT:.0%} of the posts at random are of one trend: its partition is the fullest"
            rows.append(Measures("with a hot trend", way.with_a_hot_trend(args.seed).measures(posts.labels), note))
    facts: dict[str, object] = {
        "data": posts.name, "posts": len(posts.sightings), "labelled": len(posts.labels),
        "labels": len(set(posts.labels.values())), "seed": args.seed,
    }  # fmt: skip
    for count in SUBJECTS:
        rates = [speed(posts.sightings, tracked(posts.sightings, count, args.seed)) for _ in range(max(1, args.rounds))]
        facts[f"items/s, {count:,} subjects tracked"] = round(sorted(rates)[len(rates) // 2])
        tell(f"{count:,} subjects: {max(rates):,.0f} items/s")
    return Scores("routing", tuple(rows), facts)


def _posts(path: Path, label: str | None, columns: Mapping[str, str]) -> Posts:
    try:
        return posts_of(path, label, columns)
    except SettingsError:
        if label is not None:
            raise
        return posts_of(path, None, columns, labelled=False)


def routed(sightings: Sequence[Sighting], subjects: Sequence[TrendDefinition] = ()) -> Way:
    """All posts through one router, in order."""
    router = Router()
    for subject in subjects:
        router.update(subject)
    return Way({seen.item_id: router.route(seen.title, seen.body, seen.tags, at=seen.event_time) for seen in sightings})


def tracked(sightings: Sequence[Sighting], count: int, seed: int) -> list[TrendDefinition]:
    """Subjects of one to three words, made of the words of the posts, so that many begin alike and some are found."""
    rng = Random(seed)
    titles = [words(clean_title(seen.title)) for seen in sightings]
    vocabulary = sorted({word for spoken in titles for word in spoken if len(word) > 3})
    pairs = [f"{one} {next_}" for spoken in titles for one, next_ in pairwise(spoken) if min(len(one), len(next_)) > 3]

    def phrase() -> str:
        if rng.random() < FOUND:
            return rng.choice(pairs)
        n = rng.randint(1, 3)
        return " ".join(rng.choice(vocabulary) for _ in range(n)) if n > 1 else f"{rng.choice(vocabulary)}{count}"

    at = datetime(2016, 1, 1, tzinfo=UTC)
    return [
        TrendDefinition(
            trend_id=f"subject-{number}", title=f"Subject {number}", keywords=tuple(phrase() for _ in range(KEYWORDS)),
            updated_at=at, version=1,
        )
        for number in range(count)
    ]  # fmt: skip


def speed(sightings: Sequence[Sighting], subjects: Sequence[TrendDefinition]) -> float:
    """Items a second of processor time, of one router as a connector calls it; making the index is not part of it."""
    router = Router()
    for subject in subjects:
        router.update(subject)
    route = routing(router)
    route(sightings[0])  # lists of words are read
    clean_title.cache_clear()
    began = time.process_time()
    for seen in sightings:
        route(seen)
    return len(sightings) / (time.process_time() - began)
