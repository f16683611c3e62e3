"""What the PostgreSQL store promises to writers, on real shards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinks.postgres.config import PostgresConfig
from sinks.postgres.migrate import migrate, migrations
from sinks.postgres.rows import TABLES, Built
from sinks.postgres.shards import Shards, change_map, default_map
from sinks.postgres.writer import PostgresWriter, SyncWriter
from streams.errors import SettingsError, StateMismatchError, UnavailableError
from streams.keys import BUCKETS, bucket_of
from streams.records import (
    Change,
    Engagement,
    Life,
    Record,
    SourceCursor,
    TrendDefinition,
)
from streams.vectors import encode_vector
from tests.conftest import LocalStack
from tests.integration.postgres_records import (
    DIMENSIONS,
    NOW,
    clock,
    contents,
    item,
    mention,
    query,
    score,
    summary,
    topic,
)


@pytest.fixture
async def writer(config: PostgresConfig) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(config, clock=clock, seed=1)
    await writer.open()
    yield writer
    await writer.close()


async def test_batch_written_again_changes_nothing(config: PostgresConfig, writer: PostgresWriter) -> None:
    batch = [f(config, n) for n in range(20) for f in (item, mention, topic, summary, score)]
    first = await writer.write(batch)
    assert not first.refused
    assert first.rows_by_table == {
        "items": 20, "mentions": 20, "topics": 20, "topic_vectors": 20, "topic_summaries": 20, "trends": 20,
        "trend_scores": 20,
    }  # fmt: skip
    before = await contents(config)
    again = await writer.write(batch)
    assert set(again.rows_by_table.values()) == {0}
    assert await contents(config) == before


async def test_every_row_stands_on_the_shard_of_its_trend(config: PostgresConfig, writer: PostgresWriter) -> None:
    await writer.write([item(config, n) for n in range(30)])
    for shard, dsn in enumerate(config.dsns):
        connection = await asyncpg.connect(dsn)
        rows = await connection.fetch(f"SELECT trend_id, bucket FROM {config.schema}.items")
        await connection.close()
        assert rows
        assert all(row["bucket"] == bucket_of(row["trend_id"]) for row in rows)
        assert {row["bucket"] % 2 for row in rows} == {shard}


async def test_engagement_and_deletion_leave_text_and_vector_alone(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    await writer.write([item(config, seq=1)])
    await writer.write([item(config, seq=5, change=Change.ENGAGEMENT)])
    await writer.write([item(config, seq=9, change=Change.DELETED)])
    (row,) = await query(config, "SELECT title, kind, points, deleted, version, vector IS NULL AS bare FROM {g}.items")
    assert row == {
        "title": "title 1 at 1", "kind": "post", "points": 9, "deleted": True, "version": 9, "bare": False,
    }  # fmt: skip


async def test_update_that_overtakes_its_first_sighting_loses_no_text(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    await writer.write([item(config, seq=5, change=Change.ENGAGEMENT)])
    (row,) = await query(config, "SELECT title, vector IS NULL AS bare FROM {g}.items")
    assert row == {"title": "title 1 at 5", "bare": True}
    await writer.write([item(config, seq=1)])
    (row,) = await query(config, "SELECT title, points, version, vector IS NULL AS bare FROM {g}.items")
    assert row == {"title": "title 1 at 1", "points": 5, "version": 5, "bare": False}


async def test_merged_topic_keeps_its_row_and_leaves_the_vector_index(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    await writer.write([topic(config, 1, seq=1, size=3), topic(config, 2, seq=2)])
    await writer.write([topic(config, 2, seq=3, into="topic-1")])
    await writer.write([topic(config, 2, seq=2)])
    rows = await query(config, "SELECT topic_id, merged_into, life FROM {g}.topics ORDER BY topic_id")
    assert {row["topic_id"]: row["merged_into"] for row in rows} == {"topic-1": None, "topic-2": "topic-1"}
    vectors = await query(config, "SELECT topic_id FROM {g}.topic_vectors WHERE centroid IS NOT NULL")
    assert [row["topic_id"] for row in vectors] == ["topic-1"]


async def test_topic_vector_follows_its_topic_in_steps_of_its_size(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    changed = [
        (await writer.write([topic(config, seq=size, size=size)])).rows_by_table["topic_vectors"]
        for size in range(1, 17)
    ]
    assert [size for size, change in zip(range(1, 17), changed, strict=True) if change] == [1, 2, 3, 4, 6, 8, 12, 16]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, int, int, int]], list[list[int]]]:
    """Records as (kind, number, seq, variant), and two ways of sending them: order with repetitions, cut in batches."""
    size = draw(st.integers(2, 14))
    records = [
        (
            draw(st.sampled_from(["item", "mention", "topic", "summary", "score"])),
            draw(st.integers(1, 2)),
            draw(st.integers(1, 6)),
            draw(st.integers(0, 3)),
        )
        for _ in range(size)
    ]
    order = draw(st.permutations(range(size)))
    repeated = [*order, *draw(st.lists(st.integers(0, size - 1), max_size=5))]
    cuts = sorted(draw(st.sets(st.integers(1, len(repeated)), max_size=4)))
    return records, [repeated[a:b] for a, b in zip([0, *cuts], [*cuts, len(repeated)], strict=True) if a < b]


def record_of(config: PostgresConfig, kind: str, number: int, seq: int, variant: int) -> Record:
    """The same arguments give the same record; a seq of an item stands for one decision, so variant follows from it."""
    variant = (variant + seq) % 4 if kind == "summary" else (number + seq) % 4
    if kind == "item":
        return item(config, number, seq, list(Change)[variant])
    if kind == "mention":
        return mention(config, number, seq, (1, 0, -1, 0)[variant])
    if kind == "topic":
        return topic(config, number, seq, size=1 + variant * 3, into="topic-9" if seq == 6 else None)
    if kind == "summary":
        return summary(config, number, seq, 1 + variant)
    return score(config, number, seq, hour=seq // 2)


def test_any_order_repetition_and_batching_ends_in_the_same_rows(dsns: tuple[str, ...]) -> None:
    base = PostgresConfig(dsns=dsns, generation=f"g{uuid.uuid4().hex[:10]}", dimensions=DIMENSIONS)
    loop = asyncio.new_event_loop()
    writer = PostgresWriter(base, clock=clock)
    loop.run_until_complete(writer.open())
    tables = ", ".join(t.name_in(base.generation) for t in TABLES if not t.shared)

    async def sent(batches: Sequence[Sequence[Record]]) -> dict[str, set[str]]:
        for dsn in base.dsns:
            connection = await asyncpg.connect(dsn)
            await connection.execute(f"TRUNCATE {tables}")
            await connection.close()
        for batch in batches:
            assert not (await writer.write(batch)).refused
        return await contents(base)

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(histories())
    def check(history: tuple[list[tuple[str, int, int, int]], list[list[int]]]) -> None:
        made, batches = history
        records = [record_of(base, *arguments) for arguments in made]
        straight = loop.run_until_complete(sent([[record] for record in records]))
        shuffled = loop.run_until_complete(sent([[records[i] for i in batch] for batch in batches]))
        assert shuffled == straight

    try:
        check()
    finally:
        loop.run_until_complete(writer.close())
        loop.close()


async def test_one_row_among_thousands_that_only_the_server_refuses_costs_a_few_halvings(
    config: PostgresConfig, writer: PostgresWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    long = "".join(chr(rng.randrange(0x20000, 0x2A6D6)) for _ in range(712))  # too long for an index, whatever it is
    poison = msgspec.structs.replace(mention(config, 1_000), trend_id=long[:200], item_id=long[200:])
    batch: list[Record] = [mention(config, n) for n in range(4_096)]
    batch.insert(2_345, poison)
    attempts: list[int] = []
    attempt = writer._attempt

    async def counted(shard: int, part: list[Built], version: int) -> dict[str, int]:
        attempts.append(len(part))
        return await attempt(shard, part, version)

    monkeypatch.setattr(writer, "_attempt", counted)
    report = await writer.write(batch)
    ((record, why),) = report.refused
    assert record is poison
    assert why.startswith("ProgramLimitExceededError")
    assert sum(int(str(r["n"])) for r in await query(config, "SELECT count(*) AS n FROM {g}.mentions")) == 4_096
    assert len(attempts) <= 2 + 2 * 12
    assert sum(attempts) <= 3 * len(batch)


async def test_bad_records_are_handed_back_and_their_neighbours_stored(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    strange = "".join(chr(code) for code in random.Random(1).sample(range(0x20000, 0x2A000), 512))
    nan = encode_vector(np.full(DIMENSIONS, np.nan, dtype=np.float32))
    bad: list[tuple[Record, str]] = [
        (item(config, 101, title="NUL \0 character"), "NUL"),
        (item(config, 102, body="half \ud800 pair"), "surrogate"),
        (item(config, 103, engagement=Engagement(points=2**70)), "int64"),
        (msgspec.structs.replace(item(config, 104), vector=nan), "finite"),
        (msgspec.structs.replace(item(config, 105), vector="AAAA"), "dimensions"),
        (msgspec.structs.replace(item(config, 106), similarity=float("nan")), "similarity"),
        (msgspec.structs.replace(item(config, 107), generation="other"), "generation other"),
        (msgspec.structs.replace(mention(config, 108), trend_id=strange[:200], item_id=strange), "index"),
        (msgspec.structs.replace(topic(config, 109), life=Life.MERGED), "contradict"),
        (msgspec.structs.replace(score(config, 110), counts=(2**40,)), "int32"),
        (SourceCursor(connector="rss", cursor=msgspec.Raw(b"{}"), saved_at=NOW, items=1), "source-cursor"),
    ]
    good: list[Record] = [f(config, n) for n in range(20) for f in (item, mention, topic, score)]
    batch = good + [record for record, _ in bad]
    random.Random(3).shuffle(batch)
    report = await writer.write(batch)
    reasons = {id(record): error for record, error in report.refused}
    assert set(reasons) == {id(record) for record, _ in bad}
    for record, words in bad:
        assert words in reasons[id(record)], reasons[id(record)]
    assert report.rows_by_table["items"] == 20
    stored = await contents(config)
    assert {name: len(rows) for name, rows in stored.items() if rows} == {
        "items": 20, "mentions": 20, "topics": 20, "topic_vectors": 20, "trends": 20, "trend_scores": 20,
    }  # fmt: skip


async def test_rubbish_dates_make_no_partitions(config: PostgresConfig, writer: PostgresWriter) -> None:
    years = (1, 1970, 1999, 2027, 2500, 9999)
    batch = [item(config, n, published_at=datetime(year, 12, 31, 23, 59, tzinfo=UTC)) for n, year in enumerate(years)]
    report = await writer.write([*batch, item(config, 50, published_at=datetime(2016, 9, 30, 23, 59, tzinfo=UTC))])
    assert not report.refused
    rows = await query(
        config, "SELECT tableoid::regclass::text AS place, extract(year FROM first_seen)::int AS year FROM {g}.items"
    )
    assert {row["year"] for row in rows if str(row["place"]).endswith("items_default")} == set(years)
    assert [row["place"] for row in rows if row["year"] == 2016] == [f"{config.generation}.items_2016_09"]


async def test_rows_of_a_month_move_when_it_gets_its_partition(config: PostgresConfig, writer: PostgresWriter) -> None:
    early = item(config, 1, published_at=datetime(2026, 6, 15, tzinfo=UTC))
    await writer.write([early])
    later = PostgresWriter(config, clock=lambda: datetime(2026, 6, 20, tzinfo=UTC))
    await later.write([item(config, 8, published_at=datetime(2026, 6, 16, tzinfo=UTC)), early])
    await later.close()
    rows = await query(config, "SELECT tableoid::regclass::text AS place FROM {g}.items")
    assert [row["place"] for row in rows] == [f"{config.generation}.items_2026_06"] * 2


async def test_reader_that_holds_the_default_partition_delays_no_batch(
    config: PostgresConfig, writer: PostgresWriter
) -> None:
    connections = [await asyncpg.connect(dsn) for dsn in config.dsns]
    for connection in connections:
        await connection.execute(f"BEGIN; SELECT count(*) FROM {config.schema}.items")
    report = await writer.write([item(config, 1)])
    for connection in connections:
        await connection.close()
    assert report.rows_by_table == {"items": 1}
    (row,) = await query(config, "SELECT tableoid::regclass::text AS place FROM {g}.items")
    assert row["place"] == f"{config.generation}.items_default"


async def test_writers_side_by_side_do_not_hinder_each_other(config: PostgresConfig) -> None:
    writers = [PostgresWriter(config, clock=clock, seed=n) for n in range(3)]
    await asyncio.gather(*(w.open() for w in writers))
    numbers = list(range(60))
    batches = []
    for seq, _ in enumerate(writers, 1):
        random.Random(seq).shuffle(numbers)
        batches.append([[item(config, n, seq), topic(config, n, seq)] for n in numbers])
    await asyncio.gather(
        *(w.write([r for pair in own for r in pair]) for w, own in zip(writers, batches, strict=True) for _ in range(3))
    )
    await asyncio.gather(*(w.close() for w in writers))
    rows = await query(config, "SELECT version, title FROM {g}.items")
    assert len(rows) == 60
    assert {row["version"] for row in rows} == {3}


class Line:
    """A TCP line to a server, which can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self.port = 0
        self.bytes_until_cut: int | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self._to)
            self._writers += [writer, back]
            await asyncio.gather(self._pump(reader, back, counted=True), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                if counted and self.bytes_until_cut is not None:
                    self.bytes_until_cut -= len(data)
                    if self.bytes_until_cut <= 0:
                        self.bytes_until_cut = None
                        await self.cut()
                        asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(self.open()))
                        return
                writer.write(data)
                await writer.drain()
            writer.close()


