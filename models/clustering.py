"""The space in which items find their topic: one global online clustering, exact and in bounded memory.

Similarity is .6 cosine of embeddings + .4 cosine of terms weighted by their salience; below .30 an item founds a topic;
topics that changed are compared with all others now and then, and merged at .45 (values measured on labelled news, see
``docs/architecture.md``; the model goes back to single-pass clustering, Allan et al. 1998). What a topic *is* for a
reader (titles, publishers, life) is ``models.topics``'; the order of events is ``models.engine``'s.

All sums are whole numbers: vectors are held in fixed point and terms are counted, so that adding, merging and reading
back from a log give the same bits in any order. Floating-point products only find the candidates; which of them wins
is computed again from the whole numbers, one pair at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.text import salience

Floats = NDArray[np.float32]
Fixed = NDArray[np.int32]

SCALE: Final = 4_096
"""A component of a unit vector is held as a whole number of 1/4,096."""
MAX_SUMMED: Final = 200_000
"""Vectors that a topic's sum holds at most (2^31 / 4,096 would overflow); later ones only count."""
TOPIC_TERMS: Final = 96
"""A topic with more terms is cut back to the KEPT_TERMS heaviest."""
KEPT_TERMS: Final = 64
ITEM_TERMS: Final = 32
"""Terms of one item that are compared."""
WEIGHT_SCALE: Final = 64
"""A term's squared weight is a whole number of 1/64 of salience."""
WEIGHTS_CACHED: Final = 65_536
MARGIN: Final = 1e-4
"""Candidates within this of the best approximate similarity are computed exactly; float32 errs by less than 1e-5."""
LOOK_AHEAD: Final = 64
"""Items whose products with all centroids are computed at once."""
MERGE_COSINE: Final = 0.40
"""Centroids whose embeddings are less alike are never merged, however many terms they share."""
_DAY_S: Final = 86_400
_GROWTH_SLOTS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What the clustering of a generation depends on. Changing any of it means a new generation."""

    embedding_share: float = 0.6
    """Weight of the embeddings' cosine; the terms' cosine has the rest."""
    join_at: float = 0.30
    """Least similarity at which an item joins a topic."""
    pair_at: float = 0.40
    """Least similarity at which an item joins a topic of one item: two items that share a way of putting things look
    like a story until a third does not; stories find each other all the same (see ``docs/architecture.md``)."""
    merge_at: float = 0.45
    """Least similarity at which two topics become one."""
    merge_every_items: int = 200
    """New items between two looks at the topics that changed."""
    age_penalty: float = 0.05
    """Similarity lost for each day between an item and the last one of the topic."""
    max_age_penalty: float = 0.10
    """Similarity lost at most for age."""
    fade_after: timedelta = timedelta(days=5)
    """A topic without a new item for so long (event time) takes no more."""
    max_topics: int = 10_000
    """Topics that take items, at most: beyond it those that have waited longest fade."""
    copy_at: float = 0.95
    """Cosine of embeddings at which an item is an echo of a recent member of its topic."""
    horizon: timedelta = timedelta(days=30)
    """Repeats, edits and copies of an item are known for so long after its last observation."""
    max_items: int = 5_000_000
    """Items known at most: beyond it those observed longest ago are forgotten."""


@lru_cache(maxsize=WEIGHTS_CACHED)
def squared_weight(term: str) -> int:
    """The square of a term's weight, a whole number: its salience.

    Salience from a fixed list does as well here as frequencies counted over the whole data set (BCubed F1 within .01),
    and needs no state.
    """
    return max(1, round(WEIGHT_SCALE * salience(term)))


@dataclass(slots=True)
class Point:
    """An item as it stands in the space."""

    vector: Fixed
    """Shape (d,), fixed point; all zero without text."""
    square: int
    """The vector's squared length."""
    terms: tuple[str, ...]
    at_us: int = 0
    """When it was observed, microseconds since 1970."""


