"""Connections to the shards, the bucket map, and which failures of a database pass by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig, without_password
from streams.errors import SettingsError, StateMismatchError, TrendsError, UnavailableError
from streams.keys import BUCKETS, bucket_of
from streams.metrics import DB_CONNECTIONS

MIN_PGVECTOR: Final = (0, 8)
"""The first that goes on searching an index where dead or filtered rows leave too few results (halfvec: 0.7)."""
MAP_LOCK_KEY: Final = 0x7472656E64730002
"""Advisory lock: shared by every transaction that writes by the bucket map, exclusive for who changes it."""

TRANSIENT: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # 40: serialization, deadlock
    asyncpg.InsufficientResourcesError,  # 53: too many connections, disk full
    asyncpg.OperatorInterventionError,  # 57: shutting down, starting up, cancelled by a timeout
    asyncpg.PostgresSystemError,  # 58: the server's own I/O
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # this was the primary a moment ago
    asyncpg.InternalClientError,  # the connection broke in the middle of something
)
BAD_DATA: Final = (
    asyncpg.DataError,  # 22
    asyncpg.IntegrityConstraintViolationError,  # 23
    asyncpg.ProgramLimitExceededError,  # 54: too long for an index, a tsvector, a row
    asyncpg.UntranslatableCharacterError,
    ValueError,  # asyncpg could not encode a value
    TypeError,
    OverflowError,
)
"""What one bad row among good ones raises."""


def is_transient(error: BaseException) -> bool:
    """Whether the same batch may succeed when it is tried again."""
    if isinstance(error, TrendsError) or is_bad_data(error):
        return False
    # InterfaceError: the pool or the connection was closed under us.
    return isinstance(error, (*TRANSIENT, asyncpg.InterfaceError))


def is_bad_data(error: BaseException) -> bool:
    """Whether a row, not the database, is at fault."""
    return isinstance(error, BAD_DATA)


def place_of(config: PostgresConfig, shard: int) -> str:
    """A shard, named for a person."""
    return f"PostgreSQL shard {shard} ({without_password(config.dsns[shard])})"


def default_map(shards: int) -> list[int]:
    """The first bucket map, element b the shard of bucket b: ``b % shards``.

    A Kafka partition is ``bucket % partitions``: where the shards are a power of two, all of a partition's trends are
    then on one shard, so a batch is one transaction.
    """
    return [bucket % shards for bucket in range(BUCKETS)]


async def connect(config: PostgresConfig, shard: int) -> asyncpg.Connection:
    """One connection of its own to a shard.

    Raises:
        UnavailableError: it cannot be reached.
        SettingsError: it refuses the user, or the DSN is not one.
    """
    try:
        return await asyncpg.connect(config.dsns[shard], timeout=config.connect_timeout_s, statement_cache_size=0)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise SettingsError(f"{place_of(config, shard)} refuses us: {error}") from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise UnavailableError(f"{place_of(config, shard)} cannot be reached: {error or 'no answer in time'}") from None
    except ValueError as error:
        raise SettingsError(f"{place_of(config, shard)}: {error}") from None


@dataclass(frozen=True, slots=True)
class BucketMap:
    """Which shard each bucket is on; the highest version holds."""

    version: int
    shards: tuple[int, ...]

    def shard_of(self, trend_id: str) -> int:
        """The shard of a trend."""
        return self.shards[bucket_of(trend_id)]


async def _nothing(connection: asyncpg.Connection) -> None:
    pass


def encode_halfvec(value: bytes | memoryview) -> bytes:
    """What PostgreSQL receives for a halfvec: big-endian dimensions, zero, float16 (prepared by rows.halfvec)."""
    return bytes(value)


class Shards:
    """A pool to each shard, and the bucket map. Opened and used within one event loop."""

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self._pools: list[asyncpg.Pool | None] = [None] * config.shards
        self._opening = [asyncio.Lock() for _ in range(config.shards)]
        self._map: BucketMap | None = None
        self.vector_schema = "public"

    async def close(self) -> None:
        """Close all connections, at once where they do not close in time."""
        for shard, pool in enumerate(self._pools):
            if pool is None:
                continue
            self._pools[shard] = None
            try:
                await asyncio.wait_for(pool.close(), self.config.connect_timeout_s)
            except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                pool.terminate()
            DB_CONNECTIONS.labels(f"shard-{shard}").set(0)

    async def abandon(self) -> None:
        """Cut all connections, whatever is under way on them: a server that does not answer is not waited for."""
        for shard, pool in enumerate(self._pools):
            self._pools[shard] = None
            if pool is not None:
                pool.terminate()
            DB_CONNECTIONS.labels(f"shard-{shard}").set(0)

    async def _pool(self, shard: int) -> asyncpg.Pool:
        if (pool := self._pools[shard]) is not None:
            return pool
        async with self._opening[shard]:
            if (pool := self._pools[shard]) is not None:
                return pool
            # A connection of its own first: a clear error, and a check of what this database is.
            probe = await connect(self.config, shard)
            try:
                schema = await self._check(probe, shard)
            finally:
                await probe.close(timeout=self.config.connect_timeout_s)
            self.vector_schema = schema

            async def prepare(connection: asyncpg.Connection) -> None:
                await connection.set_type_codec(
                    "halfvec", schema=schema, encoder=encode_halfvec, decoder=bytes, format="binary"
                )
                await connection.set_type_codec(
                    "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
                )

            pool = await asyncpg.create_pool(
                self.config.dsns[shard],
                min_size=0,
                max_size=self.config.pool_size,
                timeout=self.config.connect_timeout_s,
                init=prepare,
                # Settings are made with SET LOCAL, locks end with their transaction: there is nothing to reset, and a
                # batch is spared one of its questions.
                reset=_nothing,
                statement_cache_size=self.config.statement_cache,
            )
            self._pools[shard] = pool
            return pool

    async def _check(self, connection: asyncpg.Connection, shard: int) -> str:
        """That this is our shard, with our tables. Returns pgvector's schema, quoted where it must be."""
        config = self.config
        try:
            row = await connection.fetchrow(
                f"SELECT s.shard, g.dimensions, (SELECT nspname FROM pg_extension e JOIN pg_namespace n "
                f"ON n.oid = extnamespace WHERE extname = 'vector') AS vector "
                f"FROM {SHARED_SCHEMA}.shard s LEFT JOIN {SHARED_SCHEMA}.generations g ON g.generation = $1",
                config.generation,
            )
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            row = None
        if row is None or row["dimensions"] is None:
            raise SettingsError(
                f"nothing is stored for generation {config.generation} yet ({place_of(config, shard)} has no tables of "
                "it; the store flow makes them): `trends demo`, or collect something and `trends run`"
            )
        if row["shard"] != shard:
            raise StateMismatchError(
                f"{place_of(config, shard)} is shard {row['shard']} by its own record: give the DSNs in the order in "
                "which the shards were first used"
            )
        return str(row["vector"])

    @contextlib.asynccontextmanager
    async def acquire(self, shard: int) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool of a shard, waiting at most ``connect_timeout_s`` for one.

        Raises:
            UnavailableError: the shard cannot be reached at first (later, asyncpg's own errors).
        """
        pool = await self._pool(shard)
        async with pool.acquire(timeout=self.config.connect_timeout_s) as connection:
            DB_CONNECTIONS.labels(f"shard-{shard}").set(pool.get_size())
            yield connection

    async def map(self, *, fresh: bool = False) -> BucketMap:
        """The bucket map with the highest version among the shards; ``fresh`` asks them again.

        Raises:
            StateMismatchError: it names a shard that there is no DSN for.
        """
        if self._map is not None and not fresh:
            return self._map

        async def read(shard: int) -> BucketMap:
            async with self.acquire(shard) as connection:
                row = await connection.fetchrow(
                    f"SELECT version, shards FROM {SHARED_SCHEMA}.bucket_map ORDER BY version DESC LIMIT 1"
                )
            return BucketMap(row["version"], tuple(row["shards"]))

        maps = await asyncio.gather(*(read(shard) for shard in range(self.config.shards)))
        newest = max(maps, key=lambda m: m.version)
        if max(newest.shards) >= self.config.shards:
            raise StateMismatchError(
                f"the bucket map (version {newest.version}) speaks of shard {max(newest.shards)}, but there are only "
                f"{self.config.shards} DSNs: give all of them, in order"
            )
        self._map = newest
        return newest


async def change_map(config: PostgresConfig, shards: Sequence[int]) -> BucketMap:
    """Install a new bucket map on every shard, with the next version. It moves no rows: that comes first.

    Writers wait while it is installed; a transaction that began by the old map is refused and repeated by the new one.

    Raises:
        ValueError: not one shard for each bucket, or a shard that there is no DSN for.
        UnavailableError: a shard cannot be reached (then no shard has the new map, or a repetition completes it).
    """
    if len(shards) != BUCKETS or not all(0 <= shard < config.shards for shard in shards):
        raise ValueError(f"a bucket map names one of {config.shards} shards for each of {BUCKETS} buckets")
    async with contextlib.AsyncExitStack() as stack:
        connections: list[asyncpg.Connection] = []
        for shard in range(config.shards):
            connection = await connect(config, shard)
            stack.push_async_callback(connection.close, timeout=config.connect_timeout_s)
            await stack.enter_async_context(connection.transaction())
            await connection.execute(f"SET LOCAL lock_timeout = {int(config.statement_timeout_s * 1000)}")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MAP_LOCK_KEY)
            connections.append(connection)
        # All writers of all shards stand still from here to the commits.
        versions = [
            await connection.fetchval(f"SELECT max(version) FROM {SHARED_SCHEMA}.bucket_map")
            for connection in connections
        ]
        version = max(versions) + 1
        for connection in connections:
            await connection.execute(
                f"INSERT INTO {SHARED_SCHEMA}.bucket_map (version, shards) VALUES ($1, $2)", version, list(shards)
            )
    return BucketMap(version, tuple(shards))


def _encode_jsonb(value: str | bytes) -> bytes:
    return b"\x01" + (value if isinstance(value, bytes) else value.encode())


def _decode_jsonb(value: bytes) -> Any:
    return bytes(value[1:])
