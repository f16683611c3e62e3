"""What a topic is for a reader: its items by source, publisher and trend, its sums, and the members that stand for it.

Where it lies among the others is ``models.clustering``'s; when anything happens to it, ``models.engine``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec
import numpy as np

from models.clustering import Fixed
from models.text import clean_title, strip_markup, tokens
from streams.records import Engagement, LeadingItem, Observation

MEMBERS: Final = 12
"""Members that a topic keeps with their vectors: those nearest to the centroid, and the latest."""
LEADING: Final = 5
"""Members that stand for it, nearest to the centroid first."""
BODY_CHARS: Final = 600
"""Of a member's body, what a summary is made from."""
TITLE_CHARS: Final = 300
MAX_PUBLISHERS: Final = 256
"""Publishers that a topic counts exactly; later ones are not counted."""
MAX_TRENDS: Final = 64
"""Home trends that a topic counts; later ones are not counted."""
SHOWN_TRENDS: Final = 20
SHOWN_TERMS: Final = 12
LIKE_AT: Final = 0.75
"""Members whose vectors are less alike are no near-duplicates, whatever their words."""
WORDS_WITHIN: Final = 0.9
"""In near-duplicates so much of the shorter title is in the longer one …"""
WORDS_SHARED: Final = 0.7
"""… and so much of all words is in both."""
TIMES_CACHED: Final = 16_384
"""An item's times are asked for again and again, while its topic grows."""
TITLES_CACHED: Final = 32_768
"""Titles of members whose words are kept."""
HALF_LIFE: Final = timedelta(days=1)
"""A topic's rank counts an item half as much for each day of age."""
ENGAGEMENT_WEIGHT: Final = 0.02
"""One point, comment, share or star, against one item; views count a hundredth of that."""
MAX_COUNT: Final = 2**53
"""What a count on the wire may be (``streams.records.Count``); an item's totals count up to half of it."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DECAY: Final = math.log(2) / HALF_LIFE.total_seconds()
_US: Final = timedelta(microseconds=1)
_NO_ENGAGEMENT: Final = Engagement()
K = TypeVar("K", int, str)


def micros(time: datetime) -> int:
    """Whole microseconds since 1970."""
    return (time - EPOCH) // _US


@lru_cache(maxsize=TIMES_CACHED)
def at(us: int) -> datetime:
    """The instant that many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=us)


def raised(rank: float | None, weight: float, at_s: float) -> float | None:
    """A rank key with ``weight`` more at an event time (seconds since 1970); a negative weight takes it out.

    The key is log Σ weight·e^(λ·time): forward decay (Cormode et al. 2009). Its order never changes as time passes.
    """
    if weight == 0.0:
        return rank
    new = _DECAY * at_s + math.log(abs(weight))
    if weight > 0:
        return new if rank is None else max(rank, new) + math.log1p(math.exp(-abs(rank - new)))
    if rank is None or new >= rank - 1e-9:
        return None
    return rank + math.log1p(-math.exp(new - rank))


def engagement_weight(delta: Engagement) -> float:
    """What new engagement adds to a rank, in items; nothing where it has shrunk."""
    acts = delta.points + delta.comments + delta.shares + delta.stars + delta.views / 100
    return ENGAGEMENT_WEIGHT * max(0.0, acts)


def plus(one: Engagement, other: Engagement) -> Engagement:
    """The sum, field by field, within what a record can hold."""
    return bounded(
        Engagement(
            points=one.points + other.points,
            comments=one.comments + other.comments,
            shares=one.shares + other.shares,
            stars=one.stars + other.stars,
            views=one.views + other.views,
        ),
        MAX_COUNT,
    )


