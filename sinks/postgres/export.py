"""What can be exported, with the type of each column, and the pages it is read in. No connection in here."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from streams.errors import SettingsError

ColumnType = Literal["text", "time", "int", "float", "bool", "texts", "ints", "json"]

_ENGAGEMENT: Final[dict[str, ColumnType]] = {
    "points": "int", "comments": "int", "shares": "int", "stars": "int", "views": "int"
}  # fmt: skip
_SCORE: Final[dict[str, ColumnType]] = {
    "slice_s": "int", "counts": "ints", "slices": "int", "items": "int", "total": "int", "publishers": "int",
    "sources": "json", "expected": "float", "burst": "float", "velocity": "float", **_ENGAGEMENT, "spread": "float",
    "rank": "float", "first_seen": "time", "last_seen": "time", "version": "int", "hour_expected": "float",
    "hour_burst": "float", "acceleration": "float", "engagement_velocity": "float", "peak": "float",
    "peaked_at": "time", "story": "int", "late": "ints", "hidden": "ints",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of rows: columns with their types, the key that they are read by, and the columns that filters mean."""

    columns: Mapping[str, ColumnType]
    key: Mapping[str, str]
    """Columns of the key with their types in SQL."""
    source: str
    """What stands behind FROM."""
    time: str | None
    filters: Mapping[str, str]
    """A filter's name → its condition, $$ standing for the value."""
    resolve: str | None = None
    """A column with topic ids that are resolved through merges."""


_ITEM_TIME = {"first_seen": "timestamptz", "item_id": "text"}

