"""The synthetic world: the same for the same parameters, with a truth that it never tells."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import lexicon
from connectors.synthetic import COPIES, RETOLD, Dice, SyntheticConnector, SyntheticOptions, World
from models.text import canonical_url
from streams.records import Kind
from tests.unit.connectors.helpers import Hands, collect, read, sightings

ITEMS = 3_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(SyntheticOptions(items=ITEMS))


def digest(world: World) -> str:
    return hashlib.sha256(b"\n".join(msgspec.json.encode(seen) for seen in world)).hexdigest()


GOLDEN = "378e57ff16327743338230affe377fb2156fdba30b8300c5839454f3d967e96f"


def test_the_world_is_the_same_in_every_process_and_python_version() -> None:
    assert digest(World(SyntheticOptions(seed=7, items=400))) == GOLDEN


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 150), st.floats(0, 0.9), st.floats(10, 5e4))
def test_the_same_parameters_give_the_same_world(seed: int, items: int, noise: float, per_day: float) -> None:
    options = SyntheticOptions(seed=seed, items=items, noise=noise, per_day=per_day)
    first, second = World(options), World(options)
    assert list(first) == list(second)
    assert first.truth == second.truth
    assert len(first.truth) == items


def test_a_longer_world_begins_the_same() -> None:
    short, long = World(SyntheticOptions(items=200)), World(SyntheticOptions(items=400))
    assert short.key == long.key
    assert short.truth.items() <= long.truth.items()


def test_other_parameters_give_other_items() -> None:
    one, other = World(SyntheticOptions(items=200)), World(SyntheticOptions(items=200, seed=2))
    assert not one.truth.keys() & other.truth.keys()


def test_sightings_come_in_the_order_of_their_observation(world: World) -> None:
    times = [seen.observed_at for seen in world]
    assert times == sorted(times)
    assert all(seen.published_at <= seen.observed_at for seen in world)


def test_truth_is_known_of_every_item_and_told_by_none(world: World) -> None:
    seen = list(world)
    assert {each.external_id for each in seen} == world.truth.keys()
    assert len(world.truth) == ITEMS
    sent = b"".join(msgspec.json.encode(each) for each in seen)
    assert b"story-" + world.key.encode() not in sent
    assert b"noise-" + world.key.encode() not in sent


def test_noise_has_its_share_and_stories_are_heavy_tailed(world: World) -> None:
    noise = sum(truth.trend is None for truth in world.truth.values()) / ITEMS
    assert 0.30 < noise < 0.40
    sizes = sorted(Counter(truth.topic for truth in world.truth.values() if truth.trend).values())
    assert len(sizes) > 100
    assert sizes[-1] > 5 * sizes[len(sizes) // 2]
    trends = {truth.trend for truth in world.truth.values() if truth.trend}
    assert len(trends) < len(sizes)  # subjects have several stories


def test_a_story_is_told_in_many_ways_by_many_sites(world: World) -> None:
    titles: dict[str, set[str]] = defaultdict(set)
    sites: dict[str, set[str | None]] = defaultdict(set)
    for seen in world:
        topic, trend, _, _ = world.truth[seen.external_id]
        if trend and seen.title:
            titles[topic].add(seen.title)
            sites[topic].add(seen.publisher)
    largest = max(titles, key=lambda topic: len(titles[topic]))
    assert len(titles[largest]) >= 8
    assert len(sites[largest]) >= 8


def test_items_are_seen_again_with_growth_edits_and_deletions(world: World) -> None:
    first: dict[str, int] = {}
    grew = shrank = edited = deleted = 0
    titles: dict[str, str] = {}
    for seen in world:
        if seen.external_id in first:
            grew += seen.engagement.points > first[seen.external_id]
            shrank += seen.engagement.points < first[seen.external_id]
            edited += seen.kind is not Kind.DELETED and seen.title != titles[seen.external_id]
            deleted += seen.kind is Kind.DELETED
        else:
            assert seen.kind is not Kind.DELETED
            titles[seen.external_id] = seen.title
            first[seen.external_id] = seen.engagement.points
    assert grew > ITEMS * 0.1
    assert edited > ITEMS * 0.005
    assert deleted > ITEMS * 0.003
    assert shrank < edited + deleted + 1


def test_some_items_are_copies_and_it_is_known_of_what_and_how(world: World) -> None:
    first = {seen.external_id: seen for seen in reversed(list(world))}
    copies = {key: truth for key, truth in world.truth.items() if truth.copy_of}
    assert {truth.how for truth in copies.values()} == {*COPIES, RETOLD}
    links = 0
    for key, truth in copies.items():
        copy, original = first[key], first[truth.copy_of or ""]
        assert world.truth[original.external_id].copy_of is None
        assert (truth.topic, truth.trend) == world.truth[original.external_id][:2]
        assert copy.observed_at > original.observed_at
        links += canonical_url(copy.url) == canonical_url(original.url)
        assert truth.how == "url" or canonical_url(copy.url) != canonical_url(original.url)
    assert links > ITEMS * 0.01
    shares = Counter(truth.how for truth in copies.values())
    assert min(shares.values()) > ITEMS * 0.003


def test_every_phrase_can_be_told(world: World) -> None:
    assert all(not any(mark in seen.title + seen.body for mark in "{}[]|") or " | " in seen.title for seen in world)
    used = {event for domain in lexicon.DOMAINS for event in domain.events}
    assert used == lexicon.EVENTS.keys()
    for event in lexicon.EVENTS.values():
        assert len(event.titles) >= 7
        assert len(event.bodies) >= 3


def test_event_time_begins_wherever_one_likes() -> None:
    start = datetime(1999, 12, 31, 23, tzinfo=UTC)
    assert next(iter(World(SyntheticOptions(start=start, items=5)))).observed_at.year in (1999, 2000)


async def test_the_rate_of_event_time_is_about_what_was_asked() -> None:
    for per_day in (500.0, 50_000.0):
        seen = list(World(SyntheticOptions(items=4_000, per_day=per_day, reobserved=0, edited=0, deleted=0)))
        days = (seen[-1].observed_at - seen[0].observed_at).total_seconds() / 86_400
        assert 0.4 * per_day < 4_000 / days < 2.5 * per_day


async def test_resume_gives_the_rest_and_only_that() -> None:
    connector = SyntheticConnector(SyntheticOptions(items=1_500))
    batches = await read(connector)
    assert [batch.fraction for batch in batches][-1] == 1.0
    for position, batch in enumerate(batches):
        rest = sightings(await read(connector, batch.cursor))
        assert rest == sightings(batches[position + 1 :])


async def test_a_cursor_of_another_world_counts_as_none() -> None:
    other = (await read(SyntheticConnector(SyntheticOptions(items=50, seed=9))))[-1].cursor
    assert len(sightings(await read(SyntheticConnector(SyntheticOptions(items=50)), other))) >= 50


async def test_pace_is_kept() -> None:
    hands = Hands()
    report, _ = await collect(SyntheticConnector(SyntheticOptions(items=100, pace_per_s=10.0)), hands=hands)
    assert report.delivered / hands.at_s == pytest.approx(10.0, rel=0.1)


@given(st.integers(1, 1000), st.text(max_size=20))
@settings(max_examples=50)
def test_dice_stay_within_bounds(count: int, seed: str) -> None:
    dice, options = Dice(seed), list(range(count))
    for _ in range(20):
        assert dice.pick(options) in options
        assert dice.pick_early(options) in options
        assert 0 <= dice.below(count) < count
        assert dice.exponential(2.0) >= 0
        assert 1.0 <= dice.log_normal(3.0, 2.0, 1.0, 9.0) <= 9.0
