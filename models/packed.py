"""Packed collections: hash tables over columns of whole numbers, interned names, interned topic ids.

Python's dicts take some 100 bytes an entry; with millions of items within the horizon these take 5 to 30. What the
columns mean is ``models.echoes``'.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_EMPTY: Final = 0
_GONE: Final = 0xFFFF_FFFF
MAX_ROWS: Final = 0xFFFF_FFF0
FULL: Final = 0.75
"""A table is made anew when so much of it is taken …"""
GROWN: Final = 0.5
"""… and this much of the new one …"""
FITTING: Final = 0.7
"""… or this much, where it is known how many rows there will be."""
SMALLEST: Final = 1_024
PART_ROWS: Final = 262_144
"""Rows that are worked on at once: what that takes beside the table stays small."""
IDS_CACHED: Final = 8_192
"""The id of a topic is asked for several times with each of its items."""
FEW: Final = 24
"""So few are looked up one by one: a step for all costs as much."""

Keys = NDArray[np.uint64]
Rows = NDArray[np.int64]


@lru_cache(maxsize=IDS_CACHED)
def id_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in its usual form (36 characters, lower case).

    Raises:
        ValueError: it is none.
    """
    try:
        data = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        data = b""
    if len(data) != 16 or id_text(data) != text:
        raise ValueError(f"item id {text[:60]!r} is no UUID in lower case: make it with streams.ids.item_id_of")
    return data


@lru_cache(maxsize=IDS_CACHED)
def id_text(data: bytes) -> str:
    """The 36 characters of a UUID's 16 bytes; empty for none."""
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if data else ""


