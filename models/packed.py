"""Packed collections: hash tables over columns of whole numbers, interned names, interned topic ids.

Python's dicts take some 100 bytes an entry; with millions of items within the horizon these take 5 to 30. What the
columns mean is ``models.echoes``'.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import numpy as np

_EMPTY: Final = 0
_GONE: Final = 0xFFFF_FFFF
MAX_ROWS: Final = 0xFFFF_FFF0
FULL: Final = 0.7
"""A table is made anew when so much of it is taken."""
SMALLEST: Final = 1_024


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


def id_text(data: bytes) -> str:
    """The 36 characters of a UUID's 16 bytes; empty for none."""
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if data else ""


class HashTable:
    """From a key to the row that has it: open addressing, 4 bytes a place. The keys stand in a column of the caller's.

    Linear probing after Knuth (1973). Keys must be well mixed (hashes): their low bits are the place.
    """

    def __init__(self, keys: array[int], shift: int = 0) -> None:
        self._keys = keys
        self._shift = shift
        self._slots = array("I", bytes(4 * SMALLEST))
        self._mask = SMALLEST - 1
        self._live = 0
        self._taken = 0

    def __len__(self) -> int:
        return self._live

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return len(self._slots) * 4

    def find(self, key: int) -> int:
        """The row with that key; −1 where there is none."""
        slots, keys, shift, mask = self._slots, self._keys, self._shift, self._mask
        place = key & mask
        while value := slots[place]:
            if value != _GONE and keys[value - 1] >> shift == key:
                return value - 1
            place = (place + 1) & mask
        return -1

    def add(self, row: int) -> None:
        """Takes in a row whose key stands in the column already."""
        if self._taken >= FULL * len(self._slots):
            self._rebuild()
        slots, mask = self._slots, self._mask
        place = (self._keys[row] >> self._shift) & mask
        while slots[place] not in (_EMPTY, _GONE):
            place = (place + 1) & mask
        self._taken += slots[place] == _EMPTY
        slots[place] = row + 1
        self._live += 1

    def remove(self, row: int) -> None:
        """Takes out a row; its key must still stand in the column.

        Raises:
            KeyError: the row is not in the table.
        """
        slots, mask = self._slots, self._mask
        place = (self._keys[row] >> self._shift) & mask
        while (value := slots[place]) != row + 1:
            if value == _EMPTY:
                raise KeyError(row)
            place = (place + 1) & mask
        slots[place] = _GONE
        self._live -= 1

    def _rebuild(self) -> None:
        """A table of fitting size without the places of rows that are gone; all rows at once, in numpy."""
        size = SMALLEST
        while self._live + 1 > FULL / 2 * size:
            size *= 2
        old = np.frombuffer(self._slots, np.uint32)
        rows = old[(old != _EMPTY) & (old != _GONE)].astype(np.int64)
        homes = (
            (np.frombuffer(self._keys, np.uint64)[rows - 1] >> np.uint64(self._shift)) & np.uint64(size - 1)
        ).astype(np.int64)
        order = np.argsort(homes, kind="stable")
        rows, homes = rows[order], homes[order]
        steps = np.arange(len(rows))
        places = np.maximum.accumulate(homes - steps) + steps  # the first free place at or after each one's home
        fresh = np.zeros(size, np.uint32)
        inside = places < size
        fresh[places[inside]] = rows[inside]
        place = 0
        for row in rows[~inside]:  # the few that run over the end start again at the beginning
            while fresh[place]:
                place += 1
            fresh[place] = row
        self._slots = array("I", fresh.tobytes())
        self._mask = size - 1
        self._taken = self._live


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

    def take(self, name: str) -> int:
        """The name's number, used once more; 0 where all numbers are taken."""
        number = self._numbers.get(name, 0)
        if not number:
            if len(self._numbers) >= self._most:
                return 0
            if self._free:
                number = self._free.pop()
                self._names[number] = name
            else:
                number = len(self._names)
                self._names.append(name)
                self._uses.append(0)
            self._numbers[name] = number
        self._uses[number] += 1
        return number

    def give_back(self, number: int) -> None:
        """One use less; the last one frees the number."""
        if not number:
            return
        self._uses[number] -= 1
        if not self._uses[number]:
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
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._table.nbytes + 24 * len(self._low)

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

    def resolve(self, number: int) -> int:
        """The topic that a number stands for now: the last of its winners."""
        while into := self._into[number]:
            number = into
        return number
