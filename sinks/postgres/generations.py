"""What engineers do with whole generations: look over their items, redirect the topics of one to another, drop one.

Everything goes page by page in the order of a key, so memory does not grow with what is stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from sinks.postgres.migrate import LOCK_KEY, LOCK_TIMEOUT_S
from sinks.postgres.reader import PostgresReader
from sinks.postgres.shards import connect, place_of
from streams.errors import SettingsError, StateMismatchError, UnavailableError
from streams.keys import bucket_of

PAGE_TOPICS: Final = 1_000
"""Topics that are redirected at once, those that were merged into them not counted."""
WALK_ROWS: Final = 2_000
"""Rows of a page of each shard."""

Key = tuple[datetime, str]
"""The place of an item among all: (first_seen, item_id)."""
Progress = Callable[[int, int], None]
"""Told how much is done, of how much."""

_PLACED = "first_seen, item_id, topic_id, deleted"
_WHOLE = (
    "first_seen, item_id, trend_id, mentions, deleted, observed_at, points, comments, shares, stars, views, source, "
    "external_id, kind, title, body, url, author, publisher, lang, tags, category, published_at, text_hash, model, "
    "vector"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a generation, over all shards."""

    dimensions: int
    items: int
    topics: int
    """Merged ones not counted."""
    bytes: int
    """On disk, indexes included."""


@dataclass(frozen=True, slots=True)
class Redirected:
    """What became of the topics of a generation in another one."""

    topics: int
    """Looked at, merged ones included."""
    redirected: int
    """Of them, those that lead somewhere; the others have no item that the new generation has."""


