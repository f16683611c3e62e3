"""Building a flow's state anew from what it has written: the records it is read from, and the way they are applied.

What a decision changes stands in ``models.rebuild``; how the state gets into its stream, in ``streams.rewriting``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from flows import cluster, score, summarize
from models.clustering import ClusterConfig
from models.echoes import TICKS
from models.packed import id_bytes
from models.rebuild import ClusterRebuild, Ending, LastSeen, SummaryRebuild
from models.scoring import ScoringConfig, TrendScorer
from models.topics import micros
from streams.codec import RecordError, decode
from streams.config import KafkaConfig
from streams.dead_letters import headers_of_message
from streams.errors import SettingsError, StateMismatchError
from streams.groups import FlowGroup, Hold
from streams.growth import Growth
from streams.io import Addresser, Partition, Positions
from streams.keys import partition_of
from streams.partitions import growth
from streams.records import EnrichedItem, Kind, Life, Mention, Record, TopicSummary, TopicUpdate, TrendScore
from streams.rewriting import Rewrite
from streams.spec import FlowSpec
from streams.state import high_watermarks
from streams.table import EMBEDDED, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES, Stream
from streams.whole import InOrder, read_whole

R = TypeVar("R", bound=Record)

ENDINGS_OUT_OF_ORDER: Final = 16_384
"""Ends of topics that one call of the engine may write, in any order: more than it may have active topics."""

Records = Iterable[tuple[bytes, bytes | None]]
Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""


class Figure(NamedTuple):
    """One line of what a rebuild has found."""

    name: str
    value: int
    exact: bool = True
    """Whether it speaks of something that comes back as it was."""


class StateSource(Protocol):
    """What a flow's state is built anew from."""

    def parts(self, committed: Positions, progress: Progress) -> Iterator[tuple[int, Records]]:
        """The whole state that reflects the inputs up to ``committed``: state partition and records, part by part.

        Raises:
            UnavailableError: the broker does not answer.
        """
        ...

    def figures(self) -> list[Figure]:
        """What was found; after the last part."""
        ...


