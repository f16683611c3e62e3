"""Brings every shard to the tables of this release: numbered SQL files, each applied once, under an advisory lock.

A file says in its first line whether it is applied once a database (``scope: shared``) or once a generation. In it
``{s}`` stands for the shared schema, ``{g}`` for the generation's, ``{v}`` for pgvector's, ``{d}`` for the dimensions.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import asyncpg

from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from sinks.postgres.shards import MIN_PGVECTOR, connect, default_map, is_transient, place_of
from streams.errors import SettingsError, StateMismatchError, UnavailableError

LOCK_KEY: Final = 0x7472656E64730001
"""Advisory lock under which a database is migrated: one process at a time."""
LOCK_TIMEOUT_S: Final = 60.0

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_SCOPE = re.compile(r"^-- scope: (shared|generation)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    scope: str
    """``shared`` or ``generation``."""
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done to one shard: names of the files that were applied (none: it was up to date)."""

    shard: int
    applied: tuple[str, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this release, in order; numbered from 1 without a gap."""
    found = []
    for file in (files("sinks.postgres") / "migrations").iterdir():
        if match := _NAME.match(file.name):
            sql = file.read_text("utf-8")
            scope = _SCOPE.match(sql)
            if scope is None:
                raise AssertionError(f"{file.name} does not begin with its scope")
            found.append(Migration(int(match[1]), file.name, scope[1], sql))
    found.sort(key=lambda m: m.number)
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise AssertionError("migrations are not numbered from 1 without a gap")
    return tuple(found)


async def migrate(config: PostgresConfig) -> tuple[Migrated, ...]:
    """Migrate all shards, side by side. Safe to run from many processes, and again.

    Raises:
        UnavailableError: a shard cannot be reached.
        StateMismatchError: a database is newer than this release, was migrated by other files, is another shard than
            its place in the DSNs says, or has a generation of other dimensions.
        SettingsError: pgvector is missing or too old, or the user may not create what is needed.
    """
    migrated = await asyncio.gather(*(_migrate_shard(config, i) for i in range(config.shards)))
    await _settle_map(config)
    return tuple(migrated)


async def _migrate_shard(config: PostgresConfig, shard: int) -> Migrated:
    with _outages(place_of(config, shard)):
        connection = await connect(config, shard)
        try:
            return await _migrate(connection, config, shard)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SettingsError(
                f"{place_of(config, shard)}: {error}. Its user needs CREATE on the database (for schemas), and "
                "somebody must have run CREATE EXTENSION vector"
            ) from None
        finally:
            await connection.close(timeout=config.connect_timeout_s)


@contextlib.contextmanager
def _outages(where: str) -> Iterator[None]:
    """Says of a connection that broke in the middle (the server was killed) what it is: asyncpg's errors have many
    faces then."""
    try:
        yield
    except Exception as error:
        if not is_transient(error):
            raise
        raise UnavailableError(f"{where} failed while it was migrated: {error}") from error


async def _migrate(connection: asyncpg.Connection, config: PostgresConfig, shard: int) -> Migrated:
    # One transaction for all: either the database is at this release, or it is as it was. (A transaction-level lock,
    # so that PgBouncer in transaction mode does no harm.)
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}; SET LOCAL statement_timeout = 0"
        )
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK_KEY)
        vector_schema = await _vector(connection, config, shard)
        await connection.execute(
            f"CREATE SCHEMA IF NOT EXISTS {SHARED_SCHEMA};"
            f"CREATE TABLE IF NOT EXISTS {SHARED_SCHEMA}.migrations ("
            "scope text NOT NULL, number integer NOT NULL, name text NOT NULL, sha256 text NOT NULL,"
            "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (scope, number))"
        )
        applied = await _apply(connection, config, shard, "shared", {"{s}": SHARED_SCHEMA, "{v}": vector_schema})
        await _settle_shard(connection, config, shard)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {config.schema}")
        names = {"{s}": SHARED_SCHEMA, "{g}": config.schema, "{v}": vector_schema, "{d}": str(config.dimensions)}
        applied += await _apply(connection, config, shard, config.generation, names)
        return Migrated(shard, tuple(applied))


async def _vector(connection: asyncpg.Connection, config: PostgresConfig, shard: int) -> str:
    """The schema of pgvector, quoted; the extension is created where it is missing."""
    query = (
        "SELECT quote_ident(n.nspname) AS schema, e.extversion AS version FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    row = await connection.fetchrow(query)
    if row is None:
        try:
            await connection.execute("CREATE EXTENSION vector")
        except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError) as error:
            raise SettingsError(
                f"{place_of(config, shard)}: pgvector is not installed on the server ({error}); install pgvector "
                f"{MIN_PGVECTOR[0]}.{MIN_PGVECTOR[1]} or newer"
            ) from None
        row = await connection.fetchrow(query)
    if tuple(int(part) for part in row["version"].split(".")[:2]) < MIN_PGVECTOR:
        raise SettingsError(
            f"{place_of(config, shard)}: pgvector {row['version']} is too old; update to "
            f"{MIN_PGVECTOR[0]}.{MIN_PGVECTOR[1]} or newer (ALTER EXTENSION vector UPDATE)"
        )
    return str(row["schema"])


async def _apply(
    connection: asyncpg.Connection, config: PostgresConfig, shard: int, scope: str, names: dict[str, str]
) -> list[str]:
    """Apply what is missing in one scope: ``shared``, or a generation."""
    mine = [m for m in migrations() if (m.scope == "shared") == (scope == "shared")]
    rows: list[Any] = await connection.fetch(
        f"SELECT number, name, sha256 FROM {SHARED_SCHEMA}.migrations WHERE scope = $1 ORDER BY number", scope
    )
    known = {m.number: m for m in mine}
    for row in rows:
        there = known.get(row["number"])
        if there is None:
            raise StateMismatchError(
                f"{place_of(config, shard)} was migrated by a newer release ({row['name']}); this one knows up to "
                f"{migrations()[-1].name}: update this program"
            )
        if there.sha256 != row["sha256"]:
            raise StateMismatchError(
                f"{place_of(config, shard)}: {row['name']} was applied with other contents than this release has: "
                "use the release that made this database, or an empty one (`trends down`, then a new data folder)"
            )
    done = {row["number"] for row in rows}
    applied = []
    for migration in mine:
        if migration.number in done:
            continue
        sql = migration.sql
        for placeholder, name in names.items():
            sql = sql.replace(placeholder, name)
        await connection.execute(sql)
        await connection.execute(
            f"INSERT INTO {SHARED_SCHEMA}.migrations (scope, number, name, sha256) VALUES ($1, $2, $3, $4)",
            scope, migration.number, migration.name, migration.sha256,
        )  # fmt: skip
        applied.append(migration.name if scope == "shared" else f"{scope}: {migration.name}")
    return applied


async def _settle_shard(connection: asyncpg.Connection, config: PostgresConfig, shard: int) -> None:
    """Record, or check, which shard this is, and the dimensions of the generation."""
    s = SHARED_SCHEMA
    await connection.execute(f"INSERT INTO {s}.shard (shard) VALUES ($1) ON CONFLICT DO NOTHING", shard)
    recorded = await connection.fetchval(f"SELECT shard FROM {s}.shard")
    if recorded != shard:
        raise StateMismatchError(
            f"{place_of(config, shard)} is shard {recorded} by its own record: give the DSNs in the order in which the "
            "shards were first used"
        )
    await connection.execute(
        f"INSERT INTO {s}.generations (generation, dimensions) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        config.generation, config.dimensions,
    )  # fmt: skip
    dimensions = await connection.fetchval(
        f"SELECT dimensions FROM {s}.generations WHERE generation = $1", config.generation
    )
    if dimensions != config.dimensions:
        raise StateMismatchError(
            f"{place_of(config, shard)}: generation {config.generation} has vectors of {dimensions} dimensions, the "
            f"embedding model has {config.dimensions}: another model needs a new generation"
        )


async def _settle_map(config: PostgresConfig) -> None:
    """Every shard gets the newest bucket map that any of them has; where none has one, the default one.

    A shard that was just added gets a map that does not speak of it yet: it takes part once ``change_map`` says so.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_outages("a PostgreSQL shard"))
        connections = []
        for shard in range(config.shards):
            connection = await connect(config, shard)
            stack.push_async_callback(connection.close, timeout=config.connect_timeout_s)
            connections.append(connection)
        query = f"SELECT version, shards FROM {SHARED_SCHEMA}.bucket_map ORDER BY version DESC LIMIT 1"
        rows = [await connection.fetchrow(query) for connection in connections]
        found = [(row["version"], list(row["shards"])) for row in rows if row is not None]
        version, shards = max(found) if found else (1, default_map(config.shards))
        for shard, row in enumerate(rows):
            if row is not None and row["version"] == version and list(row["shards"]) != shards:
                raise StateMismatchError(
                    f"{place_of(config, shard)} has another bucket map of version {version} than its neighbours: "
                    "these databases do not belong together"
                )
            if row is None or row["version"] < version:
                await connections[shard].execute(
                    f"INSERT INTO {SHARED_SCHEMA}.bucket_map (version, shards) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    version, shards,
                )  # fmt: skip