class GenerationReader(PostgresReader):
    """The read side of one generation, for those who look over all of it."""

    async def stored(self) -> Stored | None:
        """How much there is; None where a shard has no tables of this generation.

        Raises:
            UnavailableError: a shard does not answer in time.
        """
        try:
            shards = await asyncio.gather(
                *(
                    self._on_shard(
                        shard,
                        "stored",
                        "SELECT (SELECT dimensions FROM {s}.generations WHERE generation = $1) AS dimensions, "
                        "(SELECT count(*) FROM {g}.items WHERE NOT deleted) AS items, "
                        "(SELECT count(*) FROM {g}.topics WHERE merged_into IS NULL AND size > 0) AS topics, "
                        "(SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c "
                        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r') "
                        "AS bytes",
                        self.config.generation,
                    )
                    for shard in range(self.config.shards)
                )
            )
        except SettingsError:  # no tables of this generation
            return None
        rows = [dict(rows[0]) for rows in shards]
        total = {name: sum(row[name] for row in rows) for name in ("items", "topics", "bytes")}
        return Stored(dimensions=rows[0]["dimensions"], **total)

    async def made_with(self) -> tuple[int, str | None] | None:
        """The dimensions and the embedding model of what is stored (None: nothing is); None where there are no tables.

        Raises:
            UnavailableError: a shard does not answer.
        """
        try:
            rows = await self._ask(
                "made_with",
                "SELECT dimensions, (SELECT model FROM {g}.items WHERE vector IS NOT NULL LIMIT 1) AS model "
                "FROM {s}.generations WHERE generation = $1",
                self.config.generation,
            )
        except SettingsError:  # no tables of this generation
            return None
        models = [row["model"] for row in rows if row["model"] is not None]
        return rows[0]["dimensions"], models[0] if models else None

    async def sizes(self) -> Counter[int]:
        """How many topics there are of each size."""
        rows = await self._ask(
            "sizes", "SELECT size, count(*) AS n FROM {g}.topics WHERE merged_into IS NULL AND size > 0 GROUP BY 1"
        )
        sizes: Counter[int] = Counter()
        for row in rows:
            sizes[row["size"]] += row["n"]
        return sizes

    async def placements(self) -> AsyncGenerator[list[tuple[datetime, str, str]], None]:
        """(first_seen, item_id, topic_id) of every item that is not deleted, oldest first, topics resolved."""
        async for page in self._walk(_PLACED, None):
            kept = [row for row in page if not row["deleted"]]
            resolved = await self._resolve(sorted({row["topic_id"] for row in kept}))
            yield [(r["first_seen"], r["item_id"], resolved.get(r["topic_id"], r["topic_id"])) for r in kept]

    async def history(self, after: Key | None) -> AsyncGenerator[list[Mapping[str, Any]], None]:
        """Whole items, oldest first, those behind ``after`` alone; deleted ones too. A vector is pgvector's binary."""
        async for page in self._walk(_WHOLE, after):
            yield page

    async def count_older(self, older: Mapping[str, datetime], since: datetime | None) -> int:
        """How many items there are that were last observed before a time, by source (``*``: of every source)."""
        total = 0
        for source, before in older.items():
            rows = await self._ask(
                "count",
                "SELECT count(*) AS n FROM {g}.items WHERE NOT deleted AND observed_at < $1 "
                "AND ($2 = '*' OR source = $2) AND ($3::timestamptz IS NULL OR first_seen >= $3)",
                before, source, since,
            )  # fmt: skip
            total += sum(row["n"] for row in rows)
        return total

    async def _walk(self, columns: str, after: Key | None) -> AsyncGenerator[list[Mapping[str, Any]], None]:
        """The rows of items of all shards, merged by (first_seen, item_id); each page its own short query."""
        text = (
            f"SELECT {columns} FROM {{g}}.items WHERE $1::timestamptz IS NULL OR (first_seen >= $1 AND "
            f'(first_seen, item_id COLLATE "C") > ($1, $2)) ORDER BY first_seen, item_id COLLATE "C" LIMIT {WALK_ROWS}'
        )
        while True:
            first, second = after if after else (None, "")
            pages = await asyncio.gather(
                *(self._on_shard(shard, "walk", text, first, second) for shard in range(self.config.shards))
            )
            # A full page says nothing of what lies behind its last row: no shard goes further than that.
            ends = [_key(page[-1]) for page in pages if len(page) == WALK_ROWS]
            rows: dict[Key, Mapping[str, Any]] = {}
            for row in (row for page in pages for row in page):
                if not ends or _key(row) <= min(ends):
                    rows[_key(row)] = row
            if rows:
                after = max(rows)
                yield [rows[key] for key in sorted(rows)]
            if not ends:
                return

    async def redirect_to(self, new: PostgresReader, progress: Progress = lambda _done, _of: None) -> Redirected:
        """Writes down for every topic of this generation where most of its items are in the other one.

        A second call writes what has changed since. Readers of this generation notice nothing.

        Raises:
            UnavailableError: a shard does not answer.
        """
        total = sum(row["n"] for row in await self._ask("redirect", "SELECT count(*) AS n FROM {g}.topics"))
        topics = redirected = 0
        for shard in range(self.config.shards):
            after = ""
            while page := await self._on_shard(
                shard,
                "redirect",
                "SELECT topic_id, trend_id FROM {g}.topics WHERE merged_into IS NULL AND topic_id > $1 "
                f"ORDER BY topic_id LIMIT {PAGE_TOPICS}",
                after,
            ):
                after = page[-1]["topic_id"]
                final = await self._with_merged([row["topic_id"] for row in page])
                targets = await self._majorities(new, final)
                buckets = {row["topic_id"]: bucket_of(row["trend_id"]) for row in page}
                rows = [
                    (old, new.config.generation, self.config.generation, buckets[top], *targets[top])
                    for old, top in final.items()
                    if top in targets
                ]
                await self._write_redirects(shard, rows)
                topics += len(final)
                redirected += len(rows)
                progress(min(topics, total), total)
        return Redirected(topics, redirected)

    async def _with_merged(self, topic_ids: Sequence[str]) -> dict[str, str]:
        """These topics, and all that were merged into them over any number of steps, each with where it ended."""
        final = {topic_id: topic_id for topic_id in topic_ids}
        ask = list(topic_ids)
        while ask:
            rows = await self._ask(
                "redirect", "SELECT topic_id, merged_into FROM {g}.topics WHERE merged_into = ANY($1)", ask
            )
            ask = []
            for row in rows:
                if row["topic_id"] not in final:
                    final[row["topic_id"]] = final[row["merged_into"]]
                    ask.append(row["topic_id"])
        return final

    async def _majorities(self, new: PostgresReader, final: Mapping[str, str]) -> dict[str, tuple[str, int, int]]:
        """For each final topic: the other generation's topic with most of its items, how many those are, of all."""
        rows = await self._ask(
            "redirect",
            "SELECT a.topic_id AS old, b.topic_id AS new, count(*) AS n FROM {g}.items a "
            f"JOIN {new.config.schema}.items b USING (first_seen, item_id) WHERE a.topic_id = ANY($1) GROUP BY 1, 2",
            sorted(final),
        )
        resolved = await new.resolve(sorted({row["new"] for row in rows}))
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            if row["new"] in resolved:
                sums[final[row["old"]]][resolved[row["new"]]] += row["n"]
        best = {old: min(counts.items(), key=lambda entry: (-entry[1], entry[0])) for old, counts in sums.items()}
        return {old: (topic_id, n, sums[old].total()) for old, (topic_id, n) in best.items()}

    async def _write_redirects(self, shard: int, rows: Sequence[tuple[Any, ...]]) -> None:
        async with self._shards.acquire(shard) as connection, connection.transaction():
            await connection.executemany(
                f"INSERT INTO {SHARED_SCHEMA}.redirects AS t (topic_id, new_generation, generation, bucket, "
                "new_topic_id, items, of_items) VALUES ($1, $2, $3, $4, $5, $6, $7) "
                "ON CONFLICT (topic_id, new_generation) DO UPDATE SET new_topic_id = excluded.new_topic_id, "
                "items = excluded.items, of_items = excluded.of_items, made_at = now() "
                "WHERE (t.new_topic_id, t.items, t.of_items) <> (excluded.new_topic_id, excluded.items, "
                "excluded.of_items)",
                rows,
            )