class _Reading:
    """Reads streams of one generation, and counts what is no record."""

    def __init__(self, kafka: KafkaConfig, generation: str) -> None:
        self.kafka = kafka
        self.unreadable = 0
        self._address = Addresser(kafka, generation)

    def name(self, stream: Stream) -> str:
        return self._address.name(stream)

    def ends(self, stream: Stream) -> dict[Partition, int]:
        """The ends of all its partitions now."""
        name = self.name(stream)
        return {(name, p): end for p, end in high_watermarks(self.kafka, name, range(stream.count(self.kafka))).items()}

    def decode(self, kind: type[R], message: Any) -> R | None:
        try:
            return decode(kind, message.value(), headers_of_message(message))
        except RecordError:
            self.unreadable += 1
            return None

    def whole(
        self, stream: Stream, kind: type[R], ends: dict[int, int], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[list[R]]:
        for batch in read_whole(self.kafka, self.name(stream), ends, progress):
            yield [record for message in batch if (record := self.decode(kind, message)) is not None]


# ------------------------------------------------------------------------------------------------------------ cluster


class _SeenItem(msgspec.Struct):
    item_id: str
    observed_at: datetime
    kind: Kind


class _Seen(msgspec.Struct):
    """Of an embedded item what an unchanged observation changes; the rest is not looked at."""

    item: _SeenItem
    arrived_at: datetime | None = None


_seen = msgspec.json.Decoder(_Seen)


class ClusterSource:
    """Cluster's state from items.enriched and topics.updates, in the order of ``seq``; from items.embedded only when
    each item was observed last."""

    def __init__(self, kafka: KafkaConfig, generation: str, config: ClusterConfig) -> None:
        self._reading = _Reading(kafka, generation)
        self._generation = generation
        self._config = config
        self._engine: ClusterRebuild | None = None

    def parts(self, committed: Positions, progress: Progress) -> Iterator[tuple[int, Records]]:
        """See :class:`StateSource`."""
        last_seen = LastSeen()
        for partition, end in sorted(committed.items()):
            if partition[0] == self._reading.name(EMBEDDED):
                self._observe(last_seen, partition, end, progress)
        engine = self._engine = ClusterRebuild(self._config, self._generation, last_seen)
        self._decide(engine, progress)
        progress("completing the state", 0, 0)
        engine.finish()
        count = cluster.SPEC.state.count(self._reading.kafka) if cluster.SPEC.state else 1
        for records in engine.snapshot():
            by_partition: dict[int, list[tuple[bytes, bytes | None]]] = {}
            for key, value in records:
                by_partition.setdefault(cluster.state_partition(key, count), []).append((key, value))
            yield from by_partition.items()

    def _observe(self, last_seen: LastSeen, partition: Partition, end: int, progress: Progress) -> None:
        stream, number = partition
        what = f"observations of partition {number}"
        for batch in read_whole(
            self._reading.kafka, stream, {number: end}, lambda done, total: progress(what, done, total)
        ):
            for message in batch:
                try:
                    seen = _seen.decode(message.value() or b"")
                    item_id = id_bytes(seen.item.item_id)
                    at = (
                        seen.item.observed_at
                        if seen.arrived_at is None
                        else min(seen.item.observed_at, seen.arrived_at)
                    )
                    tick = micros(at) * TICKS // 1_000_000
                except (msgspec.MsgspecError, ValueError, TypeError):
                    continue  # a dead letter of cluster's
                last_seen.note(item_id, tick, seen.item.kind is Kind.DELETED)

    def _decide(self, engine: ClusterRebuild, progress: Progress) -> None:
        reading = self._reading
        enriched, updates = reading.name(ENRICHED), reading.name(UPDATES)
        count = UPDATES.count(reading.kafka)

        def number_of(message: Any) -> tuple[int, EnrichedItem | Ending] | None:
            """Twice the seq: the end of a topic comes after the deletion that ended it."""
            if message.topic() == enriched:
                item = reading.decode(EnrichedItem, message)
                return None if item is None else (2 * item.seq, item)
            update = reading.decode(TopicUpdate, message)
            if update is None:
                return None
            if update.life in (Life.MERGED, Life.FADED):
                return 2 * update.seq + 1, Ending.of(update)
            engine.live(update, moved=partition_of(update.trend_id, count) != message.partition())
            return None

        in_order: InOrder[EnrichedItem | Ending] = InOrder(
            reading.kafka,
            reading.ends(ENRICHED) | reading.ends(UPDATES),
            number_of,
            {enriched: 0, updates: ENDINGS_OUT_OF_ORDER},
            lambda done, total: progress("recorded decisions", done, total),
        )
        for batch in in_order.batches():
            engine.decided(batch)

    def figures(self) -> list[Figure]:
        """See :class:`StateSource`."""
        assert self._engine is not None
        report = self._engine.report
        return [
            Figure("decisions applied", report.decisions),
            Figure("items", report.items),
            Figure("topics that may still grow", report.topics),
            Figure("items observed again without news", report.prolonged),
            Figure("decisions that retention has deleted", report.missing, exact=not report.missing),
            Figure("topics completed from their last update", report.corrected, exact=not report.corrected),
            *_unreadable(self._reading.unreadable + report.unreadable),
        ]


def _unreadable(count: int) -> list[Figure]:
    return [Figure("records left out: they cannot be read", count, exact=False)] if count else []


# ------------------------------------------------------------------------------------------------- score and summarize


class _ByPartition:
    """State that stands beside its input's partition: one partition after the other, each with those that it grew
    from. A new partition that the flow does not read yet has no state: its trends' stands where they lived before."""

    INPUT: Stream

    def __init__(self, kafka: KafkaConfig, generation: str, grown: Growth) -> None:
        self._reading = _Reading(kafka, generation)
        self._generation = generation
        self._grown = grown
        self._committed: Positions = {}

    def _partitions(self) -> range:
        return range(self._reading.kafka.partitions)

    def _mine(self, trend_id: str, partition: int) -> bool:
        name = self._reading.name(self.INPUT)
        lived = self._grown.line_of(trend_id)
        return partition == next((p for p in reversed(lived) if (name, p) in self._committed), lived[0])

    def _line(
        self,
        stream: Stream,
        kind: type[R],
        partition: int,
        ends: dict[Partition, int],
        told: Callable[[int, int], None],
    ) -> Iterator[R]:
        """Records of a stream that belong to a partition now, from where its trends lived first to where they live."""
        name = self._reading.name(stream)
        line = self._grown.line(partition)
        sent_on: set[str] = set()
        for place in line:
            if (end := ends.get((name, place), 0)) <= 0:
                continue
            for batch in self._reading.whole(stream, kind, {place: end}, told):
                for record in batch:
                    if not self._mine(_trend_of(record), partition):
                        continue
                    if len(line) > 1:  # one that came late where its trend had lived was sent on unchanged
                        if record.record_id in sent_on:
                            continue
                        if place != partition:
                            sent_on.add(record.record_id)
                    yield record


def _trend_of(record: Record) -> str:
    assert isinstance(record, Mention | TrendScore | TopicUpdate | TopicSummary)
    return record.trend_id


class ScoreSource(_ByPartition):
    """Score's state from trends.mentions; version and total of a trend from trends.scores, where mentions are gone."""

    INPUT = MENTIONS
    _trends = 0
    _corrected = 0

    def parts(self, committed: Positions, progress: Progress) -> Iterator[tuple[int, Records]]:
        """See :class:`StateSource`."""
        self._committed = committed
        score_ends = self._reading.ends(SCORES)
        for partition in self._partitions():
            told = _told(progress, f"mentions of partition {partition}")
            scorer = TrendScorer(ScoringConfig(), self._generation)
            batch: list[Mention] = []
            for mention in self._line(MENTIONS, Mention, partition, committed, told):
                batch.append(mention)
                if len(batch) == RECOUNTED_AT_ONCE:
                    scorer.recount(batch)
                    batch = []
            scorer.recount(batch)
            newest: dict[str, TrendScore] = {}
            told = _told(progress, f"scores of partition {partition}")
            for found in self._line(SCORES, TrendScore, partition, score_ends, told):
                known = newest.get(found.trend_id)
                if known is None or known.version < found.version:
                    newest[found.trend_id] = found
            self._corrected += sum(scorer.agree(found) for found in newest.values())
            self._trends += len(scorer)
            yield partition, scorer.snapshot()

    def figures(self) -> list[Figure]:
        """See :class:`StateSource`."""
        return [
            Figure("trends", self._trends),
            Figure("trends whose first mentions are gone", self._corrected, exact=not self._corrected),
            *_unreadable(self._reading.unreadable),
        ]


RECOUNTED_AT_ONCE: Final = 256


class SummarizeSource(_ByPartition):
    """Summarize's state from topics.summaries, and from topics.updates as far as it has read them."""

    INPUT = UPDATES
    _topics = 0
    _inexact = 0
    _unknown = 0

    def parts(self, committed: Positions, progress: Progress) -> Iterator[tuple[int, Records]]:
        """See :class:`StateSource`."""
        self._committed = committed
        summary_ends = self._reading.ends(SUMMARIES)
        for partition in self._partitions():
            rebuild = SummaryRebuild()
            told = _told(progress, f"summaries of partition {partition}")
            for summary in self._line(SUMMARIES, TopicSummary, partition, summary_ends, told):
                rebuild.said(summary)
            told = _told(progress, f"updates of partition {partition}")
            for update in self._line(UPDATES, TopicUpdate, partition, committed, told):
                rebuild.updated(update)
            records: list[tuple[bytes, bytes | None]] = [(key, value) for key, value, _ in rebuild.snapshot()]
            self._topics += len(records)
            self._inexact += rebuild.inexact
            self._unknown += rebuild.unknown
            yield partition, records

    def figures(self) -> list[Figure]:
        """See :class:`StateSource`."""
        return [
            Figure("topics with a summary", self._topics),
            Figure("of these, compared with a later update than the summarised one", self._inexact, not self._inexact),
            Figure("topics that will be summarised once more", self._unknown, exact=not self._unknown),
            *_unreadable(self._reading.unreadable),
        ]


def _told(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


# ------------------------------------------------------------------------------------------------------------ the whole


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild has written, or would write."""

    flow: str
    written: int
    """State records."""
    offsets: Positions
    """What the state reflects: as before, what the group has committed."""
    figures: tuple[Figure, ...]


def source_of(
    flow: str, kafka: KafkaConfig, generation: str, clustering: ClusterConfig
) -> tuple[FlowSpec, StateSource]:
    """What a flow's state is built from. ``kafka`` with the number of partitions that there are now.

    Raises:
        SettingsError: the flow keeps no state.
        UnavailableError: the broker does not answer.
    """
    if flow == cluster.SPEC.name:
        return cluster.SPEC, ClusterSource(kafka, generation, clustering)
    if flow == score.SPEC.name:
        return score.SPEC, ScoreSource(kafka, generation, growth(kafka))
    if flow == summarize.SPEC.name:
        return summarize.SPEC, SummarizeSource(kafka, generation, growth(kafka))
    raise SettingsError(f"{flow} keeps no state; those that do: cluster, score, summarize")


def rebuild(
    flow: str, kafka: KafkaConfig, generation: str, clustering: ClusterConfig, *, dry_run: bool, progress: Progress
) -> Rebuilt:
    """Builds a flow's state anew, and writes it in the place of what is there.

    The state is written in several transactions; killed in the middle, the flow refuses to start until it is rebuilt.

    Raises:
        GroupBusyError: processes of the flow run.
        StateMismatchError: its group has committed nothing, so there is nothing that a state could reflect.
        UnavailableError: the broker does not answer.
    """
    spec, source = source_of(flow, kafka, generation, clustering)
    group = FlowGroup(kafka, generation, spec)
    try:
        committed = group.committed()
        if not committed:
            raise StateMismatchError(
                f"the group {group.name} has committed nothing: there is no place in its inputs that a state could "
                f"reflect. Where the state still says how far it was: `trends state offsets {flow}`. Nothing was "
                "changed."
            )
        if dry_run:
            written = sum(sum(1 for _ in records) for _, records in source.parts(committed, progress))
            return Rebuilt(flow, written, committed, tuple(source.figures()))
        with Hold(group) as hold:
            return _replace(group, hold, generation, source, progress)
    finally:
        group.close()


def _replace(group: FlowGroup, hold: Hold, generation: str, source: StateSource, progress: Progress) -> Rebuilt:
    def kept(what: str, done: int, total: int) -> None:
        hold.keep(0.0)
        progress(what, done, total)

    rewrite = Rewrite(group, hold, generation)
    committed = rewrite.begin()
    for partition, records in source.parts(committed, kept):
        rewrite.write(partition, records)
        hold.keep(0.0)
    rewrite.finish(committed)
    return Rebuilt(group.spec.name, rewrite.written, committed, tuple(source.figures()))
