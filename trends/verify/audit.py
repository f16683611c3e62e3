"""The audit: waits for the flows, reads the stores and the streams once, joins them, and says what does not hold.

Memory does not grow with what is audited: records become fixed rows on disk (``trends.verify.spill``), and are judged
a bucket at a time (``trends.verify.judges``). What grows is 8 bytes a dead letter, and 8 bytes a bucket and run.

With live traffic there is a cut: what stood in the raw streams when the audit began must be accounted for, through
everything that follows from it. What is written meanwhile is read only to explain what is met.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from models.clustering import ClusterConfig
from models.engine import AHEAD_OF_CLOCK, RECENT_ITEMS
from models.scoring import ScoringConfig
from sinks.postgres import PostgresConfig
from streams.codec import HEADER_REDRIVEN_FOR
from streams.errors import UnavailableError
from streams.keys import partition_of
from streams.partitions import growth
from streams.records import Reason
from streams.table import (
    DEAD_LETTERS,
    EMBEDDED,
    ENRICHED,
    MENTIONS,
    RAW,
    SCORES,
    SUMMARIES,
    UPDATES,
    Stream,
)
from trends.flows import FLOWS, prepare
from trends.settings import Settings
from trends.verify import judges, merges, stores
from trends.verify import relations as rel
from trends.verify.book import Book, Pending
from trends.verify.log import Log, Part, Take, now
from trends.verify.report import EVERYTHING, Example, Report, Span, StreamPart
from trends.verify.spill import Ints, Rows, Spill, buckets_for, look_up

WAIT_S: Final = 60.0
WAIT_POLL_S: Final = 0.5
EXAMPLES: Final = 10
SUMMARY_SIZE: Final = 3
"""A topic of so many items is due for a summary (``models.summaries``)."""

STREAMS: Final = (*RAW, EMBEDDED, ENRICHED, MENTIONS, UPDATES, SUMMARIES, SCORES, DEAD_LETTERS)
DERIVED: Final[dict[str, tuple[Stream, ...]]] = {
    "embed": (EMBEDDED,),
    "cluster": (ENRICHED, MENTIONS, UPDATES),
    "score": (SCORES,),
    "summarize": (SUMMARIES,),
    "store": (),
}
"""What each flow writes: what stands there when the flow has passed the cut of its inputs has to be accounted for."""

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""What is being done, how far it is, of how much."""


def audit(
    settings: Settings,
    span: Span = EVERYTHING,
    *,
    wait_s: float = WAIT_S,
    examples: int = EXAMPLES,
    progress: Progress = lambda _what, _done, _total: None,
    folder: Path | None = None,
) -> Report:
    """Audits what a generation has made of its raw records, in the streams and in the stores.

    Args:
        wait_s: how long the flows may take to pass what stands in their inputs.
        examples: how many of each check are shown.
        folder: where temporary files go (about 400 bytes an item); the system's by default.

    Raises:
        UnavailableError: a flow does not catch up in time, or Kafka or PostgreSQL cannot be reached.
        StreamTableError, SettingsError: streams or tables of this generation are missing.
    """
    with ExitStack() as stack:
        return _Audit(settings, span, examples, progress, folder, stack).run(wait_s)


