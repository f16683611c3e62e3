"""The items within the horizon: what is known of each, and which earlier item a copy copies.

Settles nothing itself: it finds an item by its id, and the original of a text or URL. 56 bytes an item in columns of
whole numbers, and about 17 in hash tables (measured: ``tests/unit/test_echoes.py``). Copies by vector are found in
``models.topics``.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np

from models.packed import HashTable, Names, TopicIds

TICKS: Final = 32
"""Observations of one item are told apart to 1/32 of a second."""
MAX_NAMES: Final = (1 << 21) - 2
"""Distinct trends among the items known: three of them stand in 63 bits."""
KEY_BITS: Final = 48
"""Bits of a text's or URL's hash: with 10 million items one look-up in 28 million finds a false original."""
FORGET_SHARE: Final = 0.05
"""When there are too many items, this share of them is forgotten at once."""
MAX_SIMILARITY: Final = 127
_NAME_MASK: Final = (1 << 21) - 1
_POINT_BITS, _COMMENT_BITS = 18, 13
_WIDE: Final = 0x8000_0000
LAST_S: Final = (1 << 32) - 1
"""The last second that a row can hold: in the year 2106."""

DELETED: Final = 1
ECHO: Final = 2
TEXT_ORIGINAL: Final = 4
"""The text of later items is compared with this one's."""
URL_ORIGINAL: Final = 8


def key_of(text: str | None) -> int:
    """48 bits of a text's hash, never 0; 0 where there is no text."""
    if not text:
        return 0
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=KEY_BITS // 8).digest()
    return int.from_bytes(digest, "big") or 1


class Entry(msgspec.Struct, array_like=True):
    """What is known of an item; also how it stands in the state stream."""

    text: int
    """``key_of`` the text hash."""
    url: int
    """``key_of`` the canonical URL of an original; 0 without, and for echoes."""
    origin: int
    """The low 64 bits of the id of the item that this one copies; 0 for originals."""
    topic: bytes
    """16 bytes; empty for a deletion that came before its item."""
    home: str
    mentions: tuple[str, ...]
    first_s: int
    """Event time of the first sighting, seconds since 1970: fixed."""
    tick: int
    """Last observation, in 1/32 s since 1970."""
    flags: int
    similarity: int
    """To the topic when it joined, 0 … 127."""
    engagement: tuple[int, int, int, int, int]
    """points, comments, shares, stars, views."""

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)