def bounded(engagement: Engagement, most: int) -> Engagement:
    """Each total between −most and most."""
    values = (engagement.points, engagement.comments, engagement.shares, engagement.stars, engagement.views)
    if -most <= min(values) and max(values) <= most:
        return engagement
    points, comments, shares, stars, views = (max(-most, min(most, value)) for value in values)
    return Engagement(points=points, comments=comments, shares=shares, stars=stars, views=views)


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A member with its text and vector; also how it stands in the state stream."""

    joined: int
    """The number of the decision by which it joined."""
    item_id: str
    vector: bytes
    """int8 of shape (d,): the direction of its vector; empty without text."""
    square: int
    """The squared length of that."""
    source: str
    title: str
    url: str | None
    body: str
    publisher: str | None
    published_us: int
    points: int
    comments: int

    def shown(self) -> LeadingItem:
        return LeadingItem(
            item_id=self.item_id,
            title=self.title,
            url=self.url,
            body=self.body,
            publisher=self.publisher,
            source=self.source,
            published_at=at(self.published_us),
            points=self.points,
            comments=self.comments,
        )


def member_of(item: Observation, vector: bytes, square: int, joined: int) -> Member:
    """An item as it is kept in its topic: with its direction, and the squared length of that."""
    body = strip_markup(item.body[: 4 * BODY_CHARS])[:BODY_CHARS] if item.body else ""
    return Member(
        joined=joined,
        item_id=item.item_id,
        vector=vector,
        square=square,
        source=item.source,
        title=clean_title(item.title, item.publisher, item.url)[:TITLE_CHARS],
        url=item.url,
        body=body,
        publisher=item.publisher,
        published_us=micros(item.published_at),
        points=item.engagement.points,
        comments=item.engagement.comments,
    )


@lru_cache(maxsize=TITLES_CACHED)
def words_of(title: str) -> frozenset[str]:
    """The words of a cleaned title."""
    return frozenset(tokens(title))


def title_words(item: Observation) -> frozenset[str]:
    """The words of an item's title, without what belongs to the site."""
    return words_of(clean_title(item.title, item.publisher, item.url)[:TITLE_CHARS])


