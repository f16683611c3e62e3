"""How the engine's state stands in a compacted stream: one record for each item, topic, member, merge, and itself.

A call writes what it changed: a few records an item, whatever the number of topics and items known.

=====================  ================================================================
key                    value (msgpack; None: gone)
=====================  ================================================================
``i:ITEM_ID``          Entry
``t:TOPIC_ID``         TopicState: counts, sums, terms of a topic that may still grow
``m:TOPIC_ID:PLACE``   Member
``g:TOPIC_ID``         the topic that this one went into, while items refer to it
``c:engine``           EngineState
=====================  ================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
import numpy as np

from models.clustering import Fixed, TopicSpace
from models.echoes import Entry, ItemIndex
from models.packed import id_bytes, id_text
from models.topics import Member, Topic
from streams.records import Engagement

K = TypeVar("K")

ENGINE_KEY: Final = b"c:engine"

Records = list[tuple[bytes, bytes | None]]


class EngineState(msgspec.Struct, array_like=True):
    """What the engine itself counts."""

    seq: int = 0
    """The last decision's number."""
    round: int = 0
    """Looks for merges so far."""
    clock_us: int = 0
    """The middle of the observation times before the last look, microseconds since 1970; 0 before the first."""
    observed_us: list[int] = []
    """Observation times of the items since the last look."""
    swept_s: int = 0
    """Items last observed before this (seconds since 1970) are forgotten."""
    model: str = ""
    dimensions: int = 0
    recent_us: list[int] = []
    """Observation times of the last few new items, the oldest first."""


class TopicState(msgspec.Struct, array_like=True):
    """A topic as it stands in the stream, without its members."""

    trend_id: str
    founded_us: int
    first_us: int
    last_us: int
    round: int
    size: int
    echoes: int
    publishers: list[tuple[int, int]]
    sources: dict[str, int]
    trends: dict[str, int]
    engagement: tuple[int, int, int, int, int]
    rank: float | None
    seq: int
    summed: int
    sums: bytes
    """Fixed point, int16 where all fit, else int32."""
    terms: dict[str, int]
    heard_us: int
    """When an item of it was last observed."""


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_entry = msgspec.msgpack.Decoder(Entry)
_topic = msgspec.msgpack.Decoder(TopicState)
_member = msgspec.msgpack.Decoder(Member)
_engine = msgspec.msgpack.Decoder(EngineState)


def amounts(engagement: Engagement) -> tuple[int, int, int, int, int]:
    """points, comments, shares, stars, views."""
    return (engagement.points, engagement.comments, engagement.shares, engagement.stars, engagement.views)


def engagement_of(values: tuple[int, int, int, int, int]) -> Engagement:
    """The other way round."""
    points, comments, shares, stars, views = values
    return Engagement(points=points, comments=comments, shares=shares, stars=stars, views=views)


def pack_sums(sums: Fixed) -> bytes:
    """Little-endian int16 where all fit, else int32."""
    narrow = int(np.abs(sums).max(initial=0)) < 32_768
    return sums.astype("<i2" if narrow else "<i4").tobytes()


def unpack_sums(data: bytes, dimensions: int) -> Fixed:
    """The vector of shape (dimensions,) behind ``pack_sums``."""
    return np.frombuffer(data, "<i2" if len(data) == 2 * dimensions else "<i4").astype(np.int32)


def item_key(item_id: bytes) -> bytes:
    return b"i:" + id_text(item_id).encode()


def _topic_state(topic: Topic, space: TopicSpace) -> TopicState:
    centroid = space[topic.topic_id]
    return TopicState(
        trend_id=topic.trend_id,
        founded_us=topic.founded_us,
        first_us=topic.first_us,
        last_us=topic.last_us,
        round=topic.round,
        size=topic.size,
        echoes=topic.echoes,
        publishers=sorted(topic.publishers.items()),
        sources=topic.sources,
        trends=topic.trends,
        engagement=amounts(topic.engagement),
        rank=topic.rank,
        seq=topic.seq,
        summed=centroid.summed,
        sums=pack_sums(space.sums_of(topic.topic_id)),
        terms=centroid.terms,
        heard_us=centroid.last_us,
    )


