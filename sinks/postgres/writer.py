"""Stores records: COPY into a temporary table, then one upsert a table, in one transaction a shard and batch.

A batch that was stored before changes nothing. What passes by itself is tried again; a bad row is found by halving the
batch and handed back, its neighbours are stored.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg

from sinks.loop import LoopThread
from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from sinks.postgres.migrate import migrate, migrations
from sinks.postgres.rows import TABLES, Built, RowBuilder, RowError, Table, merge_rows, month_of
from sinks.postgres.shards import MAP_LOCK_KEY, Shards, is_bad_data, is_transient, place_of
from streams.errors import UnavailableError
from streams.metrics import STORE_ROWS, STORE_SECONDS, STORE_WAITING
from streams.records import Record

log = logging.getLogger(__name__)

T = TypeVar("T")

MAP_CHANGES: Final = 5
"""How often the bucket map may change under one batch."""
PARTITION_LOCK_TIMEOUT_S: Final = 2.0
"""How long a new partition may wait for readers of the default partition."""
PARTITION_PAUSE_S: Final = 60.0
"""After a partition could not be made: its rows stand in the default partition until it is."""
PARTITION_LOCK_KEY: Final = 0x7472656E64730003


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of a batch."""

    rows_by_table: dict[str, int]
    """Rows that were inserted or changed."""
    refused: list[tuple[Record, str]] = field(default_factory=list)
    """Records that cannot be stored, each with why, in one line; all others are."""


class RowKey(NamedTuple):
    """Where the rows of an item stand that is to be forgotten: on the shard of each of its trends."""

    first_seen: datetime
    trend_id: str
    item_id: str


class MapChanged(Exception):
    """The bucket map of a shard is newer than the one that the batch was placed by."""


