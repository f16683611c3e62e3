"""From records to rows: what each table holds, and which version of a row wins. Pure; no connection in here.

The law of all tables: the columns of a row fall into groups, each with its own version; of two rows with the same key,
each group is taken from the one with the higher version. Merging is therefore commutative, associative and idempotent:
records may arrive in any order, any number of times, in any batches, and end in the same rows.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from streams.codec import encode
from streams.keys import bucket_of
from streams.records import (
    Change,
    Engagement,
    EnrichedItem,
    Feedback,
    Life,
    Mention,
    Record,
    TopicSummary,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)

Row: TypeAlias = tuple[Any, ...]

PROVISIONAL: Final = 2**54
"""Taken off the version of columns that a record only guesses at: below the version of every record that knows (they
lie within ±2^53), and still in their order among themselves."""
RETIRED_STEP: Final = 1_000
"""The step of a merged topic's vector: above that of any size."""


class RowError(ValueError):
    """A record that no row can be made of: one line for a person."""


@dataclass(frozen=True)
class Group:
    """Columns that are replaced together, when ``newest`` (columns of the group; ``-x``: the lowest x) is higher."""

    newest: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its key, then its groups; a row has its values in the order of ``columns``."""

    name: str
    key: tuple[str, ...]
    groups: tuple[Group, ...]
    partitioned: bool = False
    """By month of the first column of the key."""
    shared: bool = False
    """Whether it stands in the schema that all generations share."""
    _spans: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spans = []
        for group in self.groups:
            start = self.columns.index(group.columns[0])
            signs = tuple((self.columns.index(n.lstrip("-")), -1 if n[0] == "-" else 1) for n in group.newest)
            spans.append((start, start + len(group.columns), signs))
        object.__setattr__(self, "_spans", tuple(spans))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """All columns, those of the key first."""
        return (*self.key, *(column for group in self.groups for column in group.columns))

    def key_of(self, row: Row) -> Row:
        """The key of a row."""
        return row[: len(self.key)]

    def merge(self, one: Row, other: Row) -> Row:
        """The row that both amount to, whichever came first."""
        merged = one[: len(self.key)]
        for start, stop, signs in self._spans:
            first = [sign * one[i] for i, sign in signs]
            second = [sign * other[i] for i, sign in signs]
            merged += (other if second > first else one)[start:stop]
        return merged

    def name_in(self, generation: str) -> str:
        """Its qualified name, quoted."""
        return f'"{SHARED_SCHEMA if self.shared else generation}"."{self.name}"'

    def upsert(self, generation: str, stage: str) -> str:
        """SQL that merges the rows of the table ``stage`` into this one, and leaves alone what they do not change."""
        columns = ", ".join(self.columns)
        newer = [_newer(group) for group in self.groups]
        if len(self.groups) == 1:
            assignments = [f"{column} = excluded.{column}" for column in self.groups[0].columns]
        else:
            assignments = [
                f"{column} = CASE WHEN {test} THEN excluded.{column} ELSE t.{column} END"
                for group, test in zip(self.groups, newer, strict=True)
                for column in group.columns
            ]
        return (
            f"INSERT INTO {self.name_in(generation)} AS t ({columns}) SELECT {columns} FROM {stage} "
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {', '.join(assignments)} WHERE {' OR '.join(newer)}"
        )


def _newer(group: Group) -> str:
    def side(alias: str) -> str:
        return ", ".join(f"-{alias}.{n[1:]}" if n[0] == "-" else f"{alias}.{n}" for n in group.newest)

    return f"(({side('excluded')}) > ({side('t')}))"


_ENGAGEMENT = ("points", "comments", "shares", "stars", "views")
_SCORE = (
    "bucket", "version", "slice_s", "counts", "slices", "items", "total", "publishers", "sources", "expected", "burst",
    "velocity", *_ENGAGEMENT, "spread", "rank", "first_seen", "last_seen", "hour_expected", "hour_burst",
    "acceleration", "engagement_velocity", "peak", "peaked_at", "story", "late", "hidden",
)  # fmt: skip

ITEMS: Final = Table(
    "items",
    ("first_seen", "item_id"),
    (
        Group(
            ("version",),
            ("bucket", "version", "trend_id", "topic_id", "similarity", "is_new_topic", "deleted", "echo_of",
             "mentions", "observed_at", *_ENGAGEMENT, "source", "external_id"),
        ),
        Group(
            ("text_version",),
            ("text_version", "kind", "title", "body", "url", "author", "publisher", "lang", "tags", "category",
             "published_at", "text_hash", "model", "vector"),
        ),
    ),
    partitioned=True,
)  # fmt: skip
MENTIONS: Final = Table(
    "mentions",
    ("first_seen", "trend_id", "item_id"),
    (
        Group(("version",), ("bucket", "version", "topic_id", "home", "event_time", "publisher", "source", "echo")),
        Group(("present_version",), ("present_version", "present")),
    ),
    partitioned=True,
)
TRENDS: Final = Table("trends", ("trend_id",), (Group(("version",), ("slice_start", *_SCORE)),))
TREND_SCORES: Final = Table("trend_scores", ("slice_start", "trend_id"), (Group(("version",), _SCORE),), True)
TOPICS: Final = Table(
    "topics",
    ("topic_id",),
    (
        Group(
            ("version",),
            ("bucket", "version", "trend_id", "life", "merged_into", "size", "publishers", "sources", "trends",
             "terms", "leading_items", "items", "echoes", *_ENGAGEMENT, "rank", "model", "first_seen", "last_seen",
             "reason"),
        ),
    ),
)  # fmt: skip
TOPIC_VECTORS: Final = Table(
    "topic_vectors",
    ("topic_id",),
    # The highest step wins, and within a step its first version: a topic of n items then changes the index 2·log2(n)
    # times instead of n times.
    (Group(("step", "-version"), ("bucket", "version", "step", "centroid")),),
)
TOPIC_SUMMARIES: Final = Table(
    "topic_summaries",
    ("topic_id",),
    (
        Group(
            ("version", "attempt"),
            ("bucket", "version", "attempt", "trend_id", "headline", "headline_of", "summary", "quotes", "keywords",
             "entities", "lang", "category", "method", "model", "confidence", "fallback", "cached", "created_at"),
        ),
    ),
)  # fmt: skip
CATALOGUE: Final = Table(
    "catalogue",
    ("trend_id",),
    (
        Group(
            ("version",),
            (
                "bucket",
                "version",
                "title",
                "keywords",
                "exclude",
                "langs",
                "category",
                "status",
                "updated_at",
                "alias_of",
                "alias_reason",
            ),
        ),
    ),
    shared=True,
)
FEEDBACK: Final = Table(
    "feedback",
    ("trend_id", "kind"),
    (Group(("version",), ("bucket", "version", "active", "reason", "said_at")),),
    shared=True,
)

TABLES: Final = (CATALOGUE, FEEDBACK, TRENDS, TREND_SCORES, TOPICS, TOPIC_VECTORS, TOPIC_SUMMARIES, ITEMS, MENTIONS)
"""In the order in which every transaction writes them (the same everywhere: no deadlocks)."""


@dataclass(frozen=True, slots=True)
class Built:
    """A record as rows: all on the shard of ``trend_id``, stored together or not at all."""

    record: Record
    trend_id: str
    rows: tuple[tuple[Table, Row], ...]


class RowBuilder:
    """Makes rows of records, within the bounds of a configuration."""

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._makers: dict[type[Record], Callable[[Any], tuple[tuple[Table, Row], ...]]] = {
            EnrichedItem: self._item,
            Mention: self._mention,
            TopicUpdate: self._topic,
            TopicSummary: self._summary,
            TrendScore: self._score,
            TrendDefinition: self._definition,
            Feedback: self._feedback,
        }

    def build(self, record: Record) -> Built:
        """The rows of one record.

        Raises:
            RowError: nothing of its kind is stored, it belongs to another generation, or a value of it cannot be kept.
        """
        maker = self._makers.get(type(record))
        if maker is None:
            raise RowError(f"a {type(record).SCHEMA or type(record).__name__} is not stored in PostgreSQL")
        generation = getattr(record, "generation", self._config.generation)
        if generation != self._config.generation:
            raise RowError(f"it belongs to generation {generation}, this store keeps {self._config.generation}")
        _check_text(record)
        trend_id: str = record.trend_id  # type: ignore[attr-defined]
        return Built(record, trend_id, maker(record))

    def _item(self, r: EnrichedItem) -> tuple[tuple[Table, Row], ...]:
        item = r.item
        carries_text = r.change in (Change.FIRST, Change.EDIT)
        row = (
            r.first_seen, item.item_id,
            bucket_of(item.trend_id), r.seq, item.trend_id, r.topic_id, _finite("similarity", r.similarity),
            r.is_new_topic, r.change is Change.DELETED, r.echo_of, item.mentions, item.observed_at,
            *_engagement(item.engagement), item.source, item.external_id,
            r.seq if carries_text else r.seq - PROVISIONAL, item.kind.value, item.title[: self._config.title_chars],
            item.body[: self._config.body_chars], item.url, item.author, item.publisher, item.lang, item.tags,
            item.category, item.published_at, r.text_hash, r.model, self._vector("vector", r.vector),
        )  # fmt: skip
        return ((ITEMS, row),)

    def _mention(self, r: Mention) -> tuple[tuple[Table, Row], ...]:
        row = (
            r.first_seen, r.trend_id, r.item_id,
            bucket_of(r.trend_id), r.seq, r.topic_id, r.home, r.event_time, r.publisher, r.source, r.echo,
            r.seq if r.weight else r.seq - PROVISIONAL, r.weight >= 0,
        )  # fmt: skip
        return ((MENTIONS, row),)

    def _score(self, r: TrendScore) -> tuple[tuple[Table, Row], ...]:
        values = (
            bucket_of(r.trend_id), r.version, r.slice_s, without_leading_zeros(r.counts), len(r.counts), r.items,
            r.total, r.publishers, _json(r.sources), _finite("expected", r.expected), _finite("burst", r.burst),
            _finite("velocity", r.velocity), *_engagement(r.engagement), _finite("spread", r.spread),
            _finite("rank", r.rank), r.first_seen, r.last_seen, _finite("hour_expected", r.hour_expected),
            _finite("hour_burst", r.hour_burst), _finite("acceleration", r.acceleration),
            _finite("engagement_velocity", r.engagement_velocity), _finite("peak", r.peak), r.peaked_at, r.story,
            without_leading_zeros(r.late), without_leading_zeros(r.hidden),
        )  # fmt: skip
        return (
            (TRENDS, (r.trend_id, r.slice_start, *values)),
            (TREND_SCORES, (r.slice_start, r.trend_id, *values)),
        )

    def _topic(self, r: TopicUpdate) -> tuple[tuple[Table, Row], ...]:
        bucket = bucket_of(r.trend_id)
        merged = r.life is Life.MERGED
        if merged != (r.merged_into is not None) or r.merged_into == r.topic_id:
            raise RowError(f"life {r.life.value} with merged_into {r.merged_into!r} contradict each other")
        row = (
            r.topic_id,
            bucket, r.seq, r.trend_id, r.life.value, r.merged_into, r.size, r.publishers, _json(r.sources),
            _json(r.trends), _json(r.terms), _json(r.items), r.sums.items, r.sums.echoes,
            *_engagement(r.sums.engagement), _finite("rank", r.sums.rank), r.model, r.first_seen, r.last_seen,
            r.reason,
        )  # fmt: skip
        centroid = self._vector("centroid", r.centroid)
        vector = (r.topic_id, bucket, r.seq, RETIRED_STEP if merged else step_of(r.size), None if merged else centroid)
        return ((TOPICS, row), (TOPIC_VECTORS, vector))

    def _summary(self, r: TopicSummary) -> tuple[tuple[Table, Row], ...]:
        row = (
            r.topic_id,
            bucket_of(r.trend_id), r.topic_seq, r.attempt, r.trend_id, r.headline[: self._config.title_chars],
            r.headline_of, r.summary[: self._config.body_chars], r.quotes, r.keywords, r.entities, r.lang, r.category,
            r.method,
            r.model, None if r.confidence is None else _finite("confidence", r.confidence), r.fallback, r.cached,
            r.created_at,
        )  # fmt: skip
        return ((TOPIC_SUMMARIES, row),)

    def _definition(self, r: TrendDefinition) -> tuple[tuple[Table, Row], ...]:
        row = (
            r.trend_id,
            bucket_of(r.trend_id), r.version, r.title, r.keywords, r.exclude, r.langs, r.category, r.status.value,
            r.updated_at, r.alias_of, r.alias_reason,
        )  # fmt: skip
        return ((CATALOGUE, row),)

    def _feedback(self, r: Feedback) -> tuple[tuple[Table, Row], ...]:
        if r.trend_id is None:
            raise RowError(f"{r.kind.value} is about items: only what is said about a trend is stored")
        return (
            (FEEDBACK, (r.trend_id, r.kind.value, bucket_of(r.trend_id), r.version, r.active, r.reason, r.said_at)),
        )

    def _vector(self, name: str, text: str | None) -> bytes | None:
        return None if text is None else halfvec(name, text, self._config.dimensions)


def step_of(size: int) -> int:
    """How far a topic has grown, in steps of √2 of its size: its vector is stored anew at every step."""
    return int(2 * math.log2(max(size, 1)))


def halfvec(name: str, text: str, dimensions: int) -> bytes:
    """The binary form of a pgvector halfvec, from the vector on the wire (base64 of little-endian float16).

    Raises:
        RowError: not base64, another number of dimensions, a component that is not finite.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"{name} is not base64: {error}") from None
    if len(raw) != 2 * dimensions:
        raise RowError(f"{name} has {len(raw) / 2:g} dimensions, this generation's tables have {dimensions}")
    values = np.frombuffer(raw, dtype="<f2")
    if not np.isfinite(values).all():
        raise RowError(f"{name} has a component that is not a finite number")
    return dimensions.to_bytes(2, "big") + b"\0\0" + values.astype(">f2").tobytes()