class HashTable:
    """From a key to the row that has it: open addressing, 4 bytes a place. The keys stand in a column of the caller's.

    Linear probing after Knuth (1973). Keys must be well mixed (hashes): the place is their rest by the size, which is
    any number, so that a table takes what its rows need and no more. Two rows may have one key: the first is found.
    """

    def __init__(self, keys: array[int], shift: int = 0) -> None:
        self._keys = keys
        self._shift = shift
        self._size = SMALLEST
        self._slots = array("I", bytes(4 * SMALLEST))
        self._live = 0
        self._taken = 0

    def __len__(self) -> int:
        return self._live

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._size * 4

    def find(self, key: int) -> int:
        """The row with that key; −1 where there is none."""
        slots, keys, shift, size = self._slots, self._keys, self._shift, self._size
        place = key % size
        while value := slots[place]:
            if value != _GONE and keys[value - 1] >> shift == key:
                return value - 1
            place += 1
            if place == size:
                place = 0
        return -1

    def find_many(self, keys: Keys) -> Rows:
        """The rows with some keys, shape (n,); −1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        if not self._live:
            return found
        slots, column = np.frombuffer(self._slots, np.uint32), np.frombuffer(self._keys, np.uint64)
        places = self._homes(keys)
        waiting = np.arange(len(keys))
        while len(waiting) > FEW:
            values = slots[places]
            rows = np.where((values == _EMPTY) | (values == _GONE), np.uint32(1), values) - np.uint32(1)
            hit = (column[rows] >> np.uint64(self._shift) == keys[waiting]) & (rows == values - np.uint32(1))
            found[waiting[hit]] = rows[hit]
            on = ~hit & (values != _EMPTY)
            waiting, places = waiting[on], places[on] + 1
            places[places == self._size] = 0
        for one in waiting.tolist():
            found[one] = self.find(int(keys[one]))
        return found

    def add(self, row: int) -> None:
        """Takes in a row whose key stands in the column already."""
        if self._taken >= FULL * self._size:
            self._rebuild(GROWN, 1)
        slots, size = self._slots, self._size
        place = (self._keys[row] >> self._shift) % size
        while slots[place] not in (_EMPTY, _GONE):
            place += 1
            if place == size:
                place = 0
        self._taken += slots[place] == _EMPTY
        slots[place] = row + 1
        self._live += 1

    def add_many(self, rows: Rows) -> None:
        """Takes in distinct rows whose keys stand in the column already."""
        if self._taken + len(rows) > FULL * self._size:
            self._rebuild(GROWN, len(rows))
        for begin in range(0, len(rows), PART_ROWS):
            self._place(rows[begin : begin + PART_ROWS])

    def fit(self, more: int = 0) -> None:
        """Makes the table as large as its rows and so many more need, where it is larger or smaller."""
        if not FITTING < (self._taken + more) / self._size < FULL:
            self._rebuild(FITTING, more)

    def remove(self, row: int) -> None:
        """Takes out a row; its key must still stand in the column.

        Raises:
            KeyError: the row is not in the table.
        """
        slots, size = self._slots, self._size
        place = (self._keys[row] >> self._shift) % size
        while (value := slots[place]) != row + 1:
            if value == _EMPTY:
                raise KeyError(row)
            place += 1
            if place == size:
                place = 0
        slots[place] = _GONE
        self._live -= 1

    def _homes(self, keys: Keys) -> Rows:
        return (keys % np.uint64(self._size)).astype(np.int64)

    def _place(self, rows: Rows) -> None:
        """Rows step on together, each to the first place that is free; of those that meet in one, one stays."""
        slots, column = np.frombuffer(self._slots, np.uint32), np.frombuffer(self._keys, np.uint64)
        rows = rows.astype(np.int64)
        places = self._homes(column[rows] >> np.uint64(self._shift))
        self._live += len(rows)
        while len(rows):
            there = slots[places]
            free = (there == _EMPTY) | (there == _GONE)
            slots[places[free]] = rows[free] + 1
            stays = slots[places] == rows + 1
            self._taken += int(np.count_nonzero(stays & (there == _EMPTY)))
            rows, places = rows[~stays], places[~stays] + 1
            places[places == self._size] = 0

    def _rebuild(self, share: float, more: int) -> None:
        """A table in which its rows and so many more take that share; places of rows that are gone are left out."""
        old, self._size = self._slots, max(SMALLEST, math.ceil((self._live + more) / share))
        self._slots = array("I", [_EMPTY]) * self._size
        self._live = self._taken = 0
        values = np.frombuffer(old, np.uint32)
        for begin in range(0, len(values), PART_ROWS):
            part = values[begin : begin + PART_ROWS]
            self._place(part[(part != _EMPTY) & (part != _GONE)].astype(np.int64) - 1)


class Names:
    """Strings as small numbers, counted by use and given back; 0 is no name."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._numbers: dict[str, int] = {}
        self._names: list[str] = [""]
        self._uses = array("I", [0])
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> str:
        return self._names[number]

    @property
    def room(self) -> int:
        """How many more names there are numbers for."""
        return self._most - len(self._numbers)

    def take(self, name: str) -> int:
        """The name's number, used once more; 0 where all numbers are taken."""
        number = self.number_of(name)
        self._uses[number] += bool(number)
        return number

    def number_of(self, name: str) -> int:
        """The name's number, not used yet: who calls this counts the uses afterwards (:meth:`count`)."""
        if not name:
            return 0
        number = self._numbers.get(name, 0)
        if not number:
            if self.room <= 0:
                return 0
            if self._free:
                number = self._free.pop()
                self._names[number] = name
            else:
                number = len(self._names)
                self._names.append(name)
                self._uses.append(0)
            self._numbers[name] = number
        return number

    def packed(self, names: Sequence[str]) -> int:
        """Up to three names as numbers of 21 bits each, the first one lowest; not used yet, see :meth:`number_of`."""
        get, shift, packed = self._numbers.get, 0, 0
        for name in names[:3]:
            packed |= (get(name) or self.number_of(name)) << shift
            shift += 21
        return packed

    def count(self, columns: Iterable[NDArray[np.int64]]) -> None:
        """Says which numbers are used, each time they are; names that are not are forgotten."""
        self._uses = array("I", [0]) * len(self._names)
        uses = np.frombuffer(self._uses, np.uint32)
        for column in columns:
            np.add.at(uses, column, 1)
        uses[0] = 0
        for number in (np.flatnonzero(uses[1:] == 0) + 1).tolist():
            if self._names[number]:
                self._forget(number)

    def give_back(self, number: int) -> None:
        """One use less; the last one frees the number."""
        if not number:
            return
        self._uses[number] -= 1
        if not self._uses[number]:
            self._forget(number)

    def _forget(self, number: int) -> None:
        del self._numbers[self._names[number]]
        self._names[number] = ""
        self._free.append(number)