def points(vectors: Floats, terms: Sequence[Sequence[str]]) -> list[Point]:
    """Items in fixed point, from float32 vectors of shape (n, d) and of any length (zero: no text)."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wide *= (SCALE / np.where(lengths > 0.0, lengths, 1.0))[:, None]
    fixed = np.rint(wide).astype(np.int32)
    squares = np.einsum("ij,ij->i", fixed, fixed, dtype=np.int64)
    return [Point(fixed[i], int(squares[i]), tuple(terms[i])[:ITEM_TERMS]) for i in range(len(fixed))]


class Centroid:
    """Where a topic stands: the sum of its vectors, its terms counted, the time of its last item."""

    __slots__ = ("key", "last_us", "slot", "square", "summed", "term_square", "terms")

    def __init__(self, key: tuple[int, str], slot: int) -> None:
        self.key = key
        """(founded_at in microseconds, topic id): the smaller one wins a merge."""
        self.slot = slot
        self.summed = 0
        """Vectors in the sum."""
        self.square = 0
        """Squared length of the sum."""
        self.terms: dict[str, int] = {}
        self.term_square = 0
        self.last_us = 0


class TopicSpace:
    """The centroids of all active topics, and the way from an item to the nearest.

    Memory: about 12 bytes a dimension and 10 kB a topic with 384 dimensions, terms included.
    """

    def __init__(self, config: ClusterConfig, dimensions: int) -> None:
        self._config = config
        self.dimensions = dimensions
        self._sums: Fixed = np.zeros((0, dimensions), np.int32)
        self._units: Floats = np.zeros((0, dimensions), np.float32)
        self._term_lengths = np.zeros(0, np.float64)
        self._last_s = np.zeros(0, np.float64)
        self._centroids: list[Centroid | None] = []
        self._free: list[int] = []
        self._postings: dict[str, dict[int, int]] = {}
        self._by_id: dict[str, Centroid] = {}
        self._ahead: Floats = np.zeros((0, 0), np.float32)
        self._touched: dict[int, None] = {}
        """Slots whose centroid is no longer that of the products computed ahead."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, topic_id: str) -> bool:
        return topic_id in self._by_id

    def __getitem__(self, topic_id: str) -> Centroid:
        return self._by_id[topic_id]

    def ids(self) -> Iterable[str]:
        return self._by_id.keys()

    # ------------------------------------------------------------------------------------------- nearest topic

    def look_ahead(self, upcoming: Sequence[Point]) -> None:
        """Computes the products of the next items with all centroids at once; ``nearest`` is then cheap for them."""
        vectors = np.stack([p.vector for p in upcoming]).astype(np.float32)
        lengths = np.sqrt(np.array([max(1, p.square) for p in upcoming], np.float64))
        units = vectors / lengths[:, None].astype(np.float32)
        self._ahead = np.asarray(units @ self._units[: len(self._centroids)].T, np.float32)
        self._touched.clear()

    def nearest(self, point: Point, ahead: int) -> tuple[str, float] | None:
        """The most similar topic and the similarity; None where that is below ``join_at``, or below ``pair_at`` for a
        topic of one item. Ties go to the older one.

        ``ahead`` is the item's position in the last ``look_ahead``.
        """
        if not self._by_id:
            return None
        config = self._config
        scores = self._approximate(point, ahead)
        slots, dots = self._shared_terms(point.terms)
        if len(slots):
            length = math.sqrt(sum(map(squared_weight, point.terms)))
            scores[slots] += (1.0 - config.embedding_share) * dots / (length * self._term_lengths[slots])
        best = float(scores.max())
        if best < min(config.join_at, config.pair_at) - MARGIN:
            return None
        chosen: Centroid | None = None
        similarity = -math.inf
        for slot in np.flatnonzero(scores >= best - MARGIN):
            centroid = self._centroids[slot]
            if centroid is None:
                continue
            exact = self._to_point(centroid, point)
            if exact > similarity or (exact == similarity and chosen is not None and centroid.key < chosen.key):
                chosen, similarity = centroid, exact
        if chosen is None:
            return None
        least = config.join_at if chosen.summed > 1 else config.pair_at
        return (chosen.key[1], similarity) if similarity >= least else None

    def similarity(self, topic_id: str, point: Point) -> float:
        """How similar an item is to a topic, exactly; its age counts."""
        return self._to_point(self._by_id[topic_id], point)

    def _approximate(self, point: Point, ahead: int) -> NDArray[np.float64]:
        """.6 cosine − age for every slot, from the products computed ahead and those of slots changed since."""
        n = len(self._centroids)
        scores = np.zeros(n, np.float64)
        row = self._ahead[ahead]
        scores[: len(row)] = row
        if self._touched:
            changed = np.fromiter(self._touched, np.intp, len(self._touched))
            vector = point.vector.astype(np.float32) / np.float32(math.sqrt(max(1, point.square)))
            scores[changed] = self._units[changed] @ vector
        scores *= self._config.embedding_share
        penalty = point.at_us / 1e6 - self._last_s[:n]
        penalty *= self._config.age_penalty / _DAY_S
        np.maximum(penalty, 0.0, out=penalty)
        np.minimum(penalty, self._config.max_age_penalty, out=penalty)
        scores -= penalty
        return scores

    def _shared_terms(self, terms: Iterable[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Slots of the topics that share a term, and the products of the term vectors."""
        found: dict[int, int] = {}
        get = found.get
        for term in terms:
            posting = self._postings.get(term)
            if posting:
                weight = squared_weight(term)
                for slot, count in posting.items():
                    found[slot] = get(slot, 0) + weight * count
        return np.fromiter(found.keys(), np.intp, len(found)), np.fromiter(found.values(), np.float64, len(found))

    def _to_point(self, centroid: Centroid, point: Point) -> float:
        config = self._config
        cosine = term_cosine = 0.0
        if point.square and centroid.square:
            dot = int(np.dot(self._sums[centroid.slot].astype(np.int64), point.vector.astype(np.int64)))
            cosine = dot / (math.sqrt(point.square) * math.sqrt(centroid.square))
        if point.terms and centroid.term_square:
            counts = centroid.terms
            weights = {term: squared_weight(term) for term in point.terms}
            shared = sum(weight * counts.get(term, 0) for term, weight in weights.items())
            term_cosine = shared / (math.sqrt(sum(weights.values())) * math.sqrt(centroid.term_square))
        days = max(0, point.at_us - centroid.last_us) / 1e6 / _DAY_S
        penalty = min(config.max_age_penalty, config.age_penalty * days)
        return config.embedding_share * cosine + (1.0 - config.embedding_share) * term_cosine - penalty

    # ------------------------------------------------------------------------------------------------- changes

    def found(self, topic_id: str, founded_us: int, point: Point) -> None:
        """A new topic around one item."""
        centroid = Centroid((founded_us, topic_id), self._take_slot())
        self._place(centroid)
        centroid.last_us = point.at_us
        self.add(topic_id, point)

    def add(self, topic_id: str, point: Point) -> None:
        """One more item of a topic."""
        centroid = self._by_id[topic_id]
        if point.square and centroid.summed < MAX_SUMMED:
            self._sums[centroid.slot] += point.vector
            centroid.summed += 1
        if point.terms:
            self._count(centroid, dict.fromkeys(point.terms, 1))
        centroid.last_us = max(centroid.last_us, point.at_us)
        self._refresh(centroid)

    def touch(self, topic_id: str, at_us: int) -> None:
        """An echo keeps a topic awake without moving it."""
        centroid = self._by_id[topic_id]
        centroid.last_us = max(centroid.last_us, at_us)
        self._last_s[centroid.slot] = centroid.last_us / 1e6

    def merge(self, winner_id: str, loser_id: str) -> None:
        """The loser's vectors and terms become the winner's."""
        winner, loser = self._by_id[winner_id], self._by_id[loser_id]
        if winner.summed + loser.summed <= MAX_SUMMED:
            self._sums[winner.slot] += self._sums[loser.slot]
            winner.summed += loser.summed
        counts = loser.terms
        winner.last_us = max(winner.last_us, loser.last_us)
        self.drop(loser_id)
        self._count(winner, counts)
        self._refresh(winner)

    def drop(self, topic_id: str) -> None:
        """Forgets a topic: it has faded, or was merged."""
        centroid = self._by_id.pop(topic_id)
        slot = centroid.slot
        for term in centroid.terms:
            self._unpost(term, slot)
        self._sums[slot] = 0
        self._units[slot] = 0.0
        self._last_s[slot] = 0.0
        self._centroids[slot] = None
        self._free.append(slot)
        self._touched[slot] = None

    def restore(
        self, topic_id: str, founded_us: int, sums: Fixed, summed: int, terms: dict[str, int], last_us: int
    ) -> None:
        """A topic as ``centroid_of`` gave it."""
        centroid = Centroid((founded_us, topic_id), self._take_slot())
        self._place(centroid)
        self._sums[centroid.slot] = sums
        centroid.summed, centroid.last_us = summed, last_us
        for term, count in terms.items():
            self._post(centroid, term, count)
        self._refresh(centroid)

    def sums_of(self, topic_id: str) -> Fixed:
        """The sum of a topic's vectors, fixed point, shape (d,): a view, not to be changed."""
        sums: Fixed = self._sums[self._by_id[topic_id].slot]
        return sums

    def unit_of(self, topic_id: str) -> Floats:
        """A topic's centroid at length 1, shape (d,): a view, not to be changed."""
        unit: Floats = self._units[self._by_id[topic_id].slot]
        return unit

    def top_terms(self, topic_id: str, limit: int) -> list[tuple[str, float]]:
        """The heaviest terms of a topic, best first: (term, share of the heaviest)."""
        ranked = self._ranked(self._by_id[topic_id].terms)[:limit]
        heaviest = ranked[0][0] if ranked else -1
        return [(term, round(math.sqrt(weight / heaviest), 4)) for weight, term in ranked]

    @staticmethod
    def _ranked(terms: dict[str, int]) -> list[tuple[int, str]]:
        """(−weight squared, term), the heaviest first."""
        return sorted([(-count * count * squared_weight(term), term) for term, count in terms.items()])

    def _count(self, centroid: Centroid, added: dict[str, int]) -> None:
        for term, count in added.items():
            self._post(centroid, term, count)
        if len(centroid.terms) > TOPIC_TERMS:
            for weight, term in self._ranked(centroid.terms)[KEPT_TERMS:]:
                del centroid.terms[term]
                centroid.term_square += weight
                self._unpost(term, centroid.slot)

    def _post(self, centroid: Centroid, term: str, added: int) -> None:
        before = centroid.terms.get(term, 0)
        after = before + added
        centroid.terms[term] = after
        centroid.term_square += squared_weight(term) * (after * after - before * before)
        self._postings.setdefault(term, {})[centroid.slot] = after

    def _unpost(self, term: str, slot: int) -> None:
        posting = self._postings[term]
        del posting[slot]
        if not posting:
            del self._postings[term]

    def _refresh(self, centroid: Centroid) -> None:
        slot = centroid.slot
        wide = self._sums[slot].astype(np.int64)
        centroid.square = int(np.dot(wide, wide))
        self._units[slot] = wide / math.sqrt(max(1, centroid.square))
        self._term_lengths[slot] = math.sqrt(max(1, centroid.term_square))
        self._last_s[slot] = centroid.last_us / 1e6
        self._touched[slot] = None

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._centroids)
        self._centroids.append(None)
        if slot >= len(self._sums):
            more = max(_GROWTH_SLOTS, slot // 2)
            self._sums = np.concatenate([self._sums, np.zeros((more, self.dimensions), np.int32)])
            self._units = np.concatenate([self._units, np.zeros((more, self.dimensions), np.float32)])
            self._term_lengths = np.concatenate([self._term_lengths, np.ones(more, np.float64)])
            self._last_s = np.concatenate([self._last_s, np.zeros(more, np.float64)])
        return slot

    def _place(self, centroid: Centroid) -> None:
        self._centroids[centroid.slot] = centroid
        self._by_id[centroid.key[1]] = centroid

    # -------------------------------------------------------------------------------------------------- merges

    def alike(self, changed: Iterable[str]) -> list[tuple[str, str]]:
        """Pairs (winner, loser) of topics to merge, at least one of them changed; the most similar first.

        Each topic stands in one pair at most as a loser and never in both roles: the next look finds the rest. A topic
        of one item was just founded because nothing was near enough to join, so only what moved since can be.
        """
        own = [self._by_id[topic_id] for topic_id in dict.fromkeys(changed) if topic_id in self._by_id]
        moved = np.zeros(len(self._centroids), np.bool_)
        moved[[centroid.slot for centroid in own]] = True
        pairs: dict[tuple[tuple[int, str], tuple[int, str]], float] = {}
        for begin in range(0, len(own), LOOK_AHEAD):
            part = own[begin : begin + LOOK_AHEAD]
            cosines = self._units[[c.slot for c in part]] @ self._units[: len(self._centroids)].T
            whole = np.array([centroid.summed > 1 for centroid in part])
            rows, slots = np.nonzero((cosines >= MERGE_COSINE - MARGIN) & (moved | whole[:, None]))
            near = zip(rows.tolist(), slots.tolist(), cosines[rows, slots].tolist(), strict=True)
            for row, slot, cosine in near:
                one, other = part[row], self._centroids[slot]
                if other is None or other is one:
                    continue
                similarity = self._between(one, other, cosine)
                if similarity >= self._config.merge_at:
                    pairs[(one.key, other.key) if one.key < other.key else (other.key, one.key)] = similarity
        return self._greedy(pairs)

    def _between(self, one: Centroid, other: Centroid, cosine: float) -> float:
        """The similarity of two centroids, exactly; −1 where it is surely below ``merge_at``."""
        config = self._config
        share = config.embedding_share
        shared_terms = one.terms.keys() & other.terms.keys()
        if not shared_terms and share * cosine < config.merge_at - MARGIN:
            return -1.0
        ours, theirs = one.terms, other.terms
        shared = sum([ours[term] * theirs[term] * squared_weight(term) for term in shared_terms])
        term_cosine = shared / (math.sqrt(max(1, one.term_square)) * math.sqrt(max(1, other.term_square)))
        if share * cosine + (1.0 - share) * term_cosine < config.merge_at - MARGIN:
            return -1.0
        dot = int(np.dot(self._sums[one.slot].astype(np.int64), self._sums[other.slot].astype(np.int64)))
        exact = dot / (math.sqrt(max(1, one.square)) * math.sqrt(max(1, other.square)))
        return share * exact + (1.0 - share) * term_cosine if exact >= MERGE_COSINE else -1.0

    @staticmethod
    def _greedy(pairs: dict[tuple[tuple[int, str], tuple[int, str]], float]) -> list[tuple[str, str]]:
        near = [(-value, winner, loser) for (winner, loser), value in pairs.items()]
        used: set[str] = set()
        lost: set[str] = set()
        chosen: list[tuple[str, str]] = []
        for _, winner, loser in sorted(near):
            if winner[1] in lost or loser[1] in used:
                continue
            chosen.append((winner[1], loser[1]))
            lost.add(loser[1])
            used.update((winner[1], loser[1]))
        return chosen
