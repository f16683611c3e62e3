"""What the PostgreSQL store promises to readers, on real shards: one small world, stored once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from sinks.postgres.config import PostgresConfig
from sinks.postgres.export import KINDS, Filters
from sinks.postgres.reader import PostgresReader, SyncReader
from sinks.postgres.writer import PostgresWriter
from sinks.views import Standing, counts_until
from streams.errors import SettingsError
from streams.records import (
    Change,
    EnrichedItem,
    Mention,
    TrendScore,
)
from streams.vectors import decode_vector
from tests.integration.postgres_records import DIMENSIONS, topic
from tests.integration.postgres_world import END, HOUR, World, axis, store_world


@pytest.fixture(scope="module")
def world(dsns: tuple[str, ...]) -> World:
    config = PostgresConfig(dsns=dsns, generation=f"g{uuid.uuid4().hex[:10]}", dimensions=DIMENSIONS)
    return asyncio.run(store_world(config))


@pytest.fixture
async def reader(world: World) -> AsyncIterator[PostgresReader]:
    reader = PostgresReader(world.config, clock=lambda: END + timedelta(days=100))
    yield reader
    await reader.close()


async def test_now_is_the_newest_event_where_the_past_is_replayed(world: World, reader: PostgresReader) -> None:
    now = await reader.now()
    assert (now.time, now.replayed) == (END, True)
    live = PostgresReader(world.config, clock=lambda: END + timedelta(minutes=20))
    now = await live.now()
    await live.close()
    assert (now.time, now.replayed) == (END + timedelta(minutes=20), False)


async def test_rising_trends_come_by_rank_with_their_stories(reader: PostgresReader) -> None:
    top = await reader.top(window=timedelta(hours=24))
    assert [t.trend_id for t in top.trends] == ["term:phone", "rust"]
    phone, rust = top.trends
    assert phone.title == "phone"
    assert (rust.title, rust.tracked, rust.category) == ("Rust the language", True, "software")
    assert phone.counts[-3:] == (1, 7, 0), "the newest slice has been quiet"
    assert (phone.items, phone.window_items) == (8, 8)
    # topic-b was merged into topic-a: the story appears once, with the items of both.
    assert [(t.topic_id, t.items) for t in phone.topics] == [("topic-a", 8), ("topic-c", 1)]
    assert phone.topics[0].headline == "Phones burn"
    assert [t.topic_id for t in rust.topics] == ["topic-c"]


async def test_window_limit_source_and_category_choose_trends(reader: PostgresReader) -> None:
    async def ids(**more: object) -> list[str]:
        return [t.trend_id for t in (await reader.top(**more)).trends]  # type: ignore[arg-type]

    assert await ids(window=timedelta(hours=24)) == ["term:phone", "rust"]
    assert await ids() == ["term:phone", "rust", "term:old"]
    assert await ids(limit=1) == ["term:phone"]
    assert await ids(source="file") == ["term:phone", "rust", "term:old"]
    assert await ids(source="rss") == []
    assert await ids(category="software") == ["rust"]


async def test_model_decides_which_trends_rise_at_the_instant_of_the_question(world: World) -> None:
    asked: dict[str, TrendScore] = {}

    def order(scores: Sequence[TrendScore], now: datetime) -> list[Standing]:
        assert now == END
        asked.update({score.trend_id: score for score in scores})
        return [Standing("term:old", 3, 0.25, 2.5, 7.5, END - HOUR)]

    reader = PostgresReader(world.config, clock=lambda: END, order=order)
    (row,) = (await reader.top()).trends
    await reader.close()
    assert (row.trend_id, row.items, row.expected, row.burst, row.strength) == ("term:old", 3, 0.25, 2.5, 7.5)
    assert row.peaked_at == END - HOUR
    written = {r.trend_id: r for r in world.records if isinstance(r, TrendScore) and r.version != 2}
    assert asked == written, "a score comes back as it was written"


async def test_past_instant_shows_the_trends_as_they_stood(reader: PostgresReader) -> None:
    at = END - 29 * HOUR
    top = await reader.top(at=at, window=timedelta(hours=48))
    assert [(t.trend_id, t.burst) for t in top.trends] == [("rust", 8.0), ("term:old", 2.0)]
    assert top.now.time == at


async def test_merged_topic_is_reached_by_both_ids_and_shows_all_items(reader: PostgresReader) -> None:
    kept = await reader.topic("topic-a")
    gone = await reader.topic("topic-b")
    assert kept is not None
    assert gone is not None
    assert gone.brief == kept.brief
    assert (kept.asked_id, gone.asked_id) == ("topic-a", "topic-b")
    brief = kept.brief
    assert (brief.entities, brief.lang, brief.category) == (("Acme Phone",), "en", "electronics")
    assert (brief.method, brief.fallback) == ("extractive", "budget")
    assert kept.merged == {"topic-b": "alike: similarity 0.51"}
    assert kept.reason is None
    assert {m.item_id for m in kept.members} == {f"item-{n}" for n in range(8)}
    assert kept.members[0].item_id == "item-0"
    assert sum(b.items for b in kept.timeline) == 8
    assert [i.title for i in kept.brief.leading] == ["leading 0", "leading 1"]
    assert await reader.topic("topic-none") is None


async def test_echoes_are_counted_apart(reader: PostgresReader) -> None:
    view = await reader.topic("topic-c")
    assert view is not None
    assert view.echoes == 2
    assert {m.item_id: m.echo_of for m in view.members if m.echo_of} == {"item-9": "item-8", "item-10": "item-8"}


async def test_topic_without_summary_is_named_by_its_leading_item_or_terms(reader: PostgresReader) -> None:
    view = await reader.topic("topic-c")
    assert view is not None
    assert (view.brief.headline, view.brief.summary) == ("word", None)


async def test_merge_chain_that_bites_its_tail_ends(world: World, config: PostgresConfig) -> None:
    writer = PostgresWriter(config, clock=lambda: END)
    await writer.open()
    await writer.write(
        [topic(config, n, 2, into=f"topic-{1 + n % 3}") for n in (1, 2, 3)]
        + [topic(config, n, 2, into=f"topic-{n + 1}") for n in range(10, 40)]
    )
    await writer.close()
    reader = PostgresReader(config)
    ring = await reader.topic("topic-1")
    # topic-40 is not stored (yet): the story stands under the last that is.
    chain = await reader.topic("topic-10")
    await reader.close()
    assert ring is not None
    assert chain is not None
    assert chain.brief.topic_id == "topic-39"
    assert len(chain.merged) == 29


async def test_trend_has_history_topics_and_leading_items(reader: PostgresReader) -> None:
    phone = await reader.trend("term:phone")
    assert phone is not None
    assert [p.items for p in phone.history] == [7]
    assert phone.items[0].item_id == "item-0"
    assert "item-8" in {i.item_id for i in phone.items}, "an item that only mentions the trend is listed, too"
    assert [t.topic_id for t in phone.row.topics] == ["topic-a", "topic-c"]
    rust = await reader.trend("rust")
    assert rust is not None
    assert [p.burst for p in rust.history] == [8.0, 1.0]
    assert await reader.trend("none") is None


async def test_tracked_subject_without_items_is_a_trend_already(reader: PostgresReader) -> None:
    quiet = await reader.trend("quiet")
    assert quiet is not None
    assert (quiet.row.title, quiet.row.total, quiet.items) == ("Quiet subject", 0, ())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("term:phone", ("trend", "term:phone")),
        ("Phone", ("trend", "term:phone")),
        ("rust the LANGUAGE", ("trend", "rust")),
        ("topic-c", ("topic", "topic-c")),
        ("topic-", None),
        ("nothing", None),
    ],
)
async def test_names_are_found_as_people_write_them(
    reader: PostgresReader, name: str, found: tuple[str, str] | None
) -> None:
    assert await reader.find(name) == found


async def test_words_are_found_in_items_and_summaries_and_lead_to_the_story(reader: PostgresReader) -> None:
    (hit,) = await reader.search("recalled")
    assert hit.topic.topic_id == "topic-a", "topic-b was merged into it"
    assert set(hit.found_by) == {"items", "summaries"}
    assert {i.item_id for i in hit.items} <= {f"item-{n}" for n in range(5, 8)}
    assert [h.topic.topic_id for h in await reader.search("overheat batteries")] == ["topic-a"]
    assert await reader.search("the") == ()
    assert await reader.search("") == ()
    assert [h.topic.topic_id for h in await reader.search("phone -fire -burning -recall")] == []


async def test_a_query_as_long_as_a_book_is_refused_in_words(reader: PostgresReader) -> None:
    with pytest.raises(SettingsError, match="2,000 at most"):
        await reader.search("memory " * 20_000)
    assert await reader.search("memory or " * 180 + '"', limit=1) is not None


async def test_meaning_is_found_without_a_common_word(reader: PostgresReader) -> None:
    hits = await reader.search("zzz", vector=axis(3, 0, 0.2))
    assert [h.topic.topic_id for h in hits] == ["topic-c"]
    assert hits[0].similarity == pytest.approx(0.98, abs=0.01)
    with pytest.raises(SettingsError, match="dimensions"):
        await reader.search("zzz", vector=np.ones(3, dtype=np.float32))


async def test_meaning_is_found_in_stories_of_every_size_and_not_in_merged_ones(config: PostgresConfig) -> None:
    writer = PostgresWriter(config, clock=lambda: END)
    await writer.open()
    sizes = (1, 2, 3, 40)
    await writer.write([topic(config, size, 1, size) for size in sizes])
    # Every growth leaves a dead entry in the index, which must not hide the living.
    for n in range(6, 16):
        await writer.write([topic(config, 40, 2 + n, 2**n)])
    await writer.write([topic(config, 3, 50, 3, into="topic-2")])
    await writer.close()
    reader = PostgresReader(config)
    same = decode_vector(topic(config, 1, 1).centroid, DIMENSIONS)
    hits = await reader.search("", vector=same)
    await reader.close()
    assert [hit.topic.topic_id for hit in hits][:2] == ["topic-1", "topic-2"]
    assert all(hit.topic.topic_id != "topic-3" for hit in hits)


async def test_counts_add_up_over_the_shards(reader: PostgresReader) -> None:
    counts = await reader.counts()
    assert (counts.items, counts.item_ids, counts.items_placed) == (12, 12, 12)
    assert (counts.topics, counts.topics_merged, counts.mentions) == (2, 1, 13)
    assert len(counts.per_shard) == 2


async def test_export_gives_every_row_once_in_the_order_of_time(world: World, reader: PostgresReader) -> None:
    paged = PostgresReader(replace(world.config, export_rows=2))
    rows = [row async for row in paged.export("items")]
    await paged.close()
    assert [row["item_id"] for row in rows] == [f"item-{n}" for n in range(11, -1, -1)]
    assert {row["topic_id"] for row in rows} == {"topic-a", "topic-c"}
    assert {row["joined_topic_id"] for row in rows} == {"topic-a", "topic-b", "topic-c"}
    for kind in KINDS:
        exported = [row async for row in reader.export(kind)]
        assert len(exported) == await reader.count_export(kind) > 0
        assert set(exported[0]) == set(KINDS[kind].columns)


async def test_export_keeps_to_its_filters(reader: PostgresReader) -> None:
    since = END - timedelta(minutes=25)
    rows = [row async for row in reader.export("items", Filters(since=since, until=END, trend="term:phone"))]
    assert [row["item_id"] for row in rows] == ["item-2", "item-1"]
    with pytest.raises(SettingsError, match="no kind"):
        await reader.count_export("people")


def test_sync_reader_gives_the_same_answers(world: World) -> None:
    with SyncReader(replace(world.config, export_rows=5), clock=lambda: END) as reader:
        assert [t.trend_id for t in reader.ask(reader.reader.top(limit=2)).trends] == ["term:phone", "rust"]
        assert len(list(reader.export("items"))) == 12
        first = next(reader.export("items"))
        assert first["item_id"] == "item-11"


def test_deleted_items_are_counted_and_shown_no_more(config: PostgresConfig) -> None:
    async def go() -> None:
        world = World(config)
        writer = PostgresWriter(config, clock=lambda: END)
        await writer.open()
        await writer.write(world.records)
        gone = next(r for r in world.records if isinstance(r, EnrichedItem) and r.item.item_id == "item-8")
        counted = [r for r in world.records if isinstance(r, Mention) and r.item_id == "item-8"]
        await writer.write(
            [
                msgspec.structs.replace(gone, change=Change.DELETED, vector=None, seq=200),
                *(msgspec.structs.replace(m, weight=-1, seq=200) for m in counted),
            ]
        )
        await writer.close()
        reader = PostgresReader(config, clock=lambda: END)
        view = await reader.topic("topic-c")
        phone = await reader.trend("term:phone")
        hits = await reader.search("crab")
        await reader.close()
        assert view is not None
        assert phone is not None
        assert "item-8" not in {m.item_id for m in view.members}
        assert "item-8" not in {m.item_id for m in phone.items}
        assert [t.topic_id for t in phone.row.topics] == ["topic-a"]
        assert "item-8" not in {i.item_id for hit in hits for i in hit.items}

    asyncio.run(go())


async def test_store_without_this_generation_says_what_to_do(config: PostgresConfig) -> None:
    reader = PostgresReader(config)
    with pytest.raises(SettingsError, match="nothing is stored for generation"):
        await reader.counts()
    await reader.close()


def test_counts_are_moved_on_to_the_instant_of_the_question() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert counts_until((4, 5), start, 3600, start + timedelta(minutes=59), 3) == (0, 4, 5)
    assert counts_until((4, 5), start, 3600, start + timedelta(hours=2), 3) == (5, 0, 0)
    assert counts_until((4, 5), start, 3600, start + timedelta(days=900), 3) == (0, 0, 0)
    assert counts_until((4, 5), start, 3600, start - timedelta(days=9), 1) == (5,)
