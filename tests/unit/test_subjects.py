"""Rising trends and topics as one list of subjects."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from models.subjects import NAMES, Candidate, Subject, Told, likeness, subjects

QUAKE = [
    "Earthquake destroys harbour of Kathmandu",
    "Strong earthquake in Kathmandu, harbour destroyed",
    "Kathmandu earthquake: harbour gone",
    "After the Kathmandu earthquake",
    "Earthquake shakes Kathmandu",
]
APPS = [
    "An app that waters gardens",
    "Why nobody needs your banking app",
    "The app economy of Madagascar",
    "Writing an app in Haskell",
    "My weather app was rejected",
]
VIOLIN = ["Violinist sells a stolen Stradivarius", "Stolen Stradivarius sold by violinist", "A stolen Stradivarius"]


def told(titles: Sequence[str], start: int = 0) -> list[Told]:
    return [Told(f"item-{start + n}", title) for n, title in enumerate(titles)]


def trend(name: str, strength: float, items: Sequence[Told]) -> Candidate:
    return Candidate(f"term:{name}", False, strength, items)


def topic(name: str, strength: float, items: Sequence[Told]) -> Candidate:
    return Candidate(name, True, strength, items)


def test_a_trend_and_a_topic_of_the_same_items_are_one_line_under_the_title_that_stands_for_them() -> None:
    items = told(QUAKE)
    (subject,) = subjects([trend("kathmandu", 5.0, items), topic("story-1", 7.0, items[:4])], 10)
    assert subject == Subject("story-1", ("term:kathmandu",), "story-1", "item-2", QUAKE[2])


def test_a_word_that_many_posts_share_is_no_subject_unless_it_is_tracked() -> None:
    candidates = [trend("app", 9.0, told(APPS)), trend("kathmandu", 5.0, told(QUAKE, 10))]
    assert [s.lead for s in subjects(candidates, 10)] == ["term:kathmandu"]
    assert [s.lead for s in subjects(candidates, 10, frozenset({"term:app"}))] == ["term:app", "term:kathmandu"]


def test_a_word_gives_no_name_to_a_story_either() -> None:
    items = told([*QUAKE[:2], *APPS])
    (subject,) = subjects([topic("story-1", 7.0, told(QUAKE)), trend("app", 3.0, items)], 10)
    assert subject.trends == ()


def test_two_stories_of_one_trend_are_two_lines_and_the_trend_stands_with_the_one_that_it_is_mostly_of() -> None:
    quake, violin = told(QUAKE), told(VIOLIN, 10)
    found = subjects(
        [topic("quake", 7.0, quake), topic("violin", 6.0, violin), trend("nepal", 5.0, [*quake, violin[0]])], 10
    )
    assert [(s.lead, s.trends) for s in found] == [("quake", ("term:nepal",)), ("violin", ())]


def test_names_that_rise_together_are_one_subject_and_are_bounded() -> None:
    items = told(QUAKE)
    names = [f"name{n}" for n in range(NAMES + 2)]
    (subject,) = subjects([trend(name, 9.0 - n, items) for n, name in enumerate(names)], 10)
    assert subject.trends == tuple(f"term:{name}" for name in names[:NAMES])
    assert subject.topic_id is None


def test_the_strongest_come_first_and_names_are_still_gathered_when_the_list_is_full() -> None:
    quake, violin = told(QUAKE), told(VIOLIN, 10)
    candidates = [topic("quake", 3.0, quake), topic("violin", 6.0, violin), trend("stradivarius", 1.0, violin)]
    assert [s.lead for s in subjects(candidates, 10)] == ["violin", "quake"]
    (first,) = subjects(candidates, 1)
    assert first.trends == ("term:stradivarius",)


def test_the_order_in_which_candidates_come_decides_nothing() -> None:
    quake, violin, apps = told(QUAKE), told(VIOLIN, 10), told(APPS, 20)
    candidates = [
        topic("quake", 3.0, quake), trend("kathmandu", 3.0, quake[1:]), topic("violin", 3.0, violin),
        trend("stradivarius", 3.0, violin), trend("app", 3.0, apps),
    ]  # fmt: skip
    expected = subjects(candidates, 10)
    for seed in range(10):
        random.Random(seed).shuffle(candidates)
        assert subjects(candidates, 10) == expected


def test_what_is_shown_under_the_same_title_is_one_subject() -> None:
    again = told([*QUAKE[:3], *QUAKE[:3]], 10)
    (subject,) = subjects([topic("one", 7.0, told(QUAKE[:3])), trend("kathmandu", 5.0, again)], 10)
    assert subject.trends == ("term:kathmandu",)


@pytest.mark.parametrize("titles", [[], ["Alone"], ["", ""], ["the", "the"]])
def test_what_says_nothing_is_about_nothing(titles: list[str]) -> None:
    assert not likeness(titles).one_thing(topic=True)
    assert subjects([topic("story", 3.0, told(titles))], 10) == []
