"""From messages to rows: what is kept of each record, and what is learnt about the streams on the way."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from flows.since import Since
from models.clustering import ClusterConfig
from models.engine import AHEAD_OF_CLOCK, RECENT_ITEMS
from models.scoring import ScoringConfig
from streams.codec import HEADER_REDRIVEN_FOR, OWN_HEADERS
from streams.forgotten import Forgotten
from streams.growth import Growth
from streams.keys import partition_of
from streams.records import Reason
from streams.table import EMBEDDED, ENRICHED, HISTORY, MENTIONS, RAW, SCORES, SUMMARIES, UPDATES, Stream
from trends.verify import relations as rel
from trends.verify.book import Book
from trends.verify.judges import Facts
from trends.verify.log import Part, Take
from trends.verify.report import Example
from trends.verify.spill import Ints, Rows, Spill, look_up

T = TypeVar("T")
_BELIEVED_S: Final = int(AHEAD_OF_CLOCK.total_seconds())
OBSERVED: Final = (*RAW, HISTORY)
"""Where observations come from: all raw streams, and what a build has taken from the stores."""
SUMMARY_SIZE: Final = 3
"""A topic of so many items is due for a summary (``models.summaries``)."""
_OF_ONE_FLOW: Final = frozenset({Reason.STORE_REFUSED, Reason.OUR_FAILURE, Reason.INVALID_VALUE})
"""Reasons that one reader of a stream may have and another not."""


def _again_for(message: Any) -> bytes | None:
    """For which flow a dead letter was sent again; None where it was not."""
    headers = message.headers()
    if not headers or len(headers) <= OWN_HEADERS:
        return None
    return next((value for name, value in headers if name == HEADER_REDRIVEN_FOR), None)


def _flags(message: Any, asked: bool) -> int:
    return (rel.ASKED if asked else 0) | (rel.AGAIN if _again_for(message) else 0)


_LETTER = msgspec.json.Decoder(rel.LetterFields)
_RAW = msgspec.json.Decoder(rel.RawFields)
_EMBEDDED = msgspec.json.Decoder(rel.EmbeddedFields)
_ENRICHED = msgspec.json.Decoder(rel.EnrichedFields)
_MENTION = msgspec.json.Decoder(rel.MentionFields)
_UPDATE = msgspec.json.Decoder(rel.UpdateFields)
_SUMMARY = msgspec.json.Decoder(rel.SummaryFields)
_SCORE = msgspec.json.Decoder(rel.ScoreFields)
_WEIGHTS: Final = {"first": 1, "deleted": -1, "engagement": 0, "edit": 2}
"""What each mention of a decision weighs; 2: there may be none, or it is back (+1), or its engagement has grown (0)."""


class Intake:
    """Takes messages of all streams, dead letters first, and fills the relations."""

    def __init__(
        self,
        parts: Mapping[Stream, Part],
        relations: rel.Relations,
        book: Book,
        growth: Growth,
        in_events: Callable[[datetime], bool],
        title_chars: int,
        forgotten: Forgotten | None = None,
        since: Since | None = None,
    ) -> None:
        self.relations = relations
        self.letters = 0
        self.left_out = 0
        """Observations that the generation leaves out on purpose (``since``): nothing has to follow from them."""
        self._parts = parts
        self._names = {part.name: part for part in parts.values()}
        self._book = book
        self._growth = growth
        self._in_events = in_events
        self._title_chars = title_chars
        self._forgotten = forgotten or Forgotten()
        self._built_since = since
        self._letters = (array("q"), array("q"))
        self._excused: Ints = np.empty(0, np.int64)
        self._refused: Ints = np.empty(0, np.int64)
        self._first_ms: dict[tuple[str, int], int] = {}
        self._first_seq: dict[tuple[str, int], int] = {}
        self._newest_observed = 0
        self._oldest_seen = 2**62
        self._newest_slice = -(2**62)
        self._highest_seq = -1
        self._recent: dict[int, deque[int]] = {}
        self._slice_s = ScoringConfig().slice_s

    @property
    def takers(self) -> dict[Stream, Take]:
        """What is done with each stream, dead letters apart."""
        return {
            **dict.fromkeys(OBSERVED, self.take_raw), EMBEDDED: self.take_embedded, ENRICHED: self.take_enriched,
            MENTIONS: self.take_mentions, UPDATES: self.take_updates, SUMMARIES: self.take_summaries,
            SCORES: self.take_scores,
        }  # fmt: skip

    # -- dead letters -------------------------------------------------------------------------------------------

    def take_letters(self, _part: Part, messages: list[Any]) -> None:
        """Which places are dead letters, and whose: of store, of the flow before it, or (once removed) of both."""
        excused, refused = self._letters
        for message in messages:
            place, flow_s, store_s = self._letter(message)
            if place is not None and flow_s:
                excused.append(place)
            if place is not None and store_s:
                refused.append(place)

    def end_letters(self) -> None:
        """All of them are there."""
        self._excused, self._refused = (np.unique(np.array(places, np.int64)) for places in self._letters)
        self.letters = len(np.union1d(self._excused, self._refused))
        self._letters = (array("q"), array("q"))

    def _letter(self, message: Any) -> tuple[int | None, bool, bool]:
        """The place of a dead letter, whether it excuses the flow that reads its stream next, and whether store."""
        flow_s = store_s = True
        try:
            letter = _LETTER.decode(message.value() or b"")
            name, partition, offset = letter.stream, letter.partition, letter.offset
            if letter.reason in _OF_ONE_FLOW:
                flow_s, store_s = letter.flow != "store", letter.flow == "store"
        except msgspec.MsgspecError:  # removed by `trends dead-letters purge`: its key is left
            head, _, last = (message.key() or b"").decode("utf-8", "replace").rpartition("/")
            name, _, number = head.rpartition("/")
            if not (last.isdecimal() and number.isdecimal()):
                return None, False, False
            partition, offset = int(number), int(last)
        part = self._names.get(name)
        if part is None or not 0 <= partition < len(part.begins) or offset < 0:
            return None, False, False
        return rel.place_of(part.number, partition, offset), flow_s, store_s

    # -- records ------------------------------------------------------------------------------------------------

    def _append(self, relation: Spill, made: list[tuple[Any, ...]]) -> None:
        """Tuples to a relation; those that are dead letters are marked."""
        if not made:
            return
        rows: Rows = np.array(made, relation.dtype)
        if self.letters:
            rows["flags"][look_up(self._excused, rows["place"]) >= 0] |= rel.EXCUSED
            rows["flags"][look_up(self._refused, rows["place"]) >= 0] |= rel.REFUSED
        relation.append(rows)

    def _note_first(self, part: Part, messages: list[Any]) -> None:
        for message in messages:
            key = (part.name, message.partition())
            if key not in self._first_ms:
                self._first_ms[key] = message.timestamp()[1]

    def _misplaced(self, part: Part, message: Any, trend_id: str, id_: str) -> None:
        """A record must stand where its trend lives, or lived before the streams grew."""
        partition = message.partition()
        if partition_of(trend_id, self._growth.count) != partition:
            line = self._growth.line_of(trend_id)
            if partition not in line:
                where = f"{part.name}/{partition}/{message.offset()}"
                self._book.off_one(
                    "streams.partitions", Example(id_, where, f"its trend {trend_id!r} is in partition {line[-1]}")
                )

    def _read(
        self, decoder: msgspec.json.Decoder[T], part: Part, messages: list[Any]
    ) -> Iterator[tuple[T, Any, int, bool]]:
        """The records of a derived stream, apart from those that were removed and those that nobody can read: each with
        its message, its place, and whether that was asked for."""
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        decode = decoder.decode
        for message in messages:
            if (value := message.value()) is None:
                continue
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            try:
                record = decode(value)
            except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
                self._unreadable(f"{part.name}/{partition}/{offset}", message, place, error)
                continue
            yield record, message, place, offset < part.asked[partition]

    def _unreadable(self, where: str, message: Any, place: int, error: Exception) -> None:
        """Off, unless it is a dead letter."""
        places = np.array([place])
        if look_up(self._excused, places)[0] < 0 and look_up(self._refused, places)[0] < 0:
            key = (message.key() or b"").decode("utf-8", "replace")
            self._book.off_one("streams.readable", Example(key, where, str(error)))

    def take_raw(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        made, decode = [], _RAW.decode
        for message in messages:
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            asked = offset < part.asked[partition]
            try:
                item = decode(message.value() or b"")
                key = hash((item.item_id, item.observed_at))
                asked = asked and self._in_events(item.event_time)
                if self._built_since is not None and not self._built_since.counts(
                    item.event_time, message.timestamp()[1]
                ):
                    asked = False
                    self.left_out += 1
                denied = self._denied(item)
            except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
                key, denied = hash(place), 0  # it must be a dead letter
            made.append((key, rel.RAW, (rel.ASKED if asked else 0) | denied, 0, message.timestamp()[1], place))
        self._append(self.relations.observations, made)

    def take_embedded(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        made, items = [], []
        for record, message, place, asked in self._read(_EMBEDDED, part, messages):
            item = record.item
            asked = asked and self._in_events(item.event_time)
            gone = item.kind == "deleted"
            flags = (rel.ASKED if asked else 0) | (rel.GONE if gone else 0)
            again = rel.AGAIN if _again_for(message) else 0
            observed = item.observed_at
            made.append((hash((item.item_id, observed)), rel.EMBEDDED, flags | again, 0, message.timestamp()[1], place))
            seen, tick = rel.seconds(observed), rel.tick_of(observed, record.arrived_at)
            self._newest_observed = max(self._newest_observed, seen)
            jumps = self._jumps(message.partition(), seen, record.arrived_at)
            flags |= (rel.AHEAD if jumps else 0) | self._denied(item)
            state = rel.state_of(record.text_hash, item.engagement, gone)
            items.append((hash(item.item_id), rel.EMBEDDED, flags, tick, state, seen, 0, place))
            self._misplaced(part, message, item.trend_id, item.item_id)
        self._append(self.relations.observations, made)
        self._append(self.relations.items, items)

    def _denied(self, item: rel.RawFields | rel.ItemFields) -> int:
        """That an observation may have gone no further, because it was to be forgotten (a flag)."""
        forgotten = self._forgotten
        denied = forgotten.item(item.item_id) or forgotten.author(item.source, item.author)
        return rel.EXCUSED if denied else 0

    def _jumps(self, partition: int, seen_s: int, arrived_at: datetime | None) -> bool:
        """Whether an observation lies so far ahead of those before it that cluster may take it for one of an earlier
        time (``ClusterEngine._believed_us``): its item then need not show it."""
        recent = self._recent.setdefault(partition, deque(maxlen=RECENT_ITEMS))
        lowest = min(recent, default=seen_s)
        recent.append(seen_s)
        if arrived_at is not None and seen_s >= rel.seconds(arrived_at) - _BELIEVED_S:
            return False
        return seen_s - lowest > _BELIEVED_S

    def take_enriched(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        made, items, decisions = [], [], []
        for r, message, place, asked in self._read(_ENRICHED, part, messages):
            item, seq, change = r.item, r.seq, r.change
            if asked:
                self._highest_seq = max(self._highest_seq, seq)
            self._first_seq.setdefault((part.name, message.partition()), seq)
            flags = rel.ASKED if asked and self._in_events(r.first_seen) else 0
            gone = change == "deleted"
            key, seen = hash(item.item_id), rel.seconds(r.first_seen)
            self._oldest_seen = min(self._oldest_seen, seen)
            made.append(
                (hash((item.item_id, item.observed_at)), rel.ENRICHED, flags, seq, message.timestamp()[1], place)
            )
            look = rel.item_row(
                r.topic_id, item.trend_id, gone, item.observed_at, rel.amounts_of(item.engagement), r.text_hash
            )
            of_item = flags | (rel.FIRST if change == "first" else 0) | (rel.GONE if gone else 0)
            of_item |= rel.REFUSED if self._forgotten.item(item.item_id) else 0
            state = rel.state_of(r.text_hash, item.engagement, gone)
            items.append((key, rel.ENRICHED, of_item, seq, state, seen, look, place))
            trends = (item.trend_id, *item.mentions)
            again = rel.AGAIN if _again_for(message) else 0
            decisions.append(
                (seq, rel.ENRICHED, flags | again, key, rel.wrapped(sum(map(hash, trends))), _WEIGHTS.get(change, 0),
                 len(trends), place)
            )  # fmt: skip
            self._misplaced(part, message, item.trend_id, item.item_id)
        self._append(self.relations.observations, made)
        self._append(self.relations.items, items)
        self._append(self.relations.decisions, decisions)

    def take_mentions(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        decisions, trends, rows = [], [], []
        for r, message, place, asked in self._read(_MENTION, part, messages):
            self._first_seq.setdefault((part.name, message.partition()), r.seq)
            flags = (rel.ASKED if asked and self._in_events(r.first_seen) else 0) | (rel.HOME if r.home else 0)
            trend, again_for = hash(r.trend_id), _again_for(message)
            again = rel.AGAIN if again_for else 0
            decisions.append((r.seq, rel.MENTION, flags | again, hash(r.item_id), trend, r.weight, 0, place))
            number = rel.seconds(r.first_seen) // self._slice_s
            self._newest_slice = max(self._newest_slice, number)
            if again_for != b"store":
                trends.append((trend, rel.MENTION, rel.ASKED if asked else 0, r.seq, r.weight, number, 0, place))
            key = hash((r.trend_id, r.item_id, r.first_seen))
            unstored = rel.REFUSED if self._forgotten.item(r.item_id) else 0
            rows.append((key, rel.MENTION, flags | unstored, r.seq, r.weight, hash((r.topic_id, r.home)), place))
            self._misplaced(part, message, r.trend_id, r.item_id)
        self._append(self.relations.decisions, decisions)
        self._append(self.relations.trends, trends)
        self._append(self.relations.mentions, rows)

    def take_updates(self, part: Part, messages: list[Any]) -> None:
        made, decisions = [], []
        for r, message, place, asked in self._read(_UPDATE, part, messages):
            flags = _flags(message, asked)
            ended = r.life in ("merged", "faded")
            if ended:
                decisions.append((r.seq, rel.UPDATE, flags, 0, 0, 0, 0, place))
                if flags & rel.ASKED:
                    self._highest_seq = max(self._highest_seq, r.seq)
            due = not ended and r.size >= SUMMARY_SIZE and r.items
            made.append(
                (hash(r.topic_id), rel.UPDATE, flags | (rel.GONE if ended else 0) | (rel.DUE if due else 0), r.seq,
                 r.size,
                 hash(r.merged_into) if r.merged_into else 0,
                 rel.topic_row(r.size, r.life, r.merged_into, r.trend_id), place)
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.topic_id)
        self._append(self.relations.topics, made)
        self._append(self.relations.decisions, decisions)

    def take_summaries(self, part: Part, messages: list[Any]) -> None:
        made, most = [], self._title_chars
        for r, message, place, asked in self._read(_SUMMARY, part, messages):
            made.append(
                (hash(r.topic_id), rel.SUMMARY, _flags(message, asked),
                 rel.version_of_summary(r.topic_seq, r.attempt), r.attempt, 0, hash(r.headline[:most]),
                 place)
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.topic_id)
        self._append(self.relations.topics, made)

    def take_scores(self, part: Part, messages: list[Any]) -> None:
        made = []
        for r, message, place, asked in self._read(_SCORE, part, messages):
            made.append(
                (hash(r.trend_id), rel.SCORE, _flags(message, asked), r.version, r.total, 0,
                 hash((r.total, r.items, r.slice_start)), place)
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.trend_id)
        self._append(self.relations.trends, made)

    # -- what was learnt ----------------------------------------------------------------------------------------

    def facts(self, began_ms: int, rows: Mapping[str, int]) -> Facts:
        """What the judges have to know. ``rows``: how many there are of each table."""
        cluster, scoring = ClusterConfig(), ScoringConfig()
        spans = self._newest_observed - self._oldest_seen > cluster.horizon.total_seconds()
        return Facts(
            since_ms={
                rel.RAW: max(self._since(stream, began_ms) for stream in OBSERVED),
                rel.EMBEDDED: self._since(EMBEDDED, began_ms),
                rel.ENRICHED: self._since(ENRICHED, began_ms),
                rel.MENTION: self._since(MENTIONS, began_ms),
            },
            lowest_seq=self._lowest_seq(),
            highest_seq=self._highest_seq,
            forgetting=spans or rows.get("items", 0) > cluster.max_items,
            newest_slice=self._newest_slice,
            past_slices=scoring.past_slices,
            many_trends=rows.get("trends", 0) > scoring.max_trends,
            forgotten=bool(list(self._forgotten.requests)),
        )

    def _since(self, stream: Stream, began_ms: int) -> int:
        """What arrived in a stream before this time (ms) is not all there; 0 where all of it is."""
        part = self._parts[stream]
        if part.whole:
            return 0
        cut = [p for p, begin in enumerate(part.begins) if begin]
        return max(part.begins_ms, *(self._first_ms.get((part.name, p), began_ms) for p in cut), 1)

    def _lowest_seq(self) -> int:
        """The decision from which on nothing is missing because it is too old: 1 where both streams are whole."""
        lowest = 1
        for stream in (ENRICHED, MENTIONS):
            part = self._parts[stream]
            for p in (p for p, begin in enumerate(part.begins) if begin and not part.whole):
                lowest = max(lowest, self._first_seq.get((part.name, p), 2**62))
        return lowest
