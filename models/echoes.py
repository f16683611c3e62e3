"""The items within the horizon: what is known of each, and which earlier item a copy copies.

Settles nothing itself: it finds an item by its id, and the original of a text or URL. 56 bytes an item in columns of
whole numbers, and about 20 in hash tables (measured: ``python -m benchmarks run recovery``). Copies by vector are found
in ``models.topics``.

An item's value in the state stream is its row, in little-endian bytes that numpy reads by the batch::

    text and flags 8 · link 8 · topic id 16 · first seen 4 · last observed 4 · engagement 4
    [ · points, comments, shares, stars, views: 8 each, where engagement says ``WIDE`` ]
    · msgpack: home trend and mentions, by name (numbers of names mean something to one process alone)
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.packed import PART_ROWS, HashTable, Keys, Names, Rows, TopicIds

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
WIDE: Final = 0x8000_0000
"""In the place of engagement: it stands elsewhere."""
LAST_S: Final = (1 << 32) - 1
"""The last second that a row can hold: in the year 2106."""
_POINTS: Final = (1 << _POINT_BITS) - 1

ROW: Final = np.dtype(
    [
        ("text", "<u8"), ("link", "<u8"), ("topic_high", ">u8"), ("topic_low", ">u8"),
        ("first", "<u4"), ("seen", "<u4"), ("sums", "<u4"),
    ]
)  # fmt: skip
"""What every item's value in the state stream begins with."""
_FIXED: Final = struct.Struct("<QQ16sIII")
_AMOUNTS: Final = struct.Struct("<5q")
_NO_TOPIC: Final = bytes(16)
TAILS_CACHED: Final = 65_536
"""Home trend and mentions of an item, as they stand in its value, whose numbers are kept while state is read."""

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
    """What is known of an item."""

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


_encode_names = msgspec.msgpack.Encoder().encode
_decode_names = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def _row_value(
    text: int, link: int, topic: bytes, first: int, seen: int, amounts: tuple[int, ...], names: tuple[str, ...]
) -> bytes:
    narrow = _narrow(amounts)
    fixed = _FIXED.pack(text, link, topic or _NO_TOPIC, first, seen, WIDE if narrow is None else narrow)
    return fixed + (_AMOUNTS.pack(*amounts) if narrow is None else b"") + _encode_names(names)


def _narrow(amounts: tuple[int, ...]) -> int | None:
    """Points and comments in 31 bits; None where they are too large, or there is more."""
    points, comments, *others = amounts
    if 0 <= points <= _POINTS and 0 <= comments < 1 << _COMMENT_BITS and not any(others):
        return comments << _POINT_BITS | points
    return None


def _text_of(entry: Entry, flags: int) -> int:
    return entry.text << 16 | entry.tick % TICKS << 11 | entry.similarity << 4 | flags


def _second(value: int) -> int:
    return min(LAST_S, max(0, value))