@dataclass(slots=True)
class StateLog:
    """Which records a call has to write. Each key once, with its newest value."""

    items: dict[bytes, None] = field(default_factory=dict)
    topics: dict[str, None] = field(default_factory=dict)
    members: dict[tuple[str, int], None] = field(default_factory=dict)
    merges: dict[bytes, bytes | None] = field(default_factory=dict)
    """Topic id (16 bytes) to the id of its winner; None: no item refers to it any more."""

    def records(
        self, index: ItemIndex, topics: Mapping[str, Topic], space: TopicSpace | None, engine: EngineState
    ) -> Records:
        """The records, and an empty log again; nothing where nothing was decided."""
        out: Records = []
        for item_id in self.items:
            row = index.find(item_id)
            out.append((item_key(item_id), _encode(index.entry(row, as_put=True)) if row >= 0 else None))
        for topic_id in self.topics:
            topic = topics.get(topic_id)
            value = _encode(_topic_state(topic, space)) if topic is not None and space is not None else None
            out.append((f"t:{topic_id}".encode(), value))
        for topic_id, place in self.members:
            topic = topics.get(topic_id)
            member = topic.members.get(place) if topic else None
            out.append((f"m:{topic_id}:{place}".encode(), _encode(member) if member else None))
        for loser, winner in self.merges.items():
            out.append((f"g:{id_text(loser)}".encode(), winner))
        out.sort(key=lambda record: record[0])
        if out:
            out.append((ENGINE_KEY, _encode(engine)))
        self.items, self.topics, self.members, self.merges = {}, {}, {}, {}
        return out


@dataclass(slots=True)
class Restored:
    """State records read so far; the items are in the index already."""

    topics: dict[str, bytes] = field(default_factory=dict)
    members: dict[tuple[str, int], bytes] = field(default_factory=dict)
    merges: dict[bytes, bytes] = field(default_factory=dict)
    engine: bytes | None = None

    def take(self, key: bytes, value: bytes | None, index: ItemIndex) -> None:
        """One record; a later one of the same key replaces it.

        Raises:
            ValueError: a key that no engine writes.
        """
        kind, _, name = key.decode().partition(":")
        if kind == "i":
            item_id = id_bytes(name)
            if value is not None:
                index.put(item_id, _entry.decode(value))
            elif (row := index.find(item_id)) >= 0:
                index.forget(row)
        elif kind == "t":
            _set(self.topics, name, value)
        elif kind == "m":
            topic_id, _, place = name.rpartition(":")
            _set(self.members, (topic_id, int(place)), value)
        elif kind == "g":
            _set(self.merges, id_bytes(name), value)
        elif key == ENGINE_KEY:
            self.engine = value
        else:
            raise ValueError(f"no state of the cluster engine has the key {key!r}")

    def engine_state(self) -> EngineState:
        """The engine's own counters; fresh ones where there is no record."""
        return _engine.decode(self.engine) if self.engine else EngineState()

    def fill(self, index: ItemIndex, space: TopicSpace) -> Iterable[Topic]:
        """Enters merges and centroids; yields the topics with their members."""
        index.end_restore()
        _link_merges(index, self.merges)
        members: dict[str, dict[int, Member]] = {}
        for (topic_id, place), data in sorted(self.members.items()):
            members.setdefault(topic_id, {})[place] = _member.decode(data)
        for topic_id, data in self.topics.items():
            state = _topic.decode(data)
            space.restore(
                topic_id, state.founded_us, unpack_sums(state.sums, space.dimensions), state.summed, state.terms,
                state.heard_us,
            )  # fmt: skip
            yield Topic(
                topic_id=topic_id,
                trend_id=state.trend_id,
                founded_us=state.founded_us,
                first_us=state.first_us,
                last_us=state.last_us,
                round=state.round,
                size=state.size,
                echoes=state.echoes,
                publishers=dict(state.publishers),
                sources=state.sources,
                trends=state.trends,
                engagement=engagement_of(state.engagement),
                rank=state.rank,
                members=members.get(topic_id, {}),
                seq=state.seq,
            )


def _set(records: dict[K, bytes], key: K, value: bytes | None) -> None:
    if value is None:
        records.pop(key, None)
    else:
        records[key] = value


def _link_merges(index: ItemIndex, merges: dict[bytes, bytes]) -> None:
    """A winner may be in use by its losers alone: so losers first, until nothing more is found."""
    waiting = dict(merges)
    found = True
    while found:
        ready = [loser for loser in waiting if index.topics.number_of(loser)]
        for loser in ready:
            index.topics.merged(loser, waiting.pop(loser))
        found = bool(ready)
