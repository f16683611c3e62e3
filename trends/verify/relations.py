"""What is kept of each record and row while they are joined: a few whole numbers. And from which fields those come.

Ids become 64-bit keys by Python's own ``hash`` (SipHash with a key of this process): quick, well mixed, and nobody can
aim at a collision. Among 100 million ids the chance of any is 1 in 4,000.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from models.engine import AHEAD_OF_ARRIVAL
from models.topics import MAX_COUNT, bounded, micros
from streams.records import Engagement
from trends.verify.spill import Spill

Time = Annotated[datetime, Meta(tz=True)]

# Flags of a row.
ASKED: Final = 1
"""It must be accounted for: inside the range, and before the cut."""
EXCUSED: Final = 2
"""It is a dead letter of the flow that reads it next, or of an item that was to be forgotten."""
GONE: Final = 4
"""A deletion."""
FIRST: Final = 8
"""A first sighting."""
HOME: Final = 16
"""A mention for the home trend."""
REFUSED: Final = 32
"""It is a dead letter of store."""
DUE: Final = 64
"""A topic that must have a summary."""
AHEAD: Final = 64
"""An observation from so far ahead of those before it that cluster may not have believed its time."""
AGAIN: Final = 128
"""A dead letter that was sent again: not a second fact."""

# Sides of a join.
RAW, EMBEDDED, ENRICHED, MENTION, UPDATE, SUMMARY, SCORE, ROW, SUMMARY_ROW = range(9)

OBSERVATIONS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("seq", "i8"), ("seen", "i8"), ("place", "i8")]
)
"""key: item and observed_at; seq: the decision's number; seen: arrival, ms (embedded, enriched)."""
ITEMS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("at", "i8"), ("state", "i8"), ("seen", "i8"), ("row", "i8"),
     ("place", "i8")]
)  # fmt: skip
"""key: item; at: seq of a decision, version of a row, tick of an observation; state: what it looks like; seen:
first_seen (observed_at of an embedded one), seconds; row: what its row must look like."""
DECISIONS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("item", "i8"), ("trend", "i8"), ("weight", "i1"),
     ("trends", "u1"), ("place", "i8")]
)  # fmt: skip
"""key: seq; weight: of a mention, or what those of a decision must weigh (2: nothing, or +1); trends: how many."""
TRENDS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("at", "i8"), ("amount", "i8"), ("seen", "i8"), ("row", "i8"),
     ("place", "i8")]
)  # fmt: skip
"""key: trend; at: seq of a mention, version of a score or row; amount: weight, total; seen: slice of first_seen."""
MENTIONS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("at", "i8"), ("weight", "i1"), ("row", "i8"), ("place", "i8")]
)
"""key: trend, item and first_seen; at: seq, version; weight: of a mention, of a row +1 (present) or −1."""
TOPICS: Final = np.dtype(
    [("key", "i8"), ("side", "u1"), ("flags", "u1"), ("at", "i8"), ("size", "i8"), ("into", "i8"), ("row", "i8"),
     ("place", "i8")]
)  # fmt: skip
"""key: topic; at: seq, version, topic_seq; size: items, or the attempt of a summary; into: the winner, 0 where none."""
MERGES: Final = np.dtype([("key", "i8"), ("into", "i8"), ("topic", "i8"), ("place", "i8")])
"""key: whichever of the two it is looked up by; topic: the one that was merged away; into: where it has led so far."""
MEMBERS: Final = np.dtype([("key", "i8"), ("at", "i8"), ("weight", "i1"), ("item", "i8"), ("place", "i8")])
"""key: topic; at: the version in which its presence was decided last; weight: +1 (present) or −1; item: its row."""


class Relations:
    """All relations of one audit, in as many buckets each."""

    def __init__(self, buckets: int, folder: Path | None = None) -> None:
        self.buckets = buckets
        self.observations = Spill(OBSERVATIONS, buckets, folder)
        self.items = Spill(ITEMS, buckets, folder)
        self.decisions = Spill(DECISIONS, buckets, folder)
        self.trends = Spill(TRENDS, buckets, folder)
        self.mentions = Spill(MENTIONS, buckets, folder)
        self.topics = Spill(TOPICS, buckets, folder)
        self.members = Spill(MEMBERS, buckets, folder)

    def close(self) -> None:
        """Gives the disk back."""
        for each in (
            self.observations, self.items, self.decisions, self.trends, self.mentions, self.topics, self.members
        ):  # fmt: skip
            each.close()


DELETED_STATE: Final = 1
_INDEX_END_S: Final = 1 << 32
"""Beyond this second the item index cannot tell times apart."""