class PostgresWriter:
    """Writes batches to all shards, side by side. One event loop; ``write`` may be called many times at once."""

    def __init__(
        self,
        config: PostgresConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int | None = None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._random = random.Random(seed)
        self._shards = Shards(config)
        self._builder = RowBuilder(config)
        self._stages = {t: f"stage_{config.generation}_{t.name}_{migrations()[-1].number}" for t in TABLES}
        self._upserts = {t: t.upsert(config.generation, f'pg_temp."{self._stages[t]}"') for t in TABLES}
        # Months that are known to have a partition: at most those from partitions_from to today, by table and shard.
        self._made: set[tuple[int, str, date]] = set()
        self._not_before: dict[int, float] = {}
        self._troubles: dict[str, str] = {}

    @property
    def waits_for(self) -> str | None:
        """What is away and tried again, in one line; None where all goes well. May be read by any thread."""
        return "; ".join(list(self._troubles.values())) or None

    async def open(self) -> None:
        """Migrate all shards and read the bucket map: what is wrong with a shard shows here.

        Raises:
            UnavailableError, SettingsError, StateMismatchError: see migrate() and Shards.
        """
        await migrate(self.config)
        await self._shards.map(fresh=True)

    async def open_patiently(self) -> None:
        """The same, tried again while a shard is away, for ``outage_timeout_s`` at most."""
        deadline, pause_s = time.monotonic() + self.config.outage_timeout_s, self.config.backoff_s
        while True:
            try:
                async with asyncio.timeout(self.config.connect_timeout_s + self._attempt_s):
                    await self.open()
            except (UnavailableError, TimeoutError) as error:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise UnavailableError(str(error) or "a PostgreSQL shard does not answer") from error
                self._troubles["open"] = str(error) or "a PostgreSQL shard does not answer"
                log.warning("%s; trying again", self._troubles["open"])
                await asyncio.sleep(min(pause_s * self._random.uniform(0.5, 1), left_s))
                pause_s = min(2 * pause_s, self.config.backoff_max_s)
            else:
                self._troubles.pop("open", None)
                return

    @property
    def _attempt_s(self) -> float:
        return self.config.statement_timeout_s + self.config.attempt_margin_s

    async def close(self) -> None:
        """Close all connections."""
        await self._shards.close()

    async def abandon(self) -> None:
        """Cut all connections at once. What was not stored yet is to be written again."""
        await self._shards.abandon()

    async def write(self, batch: Sequence[Record]) -> WriteReport:
        """Store a batch of EnrichedItem, Mention, TopicUpdate, TopicSummary, TrendScore, TrendDefinition
        and Feedback on trends.

        When it returns, everything but ``refused`` is durable. Atomic for each shard and undivided batch, not over all.

        Raises:
            UnavailableError: a shard failed for longer than ``outage_timeout_s``. Other shards may have stored their
                part; writing the batch again completes it.
        """
        refused: list[tuple[Record, str]] = []
        left: list[Built] = []
        for record in batch:
            try:
                left.append(self._builder.build(record))
            except RowError as error:
                refused.append((record, str(error)))
        rows: Counter[str] = Counter()
        for _ in range(MAP_CHANGES):
            bucket_map = await self._shards.map()
            by_shard: dict[int, list[Built]] = {}
            for built in left:
                by_shard.setdefault(bucket_map.shard_of(built.trend_id), []).append(built)
            results = await asyncio.gather(
                *(self._store(shard, part, bucket_map.version, rows, refused) for shard, part in by_shard.items()),
                return_exceptions=True,
            )
            again: list[Built] = []
            for part, result in zip(by_shard.values(), results, strict=True):
                if isinstance(result, MapChanged):
                    again += part
                elif isinstance(result, BaseException):
                    raise result
            if not again:
                return WriteReport(dict(rows), refused)
            left = again
            await self._shards.map(fresh=True)
        raise UnavailableError(f"the bucket map changed {MAP_CHANGES} times under one batch")

    async def _store(
        self, shard: int, part: list[Built], version: int, rows: Counter[str], refused: list[tuple[Record, str]]
    ) -> None:
        """Store what belongs to one shard, whatever it takes within the bounds.

        Of n rows with one bad one among them each is sent at most log2(n) + 1 times, in 2·log2(n) + 1 attempts.
        """
        try:
            rows.update(await self._retried(shard, lambda: self._attempt(shard, part, version)))
            return
        except Exception as error:
            if not is_bad_data(error):
                raise
            if len(part) == 1:
                refused.append((part[0].record, f"{type(error).__name__}: {error}"))
                return
        middle = len(part) // 2
        await self._store(shard, part[:middle], version, rows, refused)
        await self._store(shard, part[middle:], version, rows, refused)

    async def _retried(self, shard: int, attempt: Callable[[], Awaitable[T]]) -> T:
        """One piece of work on a shard, tried again while the shard is away.

        Raises:
            UnavailableError: it has been for ``outage_timeout_s``.
        """
        started, pause_s = time.monotonic(), self.config.backoff_s
        while True:
            try:
                result = await attempt()
            except Exception as error:
                if not isinstance(error, UnavailableError) and not is_transient(error):
                    self._well(shard)  # it answers
                    raise
                left_s = started + self.config.outage_timeout_s - time.monotonic()
                if left_s <= 0:
                    raise UnavailableError(
                        f"{place_of(self.config, shard)} has failed for {self.config.outage_timeout_s:g} s: "
                        f"{type(error).__name__}: {error}"
                    ) from error
                self._ill(shard, f"{place_of(self.config, shard)}: {type(error).__name__}: {error}", started)
                await asyncio.sleep(min(pause_s * self._random.uniform(0.5, 1), left_s))
                pause_s = min(2 * pause_s, self.config.backoff_max_s)
            else:
                self._well(shard)
                return result

    async def forget(self, keys: Sequence[RowKey]) -> int:
        """Removes the rows of items that are to be forgotten, each on the shards of its trends; how many there were.

        Raises:
            UnavailableError: a shard failed for longer than ``outage_timeout_s``.
        """
        bucket_map = await self._shards.map()
        by_shard: dict[int, list[RowKey]] = {}
        for key in keys:
            by_shard.setdefault(bucket_map.shard_of(key.trend_id), []).append(key)
        removed = 0
        for shard, part in sorted(by_shard.items()):
            removed += await self._retried(shard, lambda shard=shard, part=part: self._remove(shard, part))  # type: ignore[misc]
        return removed

    async def _remove(self, shard: int, keys: Sequence[RowKey]) -> int:
        schema, removed = self.config.schema, 0
        async with (
            self._shards.acquire(shard) as connection,
            self._watched(connection),
            connection.transaction(),
        ):
            await connection.execute(self._timeouts())
            for sql, arguments in (
                (f"DELETE FROM {schema}.items WHERE item_id = ANY($1)", (sorted({k.item_id for k in keys}),)),
                (
                    f"DELETE FROM {schema}.mentions m USING unnest($1::timestamptz[], $2::text[], $3::text[]) AS "
                    "k (first_seen, trend_id, item_id) WHERE m.first_seen = k.first_seen AND m.trend_id = k.trend_id "
                    "AND m.item_id = k.item_id",
                    tuple(map(list, zip(*keys, strict=True))),
                ),
            ):
                status = await connection.execute(sql, *arguments)
                removed += int(status.rsplit(" ", 1)[1])
        return removed

    def _ill(self, shard: int, trouble: str, since: float) -> None:
        self._troubles[str(shard)] = f"{trouble} (tried for {time.monotonic() - since:.0f} s)"
        STORE_WAITING.labels(str(shard)).set(time.monotonic() - since)
        log.warning("%s; trying again", trouble)

    def _well(self, shard: int) -> None:
        if self._troubles.pop(str(shard), None):
            log.info("%s is back", place_of(self.config, shard))
        STORE_WAITING.labels(str(shard)).set(0)

    async def _attempt(self, shard: int, part: list[Built], version: int) -> dict[str, int]:
        """One transaction. Returns the rows that it inserted or changed, by table."""
        tables = merge_rows(part)
        started = time.monotonic()
        changed: dict[str, int] = {}
        async with self._shards.acquire(shard) as connection, self._watched(connection):
            await self._make_partitions(connection, shard, tables)
            async with connection.transaction():
                stages = "; ".join(
                    f'CREATE TEMP TABLE IF NOT EXISTS "{self._stages[t]}" (LIKE {t.name_in(self.config.generation)}) '
                    "ON COMMIT DELETE ROWS"
                    for t in tables
                )
                await connection.execute(f"{self._timeouts()}; {stages}")
                found = await connection.fetchval(
                    f"SELECT version FROM {SHARED_SCHEMA}.bucket_map ORDER BY version DESC LIMIT 1"
                )
                if found != version:
                    raise MapChanged
                for table, rows in tables.items():
                    stage = self._stages[table]
                    await connection.copy_records_to_table(
                        stage, schema_name="pg_temp", columns=table.columns, records=rows,
                        timeout=self.config.statement_timeout_s,
                    )  # fmt: skip
                    status = await connection.execute(self._upserts[table])
                    changed[table.name] = int(status.rsplit(" ", 1)[1])
        STORE_SECONDS.labels(str(shard)).observe(time.monotonic() - started)
        for name, count in changed.items():
            STORE_ROWS.labels(name, str(shard)).inc(count)
        return changed

    @contextlib.asynccontextmanager
    async def _watched(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """Cuts a connection on which one attempt takes longer than anything may: its waiter then gets an error, where a
        mere timeout would wait for the server once more, to cancel."""
        watch = asyncio.get_running_loop().call_later(self._attempt_s, connection.terminate)
        try:
            yield
        finally:
            watch.cancel()

    def _timeouts(self) -> str:
        return (
            f"SET LOCAL statement_timeout = {int(self.config.statement_timeout_s * 1000)}; "
            f"SET LOCAL lock_timeout = {int(self.config.lock_timeout_s * 1000)}; "
            "SET LOCAL client_min_messages = warning; "
            f"SELECT pg_advisory_xact_lock_shared({MAP_LOCK_KEY})"
        )

    async def _make_partitions(
        self, connection: asyncpg.Connection, shard: int, tables: dict[Table, list[tuple[object, ...]]]
    ) -> None:
        """Make the partitions that a batch needs. One that cannot be made now is not missed: its rows go to the default
        partition, and move when it is made."""
        if self._not_before.get(shard, 0.0) > time.monotonic():
            return
        latest = month_of(self._clock() + timedelta(days=self.config.partitions_ahead_days))
        for table, rows in tables.items():
            if not table.partitioned:
                continue
            months = {month_of(row[0]) for row in rows}  # type: ignore[arg-type]
            for month in sorted(months):
                if not self.config.partitions_from <= month <= latest or (shard, table.name, month) in self._made:
                    continue
                try:
                    async with connection.transaction():
                        await connection.execute(
                            f"{self._timeouts()}; "
                            f"SET LOCAL lock_timeout = {int(PARTITION_LOCK_TIMEOUT_S * 1000)}; "
                            f"SELECT pg_advisory_xact_lock({PARTITION_LOCK_KEY})"
                        )
                        await connection.execute(
                            f"SELECT {SHARED_SCHEMA}.make_partition($1::text::regclass, $2)",
                            table.name_in(self.config.generation), month,
                        )  # fmt: skip
                except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                    log.warning("shard %d: partition %s of %s waits: %s", shard, month, table.name, error)
                    self._not_before[shard] = time.monotonic() + PARTITION_PAUSE_S
                    return
                self._made.add((shard, table.name, month))


class SyncWriter:
    """The writer for code that is not asynchronous (a Bytewax step): the same, on an event loop of its own."""

    def __init__(
        self,
        config: PostgresConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        opened: bool = True,
    ) -> None:
        """Opens the writer (``opened``: else :meth:`begin_open` does); raises what its ``open`` raises."""
        self._thread = LoopThread("postgres-writer")
        self._writer = PostgresWriter(config, clock=clock)
        self._begun: concurrent.futures.Future[Any] | None = None
        if not opened:
            return
        try:
            self._thread.run(self._writer.open())
        except BaseException:
            self.close()
            raise

    @property
    def waits_for(self) -> str | None:
        """See :attr:`PostgresWriter.waits_for`."""
        return self._writer.waits_for

    def begin_open(self) -> concurrent.futures.Future[None]:
        """Opens the writer, as soon as its shards are there."""
        opening = self._thread.start(self._writer.open_patiently())
        self._begun = opening
        return opening

    def begin(self, batch: Sequence[Record]) -> concurrent.futures.Future[WriteReport]:
        """Begins to write; the future is done when :meth:`PostgresWriter.write` is."""
        writing = self._thread.start(self._writer.write(batch))
        self._begun = writing
        return writing

    def begin_forget(self, keys: Sequence[RowKey]) -> concurrent.futures.Future[int]:
        """Begins to remove rows, see :meth:`PostgresWriter.forget`."""
        forgetting = self._thread.start(self._writer.forget(keys))
        self._begun = forgetting
        return forgetting

    def write(self, batch: Sequence[Record]) -> WriteReport:
        """See :meth:`PostgresWriter.write`."""
        return self._thread.run(self._writer.write(batch))

    def close(self) -> None:
        """Close all connections, and the loop; at once where something that was begun is not done."""
        if self._begun is not None and (not self._begun.done() or self._begun.cancelled()):
            self._begun.cancel()
            self._thread.run(self._writer.abandon())
        else:
            self._thread.run(self._writer.close())
        self._thread.close()
