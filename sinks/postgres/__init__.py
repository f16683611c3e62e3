"""PostgreSQL with pgvector as the store: sharded by bucket, one schema a generation, the newest version of a row wins.

Write side: config, migrate, shards, rows, writer. Read side: reader. See ``docs/architecture.md`` for the tables.
"""