@contextlib.asynccontextmanager
async def through_a_line(config: PostgresConfig) -> AsyncIterator[tuple[PostgresConfig, Line]]:
    """The configuration with shard 1 behind a line."""
    parts = urlsplit(config.dsns[1])
    assert parts.hostname
    line = Line(parts.hostname, parts.port or 5432)
    await line.open()
    place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{line.port}".lstrip("@")
    yield replace(config, dsns=(config.dsns[0], urlunsplit(parts._replace(netloc=place)))), line
    await line.cut()


@pytest.mark.parametrize("cut_after_bytes", [1_000, 12_000, 30_000])
async def test_line_to_a_shard_that_breaks_in_a_batch_loses_and_doubles_nothing(
    config: PostgresConfig, cut_after_bytes: int
) -> None:
    async with through_a_line(config) as (there, line):
        writer = PostgresWriter(there, clock=clock, seed=1)
        await writer.open()
        await writer.write([item(there, 1)])
        line.bytes_until_cut = cut_after_bytes
        report = await writer.write([f(there, n) for n in range(100) for f in (item, mention)])
        assert line.bytes_until_cut is None, "the line was cut in the batch"
        assert not report.refused
        await writer.close()
    (items, mentions) = [
        sum(int(str(row["n"])) for row in await query(config, f"SELECT count(*) AS n FROM {{g}}.{name}"))
        for name in ("items", "mentions")
    ]
    assert (items, mentions) == (100, 100)


