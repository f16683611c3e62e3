"""The space in which items find their topic: one global online clustering, exact and in bounded memory.

Similarity is .6 cosine of embeddings + .4 cosine of terms weighted by their salience; below .30 an item founds a topic;
topics that changed are compared with others now and then, and merged at .40 to .45 (values measured on labelled news,
see ``docs/quality.md``; the model goes back to single-pass clustering, Allan et al. 1998). What a topic *is* for a
reader (titles, publishers, life) is ``models.topics``'; the order of events is ``models.engine``'s.

All sums are whole numbers: vectors are held in fixed point and terms are counted, so that adding, merging and reading
back from a log give the same bits in any order. Floating-point products only find the candidates; which of them wins
is computed again from the whole numbers, one pair at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.postings import Postings, Slots, Sums
from models.text import salience
from streams.records import Granularity

Floats = NDArray[np.float32]
Fixed = NDArray[np.int32]
Signs = NDArray[np.uint64]
Key = tuple[int, str]
Pairs = dict[tuple[Key, Key], "Likeness"]
A = TypeVar("A", bound=np.generic)

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
LOOK_AHEAD: Final = 256
"""Items whose products with all compared centroids are computed at once: with fewer, copying the centroids into the
order in which they are multiplied costs as much as multiplying."""
MERGE_COSINE: Final = 0.40
"""Centroids whose embeddings are less alike are never merged, however many terms they share."""
MERGE_TERM_COSINE: Final = 0.15
"""Topics of MERGE_TERM_ITEMS and more whose terms are less alike are never merged: centroids of many items on one field
lie close to each other whatever the story."""
MERGE_TERM_ITEMS: Final = 5
GROWN_ITEMS: Final = 10
"""From so many items on a topic is merged at ``merge_at`` only."""
TERMS_ALIKE: Final = 0.12
"""Cosine of terms at which a topic of one item is a candidate for an item, and any topic one for a merge, where not all
are compared."""
LOOKED_UP_TERMS: Final = 16
"""The heaviest terms of a topic, by which topics are found that it may be merged with."""
SIGNS_MARGIN: Final = 5.0
"""By how much a cosine that is told by signs may be too small, times √d; its standard deviation is 1.6 at most."""
RANKINGS: Final = 1_024
"""Topics of which the order of their terms is kept, from looking at merges until they are written."""
MERGED_AT_ONCE: Final = 64
"""Changed topics whose products with others are computed at once."""
GRANULARITIES: Final = {Granularity.FINE: 0.05, Granularity.NORMAL: 0.0, Granularity.COARSE: -0.05}
"""What is added to the similarities that it takes to join and to merge: fine, and one event is a topic of its own;
coarse, and what belongs together in a wider sense is one."""
_DAY_S: Final = 86_400
_NEVER: Final = 2**62
_GROWTH_SLOTS: Final = 256
_COLUMNS: Final = 4_096
"""Centroids that a part of the products ahead is of: what was just computed is looked through while it is at hand."""
_WORD: Final = 8
_STALE: Final = 1_024
"""Entries of topics by time that may be out of date, beside one for each topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What the clustering of a generation depends on. Changing any of it means a new generation."""

    granularity: Granularity = Granularity.NORMAL
    """From which the thresholds come (:meth:`of`)."""
    embedding_share: float = 0.6
    """Weight of the embeddings' cosine; the terms' cosine has the rest."""
    join_at: float = 0.30
    """Least similarity at which an item joins a topic."""
    pair_at: float = 0.40
    """Least similarity at which an item joins a topic of one item: two items that share a way of putting things look
    like a story until a third does not; stories find each other all the same (see ``docs/architecture.md``)."""
    merge_at: float = 0.45
    """Least similarity at which two topics of ``GROWN_ITEMS`` or more become one …"""
    merge_small_at: float = 0.40
    """… and where one of the two has a single item; in between it rises in a line. A wrong merge of two grown topics
    costs more than a right one is worth, and centroids of many items are more alike than items are."""
    merge_every_items: int = 50
    """New items between two looks at the topics that changed, and at those that fade."""
    clock_every_items: int = 200
    """The clock is the middle of the observation times of so many new items; then items are forgotten, too."""
    age_penalty: float = 0.05
    """Similarity lost for each day between an item and the last one of the topic."""
    max_age_penalty: float = 0.10
    """Similarity lost at most for age."""
    fade_after: timedelta = timedelta(days=5)
    """A topic without a new item for so long (event time) takes no more."""
    max_topics: int = 10_000
    """Topics that take items, at most: beyond it those that have waited longest fade."""
    compared_topics: int = 1_024
    """With more topics than this, those of one item are candidates only where they share terms with the item."""
    copy_at: float = 0.95
    """Cosine of embeddings at which an item is an echo of a recent member of its topic."""
    horizon: timedelta = timedelta(days=30)
    """Repeats, edits and copies of an item are known for so long after its last observation."""
    max_items: int = 5_000_000
    """Items known at most: beyond it those observed longest ago are forgotten."""

    @classmethod
    def of(cls, granularity: Granularity) -> ClusterConfig:
        """The thresholds of a granularity; everything else as ever."""
        shift, normal = GRANULARITIES[granularity], cls()
        return cls(
            granularity=granularity,
            join_at=normal.join_at + shift,
            pair_at=normal.pair_at + shift,
            merge_at=normal.merge_at + shift,
            merge_small_at=normal.merge_small_at + shift,
        )


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
    direction: bytes
    """int8 of shape (d,): the vector's direction, the largest component at ±127; empty without text."""
    direction_square: int
    """The squared length of that."""
    signs: Signs
    """Of the vector's components."""
    at_us: int = 0
    """When it was observed, microseconds since 1970."""
    weights: list[int] = field(init=False)
    """Of its terms: the squared weights."""
    term_length: float = field(init=False)

    def __post_init__(self) -> None:
        self.weights = [squared_weight(term) for term in self.terms]
        self.term_length = math.sqrt(sum(self.weights))


