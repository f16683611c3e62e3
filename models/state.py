"""How the engine's state stands in a compacted stream: one record for each item, topic, member, merge, and itself.

A call writes what it changed: a few records an item, whatever the number of topics and items known.

=====================  ================================================================
key                    value (msgpack where nothing else is said; None: gone)
=====================  ================================================================
``i:`` + 16 bytes      an item's row, see ``models.echoes``
``t:TOPIC_ID``         TopicState: counts, sums, terms of a topic that may still grow
``m:TOPIC_ID:PLACE``   Member
``g:TOPIC_ID``         the topic that this one went into, while items refer to it
``c:engine``           EngineState
=====================  ================================================================

This is version 2. In version 1 (see ``upgraded``) an item's key was ``i:`` and its id in 36 characters, its value
msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

import msgspec
import numpy as np

from models.clustering import ClusterConfig, Fixed, TopicSpace
from models.echoes import Entry, ItemIndex, pack_entry, unpack_entry
from models.packed import id_bytes, id_text
from models.topics import Member, Topic
from streams.records import Engagement, Granularity

K = TypeVar("K")

STATE_VERSION: Final = 2
"""Of all that stands in the state stream: another one is not read, but migrated or built anew."""
ENGINE_KEY: Final = b"c:engine"
ITEM: Final = b"i:"
_ITEM_KEY_BYTES: Final = 18

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
    granularity: Granularity = Granularity.NORMAL
    """By which its topics were made, as the model for good."""


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


def upgraded(key: bytes, value: bytes | None) -> tuple[bytes, bytes | None]:
    """A record of version 1 as it stands in version 2, under a key that may belong into another partition.

    Raises:
        ValueError: it is none of version 1.
    """
    if not key.startswith(ITEM):
        return key, value
    try:
        item_id = id_bytes(key[len(ITEM) :].decode())
        return ITEM + item_id, None if value is None else pack_entry(_entry.decode(value))
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"no record of the cluster engine's state, version 1: key {key!r} ({error})") from None


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

    def parts(self, items: Iterable[bytes], most: int) -> Iterator[StateLog]:
        """These items, and everything else in here, in logs of at most ``most`` keys."""
        ids = iter(items)
        while part := list(islice(ids, most)):
            yield StateLog(items=dict.fromkeys(part))
        topics, members, merges = iter(self.topics), iter(self.members), iter(self.merges.items())
        while some := list(islice(topics, most)):
            yield StateLog(topics=dict.fromkeys(some))
        while places := list(islice(members, most)):
            yield StateLog(members=dict.fromkeys(places))
        while pairs := list(islice(merges, most)):
            yield StateLog(merges=dict(pairs))

    def records(
        self, index: ItemIndex, topics: Mapping[str, Topic], space: TopicSpace | None, engine: EngineState
    ) -> Records:
        """The records, and an empty log again; nothing where nothing was decided."""
        out: Records = []
        for item_id in self.items:
            row = index.find(item_id)
            out.append((ITEM + item_id, index.value(row) if row >= 0 else None))
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


def check_value(key: bytes, value: bytes) -> None:
    """Reads a state record as an engine would.

    Raises:
        ValueError: it cannot be read.
    """
    kind, name = key[: len(ITEM)], key[len(ITEM) :]
    try:
        if kind == ITEM and len(key) == _ITEM_KEY_BYTES:
            unpack_entry(value)
        elif kind == b"t:":
            _topic.decode(value)
        elif kind == b"m:":
            int(name.rpartition(b":")[2])
            _member.decode(value)
        elif kind == b"g:":
            id_bytes(name.decode())
        elif key == ENGINE_KEY:
            _engine.decode(value)
        else:
            raise ValueError(f"no state of the cluster engine, version {STATE_VERSION}, has the key {key!r}")
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def engine_record(engine: EngineState) -> tuple[bytes, bytes]:
    """The record of the engine's own counters."""
    return ENGINE_KEY, _encode(engine)


class Restored:
    """State as far as it was read: items go straight into the index, the rest waits until :meth:`settle`.

    A key's later record replaces an earlier one; different keys may come in any order.
    """

    def __init__(self, config: ClusterConfig, index: ItemIndex) -> None:
        self.engine = EngineState()
        self.topics: dict[str, Topic] = {}
        self.space: TopicSpace | None = None
        self._config = config
        self._index = index
        self._members: dict[str, dict[int, Member]] = {}
        """By topic; each is the ``Topic.members`` of its topic, where that is known already."""
        self._merges: dict[bytes, bytes] = {}
        self._new_topics: dict[str, bytes | None] = {}
        self._new_members: dict[bytes, bytes | None] = {}
        """What came since it was last settled."""
        index.begin_restore()

    def take(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Some records, in the order of the log.

        Raises:
            ValueError: a key or a value that no engine of this version writes.
        """
        starts = [key[:2] for key in keys]
        if (items := starts.count(ITEM)) < len(keys):
            others = [i for i, start in enumerate(starts) if start != ITEM]
            for i in others:
                self._take_one(keys[i], values[i])
            if not items:
                return
            values = [value for value, start in zip(values, starts, strict=True) if start == ITEM]
            keys = [key for key in keys if key[:2] == ITEM]
        if set(map(len, keys)) != {_ITEM_KEY_BYTES}:
            odd = next(key for key in keys if len(key) != _ITEM_KEY_BYTES)
            raise ValueError(f"no state of the cluster engine, version {STATE_VERSION}, has the key {odd!r}")
        self._index.restore([key[2:] for key in keys], values)

    def _take_one(self, key: bytes, value: bytes | None) -> None:
        kind, name = key[:2], key[2:]
        if kind == b"t:":
            self._new_topics[name.decode()] = value
        elif kind == b"m:":
            self._new_members[name] = value
        elif kind == b"g:":
            _set(self._merges, id_bytes(name.decode()), value)
        elif key == ENGINE_KEY:
            self.engine = _engine.decode(value) if value else EngineState()
        else:
            raise ValueError(f"no state of the cluster engine has the key {key!r}")

    def settle(self) -> None:
        """Works into the models what has come so far, so that little is left to do at the end."""
        self._index.settle()
        if self.space is None:
            if not self.engine.dimensions:
                return  # nothing but items can be understood before that is known
            self.space = TopicSpace(self._config, self.engine.dimensions)
        for name, value in self._new_members.items():
            topic_id, _, place = name.decode().rpartition(":")
            if value is not None:
                self._members.setdefault(topic_id, {})[int(place)] = _member.decode(value)
            elif topic_id in self._members:
                self._members[topic_id].pop(int(place), None)
        for topic_id, value in self._new_topics.items():
            if topic_id in self.space:
                self.space.drop(topic_id)
                del self.topics[topic_id]
            if value is not None:
                self.topics[topic_id] = self._topic(self.space, topic_id, _topic.decode(value))
        for topic_id in {*self._new_topics, *(name.decode().rpartition(":")[0] for name in self._new_members)}:
            if topic_id not in self.topics and not self._members.get(topic_id, True):
                del self._members[topic_id]
        self._new_members, self._new_topics = {}, {}

    def _topic(self, space: TopicSpace, topic_id: str, state: TopicState) -> Topic:
        space.restore(
            topic_id, state.founded_us, unpack_sums(state.sums, space.dimensions), state.summed, state.terms,
            state.heard_us,
        )  # fmt: skip
        return Topic(
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
            members=self._members.setdefault(topic_id, {}),
            seq=state.seq,
        )

    def finish(self) -> None:
        """All state has been read."""
        self.settle()
        self._index.end_restore()
        _link_merges(self._index, self._merges)


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
