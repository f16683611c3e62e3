"""State built anew from what was decided: recorded decisions are applied in the order of their numbers, none is made.

So ids, topics and numbers stay what readers know. What the records do not say cannot come back: each class names it.
No I/O: ``flows.rebuild`` reads the records and writes the state.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from models.clustering import SCALE, ClusterConfig, Point, TopicSpace, points, squared_weight
from models.echoes import DELETED, ECHO, MAX_SIMILARITY, TICKS, Entry
from models.engine import COPY_TOKENS, Arrival, ClusterEngine, arrived_us
from models.packed import HashTable, id_bytes
from models.state import StateLog, amounts
from models.summaries import summarised_at
from models.text import embedding_text, salient, tokens
from models.topics import MAX_COUNT, MEMBERS, Member, Topic, bounded, micros
from streams.records import (
    Change,
    EmbeddedItem,
    EnrichedItem,
    LeadingItem,
    Life,
    TopicSummary,
    TopicUpdate,
)
from streams.vectors import decode_vector

_US: Final = 1_000_000


class LastSeen:
    """When each item was observed last, as far as the embedded stream says: an unchanged observation leaves no decision
    behind, and only prolongs how long its item is known. About 25 bytes an item.
    """

    def __init__(self) -> None:
        self._high = array("Q")
        self._low = array("Q")
        self._ticks = array("q")
        """Negative: the last observation was a deletion."""
        self._table = HashTable(self._low)

    def __len__(self) -> int:
        return len(self._low)

    def note(self, item_id: bytes, tick: int, deleted: bool) -> None:
        """One observation, in any order (16 bytes; 1/32 s since 1970)."""
        high, low = int.from_bytes(item_id[:8], "big"), int.from_bytes(item_id[8:], "big")
        row = self._table.find(low)
        if row < 0:
            self._high.append(high)
            self._low.append(low)
            self._ticks.append(-tick if deleted else tick)
            self._table.add(len(self._low) - 1)
        elif tick > abs(self._ticks[row]):
            self._ticks[row] = -tick if deleted else tick

    def tick(self, item_id: bytes) -> int:
        """The last observation of an item; 0 where none is known."""
        row = self._table.find(int.from_bytes(item_id[8:], "big"))
        return abs(self._ticks[row]) if row >= 0 else 0

    def deletions(self) -> Iterator[tuple[bytes, int]]:
        """Items whose last observation is a deletion, and when."""
        for high, low, tick in zip(self._high, self._low, self._ticks, strict=True):
            if tick < 0:
                yield (high << 64 | low).to_bytes(16, "big"), -tick


class Ending(NamedTuple):
    """A topic takes no more items: what is kept of its last update."""

    topic_id: str
    seq: int
    life: Life
    merged_into: str | None
    told: bool = False
    """Somebody asked for the merge, so it is no sign that topics were looked at."""

    @classmethod
    def of(cls, update: TopicUpdate) -> Ending:
        """What is kept of it."""
        return cls(update.topic_id, update.seq, update.life, update.merged_into, update.asked_by is not None)


@dataclass(slots=True)
class Rebuilt:
    """What became of a rebuild of cluster's state."""

    decisions: int = 0
    """Recorded decisions that were applied."""
    missing: int = 0
    """Numbers of decisions that no record has any more: retention has deleted them."""
    unreadable: int = 0
    """Records that contradict the generation, and were left out."""
    prolonged: int = 0
    """Items that were observed again, unchanged, after their last decision."""
    topics: int = 0
    items: int = 0
    corrected: int = 0
    """Topics whose first items are gone: their counts come from their last update, their centre from both."""