def pack_entry(entry: Entry) -> bytes:
    """An entry as it stands in the state stream."""
    return _row_value(
        _text_of(entry, entry.flags),
        entry.origin if entry.flags & ECHO else entry.url,
        entry.topic,
        _second(entry.first_s),
        _second(entry.tick // TICKS),
        entry.engagement,
        (entry.home, *entry.mentions[:2]),
    )


def unpack_entry(value: bytes) -> Entry:
    """The entry behind a value of the state stream.

    Raises:
        ValueError: the value is none of an item.
    """
    try:
        text, link, topic, first_s, seen_s, sums = _FIXED.unpack_from(value)
        at = _FIXED.size
        engagement: tuple[int, int, int, int, int] = (sums & _POINTS, sums >> _POINT_BITS, 0, 0, 0)
        if sums & WIDE:
            engagement = _AMOUNTS.unpack_from(value, at)
            at += _AMOUNTS.size
        home, *mentions = _decode_names(memoryview(value)[at:])
    except (struct.error, msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"no value of an item in the state stream ({error}): {value[:80]!r}") from None
    flags = text & 15
    return Entry(
        text=text >> 16,
        url=0 if flags & ECHO else link,
        origin=link if flags & ECHO else 0,
        topic=b"" if topic == _NO_TOPIC else topic,
        home=home,
        mentions=tuple(mentions),
        first_s=first_s,
        tick=seen_s * TICKS + (text >> 11 & 31),
        flags=flags,
        similarity=text >> 4 & 127,
        engagement=engagement,
    )


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
        self._loading = False
        """While state is read by the batch: originals, and uses of names and topics, are settled afterwards."""
        self._tails: dict[bytes, int] = {}

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

    def first_of(self, row: int) -> bytes:
        """The id of what a copy of a row's item copies: of the item itself, or of what that one was an echo of."""
        origin = self._link[row] if self._text[row] & ECHO else 0
        return self.id_of_origin(origin) or self.id_at(row)

    def id_of_origin(self, origin: int) -> bytes | None:
        """The whole id of an original by its low half; None where it has been forgotten."""
        row = self._by_id.find(origin) if origin else -1
        return None if row < 0 else self.id_at(row)

    def topic_of(self, row: int) -> bytes:
        """The surviving topic of a row's item; empty for a deletion that came before its item."""
        return self.topics.id_of(self.topics.resolve(self._topic[row]))

    def entry(self, row: int) -> Entry:
        """What is known of the item in a row; its topic is the one that survives."""
        packed, link = self._text[row], self._link[row]
        flags = packed & 15
        echo = bool(flags & ECHO)
        home, *mentions = self._names_of(row)
        return Entry(
            text=packed >> 16,
            url=0 if echo else link,
            origin=link if echo else 0,
            topic=self.topic_of(row),
            home=home,
            mentions=tuple(mentions),
            first_s=self._first[row],
            tick=self._seen[row] * TICKS + (packed >> 11 & 31),
            flags=flags,
            similarity=packed >> 4 & 127,
            engagement=self._engagement(row),
        )

    def value(self, row: int) -> bytes:
        """The row as it stands in the state stream: ``pack_entry`` of its entry, with the topic as it was put."""
        return _row_value(
            self._text[row],
            self._link[row],
            self.topics.id_of(self._topic[row]),
            self._first[row],
            self._seen[row],
            self._engagement(row),
            self._names_of(row),
        )

    def _names_of(self, row: int) -> tuple[str, ...]:
        """The home trend (empty for none), and the mentions."""
        trends = self._trends[row]
        home, *mentions = trends & _NAME_MASK, trends >> 21 & _NAME_MASK, trends >> 42
        return (self._names[home], *(self._names[n] for n in mentions if n))

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
        self._first[row] = _second(entry.first_s)
        self._seen[row] = _second(entry.tick // TICKS)
        self._sums[row] = self._pack(entry.engagement)
        self._anchor(row, entry)
        return list(self.topics.give_back(before))

    def forget(self, row: int) -> list[bytes]:
        """Frees a row. Returns merged topics that no item refers to any more."""
        topic = self._clear(row)
        self._by_id.remove(row)
        self._free.append(row)
        self._topic[row] = self._trends[row] = self._text[row] = 0
        return list(self.topics.give_back(topic))

    def touch(self, row: int, tick: int) -> None:
        """Its item was observed again; nothing else of it has changed."""
        self._seen[row] = min(LAST_S, max(0, tick // TICKS))
        self._text[row] = self._text[row] & ~((TICKS - 1) << 11) | tick % TICKS << 11

    def ids(self) -> Iterator[bytes]:
        """The 16 bytes of every item that is known, in no order; the index must not change meanwhile."""
        free = set(self._free)
        return (self.id_at(row) for row in range(len(self._low)) if row not in free)

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
        self._text[row] = _text_of(entry, flags)
        self._link[row] = entry.origin if flags & ECHO else entry.url
        if flags & TEXT_ORIGINAL:
            self._by_text.add(row)
        if flags & URL_ORIGINAL:
            self._by_url.add(row)

    def _clear(self, row: int) -> int:
        """Takes a row's references back, except that to its topic, whose number it returns."""
        flags = self._text[row] & 15
        if flags & TEXT_ORIGINAL:
            self._by_text.remove(row)
        if flags & URL_ORIGINAL:
            self._by_url.remove(row)
        trends = self._trends[row]
        for shift in (0, 21, 42):
            self._names.give_back(trends >> shift & _NAME_MASK)
        if self._sums[row] & WIDE:
            self._wide_free.append(self._sums[row] ^ WIDE)
        return self._topic[row]

    def _pack(self, sums: tuple[int, int, int, int, int]) -> int:
        narrow = _narrow(sums)
        if narrow is not None:
            return narrow
        if self._wide_free:
            place = self._wide_free.pop()
            for column, value in zip(self._wide, sums, strict=True):
                column[place] = value
        else:
            place = len(self._wide[0])
            for column, value in zip(self._wide, sums, strict=True):
                column.append(value)
        return place | WIDE

    def _engagement(self, row: int) -> tuple[int, int, int, int, int]:
        packed = self._sums[row]
        if packed & WIDE:
            points, comments, shares, stars, views = (column[packed ^ WIDE] for column in self._wide)
            return points, comments, shares, stars, views
        return packed & _POINTS, packed >> _POINT_BITS, 0, 0, 0

    # -------------------------------------------------------------------------------------------------- restoring

    def begin_restore(self) -> None:
        """From here entries are taken as they are: an older one may still claim what another has by now."""
        self._restoring = self._loading = True

    def restore(self, ids: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Takes items as they stand in the state stream, in its order: ids of 16 bytes, ``value`` or None (gone).

        The first ones, up to :meth:`settle`, by the batch; then one by one, as a stand-by reads them.

        Raises:
            ValueError: a value is none of an item.
        """
        if self._loading:
            self._load(b"".join(ids), values)
            return
        for item, value in zip(ids, values, strict=True):
            if value is not None:
                self.put(item, unpack_entry(value))
            elif (row := self.find(item)) >= 0:
                self.forget(row)

    def settle(self) -> None:
        """Brings what was read by the batch into order: whose names, topics, texts and URLs are whose."""
        if not self._loading:
            return
        self._loading, self._tails = False, {}
        self._by_id.fit()
        self._names.count(self._numbers_used())
        self.topics.count([np.frombuffer(self._topic, np.uint32)])
        for table, flag in ((self._by_text, TEXT_ORIGINAL), (self._by_url, URL_ORIGINAL)):
            table.fit(sum(len(rows) for rows in self._flagged(flag)))
            for rows in self._flagged(flag):
                table.add_many(rows)

    def end_restore(self) -> None:
        """All newest entries are there: every text and URL has one original at most again."""
        self.settle()
        self._restoring = False

    def _flagged(self, flag: int) -> Iterator[Rows]:
        for begin in range(0, len(self._text), PART_ROWS):
            flags = np.frombuffer(self._text, np.uint64)[begin : begin + PART_ROWS] & np.uint64(flag)
            yield np.flatnonzero(flags) + begin

    def _numbers_used(self) -> Iterator[NDArray[np.int64]]:
        for begin in range(0, len(self._trends), PART_ROWS):
            trends = np.frombuffer(self._trends, np.uint64)[begin : begin + PART_ROWS].astype(np.int64)
            yield from (trends >> shift & _NAME_MASK for shift in (0, 21, 42))

    def _load(self, ids: bytes, values: Sequence[bytes | None]) -> None:
        """A batch in numpy: the last value of each item, into the row that it has or a new one."""
        halves = np.frombuffer(ids, ">u8").astype(np.uint64).reshape(-1, 2)
        last = _last_of_each(halves)
        if None in values:
            gone = np.array([values[i] is None for i in last.tolist()], np.bool_)
            self._unload(halves[last[gone]])
            last = last[~gone]
        if not len(last):
            return
        high, low = halves[last, 0], halves[last, 1]
        kept: list[bytes] = values if len(last) == len(values) else [values[i] for i in last.tolist()]  # type: ignore[assignment]
        if min(map(len, kept)) <= ROW.itemsize:
            raise ValueError(f"no value of an item in the state stream: {min(kept, key=len)!r}")
        if self._names.room < 3 * len(kept):
            self._names.count(self._numbers_used())  # names of values that have been replaced since
            self._tails.clear()
        row = np.array(kept, f"S{ROW.itemsize}").view(ROW)
        rows = self._rows_of(high, low)
        sums = row["sums"].astype(np.uint32)
        wide = np.flatnonzero(sums & np.uint32(WIDE))
        tails = [value[ROW.itemsize :] for value in kept]
        if len(wide):
            sums[wide] = self._load_wide([tails[i] for i in wide.tolist()])
            for i in wide.tolist():
                tails[i] = tails[i][_AMOUNTS.size :]
        for column, values_of in (
            (self._text, row["text"]), (self._link, row["link"]), (self._trends, self._trends_of(tails)),
        ):  # fmt: skip
            np.frombuffer(column, np.uint64)[rows] = values_of
        topics = self.topics.numbers_of(row["topic_high"].astype(np.uint64), row["topic_low"].astype(np.uint64))
        for narrow, values_of in (
            (self._topic, topics), (self._first, row["first"]), (self._seen, row["seen"]), (self._sums, sums),
        ):  # fmt: skip
            np.frombuffer(narrow, np.uint32)[rows] = values_of

    def _known(self, high: Keys, low: Keys) -> Rows:
        """The rows of items by the halves of their ids; −1 where they are not known. What they held wide is freed."""
        rows = self._by_id.find_many(low)
        if len(self._high):
            rows[np.frombuffer(self._high, np.uint64)[np.maximum(rows, 0)] != high] = -1
            sums = np.frombuffer(self._sums, np.uint32)[rows[rows >= 0]]
            places = sums[(sums & np.uint32(WIDE)) != 0] ^ np.uint32(WIDE)
            self._wide_free.frombytes(places.tobytes())
        return rows

    def _rows_of(self, high: Keys, low: Keys) -> Rows:
        """Rows for items, new ones for those that are not known yet."""
        rows = self._known(high, low)
        unknown = np.flatnonzero(rows < 0)
        if not len(unknown):
            return rows
        freed = min(len(self._free), len(unknown))
        begin, more = len(self._low), len(unknown) - freed
        new = np.concatenate(
            [np.array(self._free[len(self._free) - freed :], np.int64), np.arange(begin, begin + more)]
        )
        del self._free[len(self._free) - freed :]
        for column in (self._high, self._low, self._text, self._link, self._trends):
            column.frombytes(bytes(8 * more))
        for narrow in (self._topic, self._first, self._seen, self._sums):
            narrow.frombytes(bytes(4 * more))
        np.frombuffer(self._high, np.uint64)[new] = high[unknown]
        np.frombuffer(self._low, np.uint64)[new] = low[unknown]
        self._by_id.add_many(new)
        rows[unknown] = new
        return rows

    def _unload(self, halves: Keys) -> None:
        """Items that are gone."""
        rows = self._known(halves[:, 0], halves[:, 1])
        for row in rows[rows >= 0].tolist():
            self._by_id.remove(row)
            self._free.append(row)
            self._topic[row] = self._trends[row] = self._text[row] = self._sums[row] = 0

    def _load_wide(self, tails: list[bytes]) -> NDArray[np.uint32]:
        """Places for what is large, marked as such."""
        amounts = np.array(tails, f"S{_AMOUNTS.size}").view("<i8").reshape(len(tails), 5).astype(np.int64)
        freed = min(len(self._wide_free), len(tails))
        begin, more = len(self._wide[0]), len(tails) - freed
        places = np.concatenate(
            [np.array(self._wide_free[len(self._wide_free) - freed :], np.uint32),
             np.arange(begin, begin + more, dtype=np.uint32)]
        )  # fmt: skip
        del self._wide_free[len(self._wide_free) - freed :]
        for number, column in enumerate(self._wide):
            column.frombytes(bytes(8 * more))
            np.frombuffer(column, np.int64)[places] = amounts[:, number]
        return places | np.uint32(WIDE)

    def _trends_of(self, tails: list[bytes]) -> Keys:
        """Home trends and mentions in numbers."""
        known = self._tails
        if len(known) > TAILS_CACHED:
            known.clear()
        for tail in {*tails}.difference(known):
            known[tail] = self._numbers_in(tail)
        return np.fromiter(map(known.__getitem__, tails), np.uint64, len(tails))

    def _numbers_in(self, tail: bytes) -> int:
        try:
            return self._names.packed(_decode_names(tail))
        except msgspec.MsgspecError as error:
            raise ValueError(f"no trends of an item in the state stream ({error}): {tail[:80]!r}") from None


def _last_of_each(halves: Keys) -> Rows:
    """The places of the last row of each id, in order."""
    order = np.argsort(halves[:, 1], kind="stable")
    there = halves[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (there[1:] != there[:-1]).any(axis=1)
    return np.sort(order[last])