def merge_rows(built: Iterable[Built]) -> dict[Table, list[Row]]:
    """The rows of some records by table, in the order of TABLES: one for a key, sorted by key (so that two writers
    lock rows in the same order)."""
    tables: dict[str, dict[Row, Row]] = {}
    for each in built:
        for table, row in each.rows:
            rows = tables.setdefault(table.name, {})
            key = table.key_of(row)
            before = rows.get(key)
            rows[key] = row if before is None else table.merge(before, row)
    return {
        table: [row for _, row in sorted(tables[table.name].items(), key=lambda entry: entry[0])]
        for table in TABLES
        if table.name in tables
    }


def month_of(time: datetime) -> date:
    """The first day of the month (UTC) that a time is in."""
    return time.astimezone(UTC).date().replace(day=1)


def without_leading_zeros(counts: Sequence[int]) -> tuple[int, ...]:
    """Counts from the first that is not 0: most trends are younger than the window."""
    start = next((i for i, count in enumerate(counts) if count), len(counts))
    return tuple(counts[start:])


def _engagement(e: Engagement) -> tuple[int, int, int, int, int]:
    return (e.points, e.comments, e.shares, e.stars, e.views)


def _finite(name: str, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise RowError(f"{name} is {value}, not a finite number")
    return value


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _check_text(record: Record) -> None:
    """That PostgreSQL can hold every text of a record: no NUL, no half of a surrogate pair."""
    try:
        if b"\\u0000" not in encode(record):
            return
    except UnicodeEncodeError as error:
        raise RowError(f"text with a lone surrogate ({error.object[error.start]!a}), which is no character") from None
    if _has_nul(msgspec.to_builtins(record)):
        raise RowError("text with a NUL character, which PostgreSQL cannot hold")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(inner) for name, inner in value.items())
    return isinstance(value, list | tuple) and any(_has_nul(inner) for inner in value)