class ClusterRebuild(ClusterEngine):
    """An engine that is told its decisions: enriched items and the ends of topics, in the order of ``seq``.

    With every decision at hand the state is that of the engine that made them, bit by bit (``tests/unit/
    test_rebuild.py``). Where retention has deleted some, what is left is what they said:

    - an item whose records are all gone is not known: seen again it would be counted again; one that came back after it
      had been forgotten is known from its last decision on, not from its last observation;
    - a topic older than the records has the size, sums and rank of its last update, and the centre and terms of the
      items that are left (or, without any, of that update); its publishers are those of the items that are left;
    - the clock, and when topics are looked at for merges, begin with the first record.
    """

    def __init__(self, config: ClusterConfig, generation: str, last_seen: LastSeen | None = None) -> None:
        super().__init__(config, generation)
        self._last_seen = last_seen or LastSeen()
        self._forget_due = False
        self._looked = False
        """Since the last decision about an item, topics have been looked at for merges."""
        self._last_decided = 0
        self._numbers = 0
        """Distinct numbers of decisions so far."""
        self._live: dict[str, TopicUpdate] = {}
        self._moved: set[str] = set()
        self._back: set[bytes] = set()
        """Items that came back after they had been forgotten: nothing tells their observations from before that."""
        self.report = Rebuilt()

    # -------------------------------------------------------------------------------------------- what was decided

    def live(self, update: TopicUpdate, *, moved: bool = False) -> None:
        """An update of a topic that may still grow, in any order, before :meth:`finish`.

        Args:
            moved: it stands where the topic lived before the stream grew, so the topic may have ended since.
        """
        known = self._live.get(update.topic_id)
        if known is None or known.seq < update.seq:
            self._live[update.topic_id] = update
            (self._moved.add if moved else self._moved.discard)(update.topic_id)

    def decided(self, records: Sequence[EnrichedItem | Ending]) -> None:
        """Decisions about items, and updates of topics that ended (merged, faded), in the order of ``seq``."""
        items = [record for record in records if isinstance(record, EnrichedItem)]
        arrivals = iter(self._replayed(items))
        for record in records:
            if isinstance(record, Ending):
                self._ended_by(record)
            elif (arrival := next(arrivals)) is None:
                self.report.unreadable += 1
            else:
                self._apply(record, arrival)
        self._log, self._changed, self._born, self._ended = StateLog(), {}, set(), []

    def _replayed(self, records: Sequence[EnrichedItem]) -> list[Arrival | None]:
        """The records as the items that arrived; None for one that contradicts the generation."""
        arrivals: list[Arrival | None] = []
        embedded: list[tuple[EmbeddedItem, bytes, list[str]] | None] = []
        vectors: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        for record in records:
            item = EmbeddedItem(
                item=record.item,
                text_hash=record.text_hash,
                vector=record.vector,
                model=record.model,
                dimensions=record.dimensions,
                arrived_at=record.arrived_at,
            )
            try:
                item_id = id_bytes(record.item.item_id)
                id_bytes(record.topic_id)
                vector = self._vector(item)
            except ValueError:
                embedded.append(None)
                continue
            embedded.append((item, item_id, tokens(embedding_text(item.item))))
            vectors.append(vector)
        good = [known for known in embedded if known is not None]
        found: Iterator[Point] = iter(
            points(np.stack(vectors), [salient(words) for _, _, words in good]) if good else ()
        )
        for known in embedded:
            if known is None:
                arrivals.append(None)
                continue
            item, item_id, words = known
            arrivals.append(Arrival(item, item_id, next(found), len(words) >= COPY_TOKENS, 0, arrived_us(item)))
        return arrivals

    def _apply(self, record: EnrichedItem, arrival: Arrival) -> None:
        self._number(record.seq)
        item = record.item
        arrival.point.at_us = self._believed_us(micros(item.observed_at), arrival.arrived_us)
        tick = arrival.point.at_us * TICKS // _US
        row = self._index.find(arrival.item_id)
        if record.change is Change.FIRST:
            if row >= 0:
                self._index.forget(row)  # it had been forgotten, and came back
                self._back.add(arrival.item_id)
            self._apply_first(record, arrival, tick)
            return
        entry = self._index.entry(row) if row >= 0 else self._unknown(record, arrival, tick)
        if record.change is Change.DELETED:
            self._take_away(arrival, entry, tick, record.seq)
        else:
            self._renew(arrival, entry, tick, record.change, record.seq)

    def _number(self, seq: int) -> None:
        """Whatever was to happen before this decision has been recorded before it."""
        self._looked = False
        self._forget_now()
        self._numbers += seq != self._state.seq
        self._state.seq = self._last_decided = max(seq, self._state.seq)
        self.report.decisions += 1

    def _forget_now(self) -> None:
        if self._forget_due:
            self._forget_due = False
            self._forget_items()

    def _apply_first(self, record: EnrichedItem, arrival: Arrival, tick: int) -> None:
        entry, event_us = self._new_entry(arrival, tick)
        topic = self._topics.get(record.topic_id)
        if topic is not None and record.is_new_topic:
            # Its founder came back after both had been forgotten: the stream has kept the end of the second one alone.
            self._remove(topic, None)
            topic = None
        is_new = topic is None
        if topic is None:
            topic = self._found(arrival, event_us, record.topic_id)
        self._enter(
            arrival, entry, topic, record.seq, event_us,
            similarity=record.similarity, echo_of=id_bytes(record.echo_of) if record.echo_of else None, is_new=is_new,
        )  # fmt: skip
        if self._look_due:
            self._begin_maintenance(self._clock_due)

    def _unknown(self, record: EnrichedItem, arrival: Arrival, tick: int) -> Entry:
        """What is known of an item whose first record is gone."""
        item = record.item
        entry = Entry(
            text=0, url=0, origin=0, topic=id_bytes(record.topic_id), home=item.trend_id, mentions=item.mentions[:2],
            first_s=max(0, micros(record.first_seen) // _US), tick=tick, flags=0,
            similarity=round(min(1.0, max(0.0, record.similarity)) * MAX_SIMILARITY),
            engagement=amounts(item.engagement),
        )  # fmt: skip
        if record.echo_of:
            entry.origin, entry.flags = int.from_bytes(id_bytes(record.echo_of)[8:], "big"), ECHO
        return entry

    def _begin_maintenance(self, clock: bool) -> None:
        """The clock goes on; merges and fading topics follow as they are recorded, items are forgotten after them."""
        if clock:
            self._set_clock()
            self._forget_due = True
        self._next_round()
        self._looked = True

    def _ended_by(self, update: Ending) -> None:
        topic = self._topics.get(update.topic_id)
        if (last := self._live.get(update.topic_id)) is not None and last.seq < update.seq:
            del self._live[update.topic_id]
        by_deletion = update.life is Life.FADED and update.seq == self._last_decided
        if not by_deletion:
            self._numbers += 1
        self._state.seq = max(self._state.seq, update.seq)
        self.report.decisions += not by_deletion
        if topic is None:
            return
        if update.told:
            self._forget_now()
        elif not by_deletion and not self._looked and self._state.observed_us:
            self._begin_maintenance(True)  # first records are missing: this is when topics were looked at
        winner = self._topics.get(update.merged_into) if update.merged_into else None
        if winner is not None:
            self._merge(winner, topic, update.seq)
        else:
            if update.merged_into:
                self._index.topics.merged(id_bytes(topic.topic_id), id_bytes(update.merged_into))
            self._remove(topic, None)

    def _forget_before(self, seen_s: int) -> None:
        """As ever, but for items that were observed again without a decision."""
        for row in self._index.older_than(seen_s):
            if self._last_seen.tick(self._index.id_at(row)) // TICKS < seen_s:
                self._index.forget(row)

    # ------------------------------------------------------------------------------------------------------ the end

    def finish(self) -> Rebuilt:
        """All that was decided is there: what was only observed is added, and what is missing is taken from the last
        updates of the topics."""
        self._forget_now()
        report = self.report
        for item_id in list(self._index.ids()):
            row, tick = self._index.find(item_id), self._last_seen.tick(item_id)
            if item_id not in self._back and tick > self._index.entry(row).tick:
                self._index.touch(row, tick)
                report.prolonged += 1
        for item_id, tick in self._last_seen.deletions():
            if self._index.find(item_id) < 0 and tick // TICKS >= self._state.swept_s:
                self._index.put(item_id, Entry(0, 0, 0, b"", "", (), 0, tick, DELETED, 0, (0, 0, 0, 0, 0)))
        for update in self._live.values():
            if update.topic_id in self._topics or update.topic_id not in self._moved:
                self._correct(update)
            self._state.seq = max(self._state.seq, update.seq)
        report.missing = max(0, self._state.seq - self._numbers)
        report.topics, report.items = self.active_topics, self.indexed_items
        self._log, self._changed = StateLog(), {}
        self._round = {t.topic_id for t in self._topics.values() if t.round == self._state.round}
        return report

    def _correct(self, update: TopicUpdate) -> None:
        """A topic's last update is the truth about it; an update of more than what is left says what is missing."""
        topic = self._topics.get(update.topic_id)
        if topic is not None and (topic.size, topic.echoes, topic.seq) == (
            update.size, update.sums.echoes, update.seq,
        ):  # fmt: skip
            return
        self.report.corrected += 1
        self._ensure_space(update)
        assert self._space is not None
        if topic is None:
            topic = Topic(
                topic_id=update.topic_id, trend_id=update.trend_id, founded_us=micros(update.first_seen),
                first_us=0, last_us=0, round=self._state.round - 1,
            )  # fmt: skip
            self._topics[topic.topic_id] = topic
            self._space.restore(
                topic.topic_id, topic.founded_us, np.zeros(self._space.dimensions, np.int32), 0, {},
                micros(update.last_seen),
            )  # fmt: skip
        topic.trend_id, topic.size, topic.echoes = update.trend_id, update.size, update.sums.echoes
        topic.first_us, topic.last_us = micros(update.first_seen), micros(update.last_seen)
        topic.sources, topic.trends = dict(update.sources), dict(update.trends)
        topic.engagement, topic.rank = bounded(update.sums.engagement, MAX_COUNT), update.sums.rank
        topic.seq = update.seq
        self._complete_centre(topic, update, self._space)
        held = {member.item_id for member in topic.members.values()}
        places = iter([place for place in range(MEMBERS) if place not in topic.members])
        for leading in update.items:
            if leading.item_id not in held and (place := next(places, None)) is not None:
                topic.members[place] = _member_of(leading)

    def _ensure_space(self, update: TopicUpdate) -> None:
        if self._space is None:
            self._state.model, self._state.dimensions = update.model, update.dimensions
            self._space = TopicSpace(self._config, update.dimensions)

    @staticmethod
    def _complete_centre(topic: Topic, update: TopicUpdate, space: TopicSpace) -> None:
        """The items that are gone stood where the centre of the update lies, as far as one can tell."""
        centroid = space[topic.topic_id]
        sums = space.sums_of(topic.topic_id).copy()
        gone = max(0, update.size - update.sums.echoes - centroid.summed)
        unit = decode_vector(update.centroid, update.dimensions).astype(np.float64)
        sums += np.rint(unit * (SCALE * gone)).astype(np.int32)
        founded_us, last_us = topic.founded_us, max(centroid.last_us, micros(update.last_seen))
        terms = dict(centroid.terms) or _terms_of(update)
        summed = centroid.summed + (gone if unit.any() else 0)
        space.drop(topic.topic_id)
        space.restore(topic.topic_id, founded_us, sums, summed, terms, last_us)


@dataclass(slots=True)
class _Summarised:
    summary: TopicSummary
    state: bytes | None = None
    """From the newest update that summarize has read, or from the very one that was summarised."""
    seq: int = -1
    exact: bool = False
    ended: bool = False


class SummaryRebuild:
    """What summarize remembers of topics, from its summaries and the updates that it has read.

    Of a topic whose summarised update has been replaced by a later one, the leading items are those of the later one:
    it is summarised again a little sooner or later than it would have been, never twice for the same size.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Summarised] = {}
        self.inexact = 0
        """Topics whose summarised update is gone."""
        self.unknown = 0
        """Topics of which no update is left: summarised once more when the next one comes."""

    def said(self, summary: TopicSummary) -> None:
        """One summary; all of them before the first update."""
        known = self._topics.get(summary.topic_id)
        place = (summary.topic_seq, summary.attempt)
        if known is None or (known.summary.topic_seq, known.summary.attempt) < place:
            self._topics[summary.topic_id] = _Summarised(summary)

    def updated(self, update: TopicUpdate) -> None:
        """One update that summarize has read."""
        known = self._topics.get(update.topic_id)
        if known is None or update.seq < known.seq:
            return
        known.seq = update.seq
        known.ended = update.life in (Life.MERGED, Life.FADED)
        if not known.ended and not known.exact:
            known.state = summarised_at(update, known.summary)
            known.exact = update.seq == known.summary.topic_seq

    def snapshot(self) -> Iterator[tuple[bytes, bytes, str]]:
        """Key, value and home trend of every state record, in the order in which topics were summarised."""
        self.inexact = self.unknown = 0
        for topic_id, known in sorted(self._topics.items(), key=lambda pair: (pair[1].summary.topic_seq, pair[0])):
            if known.ended:
                continue
            if known.state is None:
                self.unknown += 1
                continue
            self.inexact += not known.exact
            yield topic_id.encode(), known.state, known.summary.trend_id


def _terms_of(update: TopicUpdate) -> dict[str, int]:
    """Terms counted so that their weights stand to each other as in the update."""
    scale = max(1, update.size)
    return {
        term: max(1, round(scale * share / math.sqrt(squared_weight(term) / squared_weight(update.terms[0][0]))))
        for term, share in update.terms
    }


def _member_of(leading: LeadingItem) -> Member:
    """A leading item whose vector is not known any more."""
    return Member(
        joined=0, item_id=leading.item_id, vector=b"", square=0, source=leading.source, title=leading.title,
        url=leading.url, body=leading.body, publisher=leading.publisher,
        published_us=micros(leading.published_at), points=leading.points, comments=leading.comments,
    )  # fmt: skip
