"""The one cluster process's decisions: repeats, edits, deletions, echoes, topics and their lives, each with a number.

``ClusterEngine`` is a deterministic function of the items that it was given, in their order: how they were cut into
calls does not matter, nor does a restart, since the state records that each call returns hold all that it decides by.
No I/O and no clock: time is what the items say (``models.state`` says how state is written, ``flows.cluster`` wires).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from msgspec.structs import replace

from models.clustering import LOOK_AHEAD, ClusterConfig, Point, TopicSpace, points
from models.echoes import (
    DELETED,
    ECHO,
    FORGET_SHARE,
    LAST_S,
    MAX_NAMES,
    MAX_SIMILARITY,
    TEXT_ORIGINAL,
    TICKS,
    URL_ORIGINAL,
    Entry,
    ItemIndex,
    key_of,
)
from models.packed import id_bytes, id_text
from models.state import (
    ENGINE_KEY,
    EngineState,
    Records,
    Restored,
    StateLog,
    amounts,
    engagement_of,
    engine_record,
)  # fmt: skip
from models.text import canonical_url, embedding_text, is_front_page, salient, tokens
from models.topics import (
    LEADING,
    MAX_COUNT,
    SHOWN_TERMS,
    SHOWN_TRENDS,
    Member,
    Topic,
    at,
    bounded,
    member_of,
    micros,
    title_words,
)
from streams.errors import StateMismatchError
from streams.ids import topic_id_of
from streams.records import (
    Change,
    EmbeddedItem,
    Engagement,
    EnrichedItem,
    Feedback,
    FeedbackKind,
    Kind,
    Life,
    Mention,
    Observation,
    TopicSums,
    TopicUpdate,
)
from streams.vectors import decode_vector, encode_vector

COPY_TOKENS: Final = 3
"""A text of fewer words ("Home", "Open thread") is no copy of another."""
MAX_MENTIONS: Final = 2
SWEEP: Final = timedelta(hours=6)
"""Items beyond the horizon are looked for at each such step of event time."""
AHEAD_OF_CLOCK: Final = timedelta(days=1)
"""An item from further in the future than this, which its arrival does not bear out, counts as of now."""
AHEAD_OF_ARRIVAL: Final = timedelta(hours=1)
"""By how much the clocks of a source and of the broker may differ: what is observed later than that is impossible."""
RECENT_ITEMS: Final = 25
"""The middle of so many observation times is now: a few wrong ones among them change nothing."""
SPARSE_GAPS: Final = 4
"""Where items are far apart (one a day in an old archive), so many of their mean gaps stand for a day."""
FIRST_ITEMS: Final = 9
"""So many say what time it is; before, each is believed that is possible."""
SNAPSHOT_RECORDS: Final = 5_000
_US: Final = 1_000_000
_AHEAD_US: Final = AHEAD_OF_CLOCK // timedelta(microseconds=1)
_SKEW_US: Final = AHEAD_OF_ARRIVAL // timedelta(microseconds=1)
_NO_ENGAGEMENT: Final = Engagement()


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one call decided, in the order in which it is to be written."""

    enriched: list[EnrichedItem] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)
    updates: list[TopicUpdate] = field(default_factory=list)
    """One per topic that changed, its last state; those that were merged away come after their winners."""
    state: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    """Newest value per key, for a compacted stream; None deletes the key."""
    failed: list[tuple[EmbeddedItem, str]] = field(default_factory=list)
    """Items that contradict what went before (another model, a broken vector), and why."""


@dataclass(slots=True)
class Arrival:
    """An item that could be decoded, on its way to a decision."""

    embedded: EmbeddedItem
    item_id: bytes
    point: Point
    copyable: bool
    ahead: int
    arrived_us: int
    """When it was appended to the log, microseconds since 1970; 0 where that is not known."""