_PARTITION_BITS, _OFFSET_BITS = 10, 48


def place_of(stream: int, partition: int, offset: int) -> int:
    """Stream number, partition and offset in one number, 0 or more."""
    return stream << _PARTITION_BITS + _OFFSET_BITS | partition << _OFFSET_BITS | offset


def place_parts(place: int) -> tuple[int, int, int]:
    """The other way round."""
    mask = (1 << _OFFSET_BITS) - 1
    return (
        place >> _PARTITION_BITS + _OFFSET_BITS,
        place >> _OFFSET_BITS & (1 << _PARTITION_BITS) - 1,
        place & mask,
    )


def row_place(shard: int) -> int:
    """The place of a row: which shard it stands on; below 0."""
    return -1 - shard


def seconds(time: datetime) -> int:
    """Whole seconds since 1970."""
    return micros(time) // 1_000_000


def tick_of(time: datetime, arrived_at: datetime | None) -> int:
    """An observation's time as cluster tells them apart, 1/32 s since 1970; −1 where it is not believed (it lies after
    its own arrival), or the index cannot hold it."""
    us = micros(time)
    if arrived_at is not None and time > arrived_at + AHEAD_OF_ARRIVAL:
        return -1
    return us * 32 // 1_000_000 if 0 <= us < _INDEX_END_S * 1_000_000 else -1


class ItemFields(Struct, frozen=True):
    """What is looked at of an observation."""

    item_id: str
    observed_at: Time
    published_at: Time
    kind: str
    source: str = ""
    author: str | None = None
    trend_id: str = ""
    mentions: tuple[str, ...] = ()
    engagement: Engagement = Engagement()

    @property
    def event_time(self) -> datetime:
        return min(self.published_at, self.observed_at)


class RawFields(Struct, frozen=True):
    """What is looked at of a raw record."""

    item_id: str
    observed_at: Time
    published_at: Time | None = None
    source: str = ""
    author: str | None = None

    @property
    def event_time(self) -> datetime:
        return min(self.published_at or self.observed_at, self.observed_at)


class EmbeddedFields(Struct, frozen=True):
    item: ItemFields
    text_hash: str
    arrived_at: Time | None = None


class EnrichedFields(Struct, frozen=True):
    item: ItemFields
    change: str
    text_hash: str
    topic_id: str
    first_seen: Time
    seq: int
    echo_of: str | None = None


class MentionFields(Struct, frozen=True):
    trend_id: str
    item_id: str
    topic_id: str
    home: bool
    first_seen: Time
    weight: int
    seq: int
    echo: bool = False


class UpdateFields(Struct, frozen=True):
    topic_id: str
    life: str
    size: int
    trend_id: str
    seq: int
    items: tuple[msgspec.Raw, ...]
    merged_into: str | None = None


class SummaryFields(Struct, frozen=True):
    topic_id: str
    trend_id: str
    topic_seq: int
    headline: str
    attempt: int = 1


class LetterFields(Struct, frozen=True):
    stream: str
    partition: int
    offset: int
    reason: str
    flow: str


class ScoreFields(Struct, frozen=True):
    trend_id: str
    version: int
    total: int
    items: int
    slice_start: Time


def state_of(text_hash: str, engagement: Engagement, gone: bool) -> int:
    """What an item looks like after an observation: its text and its engagement, as cluster compares them."""
    if gone:
        return DELETED_STATE
    e = bounded(engagement, MAX_COUNT // 2)
    return hash((text_hash, e.points, e.comments, e.shares, e.stars, e.views))


def item_row(
    topic_id: str, trend_id: str, gone: bool, observed_at: datetime, amounts: tuple[int, ...], text_hash: str
) -> int:
    """What the row of an item must hold. (A deletion leaves the text, and so its hash, alone.)"""
    return hash((topic_id, trend_id, gone, observed_at, amounts, None if gone else text_hash))


def topic_row(size: int, life: str, merged_into: str | None, trend_id: str) -> int:
    """What the row of a topic must hold."""
    return hash((size, life, merged_into, trend_id))


def version_of_summary(topic_seq: int, attempt: int) -> int:
    """(topic_seq, attempt) as one number in their order."""
    return (topic_seq << 8) + min(attempt, 255)


def amounts_of(e: Engagement) -> tuple[int, int, int, int, int]:
    return (e.points, e.comments, e.shares, e.stars, e.views)


def wrapped(number: int) -> int:
    """A sum as 64 bits with a sign hold it."""
    return (number + 2**63) % 2**64 - 2**63
