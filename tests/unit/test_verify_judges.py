"""The judges against the real engines: whatever these decide is clean, and whatever is taken out of it is missed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from flows.since import Since
from models.clustering import ClusterConfig
from models.engine import ClusterEngine
from models.scoring import ScoringConfig, TrendScorer
from models.text import embedding_text, text_hash
from sinks.postgres.config import PostgresConfig
from sinks.postgres.rows import RowBuilder, merge_rows
from streams.codec import encode, headers_of
from streams.growth import Growth
from streams.ids import item_id_of
from streams.records import EmbeddedItem, Engagement, Kind, Observation, Record
from streams.table import EMBEDDED, ENRICHED, HISTORY, MENTIONS, RAW, SCORES, SUMMARIES, UPDATES, Stream
from streams.vectors import encode_vector
from trends.verify import stores
from trends.verify.book import Book
from trends.verify.intake import Intake
from trends.verify.log import Part
from trends.verify.relations import Relations
from trends.verify.verdict import judge

START = datetime(2026, 3, 1, tzinfo=UTC)
DIMENSIONS = 16
CONFIG = ClusterConfig(
    join_at=0.5,
    pair_at=0.5,
    merge_at=0.42,
    merge_every_items=3,
    clock_every_items=3,
    fade_after=timedelta(hours=20),
    max_topics=12,
)
STORE = PostgresConfig(dsns=("postgresql://nowhere",), generation="g1", dimensions=DIMENSIONS)
STREAMS = (*RAW, HISTORY, EMBEDDED, ENRICHED, MENTIONS, UPDATES, SUMMARIES, SCORES)


@dataclass
class Message:
    """As a consumer hands them out."""

    stream: Stream
    place: int
    record: Record

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.place

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return encode(self.record)

    def headers(self) -> list[tuple[str, bytes]]:
        return headers_of(self.record)

    def timestamp(self) -> tuple[int, int]:
        return 2, int(START.timestamp() * 1_000) + self.place


@dataclass
class World:
    """What a few observations became: every stream, and the rows of all of it."""

    streams: dict[Stream, list[Record]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})

    def run(self, batches: Sequence[Sequence[EmbeddedItem]], scoring: ScoringConfig | None = None) -> World:
        engine, scorer = ClusterEngine(CONFIG, "g1"), TrendScorer(scoring or ScoringConfig(), "g1")
        for batch in batches:
            self.streams[RAW[0]] += [embedded.item for embedded in batch]
            self.streams[EMBEDDED] += batch
            decisions = engine.apply(batch)
            assert not decisions.failed
            self.streams[ENRICHED] += decisions.enriched
            self.streams[MENTIONS] += decisions.mentions
            self.streams[UPDATES] += decisions.updates
            self.streams[SCORES] += scorer.apply(decisions.mentions).scores
        return self

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """What store makes of it."""
        builder = RowBuilder(STORE)
        records = [r for s in (ENRICHED, MENTIONS, UPDATES, SCORES) for r in self.streams[s]]
        merged = merge_rows(builder.build(record) for record in records)
        return {table.name: [dict(zip(table.columns, row, strict=True)) for row in rows]
                for table, rows in merged.items()}  # fmt: skip

    def audited(
        self, rows: dict[str, list[dict[str, Any]]], since: Since | None = None, deleted: int = 0
    ) -> dict[str, int]:
        """What is off, by check; summaries are another flow's. Retention has ``deleted`` so many mentions."""
        relations, book = Relations(2), Book(examples=5)
        parts = {
            stream: Part(stream, stream.name, n, [0], True, 0, [None], [len(records)], [len(records)])
            for n, (stream, records) in enumerate(self.streams.items())
        }
        if deleted:
            parts[MENTIONS] = replace(parts[MENTIONS], begins=[deleted], whole=False)
        intake = Intake(parts, relations, book, Growth(1), lambda _: True, STORE.title_chars, since=since)
        intake.end_letters()
        for name, table_rows in rows.items():
            stores.fill(relations, name, table_rows, 0, lambda _: True)
        for stream, take in intake.takers.items():
            messages = [Message(stream, n, record) for n, record in enumerate(self.streams.get(stream, ()))]
            take(parts[stream], messages[parts[stream].begins[0] :])
        judge(relations, intake.facts(0, {name: len(each) for name, each in rows.items()}), book)
        relations.close()
        return {check.name: check.off for check in book.checks.values() if check.off and check.name != "summaries"}