async def test_shard_that_stays_away_ends_in_unavailable_and_the_others_are_stored(config: PostgresConfig) -> None:
    await migrate(config)
    async with through_a_line(replace(config, outage_timeout_s=0.5)) as (there, line):
        writer = PostgresWriter(there, clock=clock, seed=1)
        await writer.open()
        await line.cut()
        batch = [item(there, n) for n in range(30)]
        with pytest.raises(UnavailableError, match="shard 1"):
            await writer.write(batch)
        stored = len(await query(config, "SELECT item_id FROM {g}.items"))
        assert 0 < stored < 30
        await line.open()
        assert (await writer.write(batch)).rows_by_table == {"items": 30 - stored}
        await writer.close()


async def test_connections_ended_by_the_server_are_replaced(config: PostgresConfig, writer: PostgresWriter) -> None:
    await writer.write([item(config, 1)])
    await query(
        config,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert (await writer.write([item(config, n) for n in range(1, 11)])).rows_by_table == {"items": 9}


async def test_changed_bucket_map_is_followed_within_a_batch(stack: LocalStack, config: PostgresConfig) -> None:
    writer = PostgresWriter(config, clock=clock)
    await writer.open()
    await writer.write([item(config, 1)])
    everything_on_0 = await change_map(config, [0] * BUCKETS)
    try:
        assert not (await writer.write([item(config, n) for n in range(2, 40)])).refused
        connection = await asyncpg.connect(config.dsns[1])
        assert await connection.fetchval(f"SELECT count(*) FROM {config.schema}.items WHERE item_id <> 'item-1'") == 0
        await connection.close()
        shards = Shards(config)
        assert await shards.map() == everything_on_0
        await shards.close()
    finally:
        await change_map(config, default_map(2))
        await writer.close()


async def test_catalogue_is_kept_once_for_all_generations(config: PostgresConfig, writer: PostgresWriter) -> None:
    one = TrendDefinition(trend_id="rust", title="Rust", keywords=("rust",), updated_at=NOW, version=1)
    two = msgspec.structs.replace(one, title="Rust, the language", version=2)
    await writer.write([two])
    await writer.write([one])
    rows = await query(config, "SELECT title FROM trends.catalogue WHERE trend_id = 'rust'")
    assert [row["title"] for row in rows] == ["Rust, the language"]


def test_blocking_writer_does_the_same_from_plain_code(config: PostgresConfig) -> None:
    writer = SyncWriter(config, clock=clock)
    try:
        assert writer.write([item(config, 1)]).rows_by_table == {"items": 1}
        assert writer.write([]).rows_by_table == {}
    finally:
        writer.close()


# -- migrations ------------------------------------------------------------------------------------------------------


async def test_migrating_again_or_from_many_processes_at_once_changes_nothing(config: PostgresConfig) -> None:
    done = await asyncio.gather(*(migrate(config) for _ in range(3)))
    files = [f"{config.generation}: {m.name}" for m in migrations() if m.scope == "generation"]
    for shard in range(2):
        applied = [name for each in done for name in each[shard].applied if name.startswith(config.generation)]
        assert applied == files
    assert all(not each.applied for each in await migrate(config))


async def test_shard_that_goes_away_at_any_moment_of_a_migration_is_named_as_away(config: PostgresConfig) -> None:
    await migrate(config)
    async with through_a_line(config) as (there, line):
        line.bytes_until_cut = plenty = 1_000_000
        await migrate(there)
        sent = plenty - line.bytes_until_cut
        assert sent > 1_000
        for cut_after_bytes in range(1, sent * 9 // 10, sent // 12):  # the last bytes say goodbye
            line.bytes_until_cut = cut_after_bytes
            with pytest.raises(UnavailableError, match="shard"):
                await migrate(there)
            await asyncio.sleep(0.4)  # the line is back
        line.bytes_until_cut = None
        assert all(not each.applied for each in await migrate(there))


async def test_database_of_a_newer_release_is_refused(config: PostgresConfig) -> None:
    await migrate(config)
    await query(
        config,
        "INSERT INTO trends.migrations (scope, number, name, sha256) VALUES ($1, 9999, '9999_later.sql', '')",
        config.generation,
    )
    with pytest.raises(StateMismatchError, match="newer release"):
        await migrate(config)


async def test_database_migrated_by_other_files_is_refused(config: PostgresConfig) -> None:
    await migrate(config)
    await query(config, "UPDATE trends.migrations SET sha256 = 'x' WHERE scope = $1", config.generation)
    with pytest.raises(StateMismatchError, match="other contents"):
        await migrate(config)


async def test_shards_in_another_order_are_refused(config: PostgresConfig) -> None:
    await migrate(config)
    swapped = replace(config, dsns=tuple(reversed(config.dsns)))
    with pytest.raises(StateMismatchError, match="order"):
        await migrate(swapped)
    with pytest.raises(StateMismatchError, match="order"):
        await Shards(swapped).map()


async def test_generation_of_other_dimensions_is_refused(config: PostgresConfig) -> None:
    await migrate(config)
    with pytest.raises(StateMismatchError, match="8 dimensions"):
        await migrate(replace(config, dimensions=16))


async def test_added_shard_takes_over_the_map_of_its_neighbours(stack: LocalStack, config: PostgresConfig) -> None:
    await migrate(config)
    name = f"added_{uuid.uuid4().hex[:8]}"
    connection = await asyncpg.connect(stack.dsns[0])
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        grown = replace(config, dsns=(*config.dsns, urlunsplit(urlsplit(stack.dsns[0])._replace(path=f"/{name}"))))
        await migrate(grown)
        shards = Shards(grown)
        assert set((await shards.map()).shards) == {0, 1}
        await shards.close()
        rows = await query(grown, "SELECT shards FROM trends.bucket_map ORDER BY version DESC LIMIT 1")
        assert len(rows) == 3
        assert rows[0] == rows[1] == rows[2]
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def test_unreachable_shard_is_named_without_its_password() -> None:
    config = PostgresConfig(dsns=("postgresql://user:secret@127.0.0.1:1/none",), connect_timeout_s=1)
    with pytest.raises(UnavailableError) as caught:
        await migrate(config)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("generation", ["", "Public", "public", "trends", "pg_x", 'g1"; DROP', "x" * 40])
def test_generation_that_cannot_be_a_schema_is_refused(generation: str) -> None:
    with pytest.raises(SettingsError, match="generation"):
        PostgresConfig(dsns=("postgresql://h/d",), generation=generation)