class ClusterEngine:
    """All topics and all items within the horizon of one generation, and what happens to them.

    Measured (one core, 384 dimensions): see ``docs/architecture.md``. Memory: 70 to 80 bytes an item, about 10 kB a
    topic; both are bounded by the config.
    """

    def __init__(self, config: ClusterConfig, generation: str) -> None:
        self._config = config
        self._generation = generation
        self._index = ItemIndex()
        self._topics: dict[str, Topic] = {}
        self._space: TopicSpace | None = None
        self._state = EngineState()
        self._restored: Restored | None = None
        self._log = StateLog()
        self._changed: dict[str, None] = {}
        """Topics to write an update of at the end of the call."""
        self._born: set[str] = set()
        self._ended: list[TopicUpdate] = []
        self._round: set[str] = set()
        """Topics whose centroid changed since the last look for merges."""
        self._told: dict[bytes, dict[str, Feedback]] = {}
        """By item: the merges that people have asked for."""
        self._unsettled: dict[str, Feedback] = {}
        """Those that were asked for since the last call."""

    @property
    def active_topics(self) -> int:
        """Topics that a new item may still join."""
        return len(self._topics)

    @property
    def indexed_items(self) -> int:
        """Items within the horizon."""
        return len(self._index)

    @property
    def index_bytes(self) -> int:
        """Memory of the item index."""
        return self._index.nbytes

    # ------------------------------------------------------------------------------------------------- decisions

    def apply(self, items: Sequence[EmbeddedItem]) -> Decisions:
        """Decides about some items, in their order.

        Raises:
            RuntimeError: state was restored and ``finish_restore`` was not called.
        """
        if self._restored is not None:
            raise RuntimeError("state was restored: call finish_restore() before apply()")
        out = Decisions()
        for word in self._unsettled.values():
            self._unite(word)
        self._unsettled = {}
        for begin in range(0, len(items), LOOK_AHEAD):
            for arrival in self._arrivals(items[begin : begin + LOOK_AHEAD], out):
                self._decide(arrival, out)
        self._write_updates(out)
        out.state.extend(self._log.records(self._index, self._topics, self._space, self._state))
        return out

    def obey(self, feedback: Feedback) -> None:
        """Somebody says that two items tell one story: their topics become one at the next call, or as soon as both are
        known. What was merged stays so when that is taken back. It is no state: said again it changes nothing."""
        if feedback.kind is not FeedbackKind.MERGE:
            return
        for item in [id_bytes(item) for item in feedback.items]:
            if feedback.active:
                self._told.setdefault(item, {})[feedback.key] = feedback
            elif words := self._told.get(item):
                words.pop(feedback.key, None)
        if feedback.active:
            self._unsettled[feedback.key] = feedback
        else:
            self._unsettled.pop(feedback.key, None)

    def _unite(self, word: Feedback) -> None:
        rows = [self._index.find(id_bytes(item)) for item in word.items]
        ids = {id_text(topic) for row in rows if row >= 0 and (topic := self._index.topic_of(row))}
        topics = [self._topics[topic_id] for topic_id in ids if topic_id in self._topics]
        if len(topics) == 2:
            winner, loser = sorted(topics, key=lambda topic: (topic.founded_us, topic.topic_id))
            self._take_over(winner, loser, "somebody said that they tell one story", word.feedback_id)

    def _arrivals(self, items: Sequence[EmbeddedItem], out: Decisions) -> list[Arrival]:
        """Items with their point in the space; those that cannot be decoded go to ``failed``."""
        good: list[tuple[EmbeddedItem, bytes, list[str]]] = []
        vectors: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        for embedded in items:
            try:
                item_id = id_bytes(embedded.item.item_id)
                vector = self._vector(embedded)
            except ValueError as error:
                out.failed.append((embedded, str(error)))
                continue
            good.append((embedded, item_id, tokens(embedding_text(embedded.item))))
            vectors.append(vector)
        if not good:
            return []
        assert self._space is not None
        found = points(np.stack(vectors), [salient(words) for _, _, words in good])
        self._space.look_ahead(found)
        return [
            Arrival(embedded, item_id, point, len(words) >= COPY_TOKENS, i, arrived_us(embedded))
            for i, ((embedded, item_id, words), point) in enumerate(zip(good, found, strict=True))
        ]

    def _vector(self, embedded: EmbeddedItem) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The item's vector; zeros where it has none. The first item fixes model and dimensions of the generation."""
        state = self._state
        if embedded.vector is not None:
            vector = decode_vector(embedded.vector, embedded.dimensions)
        else:
            vector = np.zeros(embedded.dimensions, np.float32)
        if not state.model:
            state.model, state.dimensions = embedded.model, embedded.dimensions
            state.granularity = self._config.granularity
            self._space = TopicSpace(self._config, state.dimensions)
        if (embedded.model, embedded.dimensions) != (state.model, state.dimensions):
            raise ValueError(
                f"vector of {embedded.model} with {embedded.dimensions} dimensions in generation {self._generation}, "
                f"which is of {state.model} with {state.dimensions}: another model needs another generation"
            )
        return vector

    def _believed_us(self, us: int, arrived_us: int) -> int:
        """An observation time as far as it is believed, so that no wrong clock ages others, or lives for ever.

        Later than its arrival it is impossible. Close to its arrival it is true. Else (a replay of the past) it may lie
        a day ahead of the items before it, or more where those are sparse; what lies further ahead counts as of now.
        """
        state = self._state
        possible = _is_possible(us, arrived_us)
        if possible and (us <= state.clock_us + _AHEAD_US or (arrived_us and us >= arrived_us - _AHEAD_US)):
            return us
        now_us = limit_us = state.clock_us
        if len(state.recent_us) >= FIRST_ITEMS:
            now_us, limit_us = _now_and_limit(state.recent_us)
        if not now_us:
            return us if possible else arrived_us
        return us if possible and us <= max(limit_us, now_us + _AHEAD_US) else min(us, now_us)

    def _next_seq(self) -> int:
        self._state.seq += 1
        return self._state.seq

    def _decide(self, arrival: Arrival, out: Decisions) -> None:
        item = arrival.embedded.item
        arrival.point.at_us = self._believed_us(micros(item.observed_at), arrival.arrived_us)
        row = self._index.find(arrival.item_id)
        entry = self._index.entry(row) if row >= 0 else None
        tick = arrival.point.at_us * TICKS // _US
        if entry is not None and tick <= entry.tick:
            return  # the same observation again, or one that comes late
        if item.kind is Kind.DELETED:
            self._delete(arrival, row, entry, tick, out)
        elif entry is None or not entry.topic:
            self._first(arrival, tick, out)
        else:
            self._again(arrival, row, entry, tick, out)

    def _first(self, arrival: Arrival, tick: int, out: Decisions) -> None:
        """An item that was never seen: it joins or founds a topic, and its trends are fixed."""
        item = arrival.embedded.item
        seq = self._next_seq()
        entry, event_us = self._new_entry(arrival, tick)
        original = self._index.original(entry.text if arrival.copyable else 0, entry.url)
        echo_of = self._index.first_of(original) if original >= 0 else None
        topic, similarity = self._join(arrival, echo_of, original)
        is_new = topic is None
        if topic is None:
            topic, similarity = self._found(arrival, event_us, self._new_topic_id(item.item_id, seq)), 1.0
        elif echo_of is None and (member := self._copied(arrival, topic)):
            echo_of = id_bytes(member.item_id)
        similarity = round(similarity, 4)
        self._enter(arrival, entry, topic, seq, event_us, similarity=similarity, echo_of=echo_of, is_new=is_new)
        out.enriched.append(
            self._enriched(arrival, entry, Change.FIRST, seq, similarity=similarity, is_new=is_new, echo_of=echo_of)
        )
        self._mention(arrival, entry, at(event_us), 1, engagement_of(entry.engagement), seq, out)
        if self._look_due:
            self._maintain()
        for word in self._told.get(arrival.item_id, {}).values():
            self._unite(word)

    def _new_entry(self, arrival: Arrival, tick: int) -> tuple[Entry, int]:
        """What an item that was never seen begins with, without topic and echo; and when it happened (microseconds)."""
        item = arrival.embedded.item
        event_us = min(micros(item.event_time), arrival.point.at_us)
        entry = Entry(
            text=key_of(arrival.embedded.text_hash),
            url=_url_key(item),
            origin=0,
            topic=b"",
            home=item.trend_id,
            mentions=_mentions(item),
            first_s=min(LAST_S, max(0, event_us // _US)),
            tick=tick,
            flags=0,
            similarity=0,
            engagement=amounts(bounded(item.engagement, MAX_COUNT // 2)),
        )
        return entry, event_us

    def _enter(
        self, arrival: Arrival, entry: Entry, topic: Topic, seq: int, event_us: int, *,
        similarity: float, echo_of: bytes | None, is_new: bool,
    ) -> None:  # fmt: skip
        """An item that was never seen becomes one of its topic, and is known from here on."""
        self._count_in(topic, arrival, seq, event_us, echo=echo_of is not None, is_new=is_new)
        entry.topic = id_bytes(topic.topic_id)
        entry.similarity = round(min(1.0, max(0.0, similarity)) * MAX_SIMILARITY)
        if echo_of is not None:
            entry.origin, entry.url = int.from_bytes(echo_of[8:], "big"), 0
            entry.flags = ECHO | _originals(arrival, entry)
        else:
            entry.flags = _originals(arrival, entry)
        self._put(arrival.item_id, entry)
        self._note_time(arrival)

    def _note_time(self, arrival: Arrival) -> None:
        """One more time for the clock to go by; an impossible one is none, and counts as what was believed of it."""
        us, state = micros(arrival.embedded.item.observed_at), self._state
        us = us if _is_possible(us, arrival.arrived_us) else arrival.point.at_us
        state.observed_us.append(us)
        state.recent_us = [*state.recent_us[1 - RECENT_ITEMS :], us]

    def _join(self, arrival: Arrival, echo_of: bytes | None, original: int) -> tuple[Topic | None, float]:
        """The topic of its original where that may still grow, else the nearest; None: it founds one."""
        assert self._space is not None
        if echo_of is not None:
            topic = self._topics.get(id_text(self._index.topic_of(original)))
            if topic is not None:
                return topic, self._space.similarity(topic.topic_id, arrival.point)
        nearest = self._space.nearest(arrival.point, arrival.ahead)
        return (self._topics[nearest[0]], nearest[1]) if nearest else (None, 0.0)

    def _copied(self, arrival: Arrival, topic: Topic) -> Member | None:
        """The member of its topic of which an item is a near-duplicate."""

        def words() -> frozenset[str]:
            return title_words(arrival.embedded.item) if arrival.copyable else frozenset()

        return topic.copied_by(arrival.point.vector, arrival.point.square, words, self._config.copy_at)

    def _new_topic_id(self, item_id: str, seq: int) -> str:
        topic_id = topic_id_of(self._generation, item_id)
        if topic_id in self._topics or self._index.topics.number_of(id_bytes(topic_id)):
            # It founded one before it was forgotten, and items still refer to that one.
            return topic_id_of(self._generation, f"{item_id}/{seq}")
        return topic_id

    def _found(self, arrival: Arrival, event_us: int, topic_id: str) -> Topic:
        assert self._space is not None
        item = arrival.embedded.item
        topic = Topic(
            topic_id=topic_id,
            trend_id=item.trend_id,
            founded_us=arrival.point.at_us,
            first_us=event_us,
            last_us=event_us,
            round=self._state.round,
        )
        self._topics[topic_id] = topic
        self._space.found(topic_id, topic.founded_us, arrival.point)
        self._born.add(topic_id)
        return topic

    def _count_in(self, topic: Topic, arrival: Arrival, seq: int, event_us: int, *, echo: bool, is_new: bool) -> None:
        """One more item of a topic. An echo counts, but neither moves the topic nor stands for it."""
        assert self._space is not None
        item, point = arrival.embedded.item, arrival.point
        topic.count(item, item.trend_id, event_us, echo, 1)
        topic.engage(bounded(item.engagement, MAX_COUNT // 2), event_us)
        if echo and not is_new:
            self._space.touch(topic.topic_id, point.at_us)
        else:
            if not is_new:
                self._space.add(topic.topic_id, point)
            topic.round = self._state.round
            self._round.add(topic.topic_id)
            member = member_of(item, point.direction, point.direction_square, seq)
            self._admit(topic, [member])
        self._touch(topic, seq)

    def _again(self, arrival: Arrival, row: int, entry: Entry, tick: int, out: Decisions) -> None:
        """A later observation: engagement, an edit, or an item that is back after its deletion."""
        item = arrival.embedded.item
        back = entry.has(DELETED)
        edited = back or key_of(arrival.embedded.text_hash) != entry.text
        change = Change.EDIT if edited else Change.ENGAGEMENT
        delta = bounded(item.engagement, MAX_COUNT // 2).minus(engagement_of(entry.engagement))
        if change is Change.ENGAGEMENT and delta == _NO_ENGAGEMENT:
            self._seen_again(arrival.item_id, row, tick)
            return
        seq = self._next_seq()
        self._renew(arrival, entry, tick, change, seq)
        out.enriched.append(self._enriched(arrival, entry, change, seq))
        if back or delta != _NO_ENGAGEMENT:
            when = at(entry.first_s * _US if back else arrival.point.at_us)
            self._mention(arrival, entry, when, int(back), delta, seq, out)

    def _seen_again(self, item_id: bytes, row: int, tick: int) -> None:
        """An observation without news: its item is known for longer, and nothing else of it changes."""
        self._index.touch(row, tick)
        self._log.items[item_id] = None

    def _renew(self, arrival: Arrival, entry: Entry, tick: int, change: Change, seq: int) -> None:
        """What a later observation changes of its item and of the item's topic."""
        item = arrival.embedded.item
        back = entry.has(DELETED)
        engagement = bounded(item.engagement, MAX_COUNT // 2)
        delta = engagement.minus(engagement_of(entry.engagement))
        entry.text, entry.tick, entry.engagement = key_of(arrival.embedded.text_hash), tick, amounts(engagement)
        if not entry.has(ECHO):
            entry.url = _url_key(item)
            entry.flags = _originals(arrival, entry)
        else:
            entry.flags = ECHO | _originals(arrival, entry)
        self._put(arrival.item_id, entry)
        topic = self._topics.get(id_text(entry.topic))
        if topic is None:
            return
        if back:
            topic.count(item, entry.home, entry.first_s * _US, entry.has(ECHO), 1)
        topic.engage(delta, arrival.point.at_us)
        place = topic.place_of(item.item_id)
        if place is not None:
            before, now = topic.members[place], arrival.point
            vector, square = now.direction, now.direction_square
            if change is Change.ENGAGEMENT:
                vector, square = before.vector, before.square
            topic.members[place] = member_of(item, vector, square, before.joined)
            self._log.members[topic.topic_id, place] = None
        self._touch(topic, seq)

    def _delete(self, arrival: Arrival, row: int, entry: Entry | None, tick: int, out: Decisions) -> None:
        """Its source has taken it away. Of an unknown item it is remembered, so that a late older sighting is none."""
        if entry is None:
            self._put(arrival.item_id, Entry(0, 0, 0, b"", "", (), 0, tick, DELETED, 0, (0, 0, 0, 0, 0)))
            return
        if entry.has(DELETED):
            self._seen_again(arrival.item_id, row, tick)
            return
        seq = self._next_seq()
        delta = _NO_ENGAGEMENT.minus(engagement_of(entry.engagement))
        topic = self._take_away(arrival, entry, tick, seq)
        out.enriched.append(self._enriched(arrival, entry, Change.DELETED, seq))
        self._mention(arrival, entry, at(entry.first_s * _US), -1, delta, seq, out)
        if topic is not None and topic.size <= 0:
            self._end(topic, seq, "all of its items were deleted")

    def _take_away(self, arrival: Arrival, entry: Entry, tick: int, seq: int) -> Topic | None:
        """What a deletion changes of its item and of the item's topic, which is returned where it may still grow."""
        item = arrival.embedded.item
        delta = _NO_ENGAGEMENT.minus(engagement_of(entry.engagement))
        entry.tick, entry.flags, entry.engagement = tick, entry.flags & ECHO | DELETED, (0, 0, 0, 0, 0)
        self._put(arrival.item_id, entry)
        topic = self._topics.get(id_text(entry.topic))
        if topic is None:
            return None
        topic.count(item, entry.home, entry.first_s * _US, entry.has(ECHO), -1)
        topic.engage(delta, entry.first_s * _US)
        place = topic.place_of(item.item_id)
        if place is not None:
            del topic.members[place]
            self._log.members[topic.topic_id, place] = None
        self._touch(topic, seq)
        return topic

    # ------------------------------------------------------------------------------------------------ lives of topics

    def _touch(self, topic: Topic, seq: int) -> None:
        topic.seq = seq
        self._changed[topic.topic_id] = None
        self._log.topics[topic.topic_id] = None

    def _admit(self, topic: Topic, members: Iterable[Member]) -> None:
        assert self._space is not None
        square = self._space[topic.topic_id].square
        for place in topic.admit(members, self._space.sums_of(topic.topic_id), square):
            self._log.members[topic.topic_id, place] = None

    def _end(self, topic: Topic, seq: int, reason: str) -> None:
        """A topic takes no more items: its last update, and all of its state goes."""
        topic.seq = seq
        self._ended.append(self._update(topic, Life.FADED, reason=reason))
        self._remove(topic, None)

    def _remove(self, topic: Topic, merged_into: str | None) -> None:
        assert self._space is not None
        if merged_into:
            self._space.merge(merged_into, topic.topic_id)
        else:
            self._space.drop(topic.topic_id)
        del self._topics[topic.topic_id]
        self._changed.pop(topic.topic_id, None)
        self._round.discard(topic.topic_id)
        self._log.topics[topic.topic_id] = None
        for place in topic.members:
            self._log.members[topic.topic_id, place] = None

    @property
    def _look_due(self) -> bool:
        return len(self._state.observed_us) % self._config.merge_every_items == 0

    @property
    def _clock_due(self) -> bool:
        return len(self._state.observed_us) >= self._config.clock_every_items

    def _maintain(self) -> None:
        """What happens every so many new items: merges and topics that fade; now and then the clock, and items that are
        forgotten."""
        if clock := self._clock_due:
            self._set_clock()
        self._merge_topics()
        self._fade_topics()
        if clock:
            self._forget_items()

    def _set_clock(self) -> None:
        """The middle of the observation times since the last time."""
        self._state.clock_us = statistics.median_low(self._state.observed_us)
        self._state.observed_us = []

    def _merge_topics(self) -> None:
        assert self._space is not None
        merges = self._space.alike(self._round)
        self._next_round()
        for merge in merges:
            self._take_over(self._topics[merge.winner], self._topics[merge.loser], str(merge.likeness))

    def _take_over(self, winner: Topic, loser: Topic, reason: str, asked_by: str | None = None) -> None:
        loser.seq = seq = self._next_seq()
        update = self._update(loser, Life.MERGED, merged_into=winner.topic_id, reason=reason, asked_by=asked_by)
        self._ended.append(update)
        self._merge(winner, loser, seq)

    def _next_round(self) -> None:
        self._round = set()
        self._state.round += 1

    def _merge(self, winner: Topic, loser: Topic, seq: int) -> None:
        """One topic becomes part of an older one."""
        winner_id, loser_id = winner.topic_id, loser.topic_id
        members = [loser.members[place] for place in sorted(loser.members)]  # as a restart has them
        self._index.topics.merged(id_bytes(loser_id), id_bytes(winner_id))
        if self._index.topics.number_of(id_bytes(loser_id)):
            self._log.merges[id_bytes(loser_id)] = id_bytes(winner_id)
        winner.absorb(loser)
        self._remove(loser, winner_id)
        self._admit(winner, members)
        winner.round = self._state.round
        self._round.add(winner_id)
        self._touch(winner, seq)

    def _fade_topics(self) -> None:
        """Topics without a new item for too long, and the longest waiting where there are too many."""
        assert self._space is not None
        config = self._config
        latest_us = self._state.clock_us - config.fade_after // timedelta(microseconds=1)
        for topic_id in self._space.waiting_longest(latest_us, config.max_topics):
            silent = self._space[topic_id].last_us < latest_us
            reason = (
                f"no new item for {config.fade_after / timedelta(days=1):g} days"
                if silent
                else f"it had waited longest for an item when there were more than {config.max_topics:,} topics"
            )
            self._end(self._topics[topic_id], self._next_seq(), reason)

    def _forget_items(self) -> None:
        """Items beyond the horizon, once for each step of event time; the oldest where there are too many."""
        state, step_s = self._state, int(SWEEP.total_seconds())
        before_s = int(state.clock_us // _US - self._config.horizon.total_seconds()) // step_s * step_s
        if before_s > state.swept_s:
            state.swept_s = before_s
            self._forget_before(before_s)
        known = len(self._index)
        if known > self._config.max_items:
            self._forget_before(self._index.oldest(1.0 - (1.0 - FORGET_SHARE) * self._config.max_items / known))
        elif self._index.trends > (1.0 - FORGET_SHARE) * MAX_NAMES:
            self._forget_before(self._index.oldest(FORGET_SHARE))

    def _forget_before(self, seen_s: int) -> None:
        for row in self._index.older_than(seen_s):
            self._log.items[self._index.id_at(row)] = None
            for topic in self._index.forget(row):
                self._log.merges[topic] = None

    # ---------------------------------------------------------------------------------------------------- records

    def _put(self, item_id: bytes, entry: Entry) -> None:
        for topic in self._index.put(item_id, entry):
            self._log.merges[topic] = None
        self._log.items[item_id] = None

    def _enriched(
        self, arrival: Arrival, entry: Entry, change: Change, seq: int, *,
        similarity: float | None = None, is_new: bool | None = None, echo_of: bytes | None = None,
    ) -> EnrichedItem:  # fmt: skip
        """``echo_of`` where it has just been found: a member may be copied after the index has forgotten its item."""
        embedded, item, topic_id = arrival.embedded, arrival.embedded.item, id_text(entry.topic)
        if (item.trend_id, item.mentions) != (entry.home, entry.mentions):
            item = replace(item, trend_id=entry.home, mentions=entry.mentions)
        origin = echo_of or self._index.id_of_origin(entry.origin)
        return EnrichedItem(
            generation=self._generation,
            item=item,
            change=change,
            text_hash=embedded.text_hash,
            vector=embedded.vector if change in (Change.FIRST, Change.EDIT) else None,
            model=embedded.model,
            dimensions=embedded.dimensions,
            topic_id=topic_id,
            similarity=entry.similarity / MAX_SIMILARITY if similarity is None else similarity,
            is_new_topic=topic_id == topic_id_of(self._generation, item.item_id) if is_new is None else is_new,
            echo_of=id_text(origin) if origin else None,
            first_seen=at(entry.first_s * _US),
            seq=seq,
            arrived_at=embedded.arrived_at,
        )

    def _mention(
        self, arrival: Arrival, entry: Entry, event_time: datetime, weight: int, delta: Engagement, seq: int,
        out: Decisions,
    ) -> None:  # fmt: skip
        """The item counted for its home trend and for those that it mentions."""
        item = arrival.embedded.item
        for i, trend_id in enumerate((entry.home, *entry.mentions)):
            out.mentions.append(
                Mention(
                    generation=self._generation,
                    trend_id=trend_id,
                    item_id=item.item_id,
                    topic_id=id_text(entry.topic),
                    home=i == 0,
                    event_time=event_time,
                    first_seen=at(entry.first_s * _US),
                    publisher=item.publisher,
                    source=item.source,
                    weight=weight,
                    echo=entry.has(ECHO),
                    engagement=delta,
                    seq=seq,
                )
            )

    def _update(
        self, topic: Topic, life: Life, *,
        merged_into: str | None = None, reason: str | None = None, asked_by: str | None = None,
    ) -> TopicUpdate:  # fmt: skip
        assert self._space is not None
        state, space = self._state, self._space
        nearest = topic.nearest_members(space.sums_of(topic.topic_id), space[topic.topic_id].square)[:LEADING]
        trends = sorted(topic.trends.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN_TRENDS]
        return TopicUpdate(
            generation=self._generation,
            topic_id=topic.topic_id,
            life=life,
            merged_into=merged_into,
            size=topic.size,
            publishers=len(topic.publishers),
            sources=dict(sorted(topic.sources.items())),
            centroid=encode_vector(space.unit_of(topic.topic_id)),
            model=state.model,
            dimensions=state.dimensions,
            terms=tuple(space.top_terms(topic.topic_id, SHOWN_TERMS)),
            sums=TopicSums(items=topic.size, echoes=topic.echoes, engagement=topic.engagement, rank=topic.rank),
            items=tuple(topic.members[place].shown() for place in nearest),
            first_seen=at(topic.first_us),
            last_seen=at(topic.last_us),
            trend_id=topic.trend_id,
            trends=dict(trends),
            seq=topic.seq,
            reason=reason,
            asked_by=asked_by,
        )

    def _write_updates(self, out: Decisions) -> None:
        for topic_id in self._changed:
            life = Life.BORN if topic_id in self._born else Life.GREW
            out.updates.append(self._update(self._topics[topic_id], life))
        ended = {update.topic_id: update for update in self._ended if update.topic_id not in self._changed}
        # A topic that took another one over and was then merged itself comes first: it was merged later.
        out.updates.extend(sorted(ended.values(), key=lambda u: (u.life is Life.MERGED, -u.seq)))
        self._changed, self._born, self._ended = {}, set(), []

    # ---------------------------------------------------------------------------------------------------- restart

    def snapshot(self) -> Iterator[Records]:
        """All of the state as records, in parts of at most ``SNAPSHOT_RECORDS`` or so; the engine's own counters last.

        An engine that is given them with ``restore`` decides as this one. The engine must not change meanwhile.
        """
        whole = StateLog(
            topics=dict.fromkeys(self._topics),
            members={(topic_id, place): None for topic_id, topic in self._topics.items() for place in topic.members},
            merges=dict(self._index.topics.merges()),
        )
        for log in whole.parts(self._index.ids(), SNAPSHOT_RECORDS):
            records = log.records(self._index, self._topics, self._space, self._state)
            yield [record for record in records if record[0] != ENGINE_KEY]
        if self._state.model:
            yield [engine_record(self._state)]

    def restore(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Takes some state records; of one key in the order of the log, different keys in any order.

        No records at all say that there are no more for now: a stand-by then works into its models what it has read,
        so that it can take over at once.

        Raises:
            ValueError: a key or a value that no engine of this version writes.
        """
        if self._restored is None:
            self._restored = Restored(self._config, self._index)
        if keys:
            self._restored.take(keys, values)
        else:
            self._restored.settle()

    def finish_restore(self) -> None:
        """All state is there: from here on the engine decides as the one that wrote it would have.

        Raises:
            StateMismatchError: that one had another granularity.
        """
        restored, self._restored = self._restored, None
        if restored is None:
            return
        restored.finish()
        made, granularity = restored.engine.granularity, self._config.granularity
        if restored.engine.model and made != granularity:
            raise StateMismatchError(
                f"the topics of generation {self._generation} are made with granularity {made}, and the settings say "
                f"{granularity}: set TRENDS_GRANULARITY={made}, or build another generation with "
                f"`trends replay build --granularity {granularity}`"
            )
        self._state, self._space = restored.engine, restored.space
        self._topics = restored.topics
        self._round = {t.topic_id for t in self._topics.values() if t.round == self._state.round}


def arrived_us(embedded: EmbeddedItem) -> int:
    return 0 if embedded.arrived_at is None else micros(embedded.arrived_at)


def _is_possible(us: int, arrived_us: int) -> bool:
    """Whether something can have been observed at a time, given when it arrived."""
    return not arrived_us or us <= arrived_us + _SKEW_US


def _now_and_limit(recent_us: Sequence[int]) -> tuple[int, int]:
    """The middle of some observation times, and the latest that may follow them (microseconds).

    From the middle up to the newest one that is reached in steps of at most a day, or of a few gaps; one such step
    further. Times that are alone far ahead are never reached. A gap is the mean of those in the quarter before the
    middle or after it, the smaller one: items often come in twos, so that half of the gaps are next to nothing, and
    wrong times would have to fill a quarter on both sides to widen it.
    """
    times = sorted(recent_us)
    middle, quarter = (len(times) - 1) // 2, len(times) // 4
    width = min(times[middle] - times[middle - quarter], times[middle + quarter] - times[middle])
    step_us = max(_AHEAD_US, SPARSE_GAPS * width // quarter)
    newest = times[middle]
    for each in times[middle + 1 :]:
        if each - newest > step_us:
            break
        newest = each
    return times[middle], newest + step_us


def _mentions(item: Observation) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in item.mentions if name != item.trend_id))[:MAX_MENTIONS]


def _url_key(item: Observation) -> int:
    """The key of an item's canonical URL; 0 without one, and for a site's front page, which is no story."""
    url = canonical_url(item.url)
    return key_of(url) if url and not is_front_page(url) else 0


def _originals(arrival: Arrival, entry: Entry) -> int:
    """What later items may copy of this one: of an echo, its text where nobody had it before."""
    return (TEXT_ORIGINAL if arrival.copyable else 0) | (URL_ORIGINAL if entry.url else 0)
