"""PostgreSQL with pgvector as the store: sharded by bucket, one schema a generation, the newest version of a row wins.

Write side: config, migrate, shards, rows, writer. Read side: reader. See ``docs/architecture.md`` for the tables.
"""

from sinks.postgres.config import PostgresConfig
from sinks.postgres.export import Filters
from sinks.postgres.migrate import Migrated, migrate
from sinks.postgres.reader import PostgresReader, SyncReader
from sinks.postgres.writer import PostgresWriter, RowKey, SyncWriter, WriteReport

__all__ = [
    "Filters",
    "Migrated",
    "PostgresConfig",
    "PostgresReader",
    "PostgresWriter",
    "RowKey",
    "SyncReader",
    "SyncWriter",
    "WriteReport",
    "migrate",
]
