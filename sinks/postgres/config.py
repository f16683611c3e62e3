"""How to reach the PostgreSQL shards, and every bound on talking to them. Filled from the settings; values only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from streams.errors import SettingsError

SHARED_SCHEMA = "trends"
"""What stands once for all generations: catalogue, bucket map, bookkeeping of migrations."""
MAX_DIMENSIONS = 4_000
"""The most dimensions of a halfvec that pgvector's HNSW index takes."""

_GENERATION = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
_RESERVED = ("public", "information_schema", SHARED_SCHEMA, "live")


@dataclass(frozen=True)
class PostgresConfig:
    """The shards, in their order for good (shard i is ``dsns[i]``), the generation, and the bounds.

    Raises:
        SettingsError: no shard, one named twice, a generation that cannot be a schema, a bound out of range.
    """

    dsns: Sequence[str] = field(repr=False)
    generation: str = "g1"
    """Name of the PostgreSQL schema that everything derived stands in."""
    dimensions: int = 384
    """Of the embedding model of this generation: fixed when its tables are made."""
    pool_size: int = 4
    """Connections of one process to each shard."""
    statement_cache: int = 100
    """Prepared statements kept by a connection; 0 behind PgBouncer in transaction mode."""
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 60.0
    lock_timeout_s: float = 10.0
    outage_timeout_s: float = 60.0
    """How long a shard may fail a batch, with all attempts, before the writer gives up with UnavailableError."""
    attempt_margin_s: float = 15.0
    """One attempt at a batch may take so much longer than a statement; then its connection is cut: a server that was
    stopped, or whose network went away without a word, never answers."""
    backoff_s: float = 0.1
    """Before the second attempt; doubles with every further one, up to ``backoff_max_s``, with jitter."""
    backoff_max_s: float = 5.0
    map_refresh_s: float = 30.0
    """How old the bucket map of a reader may grow. (A writer compares it in every transaction.)"""
    partitions_from: date = date(2005, 1, 1)
    """First month with a partition of its own; older rows, and those dated ``partitions_ahead_days`` after today, stand
    in the default partition, so that rubbish dates cannot make partitions without end."""
    partitions_ahead_days: int = 45
    body_chars: int = 10_000
    """Characters of a body that are stored (the log keeps all of it)."""
    title_chars: int = 2_000
    read_timeout_s: float = 20.0
    """Longest run of one query of a reader, exports apart."""
    export_rows: int = 2_000
    """Rows that an export holds at once, of each shard."""

    def __post_init__(self) -> None:
        if not self.dsns:
            raise SettingsError("no PostgreSQL shards: give at least one DSN")
        if len(set(self.dsns)) != len(self.dsns):
            raise SettingsError("the same DSN stands twice among the PostgreSQL shards: each shard is one database")
        if not _GENERATION.match(self.generation) or self.generation in _RESERVED or self.generation.startswith("pg_"):
            raise SettingsError(
                f"generation {self.generation!r} cannot be a PostgreSQL schema: take a lower-case letter, then up to "
                f"31 letters, digits or underscores, and none of {', '.join(_RESERVED)}, pg_…"
            )
        if not 1 <= self.dimensions <= MAX_DIMENSIONS:
            raise SettingsError(f"{self.dimensions} dimensions: pgvector indexes 1 to {MAX_DIMENSIONS}")
        for name in ("pool_size", "export_rows", "body_chars", "title_chars"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1")
        for name in ("connect_timeout_s", "statement_timeout_s", "lock_timeout_s", "read_timeout_s", "map_refresh_s"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} must be above 0")

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.dsns)

    @cached_property
    def schema(self) -> str:
        """The generation's schema, quoted for SQL."""
        return f'"{self.generation}"'


def without_password(dsn: str) -> str:
    """A DSN as it may be shown to a person."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@|(password=)\S+", r"\1\2***@", dsn)
