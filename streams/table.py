"""The stream table as code: every stream, what it carries, how it is keyed, how long it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from streams.config import KafkaConfig
from streams.records import (
    DeadLetter,
    EmbeddedItem,
    EnrichedItem,
    Feedback,
    ForgetRequest,
    Gap,
    Generation,
    Mention,
    Observation,
    PartitionChange,
    Record,
    SourceCursor,
    SourceGap,
    TopicSummary,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)

DAY_MS = 86_400_000
MIB = 1_048_576
ROOM_BYTES = 524_288
"""What a derived record may add to the largest observation: vector, ids, five leading items with their URLs."""

SOURCES: tuple[str, ...] = ("file", "synthetic", "rss", "hackernews")
"""Every known source has its raw stream from the start, so that embed can subscribe to all of them."""


class Scope(StrEnum):
    """Whether a stream stands once, or once a generation (then its name starts with the generation's)."""

    ALL = "all"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: ``partitions`` None means keyed, with as many partitions as the pipeline has now."""

    name: str
    key: str
    record: type[Record] | None
    about: str
    scope: Scope = Scope.GENERATION
    partitions: int | None = None
    retention_ms: int | None = 30 * DAY_MS
    """None: compacted, the newest record of a key is kept for good."""
    placed_by: Literal["key", "trend", "one"] = "key"
    collapses: bool = False
    """Whether, within its retention, only the newest record of a key is kept."""
    record_limits: int = 1
    """How many times the size limit of a record one of this stream may have."""

    @property
    def compacted(self) -> bool:
        return self.retention_ms is None

    def count(self, kafka: KafkaConfig) -> int:
        """How many partitions it has on this broker."""
        return self.partitions or kafka.partitions

    def physical(self, kafka: KafkaConfig, generation: str) -> str:
        """Its name on the broker: stack and generation in front, where they apply."""
        parts = [kafka.stack] if kafka.stack else []
        if self.scope is Scope.GENERATION:
            parts.append(generation)
        return ".".join([*parts, self.name])

    def largest_bytes(self, kafka: KafkaConfig) -> int:
        """What the broker takes at most as one record of this stream."""
        return self.record_limits * (kafka.max_record_bytes + ROOM_BYTES)

    def broker_config(self, kafka: KafkaConfig) -> dict[str, str]:
        """Its settings on the broker. LogAppendTime everywhere: a replayed September is not deleted as old."""
        config = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.largest_bytes(kafka)),
            "min.insync.replicas": str(kafka.min_insync),
        }
        if self.retention_ms is not None:
            config |= {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
            if not self.collapses:
                return config
            # What replaces or removes a record says so until the record would have gone by itself.
            config |= {"delete.retention.ms": str(self.retention_ms)}
        # Kafka's defaults never compact the active gigabyte: state would be read back in full at every start. What is
        # in the segments that are written to is read back uncompacted, so they are small.
        return config | {
            "cleanup.policy": "compact,delete" if self.collapses else "compact",
            "segment.bytes": str(16 * MIB),
            "segment.ms": "600000",
            "min.cleanable.dirty.ratio": "0.1",
            "max.compaction.lag.ms": "1800000",
        }


def raw(source: str) -> Stream:
    """The raw stream of a source."""
    return Stream(f"raw.{source}", "trend_id", Observation, f"observations of {source}", scope=Scope.ALL)


def of_generation(stream: Stream, generation: str) -> Stream:
    """A stream of a certain generation, whichever the reader's own is."""
    return replace(stream, name=f"{generation}.{stream.name}", scope=Scope.ALL)


RAW: tuple[Stream, ...] = tuple(raw(source) for source in SOURCES)

EMBEDDED = Stream("items.embedded", "trend_id", EmbeddedItem, "observations with their vectors")
HISTORY = Stream(
    "items.history", "trend_id", Observation, "items older than the raw streams, from the stores: read by a build"
)
ENRICHED = Stream("items.enriched", "trend_id", EnrichedItem, "items with topic, echo and home trend")
MENTIONS = Stream("trends.mentions", "trend_id", Mention, "items counted for trends")
UPDATES = Stream(
    "topics.updates", "topic_id", TopicUpdate, "topics after every change", retention_ms=None, placed_by="trend"
)
SUMMARIES = Stream(
    "topics.summaries", "topic_id", TopicSummary, "what a topic says", retention_ms=None, placed_by="trend"
)
SCORES = Stream("trends.scores", "trend_id", TrendScore, "how a trend stands now", retention_ms=None)

CLUSTER_ROLE = Stream(
    "cluster.role", "-", None, "no records: who holds its partition is the one cluster process",
    partitions=1, retention_ms=DAY_MS, placed_by="one",
)  # fmt: skip
CLUSTER_STATE = Stream(
    "cluster.state", "topic_id, item_id", None, "cluster's state: topics, items, counters, covered offsets",
    partitions=4, retention_ms=None,
)  # fmt: skip
SCORE_STATE = Stream(
    "score.state",
    "slice/trend_id",
    None,
    "score's state: a trend's past, its slices, covered offsets",
    retention_ms=None,
)
SUMMARIZE_STATE = Stream(
    "summarize.state", "topic_id", None, "summarize's state: what was summarised last, covered offsets",
    retention_ms=None, placed_by="trend",
)  # fmt: skip

CATALOG = Stream(
    "trends.catalog", "trend_id", TrendDefinition, "tracked subjects",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
CURSORS = Stream(
    "sources.cursors", "connector", SourceCursor, "how far each connector has read",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
SOURCE_GAPS = Stream(
    "sources.gaps", "connector/since", SourceGap, "when a source could not be read",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
GAPS = Stream(
    "pipeline.gaps", "generation/flow/stream/partition/offset", Gap, "records skipped unread, by an operator's word",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
PARTITIONS = Stream(
    "pipeline.partitions", "change", PartitionChange, "how many partitions the keyed streams have, and since when",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
GENERATIONS = Stream(
    "generations", "generation, live", Generation, "generations, and under the key live the one that readers read",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
FORGOTTEN = Stream(
    "items.forgotten", "item or author", ForgetRequest, "items and authors that must not come back",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
FEEDBACK = Stream(
    "feedback", "kind and what it is about", Feedback, "what people say about trends and stories; the flows obey it",
    scope=Scope.ALL, partitions=1, retention_ms=None, placed_by="one",
)  # fmt: skip
DEAD_LETTERS = Stream(
    "dead.letters", "stream/partition/offset", DeadLetter, "what could not be processed, and why",
    scope=Scope.ALL, partitions=4, collapses=True,  # all versions of a letter in one partition, whatever grows
    record_limits=2,  # a whole original of 1 MiB, in base64
)  # fmt: skip

TABLE: tuple[Stream, ...] = (
    *RAW, HISTORY, EMBEDDED, ENRICHED, MENTIONS, UPDATES, SUMMARIES, SCORES,
    CLUSTER_ROLE, CLUSTER_STATE, SCORE_STATE, SUMMARIZE_STATE,
    CATALOG, CURSORS, SOURCE_GAPS, PARTITIONS, GAPS, GENERATIONS, FORGOTTEN, FEEDBACK, DEAD_LETTERS,
)  # fmt: skip


def by_name(name: str) -> Stream:
    """The stream of that name (without stack and generation).

    Raises:
        KeyError: with the names that there are.
    """
    for stream in TABLE:
        if stream.name == name:
            return stream
    raise KeyError(f"no stream {name!r}; there are: {', '.join(s.name for s in TABLE)}")
