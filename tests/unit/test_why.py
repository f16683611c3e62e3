"""Why a trend trends: an account that adds up to what was scored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scoring import ScoringConfig, TrendScorer, rising
from models.why import Counted, score_of, why
from streams.records import Mention, TrendScore

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)

SEEN = st.tuples(
    st.integers(0, 47),  # hours
    st.sampled_from(["hn", "rss", "reddit"]),
    st.sampled_from(["a", "B", "b", None]),
    st.sampled_from(["story-1", "story-2", "story-3"]),
    st.booleans(),  # an echo
)


def mentions_of(seen: Sequence[Any]) -> list[Mention]:
    return [
        Mention(
            generation="g1", trend_id="it", item_id=f"item-{n}", topic_id=topic, home=True, event_time=at,
            first_seen=at, publisher=publisher, source=source, weight=1, echo=echo, seq=n + 1,
        )
        for n, (hour, source, publisher, topic, echo) in enumerate(seen)
        for at in [T0 + (hour + 0.5) * HOUR]
    ]  # fmt: skip


def stored(mentions: Sequence[Mention]) -> list[Counted]:
    return [Counted(m.first_seen, m.item_id, m.topic_id, m.source, m.publisher, m.echo) for m in mentions]


def scored(mentions: Sequence[Mention]) -> TrendScore:
    scorer = TrendScorer(ScoringConfig(), "g1")
    return scorer.apply(sorted(mentions, key=lambda m: m.first_seen)).scores[-1]


@settings(max_examples=80)
@given(st.lists(SEEN, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_every_list_adds_up_to_what_was_scored(seen: Any, rng: random.Random) -> None:
    mentions = mentions_of(seen)
    score = scored(mentions)
    found = stored(mentions)
    rng.shuffle(found)
    now = score.slice_start + 0.9 * HOUR
    told = why(score, now, found)
    assert told.day.observed == sum(score.counts[-24:]) == told.counted
    assert told.hour.observed == score.items
    for shares in (told.topics, told.sources, told.by_publisher):
        assert sum(share.count for share in shares) == told.counted
        assert sum(share.share for share in shares) == pytest.approx(1)
        assert sum(share.above for share in shares) == pytest.approx(told.day.observed - told.day.expected)
    assert told.day.expected == pytest.approx(score.expected)
    assert told.hour.expected == pytest.approx(score.hour_expected)
    assert told.velocity == pytest.approx(score.velocity)
    span = told.day
    assert span.burst == pytest.approx((span.observed - span.expected) / (span.deviation + told.bias))


def test_it_tells_where_a_story_began_and_how_it_spread() -> None:
    seen = [(10, "reddit", "a", "story-1", False), (13, "hn", "b", "story-1", False), (14, "hn", "c", "story-1", False)]
    seen += [(15, "rss", f"site-{n}", "story-1", True) for n in range(3)] + [(15, "rss", "x", "story-2", False)]
    mentions = mentions_of(seen)
    score = scored(mentions)
    told = why(score, T0 + 16 * HOUR, stored(mentions))
    assert [(s.source, s.after, s.lead_s / 3_600) for s in told.spread] == [
        ("reddit", None, 0), ("hn", "reddit", 3), ("rss", "hn", 2),
    ]  # fmt: skip
    assert told.spread[0].item_ids == ("item-0",)
    assert [(s.name, s.count) for s in told.topics] == [("story-1", 6), ("story-2", 1)]
    assert told.day.burst == pytest.approx(rising([score], T0 + 16 * HOUR)[0].burst)


@settings(max_examples=50)
@given(st.lists(SEEN, min_size=1, max_size=40))
def test_a_topic_is_scored_as_a_trend_of_its_items_would_be(seen: Any) -> None:
    mentions = mentions_of(seen)
    score = scored(mentions)
    ours = score_of("it", "g1", stored(mentions), score.slice_start, ScoringConfig())
    assert ours.counts[-len(score.counts) :] == score.counts
    assert (ours.publishers, ours.items) == (score.publishers, score.items)


def test_a_long_list_ends_in_one_line_for_all_others() -> None:
    mentions = mentions_of([(20, "rss", f"site-{n:02}", "story-1", False) for n in range(30)])
    told = why(scored(mentions), T0 + 21 * HOUR, stored(mentions))
    assert (len(told.by_publisher), told.by_publisher[-1].name, told.by_publisher[-1].count) == (11, None, 20)


def test_what_lies_outside_the_day_is_not_looked_at() -> None:
    mentions = mentions_of([(2, "rss", "a", "story-1", False), (40, "rss", "b", "story-2", False)])
    told = why(scored(mentions), T0 + 40.9 * HOUR, stored(mentions))
    assert [s.name for s in told.topics] == ["story-2"]
    silent = why(scored(mentions), T0 + 90 * HOUR, stored(mentions))
    assert (silent.counted, silent.topics, silent.spread) == (0, (), ())
