"""The PostgreSQL side of an audit: every row of every shard, as whole numbers, through server-side cursors.

Each shard is read in one transaction that sees one moment (repeatable read); nothing is locked and nothing written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from sinks.postgres.config import PostgresConfig
from sinks.postgres.shards import Shards, is_transient
from streams.errors import UnavailableError
from streams.keys import bucket_of
from trends.verify.relations import (
    ASKED,
    GONE,
    HOME,
    ROW,
    SUMMARY_ROW,
    Relations,
    item_row,
    row_place,
    seconds,
    topic_row,
    version_of_summary,
)

FETCH_ROWS: Final = 5_000
"""Rows of a cursor in memory at once."""

Tuples = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is read: its columns, and what stands for a row in examples."""

    name: str
    columns: str
    id: tuple[str, ...]
    """The columns that name a row for a person."""
    key: Callable[[Any], int]
    """Of a row: the key that its relation has."""


TABLES: Final = {
    table.name: table
    for table in (
        Table(
            "items",
            "bucket, trend_id, item_id, first_seen, version, topic_id, deleted, observed_at, points, comments, shares, "
            "stars, views, text_hash",
            ("item_id",),
            lambda r: hash(r["item_id"]),
        ),
        Table(
            "mentions",
            "bucket, trend_id, item_id, first_seen, version, topic_id, home, present, present_version",
            ("trend_id", "item_id"),
            lambda r: hash((r["trend_id"], r["item_id"], r["first_seen"])),
        ),
        Table(
            "topics",
            "bucket, trend_id, topic_id, version, size, life, merged_into",
            ("topic_id",),
            lambda r: hash(r["topic_id"]),
        ),
        Table(
            "topic_summaries",
            "bucket, trend_id, topic_id, version, attempt, headline",
            ("topic_id",),
            lambda r: hash(r["topic_id"]),
        ),
        Table(
            "trends",
            "bucket, trend_id, version, total, items, slice_start",
            ("trend_id",),
            lambda r: hash(r["trend_id"]),
        ),
        Table(
            "trend_scores", "bucket, trend_id, slice_start", ("trend_id", "slice_start"), lambda r: hash(r["trend_id"])
        ),
        Table("topic_vectors", "bucket, topic_id", ("topic_id",), lambda r: hash(r["topic_id"])),
    )
}