def points(vectors: Floats, terms: Sequence[Sequence[str]]) -> list[Point]:
    """Items in fixed point, from float32 vectors of shape (n, d) and of any length (zero: no text)."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wide *= (SCALE / np.where(lengths > 0.0, lengths, 1.0))[:, None]
    fixed = np.rint(wide).astype(np.int32)
    squares = np.einsum("ij,ij->i", fixed, fixed, dtype=np.int64).tolist()
    directions = _directions(fixed)
    lengths = np.einsum("ij,ij->i", directions, directions, dtype=np.int64).tolist()
    return [
        Point(vector, square, tuple(words)[:ITEM_TERMS], direction.tobytes() if square else b"", length, signs)
        for vector, square, words, direction, length, signs in zip(
            fixed, squares, terms, directions, lengths, _signs(fixed), strict=True
        )
    ]


def _signs(vectors: Fixed) -> Signs:
    """Which components of vectors of shape (n, d) are positive, in 64 bits each word."""
    bits = np.packbits(vectors > 0, axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % _WORD))).view(np.uint64)


def _directions(vectors: Fixed) -> NDArray[np.int8]:
    """int8 of shape (n, d): the directions of vectors, the largest component of each at ±127; zeros for none."""
    largest = np.maximum(1, np.abs(vectors).max(axis=1, initial=0))
    directions: NDArray[np.int8] = np.rint(vectors * (127 / largest)[:, None]).astype(np.int8)
    return directions


class Likeness(NamedTuple):
    """How alike two topics are, exactly."""

    above: float
    """By how much the similarity is above what it takes to merge them; negative where they stay apart."""
    least: float
    """What it takes: more where both have grown."""
    cosine: float
    """Of the embeddings."""
    term_cosine: float

    def __str__(self) -> str:
        return (
            f"alike: similarity {self.least + self.above:.2f} (embeddings {self.cosine:.2f}, "
            f"terms {self.term_cosine:.2f}), where {self.least:.2f} is enough"
        )


@dataclass(frozen=True, slots=True)
class Merge:
    """Two topics that tell one story."""

    winner: str
    """The older one."""
    loser: str
    likeness: Likeness


class Centroid:
    """Where a topic stands: the sum of its vectors, its terms counted, the time of its last item."""

    __slots__ = ("key", "last_us", "places", "slot", "square", "summed", "term_square", "terms")

    def __init__(self, key: tuple[int, str], slot: int) -> None:
        self.key = key
        """(founded_at in microseconds, topic id): the smaller one wins a merge."""
        self.slot = slot
        self.summed = 0
        """Vectors in the sum."""
        self.square = 0
        """Squared length of the sum."""
        self.terms: dict[str, int] = {}
        self.places: dict[str, int] = {}
        """By term: its place among the postings."""
        self.term_square = 0
        self.last_us = 0


class TopicSpace:
    """The centroids of all active topics, and the way from an item to the nearest.

    Up to ``compared_topics`` an item is compared with each. Beyond, it is compared with all that have two items or
    more, and with those of one item whose terms are alike (``TERMS_ALIKE``), found by an inverted index, where the
    signs of the two vectors do not say that they are too far. What is a candidate depends on nothing but the topics
    there are, so that a restart changes no decision. Recall against all is above .99 (``tests/unit/
    test_clustering.py``, ``docs/quality.md``).

    Memory: about 12 bytes a dimension and 10 kB a topic with 384 dimensions, terms included; while items are looked
    ahead at, another 4 bytes for each of them and each topic that is compared.
    """

    def __init__(self, config: ClusterConfig, dimensions: int) -> None:
        self._config = config
        self._least = min(config.join_at, config.pair_at) - MARGIN
        """Topics that are less similar by the approximate products are no candidates."""
        self.dimensions = dimensions
        self._sums: Fixed = np.zeros((0, dimensions), np.int32)
        self._units: Floats = np.zeros((0, dimensions), np.float32)
        self._signs: Signs = _signs(np.zeros((0, dimensions), np.int32))
        """Of topics of one item: whether an item is near them is first looked up in 48 bytes of 1,536."""
        self._cosines = np.cos(np.arange(dimensions + 1) * (math.pi / dimensions))
        """By how many signs differ: the angle is that share of π (Charikar 2002)."""
        self._signs_margin = config.embedding_share * SIGNS_MARGIN / math.sqrt(dimensions)
        self._term_lengths = np.zeros(0, np.float64)
        self._last_us = np.zeros(0, np.int64)
        self._rows = np.zeros(0, np.int64)
        """By slot: its row among the compared; −1 for a topic that is found by its terms alone."""
        self._compared: Floats = np.zeros((0, dimensions), np.float32)
        self._slots = np.zeros(0, np.int64)
        """By row: its slot."""
        self._n_compared = 0
        self._all = True
        """Every topic is compared with every item."""
        self._centroids: list[Centroid | None] = []
        self._free: list[int] = []
        self._postings = Postings()
        self._by_id: dict[str, Centroid] = {}
        self._rankings: dict[int, list[tuple[int, str]]] = {}
        """Terms by weight, of the slots that were asked for last."""
        self._waiting: list[tuple[int, str]] = []
        """A heap of (time of its last item, id) for every topic; entries whose time has passed on are left in it."""
        self._upcoming: Floats = np.zeros((0, dimensions), np.float32)
        """The next items at the length of the embeddings' share, shape (m, d)."""
        self._next = 0
        """The first of them that may still be asked for."""
        self._ahead: Floats = np.zeros((0, 0), np.float32)
        """Their products with the compared, shape (m, at least as many as compared): kept up with every change."""
        self._hits: list[Slots] = []
        """Of each, the rows that were near enough by embedding alone when the products were computed."""
        self._touched: dict[int, None] = {}
        """Rows that have changed since."""
        self._touched_rows: Slots | None = None
        """The same as an array, while it is up to date."""

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
        """Computes the products of the next items with all compared at once; ``nearest`` is then cheap for them."""
        vectors = np.stack([p.vector for p in upcoming]).astype(np.float32)
        lengths = np.sqrt(np.array([max(1, p.square) for p in upcoming], np.float64))
        self._upcoming = np.asarray(vectors * (self._config.embedding_share / lengths)[:, None], np.float32)
        self._next = 0
        self._multiply()

    def _multiply(self) -> None:
        """The products of what is still to come with all compared."""
        upcoming, n = self._upcoming[self._next :], self._n_compared
        if self._ahead.shape != (len(self._upcoming), len(self._compared)):
            self._ahead = np.empty((len(self._upcoming), len(self._compared)), np.float32)
        items: list[Slots] = []
        rows: list[Slots] = []
        for begin in range(0, n, _COLUMNS):
            part = self._ahead[self._next :, begin : min(n, begin + _COLUMNS)]
            np.matmul(upcoming, self._compared[begin : begin + part.shape[1]].T, out=part)
            which, column = _at_least(part, self._least)
            items.append(which + self._next)
            rows.append(column + begin)
        self._hits = _by_item(items, rows, len(self._upcoming))
        self._touched.clear()
        self._touched_rows = None

    def nearest(self, point: Point, ahead: int) -> tuple[str, float] | None:
        """The most similar topic and the similarity; None where that is below ``join_at``, or below ``pair_at`` for a
        topic of one item. Ties go to the older one.

        ``ahead`` is the item's position in the last ``look_ahead``; items are asked for in their order.
        """
        self._next = ahead
        slots, scores = self._candidates(point, ahead)
        if not len(slots):
            return None
        chosen: Centroid | None = None
        similarity = -math.inf
        for slot in dict.fromkeys(slots[scores >= scores.max() - MARGIN].tolist()):
            centroid = self._centroids[slot]
            assert centroid is not None
            exact = self._to_point(centroid, point)
            if exact > similarity or (exact == similarity and chosen is not None and centroid.key < chosen.key):
                chosen, similarity = centroid, exact
        assert chosen is not None
        least = self._config.join_at if chosen.summed > 1 else self._config.pair_at
        return (chosen.key[1], similarity) if similarity >= least else None

    def similarity(self, topic_id: str, point: Point) -> float:
        """How similar an item is to a topic, exactly; its age counts."""
        return self._to_point(self._by_id[topic_id], point)

    def _candidates(self, point: Point, ahead: int) -> tuple[Slots, Sums]:
        """Slots that may be near enough, and their approximate similarities. One may stand there twice, the second time
        without its terms."""
        products, rows = self._ahead[ahead], self._near_by_embedding(ahead)
        slots, cosines = self._term_cosines(zip(point.terms, point.weights, strict=True), point.term_length)
        shared = (1.0 - self._config.embedding_share) * cosines
        by_terms = self._rows[slots]
        if self._all:
            found, similar = slots, products[by_terms] + shared
        else:
            [compared] = (by_terms >= 0).nonzero()
            found, similar = slots[compared], products[by_terms[compared]] + shared[compared]
        found, similar = np.concatenate([self._slots[rows], found]), np.concatenate([products[rows], similar])
        found, similar = self._aged(found, similar, point.at_us)
        if not self._all:
            [alone] = ((by_terms < 0) & (cosines >= TERMS_ALIKE)).nonzero()
            more, terms = slots[alone], shared[alone]
            near = self._config.embedding_share * self._told_by_signs(more, point.signs) + terms
            [kept] = (near >= max(similar.tolist(), default=self._least) - self._signs_margin).nonzero()
            if len(kept):
                more = more[kept]
                aged = self._aged(more, self._units[more] @ self._upcoming[ahead] + terms[kept], point.at_us)
                found, similar = np.concatenate([found, aged[0]]), np.concatenate([similar, aged[1]])
        return found, similar

    def _aged(self, slots: Slots, similar: Sums, at_us: int) -> tuple[Slots, Sums]:
        """Those that are near enough but for their age, and how near with it."""
        config = self._config
        [near] = (similar >= self._least).nonzero()
        slots, similar = slots[near], similar[near]
        days = np.maximum(0, at_us - self._last_us[slots]) / (_DAY_S * 1e6)
        return slots, similar - np.minimum(config.max_age_penalty, config.age_penalty * days)

    def _told_by_signs(self, slots: Slots, signs: Signs) -> Sums:
        """About the cosines of some topics of one item with a vector."""
        if not len(slots):
            return np.zeros(0, np.float64)
        differ = np.bitwise_count(self._signs[slots] ^ signs).sum(axis=1, dtype=np.intp)
        cosines: Sums = self._cosines[differ]
        return cosines

    def _near_by_embedding(self, ahead: int) -> Slots:
        """Rows that are near enough without any term, and some that are not any more."""
        hits = self._hits[ahead]
        if len(hits):
            hits = hits[hits < self._n_compared]
        if not self._touched:
            return hits
        touched = self._touched_rows
        if touched is None:
            touched = self._touched_rows = np.fromiter(self._touched, np.int64, len(self._touched))
        touched = touched[self._ahead[ahead, touched] >= self._least]
        return np.concatenate([hits, touched[touched < self._n_compared]]) if len(touched) else hits

    def _touch_row(self, row: int) -> None:
        """A row's centroid is another one from here on."""
        if row not in self._touched:
            self._touched[row] = None
            self._touched_rows = None

    def _term_cosines(self, weights: Iterable[tuple[str, int]], length: float) -> tuple[Slots, Sums]:
        """Slots of the topics that share a term with a vector of terms, and the cosines; a slot may stand there twice.

        A weight is the term's squared weight times its count in the vector.
        """
        slots, products = self._postings.products(weights)
        if len(slots):
            products /= length * self._term_lengths[slots]
        return slots, products

    def _to_point(self, centroid: Centroid, point: Point) -> float:
        config = self._config
        cosine = term_cosine = 0.0
        if point.square and centroid.square:
            dot = int(np.dot(self._sums[centroid.slot].astype(np.int64), point.vector.astype(np.int64)))
            cosine = dot / (math.sqrt(point.square) * math.sqrt(centroid.square))
        if point.terms and centroid.term_square:
            counts = centroid.terms
            shared = sum([n * weight for term, weight in zip(point.terms, point.weights, strict=True)
                          if (n := counts.get(term))])  # fmt: skip
            term_cosine = shared / (point.term_length * math.sqrt(centroid.term_square))
        days = max(0, point.at_us - centroid.last_us) / 1e6 / _DAY_S
        penalty = min(config.max_age_penalty, config.age_penalty * days)
        return config.embedding_share * cosine + (1.0 - config.embedding_share) * term_cosine - penalty

    # ------------------------------------------------------------------------------------------------- changes

    def found(self, topic_id: str, founded_us: int, point: Point) -> None:
        """A new topic around one item."""
        centroid = Centroid((founded_us, topic_id), self._take_slot())
        self._place(centroid)
        centroid.last_us = point.at_us
        self._wait(centroid)
        self.add(topic_id, point)

    def add(self, topic_id: str, point: Point) -> None:
        """One more item of a topic."""
        centroid = self._by_id[topic_id]
        if point.square and centroid.summed < MAX_SUMMED:
            self._sums[centroid.slot] += point.vector
            centroid.summed += 1
            if centroid.summed == 1:
                self._signs[centroid.slot] = point.signs
        if point.terms:
            self._count(centroid, dict.fromkeys(point.terms, 1))
        self.touch(topic_id, point.at_us)
        self._refresh(centroid)

    def touch(self, topic_id: str, at_us: int) -> None:
        """An echo keeps a topic awake without moving it."""
        centroid = self._by_id[topic_id]
        if at_us > centroid.last_us:
            centroid.last_us = at_us
            self._wait(centroid)

    def merge(self, winner_id: str, loser_id: str) -> None:
        """The loser's vectors and terms become the winner's."""
        winner, loser = self._by_id[winner_id], self._by_id[loser_id]
        if winner.summed + loser.summed <= MAX_SUMMED:
            self._sums[winner.slot] += self._sums[loser.slot]
            winner.summed += loser.summed
            if winner.summed == 1:
                self._signs[winner.slot] = self._signs[loser.slot]
        counts = loser.terms
        self.touch(winner_id, loser.last_us)
        self.drop(loser_id)
        self._count(winner, counts)
        self._refresh(winner)

    def drop(self, topic_id: str) -> None:
        """Forgets a topic: it has faded, or was merged."""
        centroid = self._by_id.pop(topic_id)
        slot = centroid.slot
        self._rankings.pop(slot, None)
        for term, place in centroid.places.items():
            self._unpost(term, place)
        if self._rows[slot] >= 0:
            self._not_compared(slot)
        self._sums[slot] = 0
        self._units[slot] = 0.0
        self._signs[slot] = 0
        self._last_us[slot] = _NEVER
        self._centroids[slot] = None
        self._free.append(slot)
        self._settle_size()

    def restore(
        self, topic_id: str, founded_us: int, sums: Fixed, summed: int, terms: dict[str, int], last_us: int
    ) -> None:
        """A topic as ``sums_of`` and its centroid gave it."""
        centroid = Centroid((founded_us, topic_id), self._take_slot())
        self._place(centroid)
        self._sums[centroid.slot] = sums
        centroid.summed, centroid.last_us = summed, last_us
        if summed == 1:
            self._signs[centroid.slot] = _signs(sums[None])[0]
        self._wait(centroid)
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

    def waiting_longest(self, before_us: int, most: int) -> list[str]:
        """Topics without an item since a time (microseconds), and where there are more than ``most`` those that have
        waited longest beyond it; the longest waiting first, then by id."""
        excess, longest = len(self) - most, list[tuple[int, str]]()
        while self._waiting and (self._waiting[0][0] < before_us or len(longest) < excess):
            last_us, topic_id = entry = heappop(self._waiting)
            centroid = self._by_id.get(topic_id)
            if centroid is not None and centroid.last_us == last_us and entry not in longest[-1:]:
                longest.append(entry)
        for entry in longest:
            heappush(self._waiting, entry)
        return [topic_id for _, topic_id in longest]

    def _wait(self, centroid: Centroid) -> None:
        """Its last item has another time."""
        self._last_us[centroid.slot] = centroid.last_us
        heappush(self._waiting, (centroid.last_us, centroid.key[1]))
        if len(self._waiting) > 2 * len(self._by_id) + _STALE:
            self._waiting = [(known.last_us, topic_id) for topic_id, known in self._by_id.items()]
            heapify(self._waiting)

    def top_terms(self, topic_id: str, limit: int) -> list[tuple[str, float]]:
        """The heaviest terms of a topic, best first: (term, share of the heaviest)."""
        ranked = self._ranked(self._by_id[topic_id])[:limit]
        heaviest = ranked[0][0] if ranked else -1
        return [(term, int(1e4 * math.sqrt(weight / heaviest) + 0.5) / 1e4) for weight, term in ranked]

    def _ranked(self, centroid: Centroid) -> list[tuple[int, str]]:
        """(−weight squared, term), the heaviest first; of the last few topics that were asked for it is at hand."""
        ranked = self._rankings.get(centroid.slot)
        if ranked is None:
            if len(self._rankings) >= RANKINGS:
                self._rankings.clear()
            terms = centroid.terms.items()
            ranked = sorted([(-count * count * squared_weight(term), term) for term, count in terms])
            self._rankings[centroid.slot] = ranked
        return ranked

    def _count(self, centroid: Centroid, added: dict[str, int]) -> None:
        self._rankings.pop(centroid.slot, None)
        for term, count in added.items():
            self._post(centroid, term, count)
        if len(centroid.terms) > TOPIC_TERMS:
            for weight, term in self._ranked(centroid)[KEPT_TERMS:]:
                del centroid.terms[term]
                centroid.term_square += weight
                self._unpost(term, centroid.places.pop(term))
            self._rankings.pop(centroid.slot, None)

    def _post(self, centroid: Centroid, term: str, added: int) -> None:
        before = centroid.terms.get(term, 0)
        after = before + added
        centroid.terms[term] = after
        centroid.term_square += squared_weight(term) * (after * after - before * before)
        if before:
            self._postings.set(term, centroid.places[term], after)
        else:
            centroid.places[term] = self._postings.add(term, centroid.slot, after)

    def _unpost(self, term: str, place: int) -> None:
        moved = self._postings.remove(term, place)
        if moved >= 0 and (centroid := self._centroids[moved]) is not None:
            centroid.places[term] = place

    def _refresh(self, centroid: Centroid) -> None:
        slot = centroid.slot
        wide = self._sums[slot].astype(np.int64)
        centroid.square = int(np.dot(wide, wide))
        self._units[slot] = wide / math.sqrt(max(1, centroid.square))
        self._term_lengths[slot] = math.sqrt(max(1, centroid.term_square))
        row = int(self._rows[slot])
        if row < 0 and (self._all or centroid.summed > 1):
            row = self._take_row(slot)
        if row >= 0:
            self._compared[row] = self._units[slot]
            if self._next < len(self._upcoming):
                self._ahead[self._next :, row] = self._upcoming[self._next :] @ self._compared[row]
                self._touch_row(row)

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = len(self._centroids)
        self._centroids.append(None)
        if slot >= len(self._sums):
            more = max(_GROWTH_SLOTS, slot // 2)
            self._sums = _longer(self._sums, more, 0)
            self._units = _longer(self._units, more, 0)
            self._signs = _longer(self._signs, more, 0)
            self._term_lengths = _longer(self._term_lengths, more, 1)
            self._last_us = _longer(self._last_us, more, _NEVER)
            self._rows = _longer(self._rows, more, -1)
        return slot

    def _place(self, centroid: Centroid) -> None:
        self._centroids[centroid.slot] = centroid
        self._by_id[centroid.key[1]] = centroid
        self._settle_size()

    # ------------------------------------------------------------------------------------- who is compared with all

    def _take_row(self, slot: int) -> int:
        row = self._n_compared
        if row >= len(self._compared):
            more = max(_GROWTH_SLOTS, row // 2)
            self._compared, self._slots = _longer(self._compared, more, 0), _longer(self._slots, more, -1)
            self._ahead = np.pad(self._ahead, ((0, 0), (0, more)))
        self._n_compared += 1
        self._slots[row], self._rows[slot] = slot, row
        return row

    def _not_compared(self, slot: int) -> None:
        """The last row takes the place of the one that goes."""
        row, last = int(self._rows[slot]), self._n_compared - 1
        if row != last:
            self._compared[row], self._slots[row] = self._compared[last], self._slots[last]
            self._rows[self._slots[row]] = row
            self._ahead[:, row] = self._ahead[:, last]
            self._touch_row(row)
        self._rows[slot] = -1
        self._n_compared = last

    def _settle_size(self) -> None:
        """Compares all, or those of two items and more, as the number of topics asks."""
        if self._all == (len(self._by_id) <= self._config.compared_topics):
            return
        self._all = not self._all
        for centroid in self._by_id.values():
            row = int(self._rows[centroid.slot])
            if self._all and row < 0:
                row = self._take_row(centroid.slot)
                self._compared[row] = self._units[centroid.slot]
            elif not self._all and row >= 0 and centroid.summed <= 1:
                self._not_compared(centroid.slot)
        self._multiply()

    # -------------------------------------------------------------------------------------------------- merges

    def alike(self, changed: Iterable[str]) -> list[Merge]:
        """Topics to merge, at least one of each two changed; the most similar first.

        Each topic stands in one pair at most as a loser and never in both roles: the next look finds the rest. A topic
        of one item was just founded because nothing was near enough to join, so only what moved since can be.
        """
        own = [self._by_id[topic_id] for topic_id in dict.fromkeys(changed) if topic_id in self._by_id]
        own_slots = np.array([centroid.slot for centroid in own], np.int64)
        own_units = self._units[own_slots]
        pairs: Pairs = {}
        for begin in range(0, len(own), MERGED_AT_ONCE):
            part = own[begin : begin + MERGED_AT_ONCE]
            self._pair(pairs, part, own_slots, own_units)
            grown = [centroid for centroid in part if centroid.summed > 1]
            if self._all:
                self._pair(pairs, grown, self._slots[: self._n_compared], self._compared[: self._n_compared])
                continue
            signs = _signs(self._sums[[centroid.slot for centroid in grown]])
            for centroid, own_signs in zip(grown, signs, strict=True):
                slots = self._alike_by_terms(centroid, own_signs)
                self._pair(pairs, [centroid], slots, self._units[slots])
        return self._greedy(pairs)

    def _alike_by_terms(self, centroid: Centroid, signs: Signs) -> Slots:
        """Topics that share much of a topic's heaviest terms; one may stand there twice."""
        counts, config = centroid.terms, self._config
        heaviest = [term for _, term in self._ranked(centroid)[:LOOKED_UP_TERMS]]
        weights = [(term, squared_weight(term) * counts[term]) for term in heaviest]
        slots, cosines = self._term_cosines(weights, math.sqrt(max(1, centroid.term_square)))
        [alike] = ((cosines >= TERMS_ALIKE) & (slots != centroid.slot)).nonzero()
        slots, cosines = slots[alike], cosines[alike]
        alone = self._rows[slots] < 0
        singles = slots[alone]
        near = config.embedding_share * self._told_by_signs(singles, signs)
        near += (1.0 - config.embedding_share) * cosines[alone]
        return np.concatenate([slots[~alone], singles[near >= config.merge_small_at - self._signs_margin]])

    def _pair(self, pairs: Pairs, part: Sequence[Centroid], slots: Slots, units: Floats) -> None:
        """Adds the pairs of some topics with some slots, whose units are given, that are alike enough."""
        if not len(part) or not len(slots):
            return
        cosines = self._units[[centroid.slot for centroid in part]] @ units.T
        rows, columns = np.nonzero(cosines >= MERGE_COSINE - MARGIN)
        near = zip(rows.tolist(), slots[columns].tolist(), cosines[rows, columns].tolist(), strict=True)
        for row, slot, cosine in near:
            one, other = part[row], self._centroids[slot]
            if other is None or other is one:
                continue
            likeness = self._between(one, other, cosine)
            if likeness is not None:
                pairs[(one.key, other.key) if one.key < other.key else (other.key, one.key)] = likeness

    def _between(self, one: Centroid, other: Centroid, cosine: float) -> Likeness | None:
        """How alike two centroids are, exactly; None where that is too little to merge them. ``cosine`` is about that
        of their embeddings."""
        config = self._config
        share = config.embedding_share
        smaller = min(one.summed, other.summed)
        grown = min(1.0, max(0, smaller - 1) / (GROWN_ITEMS - 1))
        least = config.merge_small_at + grown * (config.merge_at - config.merge_small_at)
        shared_terms = one.terms.keys() & other.terms.keys()
        if not shared_terms and share * cosine < least - MARGIN:
            return None
        ours, theirs = one.terms, other.terms
        shared = sum([ours[term] * theirs[term] * squared_weight(term) for term in shared_terms])
        term_cosine = shared / (math.sqrt(max(1, one.term_square)) * math.sqrt(max(1, other.term_square)))
        if smaller >= MERGE_TERM_ITEMS and term_cosine < MERGE_TERM_COSINE:
            return None
        if share * cosine + (1.0 - share) * term_cosine < least - MARGIN:
            return None
        dot = int(np.dot(self._sums[one.slot].astype(np.int64), self._sums[other.slot].astype(np.int64)))
        exact = dot / (math.sqrt(max(1, one.square)) * math.sqrt(max(1, other.square)))
        above = share * exact + (1.0 - share) * term_cosine - least
        return Likeness(above, least, exact, term_cosine) if exact >= MERGE_COSINE and above >= 0.0 else None

    @staticmethod
    def _greedy(pairs: Pairs) -> list[Merge]:
        near = [(-likeness.above, winner, loser) for (winner, loser), likeness in pairs.items()]
        used: set[str] = set()
        lost: set[str] = set()
        chosen: list[Merge] = []
        for _, winner, loser in sorted(near):
            if winner[1] in lost or loser[1] in used:
                continue
            chosen.append(Merge(winner[1], loser[1], pairs[winner, loser]))
            lost.add(loser[1])
            used.update((winner[1], loser[1]))
        return chosen


def _longer(column: NDArray[A], more: int, value: int) -> NDArray[A]:
    """A column, or rows, with so many more places, filled with a value."""
    return np.concatenate([column, np.full((more, *column.shape[1:]), value, column.dtype)])


def _at_least(products: Floats, least: float) -> tuple[Slots, Slots]:
    """Where numbers of shape (m, n) are so large: rows and columns. Few are, so eight are passed over at once."""
    m, n = products.shape
    flags = np.zeros((m, -(-n // _WORD) * _WORD), np.bool_)
    np.greater_equal(products, np.float32(least), out=flags[:, :n])
    words = np.flatnonzero(flags.reshape(-1).view(np.uint64))
    word, bit = np.nonzero(flags.reshape(-1, _WORD)[words])
    rows, columns = np.divmod(words[word] * _WORD + bit, flags.shape[1])
    return rows, columns


def _by_item(items: Sequence[Slots], rows: Sequence[Slots], count: int) -> list[Slots]:
    """Rows by the item that each stands beside, for so many items."""
    if not items:
        return [np.zeros(0, np.int64)] * count
    item, row = np.concatenate(items), np.concatenate(rows)
    order = np.argsort(item, kind="stable")
    return np.split(row[order], np.searchsorted(item[order], np.arange(1, count)))