class ItemIndex:
    """Entries by item id, originals by text and by URL. Rows are freed when their item is forgotten.

    Row layout (bytes): id 16, text and flags 8, url or origin 8, trends 8, topic 4, first seen 4, observed 4,
    engagement 4 (a reference where it is large, or more than points and comments).
    """

    ROW_BYTES: Final = 56

    def __init__(self) -> None:
        self.topics = TopicIds()
        self._high = array("Q")
        self._low = array("Q")
        self._text = array("Q")  # 48 bits of hash, 5 of a second, 7 of similarity, 4 flags
        self._link = array("Q")
        self._trends = array("Q")
        self._topic = array("I")
        self._first = array("I")
        self._seen = array("I")
        self._sums = array("I")
        self._by_id = HashTable(self._low)
        self._by_text = HashTable(self._text, 16)
        self._by_url = HashTable(self._link)
        self._free = array("I")
        self._names = Names(MAX_NAMES)
        self._wide = [array("q") for _ in range(5)]
        self._wide_free = array("I")
        self._restoring = False

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for rows, tables and topic ids; interned trends apart."""
        tables = self._by_id.nbytes + self._by_text.nbytes + self._by_url.nbytes + self.topics.nbytes
        return tables + self.ROW_BYTES * len(self._low) + 4 * len(self._free) + 40 * len(self._wide[0])

    @property
    def trends(self) -> int:
        """Distinct trends among the items."""
        return len(self._names)

    # ------------------------------------------------------------------------------------------------- look-ups

    def find(self, item: bytes) -> int:
        """The row of an item by its 16 bytes; −1 where it is not known."""
        row = self._by_id.find(int.from_bytes(item[8:], "big"))
        return row if row >= 0 and self._high[row] == int.from_bytes(item[:8], "big") else -1

    def original(self, text: int, url: int) -> int:
        """The row of the item that first had this text, or this URL (keys; 0: none); −1 where there is none."""
        row = self._by_text.find(text) if text else -1
        return self._by_url.find(url) if row < 0 and url else row

    def id_at(self, row: int) -> bytes:
        """The 16 bytes of a row's item id."""
        return (self._high[row] << 64 | self._low[row]).to_bytes(16, "big")

    def id_of_origin(self, origin: int) -> bytes | None:
        """The whole id of an original by its low half; None where it has been forgotten."""
        row = self._by_id.find(origin) if origin else -1
        return None if row < 0 else self.id_at(row)

    def topic_of(self, row: int) -> bytes:
        """The surviving topic of a row's item; empty for a deletion that came before its item."""
        return self.topics.id_of(self.topics.resolve(self._topic[row]))

    def entry(self, row: int, *, as_put: bool = False) -> Entry:
        """What is known of the item in a row; its topic is the one that survives, or (``as_put``) the one it was."""
        packed, link, trends = self._text[row], self._link[row], self._trends[row]
        flags = packed & 15
        echo = bool(flags & ECHO)
        names = (trends & _NAME_MASK, trends >> 21 & _NAME_MASK, trends >> 42)
        return Entry(
            text=packed >> 16,
            url=0 if echo else link,
            origin=link if echo else 0,
            topic=self.topics.id_of(self._topic[row]) if as_put else self.topic_of(row),
            home=self._names[names[0]],
            mentions=tuple(self._names[n] for n in names[1:] if n),
            first_s=self._first[row],
            tick=self._seen[row] * TICKS + (packed >> 11 & 31),
            flags=flags,
            similarity=packed >> 4 & 127,
            engagement=self._engagement(row),
        )

    # -------------------------------------------------------------------------------------------------- changes

    def put(self, item: bytes, entry: Entry) -> list[bytes]:
        """Writes an item's entry. Returns merged topics that no item refers to any more.

        An entry becomes the original of its text or URL only where there is none yet; ``entry.flags`` is set to what it
        became.
        """
        row = self.find(item)
        before = self._clear(row) if row >= 0 else 0
        if row < 0:
            row = self._new_row(item)
        trends = [self._names.take(entry.home) if entry.home else 0]
        trends += [self._names.take(name) for name in entry.mentions[:2]]
        self._trends[row] = sum(number << 21 * i for i, number in enumerate(trends))
        self._topic[row] = self.topics.take(entry.topic)
        self._first[row] = min(LAST_S, max(0, entry.first_s))
        self._seen[row] = min(LAST_S, max(0, entry.tick // TICKS))
        self._sums[row] = self._pack(entry.engagement)
        self._anchor(row, entry)
        return list(self.topics.give_back(before))

    def forget(self, row: int) -> list[bytes]:
        """Frees a row. Returns merged topics that no item refers to any more."""
        topic = self._clear(row)
        self._by_id.remove(row)
        self._free.append(row)
        self._topic[row] = 0
        return list(self.topics.give_back(topic))

    def touch(self, row: int, tick: int) -> None:
        """Its item was observed again; nothing else of it has changed."""
        self._seen[row] = min(LAST_S, max(0, tick // TICKS))
        self._text[row] = self._text[row] & ~((TICKS - 1) << 11) | tick % TICKS << 11

    def older_than(self, seen_s: int) -> list[int]:
        """The rows whose last observation is before a time (seconds since 1970), by item id."""
        seen = np.frombuffer(self._seen, np.uint32)
        rows = np.flatnonzero(seen < max(0, min(LAST_S, seen_s)))
        free = set(self._free)
        return sorted((row for row in rows.tolist() if row not in free), key=self.id_at)

    def oldest(self, share: float) -> int:
        """The time (seconds since 1970) before which ``share`` of the items was observed last."""
        rows = np.setdiff1d(np.arange(len(self._seen)), np.frombuffer(self._free, np.uint32))
        seen = np.frombuffer(self._seen, np.uint32)[rows]
        place = int(share * (len(seen) - 1))
        return int(np.partition(seen, place)[place]) + 1

    def _new_row(self, item: bytes) -> int:
        row = self._free.pop() if self._free else len(self._low)
        if row == len(self._low):
            for wide in (self._high, self._low, self._text, self._link, self._trends):
                wide.append(0)
            for narrow in (self._topic, self._first, self._seen, self._sums):
                narrow.append(0)
        self._high[row] = int.from_bytes(item[:8], "big")
        self._low[row] = int.from_bytes(item[8:], "big")
        self._by_id.add(row)
        return row

    def _anchor(self, row: int, entry: Entry) -> None:
        """Writes text, link and flags, and enters the row among the originals where it is to be one."""
        flags = entry.flags
        if not self._restoring:
            if flags & TEXT_ORIGINAL and self._by_text.find(entry.text) >= 0:
                flags &= ~TEXT_ORIGINAL
            if flags & URL_ORIGINAL and self._by_url.find(entry.url) >= 0:
                flags &= ~URL_ORIGINAL
            entry.flags = flags
        self._text[row] = entry.text << 16 | entry.tick % TICKS << 11 | entry.similarity << 4 | flags
        self._link[row] = entry.origin if flags & ECHO else entry.url
        if not self._restoring:
            self._enter(row, flags)

    def _enter(self, row: int, flags: int) -> None:
        if flags & TEXT_ORIGINAL:
            self._by_text.add(row)
        if flags & URL_ORIGINAL:
            self._by_url.add(row)

    def begin_restore(self) -> None:
        """From here ``put`` takes flags as they are: an older entry may still claim what another has by now."""
        self._restoring = True

    def end_restore(self) -> None:
        """All newest entries are there: those that say so become originals."""
        self._restoring = False
        free = set(self._free)
        for row in range(len(self._low)):
            if row not in free:
                self._enter(row, self._text[row] & 15)

    def _clear(self, row: int) -> int:
        """Takes a row's references back, except that to its topic, whose number it returns."""
        flags = 0 if self._restoring else self._text[row] & 15
        if flags & TEXT_ORIGINAL:
            self._by_text.remove(row)
        if flags & URL_ORIGINAL:
            self._by_url.remove(row)
        trends = self._trends[row]
        for shift in (0, 21, 42):
            self._names.give_back(trends >> shift & _NAME_MASK)
        if self._sums[row] & _WIDE:
            self._wide_free.append(self._sums[row] ^ _WIDE)
        return self._topic[row]

    def _pack(self, sums: tuple[int, int, int, int, int]) -> int:
        points, comments, *others = sums
        if 0 <= points < 1 << _POINT_BITS and 0 <= comments < 1 << _COMMENT_BITS and not any(others):
            return comments << _POINT_BITS | points
        if self._wide_free:
            place = self._wide_free.pop()
            for column, value in zip(self._wide, sums, strict=True):
                column[place] = value
        else:
            place = len(self._wide[0])
            for column, value in zip(self._wide, sums, strict=True):
                column.append(value)
        return place | _WIDE

    def _engagement(self, row: int) -> tuple[int, int, int, int, int]:
        packed = self._sums[row]
        if packed & _WIDE:
            points, comments, shares, stars, views = (column[packed ^ _WIDE] for column in self._wide)
            return points, comments, shares, stars, views
        return packed & (1 << _POINT_BITS) - 1, packed >> _POINT_BITS, 0, 0, 0