KINDS: Final[dict[str, Kind]] = {
    "items": Kind(
        columns={
            "item_id": "text", "source": "text", "external_id": "text", "kind": "text", "title": "text", "body": "text",
            "url": "text", "author": "text", "publisher": "text", "lang": "text", "tags": "texts", "category": "text",
            "published_at": "time", "observed_at": "time", "first_seen": "time", **_ENGAGEMENT, "trend_id": "text",
            "mentions": "texts", "topic_id": "text", "joined_topic_id": "text", "similarity": "float",
            "is_new_topic": "bool", "echo_of": "text", "deleted": "bool", "model": "text", "version": "int",
        },
        key=_ITEM_TIME,
        source="(SELECT *, topic_id AS joined_topic_id FROM {g}.items) t",
        time="first_seen",
        filters={"trend": "trend_id = $$", "source": "source = $$"},
        resolve="topic_id",
    ),
    "mentions": Kind(
        columns={
            "trend_id": "text", "item_id": "text", "topic_id": "text", "home": "bool", "event_time": "time",
            "first_seen": "time", "publisher": "text", "source": "text", "echo": "bool", "present": "bool",
            "version": "int",
        },
        key={"first_seen": "timestamptz", "trend_id": "text", "item_id": "text"},
        source="{g}.mentions t",
        time="first_seen",
        filters={"trend": "trend_id = $$", "source": "source = $$"},
        resolve="topic_id",
    ),
    "topics": Kind(
        columns={
            "topic_id": "text", "trend_id": "text", "headline": "text", "summary": "text", "keywords": "texts",
            "entities": "texts", "lang": "text", "category": "text", "method": "text", "fallback": "text",
            "life": "text", "merged_into": "text", "reason": "text", "size": "int", "publishers": "int",
            "sources": "json", "trends": "json", "terms": "json", "leading_items": "json", "items": "int",
            "echoes": "int", **_ENGAGEMENT, "rank": "float", "first_seen": "time", "last_seen": "time",
            "version": "int",
        },
        key={"topic_id": "text"},
        source="(SELECT t.*, s.headline, s.summary, s.keywords, s.entities, s.lang, s.category, "
        "s.method, s.fallback FROM {g}.topics t "
        "LEFT JOIN {g}.topic_summaries s USING (topic_id)) t",
        time="last_seen",
        filters={"trend": "trend_id = $$", "source": "sources ? $$"},
    ),
    "trends": Kind(
        columns={
            "trend_id": "text", "title": "text", "category": "text", "slice_start": "time", **_SCORE,
        },
        key={"trend_id": "text"},
        source="(SELECT t.*, c.title, c.category FROM {g}.trends t LEFT JOIN {s}.catalogue c USING (trend_id)) t",
        time="last_seen",
        filters={"trend": "trend_id = $$", "source": "sources ? $$"},
    ),
    "scores": Kind(
        columns={"trend_id": "text", "slice_start": "time", **_SCORE},
        key={"slice_start": "timestamptz", "trend_id": "text"},
        source="{g}.trend_scores t",
        time="slice_start",
        filters={"trend": "trend_id = $$", "source": "sources ? $$"},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows: of a time [since, until), of a trend, of a source."""

    since: datetime | None = None
    until: datetime | None = None
    trend: str | None = None
    source: str | None = None


NO_FILTERS: Final = Filters()


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of a kind are read, page by page in the order of their key."""

    kind: Kind
    conditions: tuple[str, ...]
    """With $1, $2, … for ``values``."""
    values: tuple[Any, ...]

    def page(self, after: Sequence[Any] | None, size: int) -> tuple[str, list[Any]]:
        """SQL and arguments of the page behind a key (None: of the first one)."""
        values = list(self.values)
        conditions = list(self.conditions)
        key = ", ".join(self.kind.key)
        if after is not None:
            marks = ", ".join(f"${len(values) + i}::{t}" for i, t in enumerate(self.kind.key.values(), 1))
            conditions.append(f"({key}) > ({marks})")
            values += after
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        columns = ", ".join(self.kind.columns)
        return f"SELECT {columns} FROM {self.kind.source}{where} ORDER BY {key} LIMIT {size}", values

    def count(self) -> tuple[str, list[Any]]:
        """SQL and arguments that count all rows."""
        where = f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""
        return f"SELECT count(*) AS n FROM {self.kind.source}{where}", list(self.values)

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """The key of a row."""
        return tuple(row[name] for name in self.kind.key)


def plan_of(kind: str, filters: Filters) -> Plan:
    """How to read a kind of rows with some filters.

    Raises:
        SettingsError: there is no such kind.
    """
    if kind not in KINDS:
        raise SettingsError(f"no kind {kind!r} to export; there are: {', '.join(KINDS)}")
    chosen = KINDS[kind]
    known = {"since": f"{chosen.time} >= $$", "until": f"{chosen.time} < $$", **chosen.filters}
    conditions, values = [], []
    for name in (field.name for field in fields(filters)):
        value = getattr(filters, name)
        if value is not None:
            values.append(value)
            conditions.append(known[name].replace("$$", f"${len(values)}"))
    return Plan(chosen, tuple(conditions), tuple(values))


async def merged(
    shards: Sequence[AsyncIterator[Sequence[Mapping[str, Any]]]],
    plan: Plan,
    size: int,
    resolve: Callable[[Sequence[str]], Awaitable[dict[str, str]]],
) -> AsyncIterator[dict[str, Any]]:
    """The rows of all shards, merged by key, with JSON columns decoded; holds one page of ``size`` rows a shard.

    A key that two shards have (while its bucket moves) is given once, the newer version.
    """
    kind = plan.kind
    json_columns = [name for name, type_ in kind.columns.items() if type_ == "json"]

    async def prepared(pages: AsyncIterator[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]] | None:
        page = await anext(pages, None)
        if page is None:
            return None
        rows = [dict(row) for row in page]
        for row in rows:
            for name in json_columns:
                row[name] = msgspec.json.decode(row[name])
        if kind.resolve:
            resolved = await resolve(sorted({row[kind.resolve] for row in rows}))
            for row in rows:
                row[kind.resolve] = resolved.get(row[kind.resolve], row[kind.resolve])
        return rows

    pages = await asyncio.gather(*(prepared(shard) for shard in shards))
    heap = [(plan.key_of(page[0]), number, 0) for number, page in enumerate(pages) if page]
    heapq.heapify(heap)
    waiting: dict[str, Any] | None = None
    while heap:
        _, number, at = heapq.heappop(heap)
        page = pages[number]
        assert page is not None
        row = page[at]
        if at + 1 == len(page):
            page = pages[number] = await prepared(shards[number])
            at = -1
        if page:
            heapq.heappush(heap, (plan.key_of(page[at + 1]), number, at + 1))
        if waiting is not None and plan.key_of(waiting) == plan.key_of(row):
            waiting = max(waiting, row, key=lambda r: int(r["version"]))
            continue
        if waiting is not None:
            yield waiting
        waiting = row
    if waiting is not None:
        yield waiting
