"""How strongly trends rise above their own past."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import log
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from models.scoring import Scored, ScoringConfig, TrendScorer, rising, trend_of_state, upgraded
from streams.codec import decode, encode
from streams.records import Engagement, Mention, TrendScore

T0 = datetime(2016, 9, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SMALL = ScoringConfig(past_slices=24, window_slices=4, fading_slices=8, max_trends=3)
"""A short past, so that a test reaches its end."""


def mention(
    trend_id: str, hours: float, seq: int, *, weight: int = 1, publisher: str | None = None, **more: Any
) -> Mention:
    at = T0 + hours * HOUR
    return Mention(
        generation="g1", trend_id=trend_id, item_id=f"item-{seq}", topic_id=more.pop("topic", "t"), home=True,
        event_time=at, first_seen=at, publisher=publisher or f"site-{seq % 7}", source=more.pop("source", "file"),
        weight=weight, seq=seq, **more,
    )  # fmt: skip


class World:
    """Feeds hourly counts of trends to a scorer and keeps the newest score of each."""

    def __init__(self, config: ScoringConfig | None = None) -> None:
        self.scorer = TrendScorer(config or ScoringConfig(), "g1")
        self.scores: dict[str, TrendScore] = {}
        self.history: list[TrendScore] = []
        self.state: dict[bytes, bytes] = {}
        self.seq = 0

    def take(self, scored: Scored) -> Scored:
        for score in scored.scores:
            self.scores[score.trend_id] = score
            self.history.append(score)
        for key, value in scored.state:
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return scored

    def hour(self, number: int, **counts: int) -> None:
        batch = []
        for trend_id, n in counts.items():
            for i in range(n):
                self.seq += 1
                batch.append(mention(trend_id, number + (i + 0.5) / (n + 1), self.seq))
        self.take(self.scorer.apply(batch))

    def rising(self, hour: float) -> list[str]:
        return [r.score.trend_id for r in rising(list(self.scores.values()), T0 + hour * HOUR, self.scorer.config)]


def test_what_stands_above_its_own_past_rises_and_what_is_merely_large_does_not() -> None:
    world = World()
    for hour in range(24 * 8):
        world.hour(hour, large=20, small=1 if hour % 6 == 0 else 0, new=6 if hour >= 24 * 8 - 3 else 0)
    world.hour(24 * 8, large=20, small=12, new=6)
    assert set(world.rising(24 * 8 + 0.9)) == {"small", "new"}
    assert world.scores["large"].burst < 1
    assert world.scores["large"].expected == pytest.approx(480, rel=0.01)
    assert world.scores["small"].burst > 3
    assert world.scores["small"].rank is not None


def test_the_same_hours_of_earlier_days_are_expected_again() -> None:
    narrow = ScoringConfig(window_slices=3, fading_slices=0)
    daily, sudden = World(narrow), World(narrow)
    for hour in range(24 * 6):
        morning = hour % 24 in (8, 9, 10)
        daily.hour(hour, it=10 if morning else 1)
        sudden.hour(hour, it=1)
    for hour in range(24 * 6, 24 * 6 + 11):
        for world in (daily, sudden):
            world.hour(hour, it=10 if hour % 24 in (8, 9, 10) else 1)
    assert daily.scores["it"].burst == 0
    assert sudden.scores["it"].burst > 4


def test_nothing_trends_below_five_items_or_two_publishers() -> None:
    four = World()
    four.take(four.scorer.apply([mention("it", 0, i) for i in range(4)]))
    one = World()
    one.take(one.scorer.apply([mention("it", 0, i, publisher="one") for i in range(50)]))
    enough = World()
    enough.take(enough.scorer.apply([mention("it", 0, i, publisher="ab"[i % 2]) for i in range(5)]))
    assert [(w.scores["it"].burst, w.scores["it"].rank, w.rising(0.5)) for w in (four, one)] == [(0, None, [])] * 2
    assert enough.scores["it"].burst > 1
    assert enough.rising(0.5) == ["it"]


def test_trends_that_only_gather_what_tells_nothing_never_trend() -> None:
    world = World()
    world.take(world.scorer.apply([mention("misc:07", 0, i) for i in range(50)]))
    assert (world.scores["misc:07"].burst, world.scores["misc:07"].rank, world.rising(0.5)) == (0, None, [])


def test_an_echo_counts_once_a_publisher_and_slice() -> None:
    world = World()
    batch = [mention("it", 0, 1, publisher="origin")]
    batch += [mention("it", 0.1, 2 + i, publisher="copier", echo=True) for i in range(30)]
    batch += [mention("it", 0.2, 40 + i, publisher=f"other-{i}", echo=True) for i in range(5)]
    world.take(world.scorer.apply(batch))
    score = world.scores["it"]
    assert (score.items, score.total, score.publishers, score.version) == (7, 36, 7, 36)


def test_a_deletion_takes_back_what_its_item_counted() -> None:
    world = World()
    world.take(world.scorer.apply([mention("it", 0.2, i) for i in range(1, 7)]))
    world.take(world.scorer.apply([mention("it", 30, 7)]))
    gone = [mention("it", 0.2, 8, weight=-1), mention("it", 30, 9, weight=-1)]
    world.take(world.scorer.apply(gone))
    score = world.scores["it"]
    assert sum(score.counts) == score.total == 5
    assert (score.items, score.version) == (0, 9)


def test_engagement_adds_up_without_counting_as_items() -> None:
    world = World()
    one = mention("it", 0, 1, engagement=Engagement(points=3, comments=1))
    more = mention("it", 0, 2, weight=0, engagement=Engagement(points=40, comments=-1, stars=2))
    world.take(world.scorer.apply([one, more]))
    score = world.scores["it"]
    assert (score.items, score.total, score.version) == (1, 1, 2)
    assert score.engagement == Engagement(points=43, comments=0, stars=2)


def test_of_two_equal_bursts_the_one_with_more_publishers_and_engagement_is_stronger() -> None:
    world = World()
    batch = []
    for i in range(40):
        batch.append(mention("narrow", 0, i, publisher=f"site-{i % 2}"))
        batch.append(mention("broad", 0, i, publisher=f"site-{i}"))
        batch.append(mention("cared", 0, i, publisher=f"site-{i}", engagement=Engagement(points=20)))
    world.take(world.scorer.apply(batch))
    assert world.rising(0.9) == ["cared", "broad", "narrow"]
    by_rank = sorted(world.scores.values(), key=lambda s: -(s.rank or 0))
    assert [s.trend_id for s in by_rank] == ["cared", "broad", "narrow"]


def test_a_late_mention_goes_to_its_slice_and_one_beyond_the_past_to_the_total_alone() -> None:
    world = World(SMALL)
    world.hour(40, it=2)
    world.take(world.scorer.apply([mention("it", 38, 90), mention("it", 30, 91), mention("it", 3, 92)]))
    score = world.scores["it"]
    assert score.counts[-1] == 2
    assert score.counts[-3] == 1
    assert score.counts[-11] == 1
    assert (sum(score.counts), score.total, score.version) == (4, 5, 5)
    assert score.first_seen == T0 + 3 * HOUR


def test_items_that_come_after_their_slice_has_closed_are_counted_and_are_no_past() -> None:
    on_time, late = World(), World()
    for world in (on_time, late):
        world.hour(0, it=1)
    for hour in range(1, 24 * 5):
        on_time.hour(hour, it=2)
        late.hour(hour, other=1)
    batch = [mention("it", hour + 0.5, hour * 10 + i) for hour in range(1, 24 * 5) for i in range(2)]
    for world in (on_time, late):
        world.hour(24 * 5, it=2)
    late.take(late.scorer.apply(batch))
    assert late.scores["it"].counts == on_time.scores["it"].counts
    assert late.scores["it"].late[:96] == (0, *[2] * 95)
    assert late.scores["it"].expected < 2 < 40 < on_time.scores["it"].expected
    gone = [mention("it", 1.5, 9_999, weight=-1)]
    before = on_time.scores["it"]
    on_time.take(on_time.scorer.apply(gone))
    after = on_time.scores["it"]
    assert sum(after.counts) == sum(before.counts) - 1
    assert after.expected == before.expected


def test_a_source_that_was_down_is_no_decline_and_one_that_is_back_no_burst() -> None:
    told, untold = World(), World()
    down, back = 24 * 2, 24 * 6
    told.scorer.was_down("rss", T0 + down * HOUR, T0 + back * HOUR)
    for world in (told, untold):
        for hour in range(back + 24):
            sources = ("rss", "rss", "rss", "file") if not down <= hour < back else ("file",)
            for i, source in enumerate(sources):
                seq = hour * 10 + i
                world.take(world.scorer.apply([mention("it", hour + i / 8, seq, source=source)]))
    known, unknown = told.scores["it"], untold.scores["it"]
    assert unknown.burst > 1 > known.burst
    assert known.expected > 1.5 * unknown.expected
    during = [next(s for s in w.history if s.slice_start == T0 + (down + 12) * HOUR) for w in (told, untold)]
    assert abs(during[0].velocity) < 0.3
    assert during[1].velocity < -1
    assert all(60 < share <= 75 for share in during[0].hidden[-12:])
    at = T0 + (back + 23.9) * HOUR
    assert rising([known], at) == []
    assert [r.score.trend_id for r in rising([unknown], at)] == ["it"]


def test_words_that_posts_share_by_chance_never_trend() -> None:
    chance, story = World(), World()
    chance.take(chance.scorer.apply([mention("it", 0, i, topic=f"topic-{i // 2}") for i in range(12)]))
    story.take(story.scorer.apply([mention("it", 0, i, topic=f"topic-{max(0, i - 4)}") for i in range(12)]))
    assert (chance.scores["it"].burst, chance.scores["it"].story, chance.rising(0.5)) == (0, 2, [])
    assert story.scores["it"].burst > 1
    assert (story.scores["it"].story, story.rising(0.5)) == (5, ["it"])


def test_a_deletion_takes_its_publisher_and_its_copy_back() -> None:
    world = World()
    seen = [mention("it", 0, i, publisher=f"p{i}", echo=i > 2) for i in range(6)]
    world.take(world.scorer.apply(seen))
    gone = [mention("it", 0, 10 + i, publisher=f"p{i}", echo=i > 2, weight=-1) for i in (0, 5)]
    world.take(world.scorer.apply(gone))
    assert (world.scores["it"].publishers, world.scores["it"].items) == (4, 4)


def test_the_hour_stands_beside_the_day() -> None:
    world = World()
    for hour in range(24 * 5):
        world.hour(hour, it=2)
    world.hour(24 * 5, it=14)
    score = world.scores["it"]
    assert score.hour_expected == pytest.approx(2, rel=0.1)
    assert score.hour_burst > 3 > score.burst
    assert score.acceleration > 0
    assert (score.peak, score.peaked_at) == (score.burst, T0 + (24 * 5 + 1) * HOUR)


def test_publishers_are_counted_exactly_while_they_are_few_and_well_when_many() -> None:
    world = World()
    world.take(
        world.scorer.apply([mention("it", h, h * 1000 + i, publisher=f"p{i}") for h in range(2) for i in range(1_000)])
    )
    assert world.scores["it"].publishers == 1_000
    world.take(world.scorer.apply([mention("it", 2, i, publisher=f"q{i}") for i in range(30_000)]))
    assert 31_000 * 0.92 < world.scores["it"].publishers < 31_000 * 1.08
    assert max(len(value) for value in world.state.values()) < 16_000


def test_a_trend_is_forgotten_after_a_silent_past_and_its_version_goes_on_above() -> None:
    world = World(SMALL)
    world.hour(0, it=3, other=1)
    for hour in range(1, 26):
        world.hour(hour, other=1)
    assert {trend_of_state(key) for key in world.state} == {"other"}
    assert len(world.scorer) == 1
    before = world.scores["it"]
    world.hour(27, it=1)
    assert world.scores["it"].version > before.version
    assert world.scores["it"].total == 1


def test_the_longest_silent_trend_gives_way_when_memory_is_full() -> None:
    world = World(SMALL)
    world.hour(0, a=1)
    world.hour(1, b=1)
    world.hour(2, c=1)
    world.hour(3, a=1)
    world.hour(4, d=1)
    assert {trend_of_state(key) for key in world.state} == {"a", "c", "d"}


def test_one_item_from_the_future_does_not_age_all_others() -> None:
    world = World(SMALL)
    world.hour(0, it=3)
    world.hour(10_000, broken=1)
    world.hour(1, it=3)
    assert world.scores["it"].total == 6


def test_a_burst_fades_by_half_with_its_half_life_and_ends() -> None:
    world = World()
    world.hour(0, quiet=1)
    world.hour(72, it=40)
    config = world.scorer.config
    now = [rising(list(world.scores.values()), T0 + h * HOUR, config) for h in (72.5, 96.5, 108.5, 300)]
    assert [len(r) for r in now] == [1, 1, 1, 0]
    assert now[1][0].items == 0
    assert now[1][0].burst == 0
    assert now[0][0].strength > now[1][0].strength > now[2][0].strength
    # 12 hours after the last window that holds it (counted in steps of 6 hours) half of it is left.
    assert now[2][0].strength == pytest.approx(now[0][0].strength * 2 ** (-18 / 12), rel=0.2)
    assert T0 + 90 * HOUR < now[2][0].peaked_at <= T0 + 97 * HOUR


def test_looking_back_shows_what_was_rising_then() -> None:
    world = World()
    rng = random.Random(5)
    then: dict[int, list[tuple[str, float]]] = {}
    for hour in range(24 * 6):
        counts = {f"t{i}": int(rng.expovariate(1.2)) + (8 if hour // 9 == i else 0) for i in range(12)}
        world.hour(hour, **counts)
        then[hour] = [
            (r.score.trend_id, r.burst)
            for r in rising(list(world.scores.values()), T0 + (hour + 0.9) * HOUR, world.scorer.config)
        ]
    for hour in range(24 * 3, 24 * 6, 7):
        back = rising(list(world.scores.values()), T0 + (hour + 0.9) * HOUR, world.scorer.config)
        assert dict(then[hour]) == pytest.approx({r.score.trend_id: r.burst for r in back})


def test_the_order_of_ranks_is_the_order_of_rising_for_trends_of_one_moment() -> None:
    world = World()
    rng = random.Random(6)
    for hour in range(24 * 4):
        world.hour(hour, **{f"t{i}": int(rng.expovariate(0.8)) + (7 if hour // 8 == i else 1) for i in range(12)})
    at = rising(list(world.scores.values()), T0 + 95.9 * HOUR, world.scorer.config, min_burst=1e-9)
    ranked = sorted((s for s in world.scores.values() if s.rank is not None), key=lambda s: -(s.rank or 0))
    assert len(at) >= 6
    assert [r.score.trend_id for r in at] == [s.trend_id for s in ranked]
    fading = log(2) / world.scorer.config.half_life_slices
    newest = world.scorer.config.slice_of(T0 + 95 * HOUR)
    assert [log(r.strength) + fading * newest for r in at] == pytest.approx([s.rank for s in ranked], abs=1e-9)


def test_scores_of_other_slices_are_refused() -> None:
    world = World()
    world.hour(0, it=9)
    with pytest.raises(ValueError, match="slices of 3600 s, 600 s were expected"):
        rising(list(world.scores.values()), T0, ScoringConfig(slice_s=600))
    assert rising([], T0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"slice_s": 7_000}, {"window_slices": 0}, {"window_slices": 100}, {"past_slices": 200}, {"bias": 0.0},
        {"fading_slices": 130}, {"max_trends": 0},
    ],
)  # fmt: skip
def test_figures_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ScoringConfig(**wrong)


# ---------------------------------------------------------------------------------------------------------------- laws

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 15),  # quarters of an hour: all within the burst window of SMALL
        st.sampled_from(["p", "q", "r", "s"]),
        st.sampled_from([1, 1, 1, 1, 0, -1]),
        st.booleans(),
        st.integers(-3, 50),
    ),
    min_size=1,
    max_size=60,
)


def of(events: Sequence[tuple[str, int, str, int, bool, int]], first: int = 1) -> list[Mention]:
    return [
        mention(
            trend, quarter / 4, seq, weight=weight, publisher=publisher, echo=echo, engagement=Engagement(points=points)
        )
        for seq, (trend, quarter, publisher, weight, echo, points) in enumerate(events, first)
    ]


def figures(score: TrendScore) -> dict[str, Any]:
    return {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for name, value in asdict(score).items()
        if name != "version"
    }


@settings(max_examples=60)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 20))
def test_mentions_add_up_in_any_order_and_any_batches(events: Any, rng: random.Random, size: int) -> None:
    opening = of([("a", 0, "p", 1, False, 0), ("b", 0, "p", 1, False, 0), ("c", 15, "p", 1, False, 0)])
    straight, shuffled = World(SMALL), World(SMALL)
    for world in (straight, shuffled):
        world.take(world.scorer.apply(opening))
    mentions = of(events, first=10)
    straight.take(straight.scorer.apply(mentions))
    rng.shuffle(mentions)
    for i in range(0, len(mentions), size):
        shuffled.take(shuffled.scorer.apply(mentions[i : i + size]))
    assert shuffled.scores.keys() == straight.scores.keys()
    for trend_id, score in straight.scores.items():
        assert asdict(shuffled.scores[trend_id]) | {"version": 0} == figures(score) | {"version": 0}
        assert shuffled.scores[trend_id].version == score.version


EVENT = st.tuples(
    st.sampled_from("abcde"), st.integers(0, 30), st.sampled_from("pqr"), st.sampled_from([1, 1, 0, -1]), st.booleans()
)
BATCHES = st.lists(st.lists(EVENT, min_size=1, max_size=8), min_size=1, max_size=12)


@settings(max_examples=60)
@given(BATCHES, st.integers(0, 11))
@example(
    [
        [("a", 0, "p", 1, False)],
        [(t, h, "p", 1, False) for t, h in (("a", 7), ("b", 7), ("d", 6))],
        [("c", 0, "p", 1, False)],
        [("a", 0, "p", 1, False)],
    ],
    3,
)
def test_a_restored_scorer_decides_as_the_uninterrupted_one(batches: Any, stop: int) -> None:
    uninterrupted, stopped = World(SMALL), World(SMALL)
    seq = 0
    for number, batch in enumerate(batches):
        mentions = []
        for trend, hours, publisher, weight, echo in batch:
            seq += 1
            mentions.append(mention(trend, number * 6 + hours, seq, publisher=publisher, weight=weight, echo=echo))
        if number == stop:
            stopped.scorer = TrendScorer(SMALL, "g1")
            for key, value in stopped.state.items():
                stopped.scorer.restore(key, value)
            stopped.scorer.finish_restore()
        expected = uninterrupted.take(uninterrupted.scorer.apply(mentions))
        got = stopped.take(stopped.scorer.apply(mentions))
        assert got.scores == expected.scores
        assert got.state == expected.state


WIDE = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.sampled_from("pqrs"), st.sampled_from([1, 1, 1, 0, -1])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60)
@given(WIDE, st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_how_mentions_are_cut_into_batches_leaves_no_mark(events: Any, sizes: list[int]) -> None:
    opening = [mention("a", 0, 1), mention("b", 0, 2)]
    config = ScoringConfig(past_slices=80, window_slices=4, fading_slices=8)
    whole, cut = World(config), World(config)
    mentions = [mention(t, h, n, publisher=p, weight=w) for n, (t, h, p, w) in enumerate(events, 10)]
    for world in (whole, cut):
        world.take(world.scorer.apply(opening))
    whole.take(whole.scorer.apply(mentions))
    begin = 0
    for size in sizes * 40:
        cut.take(cut.scorer.apply(mentions[begin : begin + size]))
        begin += size
    assert cut.scores == whole.scores
    assert {k: v for k, v in cut.state.items() if not k.startswith(b"/")} == {
        k: v for k, v in whole.state.items() if not k.startswith(b"/")
    }


def test_state_of_the_former_format_goes_on() -> None:
    part = [3, [7, 8], [8], {"file": 3}, [5, 0, 0, 0, 0]]
    newest = ScoringConfig().slice_of(T0)
    former = [9, T0.timestamp(), T0.timestamp(), newest, 4, 4, {newest: part}, {newest - 30: 6}, newest - 40, newest]
    scorer = TrendScorer(ScoringConfig(), "g1")
    for key, value in upgraded(b"it", msgspec.msgpack.encode(former)):
        scorer.restore(key, value)
    (score,) = scorer.apply([mention("it", 0.5, 14)]).scores
    assert (score.items, score.counts[-31], score.publishers, score.version) == (5, 6, 3, 14)
    assert score.engagement.points == 5
    assert upgraded(b"it", None) == []
    with pytest.raises(ValueError, match="version 1"):
        upgraded(b"it", b"?")


def test_state_is_read_in_log_order_with_its_tombstones() -> None:
    world = World(SMALL)
    world.hour(0, it=3)
    record = world.scorer.apply([mention("it", 0.5, 50)]).state
    scorer = TrendScorer(SMALL, "g1")
    for key, value in [*world.state.items(), *record, (b"/it", None), (b"/unknown", None)]:
        scorer.restore(key, value)
    assert len(scorer) == 0


def test_versions_grow_with_every_mention_and_scores_survive_the_wire() -> None:
    world = World()
    for hour in range(50):
        world.hour(hour, it=hour % 4)
    versions = [score.version for score in world.history]
    assert versions == sorted(set(versions))
    assert versions[-1] == sum(hour % 4 for hour in range(50))
    for score in world.history:
        assert decode(TrendScore, encode(score)) == score
        assert score.items == score.counts[-1]


def test_no_mentions_change_nothing() -> None:
    assert TrendScorer(SMALL, "g1").apply([]) == Scored([], [])