def same_words(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether one title is the other lightly edited: cut, or with a few words more (containment and resemblance of
    sets of words, Broder 1997)."""
    both = len(one & other)
    shorter = min(len(one), len(other))
    return both >= WORDS_WITHIN * shorter > 0 and both >= WORDS_SHARED * (len(one) + len(other) - both)


def publisher_key(item: Observation) -> int:
    """63 bits for who stands behind an item: its publisher, else its author at that source, else the source."""
    name = item.publisher.casefold() if item.publisher else f"{item.source}\x1f{item.author or ''}"
    return int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


@dataclass(slots=True, kw_only=True)
class Topic:
    """A topic that may still grow."""

    topic_id: str
    trend_id: str
    founded_us: int
    """observed_at of the founding item: the older topic wins a merge."""
    first_us: int
    last_us: int
    """Event times of its first and last item."""
    round: int
    """The look for merges before which its centroid last changed."""
    size: int = 0
    echoes: int = 0
    publishers: dict[int, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    trends: dict[str, int] = field(default_factory=dict)
    engagement: Engagement = field(default_factory=Engagement)
    rank: float | None = None
    members: dict[int, Member] = field(default_factory=dict)
    """By place, 0 … MEMBERS − 1."""
    seq: int = 0
    """The last decision that changed it."""

    def count(self, item: Observation, home: str, event_us: int, echo: bool, sign: int) -> None:
        """One item more (+1) or less (−1)."""
        self.size += sign
        self.echoes += sign * echo
        _tally(self.publishers, publisher_key(item), sign, MAX_PUBLISHERS)
        _tally(self.sources, item.source, sign, MAX_TRENDS)
        _tally(self.trends, home, sign, MAX_TRENDS)
        self.rank = raised(self.rank, float(sign), event_us / 1e6)
        if sign > 0:
            self.first_us = min(self.first_us, event_us)
            self.last_us = max(self.last_us, event_us)

    def engage(self, delta: Engagement, at_us: int) -> None:
        """Its items' engagement has grown."""
        if delta != _NO_ENGAGEMENT:
            self.engagement = plus(self.engagement, delta)
            self.rank = raised(self.rank, engagement_weight(delta), at_us / 1e6)

    def absorb(self, loser: Topic) -> None:
        """The counts of a topic that went into this one; members apart."""
        self.size += loser.size
        self.echoes += loser.echoes
        for mine, theirs, most in (
            (self.sources, loser.sources, MAX_TRENDS),
            (self.trends, loser.trends, MAX_TRENDS),
        ):
            for name, n in theirs.items():
                _tally(mine, name, n, most)
        for key, n in loser.publishers.items():
            _tally(self.publishers, key, n, MAX_PUBLISHERS)
        self.engagement = plus(self.engagement, loser.engagement)
        if loser.rank is not None:
            self.rank = raised(self.rank, 1.0, loser.rank / _DECAY)
        self.first_us = min(self.first_us, loser.first_us)
        self.last_us = max(self.last_us, loser.last_us)

    # ------------------------------------------------------------------------------------------------- members

    def nearest_members(self, centroid: Fixed, square: int) -> list[int]:
        """The places of its members, nearest to the centroid (and its squared length) first, earlier ones first where
        equal."""
        places = list(self.members)
        if len(places) < 2:
            return places
        scores = self._cosines(centroid, square)
        return sorted(places, key=lambda p: (-scores[p], self.members[p].joined))

    def copied_by(
        self, vector: Fixed, square: int, words: Callable[[], frozenset[str]], copy_at: float
    ) -> Member | None:
        """The member of which an item with this vector (and its squared length), and these words in its title, is a
        near-duplicate."""
        scores = self._cosines(vector, square)
        near = sorted((-score, self.members[p].joined, p) for p, score in scores.items() if score >= LIKE_AT)
        for score, _, place in near:
            member = self.members[place]
            if -score >= copy_at or same_words(words(), words_of(member.title)):
                return member
        return None

    def _cosines(self, vector: Fixed, square: int) -> dict[int, float]:
        """Exact in any order: dot products are whole numbers below 2^53, which float64 holds."""
        scores = dict.fromkeys(self.members, 0.0)
        placed = [(place, member) for place, member in self.members.items() if member.square]
        if placed and square:
            length = math.sqrt(square)
            joined = b"".join([member.vector for _, member in placed])
            matrix = np.frombuffer(joined, np.int8).reshape(len(placed), -1).astype(np.float64)
            for (place, member), dot in zip(placed, (matrix @ vector.astype(np.float64)).tolist(), strict=True):
                scores[place] = dot / (math.sqrt(member.square) * length)
        return scores

    def admit(self, newcomers: Iterable[Member], centroid: Fixed, square: int) -> list[int]:
        """Takes members in; where there are too many, the nearest five and the latest stay. The places that changed."""
        changed: list[int] = []
        everyone = [*self.members.values()]
        for member in newcomers:
            everyone.append(member)
        if len(everyone) > MEMBERS:
            everyone = self._chosen(everyone, centroid, square)
        kept = {member.item_id for member in everyone}
        for place in [p for p, member in self.members.items() if member.item_id not in kept]:
            del self.members[place]
            changed.append(place)
        held = {member.item_id for member in self.members.values()}
        free = iter([p for p in range(MEMBERS) if p not in self.members])
        for member in everyone:
            if member.item_id not in held:
                place = next(free)
                self.members[place] = member
                changed.append(place)
        return changed

    @staticmethod
    def _chosen(everyone: list[Member], centroid: Fixed, square: int) -> list[Member]:
        crowd = Topic(topic_id="", trend_id="", founded_us=0, first_us=0, last_us=0, round=0)
        crowd.members = dict(enumerate(everyone))
        nearest = [crowd.members[p] for p in crowd.nearest_members(centroid, square)[:LEADING]]
        taken = {id(member) for member in nearest}
        others = sorted((m for m in everyone if id(m) not in taken), key=lambda m: -m.joined)
        return nearest + others[: MEMBERS - LEADING]

    def place_of(self, item_id: str) -> int | None:
        """The place of a member; None where the item is not among them."""
        return next((place for place, member in self.members.items() if member.item_id == item_id), None)


def _tally(counts: dict[K, int], key: K, n: int, most: int) -> None:
    """``n`` more of a key; nothing where that would be one key too many."""
    if key in counts or (n > 0 and len(counts) < most):
        counts[key] = counts.get(key, 0) + n
        if counts[key] <= 0:
            del counts[key]