class Stores:
    """All shards of one generation, read one after another."""

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config

    def scan(self, take: Callable[[Table, int, tuple[int, ...], Sequence[Any]], None]) -> None:
        """Hands every row of every table to ``take``: table, shard, bucket map, rows.

        Raises:
            UnavailableError: a shard cannot be reached, or fails.
            SettingsError: nothing is stored for this generation.
        """
        self._run(lambda shards: self._scan(shards, take, tuple(TABLES.values())))

    def estimate(self) -> int:
        """About how many rows there are, by the server's own statistics."""
        rows = [0]

        async def ask(shards: Shards) -> None:
            for shard in range(self._config.shards):
                async with shards.acquire(shard) as connection:
                    rows[0] += await connection.fetchval(
                        "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c JOIN pg_namespace n "
                        "ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'",
                        self._config.generation,
                    )

        self._run(ask)
        return rows[0]

    def names(self, table: str, keys: set[int]) -> dict[tuple[int, int], str]:
        """What the rows with these keys are called, by (shard, key). Reads the table once more."""
        found: dict[tuple[int, int], str] = {}

        def take(each: Table, shard: int, _map: tuple[int, ...], rows: Sequence[Any]) -> None:
            for row in rows:
                if (key := each.key(row)) in keys:
                    found[(shard, key)] = name_of(each, row)

        self._run(lambda shards: self._scan(shards, take, (TABLES[table],)))
        return found

    def _run(self, work: Callable[[Shards], Any]) -> None:
        async def run() -> None:
            shards = Shards(self._config)
            try:
                await work(shards)
            finally:
                await shards.close()

        try:
            asyncio.run(run())
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not is_transient(error):
                raise
            raise UnavailableError(f"reading PostgreSQL: {type(error).__name__}: {error}") from None

    async def _scan(
        self,
        shards: Shards,
        take: Callable[[Table, int, tuple[int, ...], Sequence[Any]], None],
        tables: Sequence[Table],
    ) -> None:
        bucket_map = (await shards.map(fresh=True)).shards
        for shard in range(self._config.shards):
            async with (
                shards.acquire(shard) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute("SET LOCAL statement_timeout = 0")
                for table in tables:
                    query = f"SELECT {table.columns} FROM {self._config.schema}.{table.name}"
                    cursor = await connection.cursor(query)
                    while rows := await cursor.fetch(FETCH_ROWS):
                        take(table, shard, bucket_map, rows)


def name_of(table: Table, row: Any) -> str:
    """What a row is called."""
    return " ".join(str(row[column]) for column in table.id)


def misplaced(rows: Sequence[Any], shard: int, bucket_map: Sequence[int]) -> Iterator[tuple[Any, str]]:
    """Rows that stand where nobody looks for them, and why."""
    for row in rows:
        bucket = row["bucket"]
        if "trend_id" in row and bucket != bucket_of(row["trend_id"]):
            yield row, f"bucket {bucket}, but its trend {row['trend_id']!r} has bucket {bucket_of(row['trend_id'])}"
        elif not 0 <= bucket < len(bucket_map):
            yield row, f"there is no bucket {bucket}"
        elif bucket_map[bucket] != shard:
            yield row, f"bucket {bucket} is on shard {bucket_map[bucket]}"


def item_tuples(rows: Sequence[Any], shard: int, asked: Callable[[datetime], bool]) -> Tuples:
    """Rows of ``items`` for the relation ITEMS."""
    place, made = row_place(shard), []
    for r in rows:
        key = hash(r["item_id"])
        flags = (ASKED if asked(r["first_seen"]) else 0) | (GONE if r["deleted"] else 0)
        amounts = (r["points"], r["comments"], r["shares"], r["stars"], r["views"])
        look = item_row(r["topic_id"], r["trend_id"], r["deleted"], r["observed_at"], amounts, r["text_hash"])
        made.append((key, ROW, flags, r["version"], 0, seconds(r["first_seen"]), look, place))
    return made


def mention_tuples(rows: Sequence[Any], shard: int, asked: Callable[[datetime], bool]) -> tuple[Tuples, Tuples]:
    """Rows of ``mentions`` for the relations MENTIONS and (those of home trends) MEMBERS."""
    place, made, members = row_place(shard), [], []
    for r in rows:
        first_seen = r["first_seen"]
        flags = (ASKED if asked(first_seen) else 0) | (HOME if r["home"] else 0)
        weight = 1 if r["present"] else -1
        key = hash((r["trend_id"], r["item_id"], first_seen))
        made.append((key, ROW, flags, r["version"], weight, hash((r["topic_id"], r["home"])), place))
        if r["home"]:
            members.append((hash(r["topic_id"]), r["present_version"], weight, key, place))
    return made, members


def topic_tuples(rows: Sequence[Any], shard: int) -> Tuples:
    """Rows of ``topics`` for the relation TOPICS. ``GONE``: it takes no more items."""
    place = row_place(shard)
    return [
        (
            hash(r["topic_id"]), ROW, ASKED | (GONE if r["life"] == "faded" else 0), r["version"], r["size"],
            hash(r["merged_into"]) if r["merged_into"] else 0,
            topic_row(r["size"], r["life"], r["merged_into"], r["trend_id"]), place,
        )
        for r in rows
    ]  # fmt: skip


def summary_tuples(rows: Sequence[Any], shard: int) -> Tuples:
    """Rows of ``topic_summaries`` for the relation TOPICS."""
    place = row_place(shard)
    return [
        (
            hash(r["topic_id"]), SUMMARY_ROW, ASKED, version_of_summary(r["version"], r["attempt"]), r["attempt"], 0,
            hash(r["headline"]), place,
        )
        for r in rows
    ]  # fmt: skip


def trend_tuples(rows: Sequence[Any], shard: int) -> Tuples:
    """Rows of ``trends`` for the relation TRENDS."""
    place = row_place(shard)
    return [
        (hash(r["trend_id"]), ROW, ASKED, r["version"], r["total"], 0, hash((r["total"], r["items"], r["slice_start"])),
         place)
        for r in rows
    ]  # fmt: skip


def fill(relations: Relations, table: str, rows: Sequence[Any], shard: int, asked: Callable[[datetime], bool]) -> None:
    """Rows of a table into their relations."""
    if table == "items":
        relations.items.append(item_tuples(rows, shard, asked))
    elif table == "mentions":
        made, members = mention_tuples(rows, shard, asked)
        relations.mentions.append(made)
        relations.members.append(members)
    elif table == "topics":
        relations.topics.append(topic_tuples(rows, shard))
    elif table == "topic_summaries":
        relations.topics.append(summary_tuples(rows, shard))
    elif table == "trends":
        relations.trends.append(trend_tuples(rows, shard))


def shown_place(table: str, place: int) -> str:
    """A row's place for a person."""
    return f"{table} on shard {-1 - place}"
