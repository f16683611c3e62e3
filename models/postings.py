"""Which topics have a term, and how often: the inverted index by which topics are found that share words with an item.

Holds whole numbers alone and is the same whatever way it came about. What a term weighs is ``models.clustering``'s.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
Sums = NDArray[np.float64]


class _Posting:
    """The topics of one term, in no order."""

    __slots__ = ("counts", "slots")

    def __init__(self) -> None:
        self.slots = array("q")
        self.counts = array("I")


class Postings:
    """Terms to slots (small numbers of topics) and counts. 12 bytes a pair, in columns that numpy adds up."""

    def __init__(self) -> None:
        self._by_term: dict[str, _Posting] = {}
        self._sums: Sums = np.zeros(0, np.float64)
        """By slot; zero between two calls."""

    def __len__(self) -> int:
        return len(self._by_term)

    def add(self, term: str, slot: int, count: int) -> int:
        """A topic has a new term. Returns the pair's place, which names it from here on."""
        posting = self._by_term.get(term)
        if posting is None:
            posting = self._by_term[term] = _Posting()
        posting.slots.append(slot)
        posting.counts.append(count)
        if slot >= len(self._sums):
            self._sums = np.zeros(2 * slot + 1, np.float64)
        return len(posting.slots) - 1

    def set(self, term: str, place: int, count: int) -> None:
        """It is counted anew."""
        self._by_term[term].counts[place] = count

    def remove(self, term: str, place: int) -> int:
        """A topic has lost a term. Returns the slot whose pair now stands in that place; −1 where none does."""
        posting = self._by_term[term]
        slot, count = posting.slots.pop(), posting.counts.pop()
        if place < len(posting.slots):
            posting.slots[place], posting.counts[place] = slot, count
            return slot
        if not posting.slots:
            del self._by_term[term]
        return -1

    def products(self, weights: Iterable[tuple[str, int]]) -> tuple[Slots, Sums]:
        """The slots that have any of some terms, and Σ weight · count for each: exact below 2^53.

        A slot stands there once for each of the terms that it has, each time with the whole sum.
        """
        found = [(posting, weight) for term, weight in weights if (posting := self._by_term.get(term))]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.float64)
        slots = np.frombuffer(b"".join([posting.slots for posting, _ in found]), np.int64)
        counts = np.frombuffer(b"".join([posting.counts for posting, _ in found]), np.uint32)
        factors = np.array([weight for _, weight in found], np.float64)
        parts = counts * factors.repeat([len(posting.slots) for posting, _ in found])
        if len(found) == 1:
            return slots, parts
        np.add.at(self._sums, slots, parts)
        sums = self._sums[slots]
        self._sums[slots] = 0.0
        return slots, sums