class TopicIds:
    """Topic ids (16 bytes) as numbers, counted by use, with what each was merged into. 0 is no topic."""

    def __init__(self) -> None:
        self._high = array("Q", [0])
        self._low = array("Q", [0])
        self._into = array("I", [0])
        self._uses = array("I", [0])
        self._table = HashTable(self._low)
        self._free = array("I")

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._table.nbytes + 24 * len(self._low) + 4 * len(self._free)

    def id_of(self, number: int) -> bytes:
        """The id behind a number."""
        return (self._high[number] << 64 | self._low[number]).to_bytes(16, "big") if number else b""

    def number_of(self, topic: bytes) -> int:
        """The number of an id that is in use; 0 otherwise."""
        return max(0, self._table.find(int.from_bytes(topic[8:], "big"))) if topic else 0

    def take(self, topic: bytes) -> int:
        """The id's number, used once more."""
        if not topic:
            return 0
        number = self.number_of(topic)
        if not number:
            number = self._free.pop() if self._free else len(self._low)
            if number == len(self._low):
                for column in (self._high, self._low, self._into, self._uses):
                    column.append(0)
            self._high[number] = int.from_bytes(topic[:8], "big")
            self._low[number] = int.from_bytes(topic[8:], "big")
            self._table.add(number)
        self._uses[number] += 1
        return number

    def numbers_of(self, high: Keys, low: Keys) -> Rows:
        """The numbers of some ids (their halves, shape (n,); 0: no topic), new ones for those that are not known.

        Nothing is counted: who calls this counts the uses afterwards (:meth:`count`).
        """
        numbers = np.maximum(self._table.find_many(low), 0)
        numbers[low == 0] = 0
        unknown = np.flatnonzero((numbers == 0) & (low != 0))
        if len(unknown):
            _, first, which = np.unique(low[unknown], return_index=True, return_inverse=True)
            begin = len(self._low)
            new = np.arange(begin, begin + len(first))
            self._high.frombytes(high[unknown[first]].tobytes())
            self._low.frombytes(low[unknown[first]].tobytes())
            for column in (self._into, self._uses):
                column.frombytes(bytes(4 * len(first)))
            self._table.add_many(new)
            numbers[unknown] = new[which]
        return numbers

    def count(self, columns: Iterable[NDArray[np.uint32]]) -> None:
        """Says which numbers are used, each time they are, while no merge is known; the others are freed."""
        self._uses = array("I", [0]) * len(self._low)
        uses = np.frombuffer(self._uses, np.uint32)
        for column in columns:
            np.add.at(uses, column, 1)
        uses[0] = 0
        unused = np.flatnonzero((uses == 0) & (np.frombuffer(self._low, np.uint64) != 0))
        if len(unused):
            for half in (self._high, self._low):
                np.frombuffer(half, np.uint64)[unused] = 0
            self._free.frombytes(unused.astype(np.uint32).tobytes())
            self._table = HashTable(self._low)
            self._table.fit(int(np.count_nonzero(uses)))
            for begin in range(0, len(uses), PART_ROWS):
                self._table.add_many(np.flatnonzero(uses[begin : begin + PART_ROWS]) + begin)
        self._table.fit()

    def give_back(self, number: int) -> Iterator[bytes]:
        """One use less. Yields the ids of merged topics that nobody uses any more and that are forgotten with it."""
        while number:
            self._uses[number] -= 1
            if self._uses[number]:
                return
            into = self._into[number]
            if into:
                yield self.id_of(number)
            self._table.remove(number)
            self._high[number] = self._low[number] = self._into[number] = 0
            self._free.append(number)
            number = into

    def merged(self, loser: bytes, winner: bytes) -> None:
        """Says that one topic went into another. The winner is kept as long as the loser is in use."""
        number = self.number_of(loser)
        if number and not self._into[number]:
            self._into[number] = self.take(winner)

    def merges(self) -> Iterator[tuple[bytes, bytes]]:
        """Every merged topic that is in use, and the one that it went into."""
        for number, into in enumerate(self._into):
            if into:
                yield self.id_of(number), self.id_of(into)

    def resolve(self, number: int) -> int:
        """The topic that a number stands for now: the last of its winners."""
        while into := self._into[number]:
            number = into
        return number