class _Audit:
    def __init__(
        self, settings: Settings, span: Span, examples: int, progress: Progress, folder: Path | None, stack: ExitStack
    ) -> None:
        self._began, self._began_s = now(), time.monotonic()
        self._settings = settings
        self._span = span
        self._progress = progress
        self._folder = folder
        self._stack = stack
        self._config: PostgresConfig = settings.postgres()
        self._kafka = settings.kafka()
        self._book = Book(examples)
        self._log = stack.enter_context(closing(Log(self._kafka, settings.generation)))
        self._stores = stores.Stores(self._config)
        self._growth = growth(self._kafka)
        self._excused: Ints = np.empty(0, np.int64)
        self._refused: Ints = np.empty(0, np.int64)
        self._letter_count = 0
        self._forgotten: set[int] = set()
        self._rows: dict[str, int] = {}
        self._first_ms: dict[tuple[str, int], int] = {}
        self._first_seq: dict[tuple[str, int], int] = {}
        self._newest_observed = 0
        self._oldest_seen = 2**62
        self._newest_slice = -(2**62)
        self._highest_seq = -1
        self._recent: dict[int, deque[int]] = {}
        self._slice_s = ScoringConfig().slice_s

    # -- in order -----------------------------------------------------------------------------------------------

    def run(self, wait_s: float) -> Report:
        parts = self._parts = self._log.parts(STREAMS, self._span.log_from, self._span.log_to)
        self._names = {part.name: part for part in parts.values()}
        self._cut(time.monotonic() + wait_s)
        buckets = buckets_for(self._expected_rows())
        self._observations = self._spill(rel.OBSERVATIONS, buckets)
        self._items = self._spill(rel.ITEMS, buckets)
        self._decisions = self._spill(rel.DECISIONS, buckets)
        self._mentions = self._spill(rel.MENTIONS, buckets)
        self._trends = self._spill(rel.TRENDS, buckets)
        self._topics = self._spill(rel.TOPICS, buckets)
        self._members = self._spill(rel.MEMBERS, buckets)
        self._scan_stores()
        self._read_streams()
        self._judge()
        self._name_examples()
        return self._report()

    def _spill(self, dtype: np.dtype[Any], buckets: int) -> Spill:
        return self._stack.enter_context(closing(Spill(dtype, buckets, self._folder)))

    def _cut(self, deadline: float) -> None:
        """Where each stream ends for this audit: behind all that follows from what was in raw when it began."""
        for stream in (*RAW, DEAD_LETTERS):
            self._parts[stream].cut(self._log.ends(self._parts[stream]))
        for number, flow in enumerate(FLOWS):
            inputs = [s for s in prepare(flow, self._settings)[0].inputs if s in self._parts]
            wanted = {
                (self._parts[s].name, p): end for s in inputs for p, end in enumerate(self._parts[s].asked) if end
            }
            while (missing := self._log.behind(flow, wanted)) > 0:
                self._progress(f"waiting for {flow} ({missing:,} behind)", number, len(FLOWS))
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{flow} is {missing:,} records behind and did not catch up in time: nothing can be said yet. "
                        "See that it runs (`trends lag`), then verify again, or wait longer with --wait"
                    )
                time.sleep(WAIT_POLL_S)
            for stream in DERIVED[flow]:
                self._parts[stream].cut(self._log.ends(self._parts[stream]))
            self._progress("looking how far the flows are", number + 1, len(FLOWS))

    def _expected_rows(self) -> int:
        in_streams = sum(
            end - begin
            for part in self._parts.values()
            for begin, end in zip(part.begins, part.asked, strict=True)
        )  # fmt: skip
        self._stored_rows = self._stores.estimate()
        return 2 * in_streams + self._stored_rows

    # -- stores -------------------------------------------------------------------------------------------------

    def _scan_stores(self) -> None:
        seen, total = 0, self._stored_rows

        def take(table: stores.Table, shard: int, bucket_map: tuple[int, ...], rows: Sequence[Any]) -> None:
            nonlocal seen
            self._rows[table.name] = self._rows.get(table.name, 0) + len(rows)
            for row, why in stores.misplaced(rows, shard, bucket_map):
                where = stores.shown_place(table.name, rel.row_place(shard))
                self._book.off_one("store.shards", Example(stores.name_of(table, row), where, why))
            self._book.examined("store.shards", len(rows))
            if table.name == "items":
                self._items.append(stores.item_tuples(rows, shard, self._in_events, self._forgotten))
            elif table.name == "mentions":
                made, members = stores.mention_tuples(rows, shard, self._in_events)
                self._mentions.append(made)
                self._members.append(members)
            elif table.name == "topics":
                self._topics.append(stores.topic_tuples(rows, shard))
            elif table.name == "topic_summaries":
                self._topics.append(stores.summary_tuples(rows, shard))
            elif table.name == "trends":
                self._trends.append(stores.trend_tuples(rows, shard))
            seen += len(rows)
            self._progress("reading the stores", seen, max(seen, total))

        self._stores.scan(take)

    def _in_events(self, when: Any) -> bool:
        span = self._span
        return (span.event_from is None or when >= span.event_from) and (span.event_to is None or when < span.event_to)

    # -- streams ------------------------------------------------------------------------------------------------

    def _read_streams(self) -> None:
        parts = self._parts
        for part in parts.values():
            part.ends = [max(a, e) for a, e in zip(part.asked, self._log.ends(part), strict=True)]
        total = sum(sum(part.ends) - sum(part.begins) for part in parts.values())
        passed = 0

        def step(offsets: int) -> None:
            nonlocal passed
            passed += offsets
            self._progress("reading the streams", passed, total)

        takers: dict[Stream, Take] = dict.fromkeys(RAW, self._take_raw)
        takers |= {
            EMBEDDED: self._take_embedded, ENRICHED: self._take_enriched, MENTIONS: self._take_mentions,
            UPDATES: self._take_updates, SUMMARIES: self._take_summaries, SCORES: self._take_scores,
        }  # fmt: skip
        self._read_letters(step)
        self._log.read({parts[stream].name: (parts[stream], take) for stream, take in takers.items()}, step)

    def _read_letters(self, step: Callable[[int], None]) -> None:
        """Which places are dead letters, and whose: of store, of the flow before it, or (once removed) of both."""
        excused: set[int] = set()
        refused: set[int] = set()

        def take(_part: Part, messages: list[Any]) -> None:
            for message in messages:
                place, flow_s, store_s = self._letter(message)
                if place is not None:
                    excused.update((place,) if flow_s else ())
                    refused.update((place,) if store_s else ())

        part = self._parts[DEAD_LETTERS]
        self._log.read({part.name: (part, take)}, step)
        self._excused = np.sort(np.fromiter(excused, np.int64, len(excused)))
        self._refused = np.sort(np.fromiter(refused, np.int64, len(refused)))
        self._letter_count = len(excused | refused)

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

    def _append(self, relation: Spill, made: list[tuple[Any, ...]]) -> None:
        """Tuples to a relation; those that are dead letters are marked."""
        if not made:
            return
        rows: Rows = np.array(made, relation.dtype)
        if self._letter_count:
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

    def _decoded(self, decode: Callable[[bytes], T], part: Part, message: Any) -> T | None:
        """A derived record; None for one that was removed, and for one that nobody can read."""
        if (value := message.value()) is None:
            return None
        try:
            return decode(value)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            place = np.array([rel.place_of(part.number, message.partition(), message.offset())])
            if look_up(self._excused, place)[0] < 0 and look_up(self._refused, place)[0] < 0:
                where = f"{part.name}/{message.partition()}/{message.offset()}"
                key = (message.key() or b"").decode("utf-8", "replace")
                self._book.off_one("streams.readable", Example(key, where, str(error)))
            return None

    def _take_raw(self, part: Part, messages: list[Any]) -> None:
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
            except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
                key = hash(place)  # it must be a dead letter
            made.append((key, rel.RAW, rel.ASKED if asked else 0, 0, message.timestamp()[1], place))
        self._append(self._observations, made)

    def _take_embedded(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        made, items, decode = [], [], _EMBEDDED.decode
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (record := self._decoded(decode, part, message)) is None:
                continue
            item = record.item
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            asked = offset < part.asked[partition] and self._in_events(item.event_time)
            gone = item.kind == "deleted"
            flags = (rel.ASKED if asked else 0) | (rel.GONE if gone else 0)
            again = rel.AGAIN if _again_for(message) else 0
            observed = item.observed_at
            made.append((hash((item.item_id, observed)), rel.EMBEDDED, flags | again, 0, message.timestamp()[1], place))
            seen, tick = rel.seconds(observed), rel.tick_of(observed, record.arrived_at)
            self._newest_observed = max(self._newest_observed, seen)
            flags |= rel.AHEAD if self._jumps(partition, seen) else 0
            state = rel.state_of(record.text_hash, item.engagement, gone)
            items.append((hash(item.item_id), rel.EMBEDDED, flags, tick, state, seen, 0, place))
            self._misplaced(part, message, item.trend_id, item.item_id)
        self._append(self._observations, made)
        self._append(self._items, items)

    def _jumps(self, partition: int, seen_s: int) -> bool:
        """Whether an observation lies so far ahead of those before it that cluster may take it for one of an earlier
        time (``ClusterEngine._believed_us``): its item then need not show it."""
        recent = self._recent.setdefault(partition, deque(maxlen=RECENT_ITEMS))
        middle = sorted(recent)[len(recent) // 2] if len(recent) else seen_s
        recent.append(seen_s)
        return seen_s - middle > AHEAD_OF_CLOCK.total_seconds() / 2

    def _take_enriched(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        made, items, decisions, decode = [], [], [], _ENRICHED.decode
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (r := self._decoded(decode, part, message)) is None:
                continue
            item, seq, change = r.item, r.seq, r.change
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            asked = offset < part.asked[partition]
            if asked:
                self._highest_seq = max(self._highest_seq, seq)
            self._first_seq.setdefault((part.name, partition), seq)
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
            state = rel.state_of(r.text_hash, item.engagement, gone)
            items.append((key, rel.ENRICHED, of_item, seq, state, seen, look, place))
            trends = (item.trend_id, *item.mentions)
            again = rel.AGAIN if _again_for(message) else 0
            decisions.append(
                (seq, rel.ENRICHED, flags | again, key, rel.wrapped(sum(map(hash, trends))), _WEIGHTS.get(change, 0),
                 len(trends), place)
            )  # fmt: skip
            self._misplaced(part, message, item.trend_id, item.item_id)
        self._append(self._observations, made)
        self._append(self._items, items)
        self._append(self._decisions, decisions)

    def _take_mentions(self, part: Part, messages: list[Any]) -> None:
        self._note_first(part, messages)
        decisions, trends, rows, decode = [], [], [], _MENTION.decode
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (r := self._decoded(decode, part, message)) is None:
                continue
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            asked = offset < part.asked[partition]
            self._first_seq.setdefault((part.name, partition), r.seq)
            flags = (rel.ASKED if asked and self._in_events(r.first_seen) else 0) | (rel.HOME if r.home else 0)
            trend, again_for = hash(r.trend_id), _again_for(message)
            again = rel.AGAIN if again_for else 0
            decisions.append((r.seq, rel.MENTION, flags | again, hash(r.item_id), trend, r.weight, 0, place))
            number = rel.seconds(r.first_seen) // self._slice_s
            self._newest_slice = max(self._newest_slice, number)
            if again_for != b"store":
                trends.append((trend, rel.MENTION, rel.ASKED if asked else 0, r.seq, r.weight, number, 0, place))
            key = hash((r.trend_id, r.item_id, r.first_seen))
            rows.append((key, rel.MENTION, flags, r.seq, r.weight, hash((r.topic_id, r.home)), place))
            self._misplaced(part, message, r.trend_id, r.item_id)
        self._append(self._decisions, decisions)
        self._append(self._trends, trends)
        self._append(self._mentions, rows)

    def _take_updates(self, part: Part, messages: list[Any]) -> None:
        made, decisions, decode = [], [], _UPDATE.decode
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (r := self._decoded(decode, part, message)) is None:
                continue
            partition, offset = message.partition(), message.offset()
            place = rel.place_of(part.number, partition, offset)
            flags = rel.ASKED if offset < part.asked[partition] else 0
            flags |= rel.AGAIN if _again_for(message) else 0
            ended = r.life in ("merged", "faded")
            if ended:
                decisions.append((r.seq, rel.UPDATE, flags, 0, 0, 0, 0, place))
                if flags & rel.ASKED:
                    self._highest_seq = max(self._highest_seq, r.seq)
            due = not ended and r.size >= SUMMARY_SIZE and r.items
            made.append(
                (hash(r.topic_id), rel.UPDATE, flags | (rel.DUE if due else 0), r.seq, r.size,
                 hash(r.merged_into) if r.merged_into else 0,
                 stores.topic_row(r.size, r.life, r.merged_into, r.trend_id), place)
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.topic_id)
        self._append(self._topics, made)
        self._append(self._decisions, decisions)

    def _take_summaries(self, part: Part, messages: list[Any]) -> None:
        made, decode, most = [], _SUMMARY.decode, self._config.title_chars
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (r := self._decoded(decode, part, message)) is None:
                continue
            partition, offset = message.partition(), message.offset()
            made.append(
                (hash(r.topic_id), rel.SUMMARY, self._flags(part, message),
                 stores.version_of_summary(r.topic_seq, r.attempt), r.attempt, 0, hash(r.headline[:most]),
                 rel.place_of(part.number, partition, offset))
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.topic_id)
        self._append(self._topics, made)

    def _take_scores(self, part: Part, messages: list[Any]) -> None:
        made, decode = [], _SCORE.decode
        self._book.examined("streams.partitions", len(messages))
        self._book.examined("streams.readable", len(messages))
        for message in messages:
            if (r := self._decoded(decode, part, message)) is None:
                continue
            partition, offset = message.partition(), message.offset()
            made.append(
                (hash(r.trend_id), rel.SCORE, self._flags(part, message), r.version, r.total, 0,
                 hash((r.total, r.items, r.slice_start)), rel.place_of(part.number, partition, offset))
            )  # fmt: skip
            self._misplaced(part, message, r.trend_id, r.trend_id)
        self._append(self._trends, made)

    def _flags(self, part: Part, message: Any) -> int:
        asked = message.offset() < part.asked[message.partition()]
        return (rel.ASKED if asked else 0) | (rel.AGAIN if _again_for(message) else 0)

    # -- judging ------------------------------------------------------------------------------------------------

    def _facts(self) -> judges.Facts:
        since = {rel.RAW: max(self._since(s) for s in RAW)}
        since |= {rel.EMBEDDED: self._since(EMBEDDED), rel.ENRICHED: self._since(ENRICHED)}
        since |= {rel.MENTION: self._since(MENTIONS)}
        cluster, scoring = ClusterConfig(), ScoringConfig()
        spans = self._newest_observed - self._oldest_seen > cluster.horizon.total_seconds()
        return judges.Facts(
            since_ms=since,
            lowest_seq=self._lowest_seq(),
            highest_seq=self._highest_seq,
            forgetting=spans or self._rows.get("items", 0) > cluster.max_items,
            newest_slice=self._newest_slice,
            past_slices=scoring.past_slices,
            many_trends=self._rows.get("trends", 0) > scoring.max_trends,
        )

    def _since(self, stream: Stream) -> int:
        """What arrived in a stream before this time (ms) is not all there; 0 where all of it is."""
        part = self._parts[stream]
        if part.whole:
            return 0
        began_ms = int(self._began.timestamp() * 1_000)
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

    def _judge(self) -> None:
        facts, book, buckets = self._facts(), self._book, self._items.buckets
        missing: list[Ints] = []
        anew = 0
        for number in range(buckets):
            judges.observations(self._observations.bucket(number), facts, book)
            anew += judges.items(self._items.bucket(number), facts, book)
            missing.append(judges.decisions(self._decisions.bucket(number), number, buckets, facts, book))
            judges.mention_rows(self._mentions.bucket(number), facts, book)
            judges.trends(self._trends.bucket(number), facts, book)
            judges.topics(self._topics.bucket(number), book)
            self._progress("comparing", number + 1, 2 * buckets)
        self._judge_holes(np.sort(np.concatenate(missing)), anew)
        self._judge_merges(rel.UPDATE).close()
        resolved = self._judge_merges(rel.ROW)
        members = merges.members_of_winners(self._members, resolved)
        resolved.close()
        for number in range(buckets):
            judges.sizes(self._topics.bucket(number), members.bucket(number), facts, book)
            self._progress("comparing", buckets + number + 1, 2 * buckets)
        members.close()

    def _judge_holes(self, missing: Ints, anew: int) -> None:
        """Numbers without a decision. A topic founded anew by an item that had been forgotten takes the place of the
        one that faded, and compaction its last record: so many numbers may be missing."""
        if len(missing) <= anew:
            return
        check = self._book.checks["decisions.missing"]
        check.off = len(missing)
        for seq in missing[: self._book.examples].tolist():
            check.examples.append(Example(f"decision {seq}", "nowhere", "no item and no topic has this number"))

    def _judge_merges(self, side: int) -> Spill:
        """Follows all merges of the stream's newest updates, or of the rows; gives back where each ends."""
        book, topics = self._book, self._topics
        table = "topics" if side == rel.ROW else ""
        found = Spill(rel.MERGES, topics.buckets, self._folder)
        for rows in topics:
            merged = judges.newest_of(rows, side)
            merged = merged[merged["into"] != 0]
            made = np.empty(len(merged), rel.MERGES)
            made["key"] = made["topic"] = merged["key"]
            made["into"], made["place"] = merged["into"], merged["place"]
            found.append(made)
        book.examined("merges", found.rows)
        resolved, circling = merges.resolve(found)
        ending = merges.by_winner(resolved)
        for number in range(topics.buckets):
            ends = ending.bucket(number)
            circles = look_up(circling, ends["topic"]) >= 0
            book.off("merges", circles, "leads in a circle", ends["place"], ends["topic"], table=table)
            known = judges.newest_of(topics.bucket(number), side)
            nowhere = ~circles & (look_up(known["key"], ends["into"]) < 0)
            book.off("merges", nowhere, "leads to a topic that is not there", ends["place"], ends["topic"], table=table)
        ending.close()
        return resolved

    # -- what comes of it ---------------------------------------------------------------------------------------

    def _name_examples(self) -> None:
        """Looks up what the examples are called: records by their place, rows by reading their table once more."""
        book = self._book
        wanted: dict[str, set[int]] = {}
        for found in book.pending.values():
            for each in found:
                if each.place < 0:
                    wanted.setdefault(each.table, set()).add(each.key)
        names = {table: self._stores.names(table, keys) for table, keys in wanted.items()}
        for check, found in book.pending.items():
            for each in found:
                example = self._row_example(each, names) if each.place < 0 else self._record_example(each, check)
                if len(book.checks[check].examples) < book.examples:
                    book.checks[check].examples.append(example)

    def _row_example(self, each: Pending, names: dict[str, dict[tuple[int, int], str]]) -> Example:
        id_ = names[each.table].get((-1 - each.place, each.key), "(gone meanwhile)")
        return Example(id_, stores.shown_place(each.table, each.place), each.what)

    def _record_example(self, each: Pending, check: str) -> Example:
        number, partition, offset = rel.place_parts(each.place)
        part = next(p for p in self._parts.values() if p.number == number)
        message = self._log.one(part, partition, offset)
        where = f"{part.name}/{partition}/{offset}"
        return Example(
            _id_of(message.value(), _NAMED_BY.get(check, _IDS)) if message is not None else "(gone meanwhile)",
            where,
            each.what,
        )

    def _report(self) -> Report:
        self._book.checks["store.shards"].examined = sum(self._rows.values())
        return Report(
            generation=self._settings.generation,
            span=self._span,
            began=self._began,
            seconds=time.monotonic() - self._began_s,
            checks=tuple(self._book.checks.values()),
            streams=tuple(
                StreamPart(p.name, len(p.begins), tuple(p.begins), tuple(p.asked), p.records, p.whole)
                for p in self._parts.values()
            ),
            rows=dict(sorted(self._rows.items())),
            dead_letters=self._letter_count,
            forgotten=len(self._forgotten),
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
        )


OWN_HEADERS: Final = 3
"""A record of ours that was never sent again has no more headers than these."""
_OF_ONE_FLOW: Final = frozenset({Reason.STORE_REFUSED, Reason.OUR_FAILURE, Reason.INVALID_VALUE})
"""Reasons that one reader of a stream may have and another not."""


def _again_for(message: Any) -> bytes | None:
    """For which flow a dead letter was sent again; None where it was not."""
    headers = message.headers()
    if not headers or len(headers) <= OWN_HEADERS:
        return None
    return next((value for name, value in headers if name == HEADER_REDRIVEN_FOR), None)


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


_IDS: Final = ("item_id", "topic_id", "trend_id")
_NAMED_BY: Final = {"scores": ("trend_id",), "store.mentions": ("trend_id", "item_id")}
"""What examples of a check are called by, where that is not the first id that a record has."""


def _id_of(value: bytes | None, names: tuple[str, ...]) -> str:
    """What a record calls the thing that it is about."""
    try:
        fields = msgspec.json.decode(value or b"")
        inner = fields.get("item", fields)
        found = [str(inner[name]) for name in names if inner.get(name)]
        return found[0] if names is _IDS else " ".join(found)
    except (msgspec.MsgspecError, ValueError, AttributeError, IndexError, RecursionError):
        return "(unreadable)"
