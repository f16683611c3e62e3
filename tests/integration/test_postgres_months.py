"""Tables are partitioned by month, and a wrong time makes no month, in whichever table and however many there are."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from sinks.postgres import PostgresWriter
from sinks.postgres.config import PostgresConfig
from streams.records import Record
from tests.integration.postgres_records import clock, item, mention, query, score


def at(config: PostgresConfig, number: int, when: datetime) -> list[Record]:
    """An item, a mention and a score of that time."""
    return [
        item(config, number, published_at=when),
        replace(mention(config, number), first_seen=when, event_time=when),
        replace(score(config, number), slice_start=when),
    ]


async def test_times_of_1971_and_2262_make_no_months(config: PostgresConfig) -> None:
    writer = PostgresWriter(config, clock=clock, seed=1)
    await writer.open()
    before = await months(config)
    rubbish = [datetime(year, month, 1, tzinfo=UTC) for year in (1971, 2262) for month in range(1, 13)]
    report = await writer.write([r for n, when in enumerate(rubbish) for r in at(config, n, when)])
    assert not report.refused
    assert await months(config) == before
    await writer.write(at(config, 100, datetime(2016, 9, 1, tzinfo=UTC)))
    assert await months(config) - before == {f"{t}_2016_09" for t in ("items", "mentions", "trend_scores")}
    await writer.close()


async def months(config: PostgresConfig) -> set[str]:
    """The partitions of all tables."""
    rows = await query(
        config,
        "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relispartition AND c.relkind = 'r'",
        config.schema.strip('"'),
    )
    return {str(row["name"]) for row in rows}
