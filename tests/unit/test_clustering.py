"""The space of topics: the nearest is the nearest, sums are exact in any order, everything is bounded."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.labelled import synthetic_posts
from models.clustering import (
    SIGNS_MARGIN,
    TERMS_ALIKE,
    TOPIC_TERMS,
    ClusterConfig,
    Point,
    TopicSpace,
    points,
    squared_weight,
)
from models.embedding import EmbeddingCache, create
from models.postings import Postings
from models.topics import MEMBERS, Topic, member_of, raised
from streams.records import Engagement
from tests.unit.test_engine import embedded
from trends.evaluation import alone

D = 32
HOUR = 3_600_000_000
CONFIG = ClusterConfig(join_at=0.2, pair_at=0.25)
INDEXED = replace(CONFIG, compared_topics=22)
"""Some topics more than this are there in the tests below."""


def some_points(seed: int, n: int) -> list[Point]:
    rng = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(30)]
    made = points(
        rng.normal(size=(n, D)).astype(np.float32),
        [[str(w) for w in rng.choice(words, size=rng.integers(0, 6), replace=False)] for _ in range(n)],
    )
    for i, point in enumerate(made):
        point.at_us = i * HOUR
    return made


def filled(
    seed: int, topics: int, members: int, config: ClusterConfig = CONFIG
) -> tuple[TopicSpace, dict[str, list[Point]]]:
    space, rng = TopicSpace(config, D), random.Random(seed)
    held: dict[str, list[Point]] = {}
    for i, point in enumerate(some_points(seed, topics + members)):
        if i < topics:
            space.found(f"t{i}", i, point)
            held[f"t{i}"] = [point]
        else:
            topic = rng.choice(list(held))
            space.add(topic, point)
            held[topic].append(point)
    return space, held


def by_definition(members: list[Point], point: Point) -> tuple[float, float]:
    """The similarity, and the cosine of the terms."""
    total = np.sum([m.vector for m in members], axis=0).astype(float)
    cosine = total @ point.vector / (np.linalg.norm(total) * np.linalg.norm(point.vector))
    counts: dict[str, float] = {}
    for member in members:
        for term in member.terms:
            counts[term] = counts.get(term, 0) + math.sqrt(squared_weight(term))
    own = {term: math.sqrt(squared_weight(term)) for term in point.terms}
    length = math.sqrt(sum(v * v for v in counts.values()) * sum(v * v for v in own.values()))
    terms = sum(counts.get(t, 0) * w for t, w in own.items()) / length if length else 0.0
    days = max(0, point.at_us - max(m.at_us for m in members)) / (24 * HOUR)
    return float(0.6 * cosine + 0.4 * terms - min(CONFIG.max_age_penalty, CONFIG.age_penalty * days)), terms


def told(members: list[Point], point: Point) -> bool:
    """Whether the signs of a topic's one vector tell its cosine within the margin, as nearly always."""
    [one] = members
    cosine = float(one.vector @ point.vector) / math.sqrt(one.square * point.square)
    differ = int(np.bitwise_count(one.signs ^ point.signs).sum())
    return math.cos(math.pi * differ / D) >= cosine - SIGNS_MARGIN / math.sqrt(D)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([CONFIG, INDEXED]))
def test_the_nearest_topic_is_the_one_that_is_nearest_by_definition(seed: int, config: ClusterConfig) -> None:
    """Topics come, grow and go meanwhile; where there are many, those of one item need terms in common."""
    space, held = filled(seed, 20, 30, config)
    rng = random.Random(seed)
    asked = some_points(seed + 1, 24)
    space.look_ahead(asked)
    for i, point in enumerate(asked):
        near = {topic: by_definition(members, point) for topic, members in held.items()}
        if len(held) > config.compared_topics:
            near = {t: v for t, v in near.items() if len(held[t]) > 1 or (v[1] >= TERMS_ALIKE and told(held[t], point))}
        best = max(near, key=lambda topic: near[topic][0])
        similarity = near[best][0]
        found = space.nearest(point, i)
        if similarity < (CONFIG.join_at if len(held[best]) > 1 else CONFIG.pair_at) - 1e-9:
            assert found is None
        else:
            assert found is not None
            assert found[0] == best
            assert found[1] == pytest.approx(similarity, abs=1e-9)
        act = rng.random()  # what was computed ahead is out of date from here on
        if act < 0.4:
            space.add(best, point)
            held[best].append(point)
        elif act < 0.8:
            space.found(f"n{i}", 100 + i, point)
            held[f"n{i}"] = [point]
        elif len(held) > 5:
            gone = rng.choice(sorted(held))
            space.drop(gone)
            del held[gone]


