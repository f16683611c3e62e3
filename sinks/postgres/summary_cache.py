"""Summaries by a model in PostgreSQL, so that processes, restarts and generations share them; and the tokens of a day.

A key stands on the shard that its first byte names; whatever the number of shards was before, it is found or made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal, TypeVar

import asyncpg

from sinks.loop import LoopThread
from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from sinks.postgres.shards import is_transient, place_of
from streams.errors import UnavailableError

T = TypeVar("T")

TokensOf = Literal["summary", "embedding"]
"""What tokens are counted for, each by itself."""

TIMEOUT_S: Final = 5.0
"""For one call, connecting included: a cache that takes longer is no help."""
CONNECTIONS: Final = 2
"""To each shard."""
PURGE_EVERY: Final = 500
"""What has expired is deleted at each such number of puts."""
DAYS_KEPT: Final = 30
"""Of counted tokens."""

_TABLE: Final = f"{SHARED_SCHEMA}.summary_cache"


class PostgresSummaryStore:
    """See ``models.summaries.cached.SummaryStore``. Any number of threads may use it."""

    def __init__(self, config: PostgresConfig, tokens_of: TokensOf = "summary") -> None:
        self._config = config
        self._tokens = f"{SHARED_SCHEMA}.{tokens_of}_tokens"
        self._thread = LoopThread("summary-cache")
        self._pools: dict[int, asyncpg.Pool] = {}
        self._opening = asyncio.Lock()
        self._puts = 0

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """What is known of these keys and has not expired.

        Raises:
            UnavailableError: a shard does not answer in time, or has no tables yet (the store flow makes them).
        """

        async def ask(connection: asyncpg.Connection, mine: list[bytes]) -> dict[bytes, bytes]:
            query = f"SELECT key, summary FROM {_TABLE} WHERE key = ANY($1) AND expires > $2"
            return {row["key"]: row["summary"] for row in await connection.fetch(query, mine, now)}

        found: dict[bytes, bytes] = {}
        for part in self._on_shards(self._by_shard(keys), ask):
            found |= part
        return found

    def put(self, entries: Mapping[bytes, tuple[bytes, tuple[str, ...]]], expires: datetime) -> None:
        """Keeps summaries until then.

        Raises:
            UnavailableError: as ``get``.
        """
        self._puts += len(entries)
        purge = self._puts // PURGE_EVERY != (self._puts - len(entries)) // PURGE_EVERY

        async def store(connection: asyncpg.Connection, mine: list[bytes]) -> None:
            await connection.executemany(
                f"INSERT INTO {_TABLE} (key, summary, items, expires) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (key) DO UPDATE SET summary = excluded.summary, items = excluded.items, "
                "expires = excluded.expires",
                [(key, entries[key][0], list(entries[key][1]), expires) for key in sorted(mine)],
            )
            if purge:
                await connection.execute(f"DELETE FROM {_TABLE} WHERE expires < now()")

        self._on_shards(self._by_shard(list(entries)), store)

    def forget(self, items: Sequence[str]) -> None:
        """Deletes whatever was made from one of these items, on all shards.

        Raises:
            UnavailableError: a shard does not answer in time.
        """

        async def delete(connection: asyncpg.Connection, mine: list[str]) -> None:
            with contextlib.suppress(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                await connection.execute(f"DELETE FROM {_TABLE} WHERE items && $1", mine)

        self._on_shards({shard: list(items) for shard in range(self._config.shards)}, delete)

    def spend(self, day: str, tokens: int) -> int:
        """Adds tokens to a day's; those of the day so far, all processes together.

        Raises:
            UnavailableError: as ``get``.
        """

        async def add(connection: asyncpg.Connection, _: list[str]) -> int:
            if tokens > 0:
                await connection.execute(
                    f"DELETE FROM {self._tokens} WHERE day < $1::date - {DAYS_KEPT}", date.fromisoformat(day)
                )
            total: int = await connection.fetchval(
                f"INSERT INTO {self._tokens} AS t (day, tokens) VALUES ($1, $2) "
                "ON CONFLICT (day) DO UPDATE SET tokens = t.tokens + excluded.tokens RETURNING tokens",
                date.fromisoformat(day), tokens,
            )  # fmt: skip
            return total

        return self._on_shards({0: [day]}, add)[0]

    def close(self) -> None:
        """Closes the connections; may be called twice."""
        for pool in self._pools.values():
            self._thread.run(_ended(pool))
        self._pools.clear()
        self._thread.close()

    def _by_shard(self, keys: Sequence[bytes]) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for key in keys:
            found.setdefault(key[0] % self._config.shards, []).append(key)
        return found

    def _on_shards(self, parts: Mapping[int, list[Any]], do: Callable[[Any, list[Any]], Awaitable[T]]) -> list[T]:
        async def on(shard: int, part: list[Any]) -> T:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    pool = await self._pool(shard)
                    async with pool.acquire() as connection:
                        return await do(connection, part)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                raise UnavailableError(f"{place_of(self._config, shard)} has no cache of summaries yet") from None
            except Exception as error:
                if not is_transient(error):
                    raise
                raise UnavailableError(f"{place_of(self._config, shard)}: {error or 'no answer in time'}") from None

        async def everywhere() -> list[T]:
            return list(await asyncio.gather(*(on(shard, part) for shard, part in parts.items())))

        return self._thread.run(everywhere())

    async def _pool(self, shard: int) -> asyncpg.Pool:
        async with self._opening:
            if shard not in self._pools:
                self._pools[shard] = await asyncpg.create_pool(
                    self._config.dsns[shard], min_size=0, max_size=CONNECTIONS, timeout=TIMEOUT_S,
                    statement_cache_size=self._config.statement_cache,
                )  # fmt: skip
            return self._pools[shard]


async def _ended(pool: asyncpg.Pool) -> None:
    with contextlib.suppress(TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await asyncio.wait_for(pool.close(), 1.0)
    pool.terminate()
