"""The cache of summaries in PostgreSQL keeps the contract of all such stores, on two shards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import pytest

from sinks.postgres import PostgresConfig, migrate
from sinks.postgres.summary_cache import PURGE_EVERY, PostgresSummaryStore
from streams.errors import UnavailableError
from tests.unit.contract.summary_stores import CONTRACT, KEYS, LATER, NOW

TABLES = "trends.summary_cache, trends.summary_tokens, trends.embedding_tokens"


async def query(config: PostgresConfig, sql: str) -> list[asyncpg.Record]:
    """Of all shards."""
    rows = []
    for dsn in config.dsns:
        connection = await asyncpg.connect(dsn)
        rows += await connection.fetch(sql)
        await connection.close()
    return rows


@pytest.fixture
def store(config: PostgresConfig) -> Iterator[PostgresSummaryStore]:
    asyncio.run(migrate(config))
    asyncio.run(query(config, f"TRUNCATE {TABLES}"))
    made = PostgresSummaryStore(config)
    yield made
    made.close()


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_a_store_keeps_the_contract(store: PostgresSummaryStore, check) -> None:  # type: ignore[no-untyped-def]
    check(store)


def test_processes_and_generations_share_it_and_what_has_expired_is_deleted(
    store: PostgresSummaryStore, config: PostgresConfig
) -> None:
    store.put({KEYS[0]: (b"old", ("a",))}, NOW.replace(year=NOW.year - 1))
    other = PostgresSummaryStore(replace(config, generation="another"))
    other.put({i.to_bytes(2, "little") + bytes(30): (b"s", ()) for i in range(PURGE_EVERY)}, LATER)
    other.close()
    rows = asyncio.run(query(config, "SELECT summary, count(*) AS n FROM trends.summary_cache GROUP BY summary"))
    assert [(row["summary"], row["n"]) for row in rows] == [(b"s", PURGE_EVERY // 2)] * 2
    assert store.get([bytes(32)], NOW) == {bytes(32): b"s"}


def test_tokens_of_summaries_and_of_embeddings_are_counted_apart(
    store: PostgresSummaryStore, config: PostgresConfig
) -> None:
    embeddings = PostgresSummaryStore(config, "embedding")
    assert store.spend("2016-09-07", 5) == 5
    assert embeddings.spend("2016-09-07", 70) == 70
    assert store.spend("2016-09-07", 0) == 5
    embeddings.close()


def test_without_tables_or_servers_it_is_unavailable(config: PostgresConfig) -> None:
    empty = PostgresSummaryStore(replace(config, dsns=(config.dsns[0].rsplit("/", 1)[0] + "/postgres",)))
    with pytest.raises(UnavailableError, match="no cache of summaries yet"):
        empty.get(KEYS, NOW)
    empty.close()
    nobody = PostgresSummaryStore(replace(config, dsns=("postgresql://u:secret@127.0.0.1:9/x",)))
    with pytest.raises(UnavailableError) as raised:
        nobody.spend("2016-09-07", 1)
    assert "secret" not in str(raised.value)
    nobody.close()