def test_candidates_by_index_lose_hardly_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a world of stories, against every topic that there is: recall of what an item joins."""
    posts = synthetic_posts(600, 5)
    nearest, asked, found = TopicSpace.nearest, 0, 0

    def compared(self: TopicSpace, point: Point, ahead: int) -> tuple[str, float] | None:
        nonlocal asked, found
        given = nearest(self, point, ahead)
        self._config = replace(self._config, compared_topics=10**9)
        self._settle_size()
        best = nearest(self, point, ahead)
        self._config = replace(self._config, compared_topics=0)
        self._settle_size()
        asked += best is not None
        found += best is not None and given == best
        return given

    monkeypatch.setattr(TopicSpace, "nearest", compared)
    alone(posts.sightings, create("onnx", threads=1), EmbeddingCache(), config=ClusterConfig(compared_topics=0))
    assert asked > 200
    assert found >= 0.99 * asked


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 4)), max_size=80))
def test_postings_add_up_what_is_in_them(changes: list[tuple[int, int, int]]) -> None:
    """A count of 0 takes a pair out."""
    postings, truth, places = Postings(), dict[tuple[str, int], int](), dict[tuple[str, int], int]()
    for number, slot, count in changes:
        pair = (f"t{number}", slot)
        if count and pair in truth:
            postings.set(pair[0], places[pair], count)
        elif count:
            places[pair] = postings.add(*pair, count)
        elif pair in truth:
            place = places.pop(pair)
            if (moved := postings.remove(pair[0], place)) >= 0:
                places[pair[0], moved] = place
        truth[pair] = count
        truth = {key: n for key, n in truth.items() if n}
    slots, sums = postings.products([(f"t{number}", number + 1) for number in range(6)])
    expected: dict[int, int] = {}
    for (term, slot), count in truth.items():
        expected[slot] = expected.get(slot, 0) + count * (int(term[1:]) + 1)
    assert dict(zip(slots.tolist(), sums.tolist(), strict=True)) == expected
    assert len(postings) == len({term for term, _ in truth})


def test_grown_topics_on_one_field_that_share_no_words_stay_apart() -> None:
    def pairs(items: int, words: tuple[str, str]) -> list[tuple[str, str]]:
        space = TopicSpace(ClusterConfig(), D)
        [near] = some_points(1, 1)
        for topic, word in zip("ab", words, strict=True):
            space.found(topic, 0, replace(near, terms=(word,)))
            for _ in range(items - 1):
                space.add(topic, replace(near, terms=(word,)))
        return [(merge.winner, merge.loser) for merge in space.alike(["a", "b"])]

    assert pairs(2, ("kernel", "senate")) == pairs(8, ("kernel", "kernel")) == [("a", "b")]
    assert pairs(8, ("kernel", "senate")) == []


def test_the_topics_that_have_waited_longest_go_first() -> None:
    space, _ = filled(3, 8, 0)  # an item an hour
    assert space.waiting_longest(3 * HOUR, 100) == ["t0", "t1", "t2"]
    assert space.waiting_longest(3 * HOUR, 4) == ["t0", "t1", "t2", "t3"]
    assert space.waiting_longest(0, 8) == []
    for topic in ("t5", "t6", "t4"):
        space.touch(topic, 0)
    assert space.waiting_longest(0, 6) == ["t0", "t1"]
    space.drop("t0")
    space.touch("t3", 0)
    assert space.waiting_longest(0, 5) == ["t1", "t2"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_a_topic_is_the_same_whatever_the_order_and_grouping_of_its_items(seed: int, rng: random.Random) -> None:
    made = some_points(seed, 12)
    one, other = TopicSpace(CONFIG, D), TopicSpace(CONFIG, D)
    one.found("a", 0, made[0])
    for point in made[1:]:
        one.add("a", point)
    rng.shuffle(made)
    other.found("a", 0, made[0])
    other.found("b", 0, made[1])
    for i, point in enumerate(made[2:]):
        other.add("ab"[i % 2], point)
    other.merge("a", "b")
    assert np.array_equal(one.sums_of("a"), other.sums_of("a"))
    assert np.array_equal(one.unit_of("a"), other.unit_of("a"))
    assert one.top_terms("a", 50) == other.top_terms("a", 50)
    assert one.similarity("a", made[0]) == other.similarity("a", made[0])
    assert "b" not in other


def test_topics_alike_are_paired_once_the_older_one_first() -> None:
    space = TopicSpace(ClusterConfig(), D)
    [near, far] = some_points(1, 2)
    space.found("younger", 9, near)
    space.found("older", 5, near)
    space.found("oldest", 1, near)
    space.found("other", 0, far)
    merges = space.alike(["younger", "older", "oldest", "other", "gone"])
    pairs = [(merge.winner, merge.loser) for merge in merges]
    assert pairs
    assert all((winner, loser) != ("other", loser) for winner, loser in pairs)
    losers = [loser for _, loser in pairs]
    assert len(losers) == len(set(losers))
    assert not set(losers) & {winner for winner, _ in pairs}
    assert "oldest" not in losers
    assert all(str(merge.likeness).startswith("alike: similarity 1.00 (embeddings 1.00") for merge in merges)


def test_terms_of_a_topic_are_bounded_and_the_heaviest_stay() -> None:
    space = TopicSpace(CONFIG, D)
    [point] = some_points(1, 1)
    space.found("a", 0, replace(point, terms=("kernel",)))
    for i in range(300):
        space.add("a", replace(point, terms=(f"rare{i}", "kernel")))
    assert len(space["a"].terms) <= TOPIC_TERMS
    assert space.top_terms("a", 1) == [("kernel", 1.0)]
    weights = sum(n * n * squared_weight(term) for term, n in space["a"].terms.items())
    assert space["a"].term_square == weights


def test_an_item_without_text_finds_nothing() -> None:
    space, _ = filled(3, 5, 5)
    [blank] = points(np.zeros((1, D), np.float32), [[]])
    space.look_ahead([blank])
    assert space.nearest(blank, 0) is None


def test_slots_of_topics_that_are_gone_are_used_again() -> None:
    space = TopicSpace(CONFIG, D)
    for i, point in enumerate(some_points(2, 600)):
        space.found(f"t{i}", i, point)
        if i >= 10:
            space.drop(f"t{i - 10}")
    assert len(space) == 10
    assert len(space._centroids) == 11


# ------------------------------------------------------------------------------------------- what a topic counts


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.integers(0, 2_000_000_000)), min_size=2, max_size=12), st.randoms())
def test_rank_keys_add_up_in_any_order(added: list[tuple[float, int]], rng: random.Random) -> None:
    def total(parts: list[tuple[float, int]]) -> float:
        rank: float | None = None
        for weight, at_s in parts:
            rank = raised(rank, weight, at_s)
        assert rank is not None
        return rank

    first = total(added)
    rng.shuffle(added)
    assert total(added) == pytest.approx(first, abs=1e-9, rel=1e-12)


def test_what_is_taken_out_of_a_rank_leaves_the_rest() -> None:
    now = 1_473_000_000
    both = raised(raised(None, 1.0, now), 1.0, now - 3_600)
    assert raised(both, -1.0, now - 3_600) == pytest.approx(raised(None, 1.0, now), abs=1e-9)
    assert raised(raised(None, 1.0, now), -1.0, now) is None


def test_an_item_a_day_older_counts_half() -> None:
    now = 1_473_000_000
    one, other = raised(None, 1.0, now), raised(None, 2.0, now - 86_400)
    assert one == pytest.approx(other)


def test_members_are_the_nearest_five_and_the_latest() -> None:
    rng = np.random.default_rng(4)
    centre = rng.normal(size=D)
    topic = Topic(topic_id="t", trend_id="a", founded_us=0, first_us=0, last_us=0, round=0)
    [near] = points(centre[None].astype(np.float32), [[]])
    spreads = [0.05] * 5 + [2.0] * 40
    for i, spread in enumerate(spreads):
        [point] = points((centre + spread * rng.normal(size=D))[None].astype(np.float32), [[]])
        item = embedded(str(i), f"title {i}").item
        topic.admit([member_of(item, point.direction, point.direction_square, i)], near.vector, near.square)
    joined = {member.joined for member in topic.members.values()}
    assert len(joined) == MEMBERS
    assert {0, 1, 2, 3, 4} <= joined
    assert {44, 43, 42, 41, 40} <= joined
    assert {topic.members[p].joined for p in topic.nearest_members(near.vector, near.square)[:5]} == {0, 1, 2, 3, 4}


def test_counts_of_topics_add_up_when_they_merge() -> None:
    def counted(names: str) -> Topic:
        topic = Topic(topic_id=names, trend_id="a", founded_us=0, first_us=9, last_us=9, round=0)
        for i, name in enumerate(names):
            item = embedded(f"{names}{i}", "title", publisher=name, source=name).item
            topic.count(item, f"term:{name}", i * HOUR, False, 1)
            topic.engage(Engagement(points=1), i * HOUR)
        return topic

    whole, part = counted("abc"), counted("cd")
    whole.absorb(part)
    assert whole.size == 5
    assert whole.sources == {"a": 1, "b": 1, "c": 2, "d": 1}
    assert len(whole.publishers) == 4
    assert whole.engagement.points == 5
    assert (whole.first_us, whole.last_us) == (0, 2 * HOUR)
    assert whole.rank == pytest.approx(raised(counted("abc").rank, 1.0, (part.rank or 0) / (math.log(2) / 86_400)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_topic_finds_what_it_is_to_be_merged_with_by_the_index_too(seed: int) -> None:
    """Where they share terms: of what comparing with all finds, and nothing else."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, D))
    made = points(
        np.stack([centres[i % 6] + 0.8 * rng.normal(size=D) for i in range(60)]).astype(np.float32),
        [[f"word{i % 6}x{k}" for k in rng.choice(12, size=4, replace=False)] for i in range(60)],
    )
    everyone, indexed = TopicSpace(CONFIG, D), TopicSpace(replace(CONFIG, compared_topics=0), D)
    for space in (everyone, indexed):
        for i, point in enumerate(made):
            if i < 30:
                space.found(f"t{i}", i, point)
            else:
                space.add(f"t{i % 12}", point)
    for topic in (f"t{i}" for i in range(12)):
        best = next(iter(everyone.alike([topic])), None)
        found = indexed.alike([topic])
        if best is not None and best.likeness.term_cosine >= 0.2:
            assert found[:1] == [best]
        elif best is None:
            assert not found
