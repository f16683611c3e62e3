"""Which tracked subjects a text is about."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import Catalogue, hashtags, words
from streams.records import TrendDefinition, TrendStatus

AT = datetime(2016, 9, 1, tzinfo=UTC)


def subject(trend_id: str, *keywords: str, version: int = 1, **more: object) -> TrendDefinition:
    return TrendDefinition(
        trend_id=trend_id,
        title=trend_id.capitalize(),
        keywords=keywords,
        updated_at=AT,
        version=version,
        **more,  # type: ignore[arg-type]
    )


def of(*definitions: TrendDefinition) -> Catalogue:
    catalogue = Catalogue()
    for definition in definitions:
        catalogue.update(definition)
    return catalogue


def ids(catalogue: Catalogue, title: str, body: str = "", lang: str | None = None) -> list[str]:
    return [m.trend_id for m in catalogue.matches(words(title), words(body), lang)]


@pytest.mark.parametrize(
    ("keyword", "title", "matched"),
    [
        ("apple", "APPLE's new phone", True),
        ("apple", "Pineapple on pizza", False),
        ("apple", "Apples and pears", False),
        ("gpt", "GPT-4 is here", True),
        ("c", "C++ for beginners", False),
        ("c++", "Modern C++, explained", True),
        ("c#", "Why C# wins", True),
        ("galaxy note", "The Galaxy  Note 7 burns", True),
        ("galaxy note", "A galaxy, noted", False),
        ("node.js", "Node.js 6 released", True),
        ("at&t", "AT&T buys a rival", True),
        ("straße", "Die STRASSE brennt", True),
        ("地震", "日本の地震情報", True),
        ("café", "Cafe\u0301 culture", True),
        ("!!!", "!!! on tour", False),
        ("جامعة القاهرة", "افتتحت جامعةُ القاهرة معملاً", True),
        ("القاهرة", "بغداد والقاهرة", True),
        ("दिल्ली", "आज दिल्ली में बारिश", True),
        ("दल", "आज दिल्ली में बारिश", False),
        ("МОСТ", "Новый мост открыт", True),
        ("мост", "Мостовая", False),
        ("รถไฟ", "เปิดรถไฟสายใหม่", True),
        ("지하철", "서울지하철이 멈췄다", True),
    ],
)
def test_phrases_match_at_word_boundaries_whatever_their_case(keyword: str, title: str, matched: bool) -> None:
    assert bool(ids(of(subject("it", keyword)), title)) is matched


def test_a_subject_without_keywords_is_matched_by_its_title() -> None:
    assert ids(of(subject("tesla")), "Tesla recalls cars") == ["tesla"]


def test_the_most_telling_match_comes_first() -> None:
    catalogue = of(subject("apple", "apple"), subject("watch", "apple watch"), subject("tesla", "tesla"))
    assert ids(catalogue, "Tesla drivers like the Apple Watch", "apple again") == ["watch", "tesla", "apple"]
    assert ids(catalogue, "Something else", "about an apple watch") == ["watch", "apple"]


def test_an_exclusion_anywhere_vetoes() -> None:
    catalogue = of(subject("apple", "apple", exclude=("big apple", "pie")))
    assert ids(catalogue, "Apple opens a store") == ["apple"]
    assert ids(catalogue, "Big Apple news") == []
    assert ids(catalogue, "Apple recipes", "a pie for sunday") == []


def test_languages_admit_their_own_and_unknown_ones() -> None:
    catalogue = of(subject("bahn", "bahn", langs=("de",)))
    assert [ids(catalogue, "Bahn", lang=lang) for lang in ("de", "de-AT", "DE_ch", None, "en")] == [
        ["bahn"], ["bahn"], ["bahn"], ["bahn"], [],
    ]  # fmt: skip


def test_changes_apply_at_once_and_old_ones_never() -> None:
    catalogue = of(subject("apple", "apple", version=2))
    catalogue.update(subject("apple", "pear", version=1))
    assert ids(catalogue, "apple and pear") == ["apple"]
    catalogue.update(subject("apple", "pear", version=3))
    assert ids(catalogue, "apple") == []
    assert ids(catalogue, "pear") == ["apple"]
    catalogue.update(subject("apple", "pear", version=4, status=TrendStatus.RETIRED))
    assert (ids(catalogue, "pear"), len(catalogue)) == ([], 0)
    catalogue.update(subject("apple", "pear", version=3))
    assert ids(catalogue, "pear") == []


@given(
    st.lists(st.tuples(st.sampled_from("stuv"), st.lists(st.text("abc ", max_size=5), max_size=3), st.booleans())),
    st.text("abc ", max_size=20),
)
def test_the_index_finds_what_looking_at_every_phrase_finds(
    changes: list[tuple[str, list[str], bool]], title: str
) -> None:
    catalogue = Catalogue()
    phrases: dict[str, list[list[str]]] = {}
    for version, (name, keywords, active) in enumerate(changes):
        status = TrendStatus.ACTIVE if active else TrendStatus.RETIRED
        catalogue.update(subject(name, *keywords, version=version, status=status))
        phrases[name] = [words(k) for k in keywords or [name]] if active else []
    text = words(title)
    expected = {
        name
        for name, each in phrases.items()
        for p in each
        if p and any(text[i : i + len(p)] == p for i in range(len(text)))
    }
    assert set(ids(catalogue, title)) == expected


def test_a_hashtag_put_together_of_words_is_known_by_its_capitals() -> None:
    assert hashtags("On #OpenSource and #news, #HTTPServer") == [["open", "source"], ["http", "server"]]
    assert words("#OpenSource") == ["opensource"]


@pytest.mark.parametrize("shared", ["", "the "])
def test_many_subjects_cost_a_look_up_no_more_than_a_few(shared: str) -> None:
    rng = random.Random(1)
    syllables = ["ba", "ke", "li", "mo", "nu", "ra", "si", "to", "ve", "zu"]
    names = {
        shared + "".join(rng.choices(syllables, k=5)) + " " + "".join(rng.choices(syllables, k=3))
        for _ in range(50_000)
    }
    big, small = Catalogue(), Catalogue()
    for i, name in enumerate(sorted(names)):
        big.update(subject(f"s{i}", name))
        if i % 5_000 == 0:
            small.update(subject(f"s{i}", name))
    assert len(big) > 45_000
    titles = [words(rng.choice(["the launch of", "why", "inside"]) + " " + n) for n in rng.sample(sorted(names), 500)]

    def seconds(catalogue: Catalogue) -> float:
        started = time.process_time()
        for title in titles:
            catalogue.matches(title)
        return time.process_time() - started

    seconds(big)
    assert seconds(big) < 20 * min(seconds(small) for _ in range(3)) + 0.02
    assert all(big.matches(title) for title in titles)