def _key(row: Mapping[str, Any]) -> Key:
    return row["first_seen"], row["item_id"]


async def drop(config: PostgresConfig) -> bool:
    """Deletes a generation's schema on every shard, its bookkeeping, and the redirects that lead into it.

    Those that lead out of it stay: its ids stand in links and bookmarks. A second call, or one after a kill, completes
    the first.

    Returns:
        Whether there was anything to delete.

    Raises:
        UnavailableError: a shard cannot be reached, or somebody still uses the tables.
    """
    name, found = config.generation, False
    for shard in range(config.shards):
        connection = await connect(config, shard)
        try:
            async with connection.transaction():
                await connection.execute(
                    f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}; SET LOCAL statement_timeout = 0; "
                    "SET LOCAL client_min_messages = warning"
                )
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
                found |= await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", config.schema)
                await connection.execute(f"DROP SCHEMA IF EXISTS {config.schema} CASCADE")
                if await connection.fetchval(f"SELECT to_regclass('{SHARED_SCHEMA}.generations') IS NULL"):
                    continue
                await connection.execute(f"DELETE FROM {SHARED_SCHEMA}.migrations WHERE scope = $1", name)
                await connection.execute(f"DELETE FROM {SHARED_SCHEMA}.generations WHERE generation = $1", name)
                if await connection.fetchval(f"SELECT to_regclass('{SHARED_SCHEMA}.redirects') IS NOT NULL"):
                    await connection.execute(f"DELETE FROM {SHARED_SCHEMA}.redirects WHERE new_generation = $1", name)
        except asyncpg.LockNotAvailableError as error:
            raise UnavailableError(
                f"{place_of(config, shard)}: the tables of {name} are in use ({error}); end its flows and readers, "
                "then drop it again"
            ) from None
        except asyncpg.PostgresError as error:
            raise StateMismatchError(f"{place_of(config, shard)}: dropping {name}: {error}") from None
        finally:
            await connection.close(timeout=config.connect_timeout_s)
    return found