def seen(
    number: int, hours: float, *, points: int = 0, edit: int = 0, gone: bool = False, trend: str = "t"
) -> EmbeddedItem:
    """An observation of an item; every third of them is on the same story."""
    observed = START + timedelta(hours=hours)
    title = "" if gone else f"story {number % 3} told by {number} edited {edit}"
    item = Observation(
        item_id=item_id_of("file", str(number)), source="file", external_id=str(number),
        kind=Kind.DELETED if gone else Kind.POST, title=title, observed_at=observed, published_at=observed,
        trend_id=f"term:{trend}{number % 2}", mentions=("term:also",) if number % 4 == 0 else (),
        engagement=Engagement(points=points),
    )  # fmt: skip
    rng = np.random.default_rng([number % 3, number // 6])
    vector = np.eye(DIMENSIONS)[number % 3] + 0.3 * rng.standard_normal(DIMENSIONS)
    return EmbeddedItem(
        item=item, text_hash=text_hash(embedding_text(item)), vector=None if gone else encode_vector(vector),
        model="made", dimensions=DIMENSIONS,
    )  # fmt: skip


EVENTS = st.builds(
    seen,
    st.integers(0, 9),
    st.integers(0, 200).map(lambda n: n / 4),
    points=st.integers(0, 3),
    edit=st.integers(0, 1),
    gone=st.sampled_from([False, False, False, True]),
)


@st.composite
def batches(draw: st.DrawFn) -> list[list[EmbeddedItem]]:
    events = draw(st.lists(EVENTS, min_size=1, max_size=40))
    if draw(st.booleans()):
        events.sort(key=lambda e: e.item.observed_at)
    cuts = draw(st.lists(st.integers(0, len(events)), max_size=5).map(sorted))
    edges = [0, *cuts, len(events)]
    return [events[a:b] for a, b in pairwise(edges)]


@given(batches())
@settings(max_examples=60, deadline=None)
def test_whatever_the_engines_decide_is_clean(given_batches: list[list[EmbeddedItem]]) -> None:
    """Repeats, late ones, deletions of the unknown, returns, edits, merges, topics that fade: in any order."""
    world = World().run(given_batches)
    assert world.audited(world.rows()) == {}


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_whatever_is_taken_out_is_missed(given_batches: list[list[EmbeddedItem]], dice: random.Random) -> None:
    world = World().run(given_batches)
    rows = world.rows()
    streams = [s for s in (RAW[0], EMBEDDED, ENRICHED, MENTIONS) if world.streams[s]]
    stream = dice.choice(streams)
    place = dice.randrange(len(world.streams[stream]))
    taken = world.streams[stream].pop(place)
    found = world.audited(rows)
    if stream in (RAW[0], EMBEDDED):  # the same observation may have been sent more than once
        again = [r for r in world.streams[stream] if r.record_id == taken.record_id]
        assert found or again
    else:
        assert found


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_whatever_stands_twice_is_told(given_batches: list[list[EmbeddedItem]], dice: random.Random) -> None:
    world = World().run(given_batches)
    rows = world.rows()
    stream = dice.choice([s for s in (EMBEDDED, ENRICHED, MENTIONS, UPDATES, SCORES) if world.streams[s]])
    world.streams[stream].append(dice.choice(world.streams[stream]))
    assert world.audited(rows)


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_whatever_a_store_loses_is_missed(given_batches: list[list[EmbeddedItem]], dice: random.Random) -> None:
    world = World().run(given_batches)
    rows = {name: each for name, each in world.rows().items() if name in ("items", "mentions", "topics", "trends")}
    if rows:
        table = dice.choice(sorted(rows))
        rows[table].pop(dice.randrange(len(rows[table])))
        assert f"store.{table}" in world.audited(rows)


@example([[seen(2 * n, n) for n in range(4)]], 0.3)  # all of one trend, in a row
@given(batches(), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_mentions_that_retention_has_deleted_make_no_score_wrong(
    given_batches: list[list[EmbeddedItem]], share: float
) -> None:
    world = World().run(given_batches)
    deleted = int(share * len(world.streams[MENTIONS]))
    assert "scores" not in world.audited(world.rows(), deleted=deleted)


def test_a_trend_that_was_forgotten_and_came_back_counts_from_there() -> None:
    """A whole past of silence: score forgets it, and its total begins anew. Nothing is off, and no other total fits."""
    calm = [seen(n, hours, trend="calm") for n, hours in ((0, 0), (2, 1))]
    busy = [[seen(101 + 2 * n, 3 * n)] for n in range(1, 97)]
    back = [[seen(4, 289, trend="calm")], [seen(6, 290, trend="calm")]]
    world = World().run([calm, *busy, *back])
    scores = [s for s in world.streams[SCORES] if s.trend_id == "term:calm0"]  # type: ignore[attr-defined]
    assert [s.total for s in scores] == [2, 1, 2]  # type: ignore[attr-defined]
    assert world.audited(world.rows()) == {}
    wrong = replace_total(world, scores[-1], 3)
    assert wrong.audited(wrong.rows()) == {"scores": 1}


def replace_total(world: World, score: Any, total: int) -> World:
    streams = dict(world.streams)
    streams[SCORES] = [changed(s, total=total) if s is score else s for s in streams[SCORES]]  # type: ignore[type-var]
    return replace(world, streams=streams)


def test_an_item_that_was_forgotten_may_be_seen_for_the_first_time_again() -> None:
    """Beyond the horizon nothing is known of it: a second first sighting is none too many."""
    long = [[seen(101 + 2 * n, 6 * n)] for n in range(1, 132)]
    world = World().run([[seen(0, 0)], *long, [seen(0, 793, points=5)]])
    first = [e for e in world.streams[ENRICHED] if e.item.external_id == "0"]  # type: ignore[attr-defined]
    assert [e.change.value for e in first] == ["first", "first"]  # type: ignore[attr-defined]
    assert world.audited(world.rows()) == {}


def test_what_a_build_was_told_to_leave_out_is_not_lost_and_what_it_was_to_take_is() -> None:
    """By event time, among what had arrived when the build was begun; what came later is all of it to be there."""
    since = Since(START + timedelta(hours=5), START + timedelta(milliseconds=6))
    kept = [seen(n, hours) for n, hours in ((4, 5), (5, 6), (6, 4.5))]
    world = World().run([kept])
    world.streams[RAW[0]][:0] = [seen(n, n).item for n in range(4)]  # arrived in ms 0 to 3, `kept` in 4 to 6
    rows = world.rows()
    assert world.audited(rows) == {"raw.lost": 4}
    assert world.audited(rows, since) == {}
    world.streams[RAW[0]].append(seen(7, 7).item)  # in ms 7: live traffic, however old
    world.streams[RAW[0]].append(seen(8, 1).item)
    assert world.audited(rows, since) == {"raw.lost": 2}
