"""Home trend and mentions of an item."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.labelled import subjects_of_the_world
from benchmarks.routing import routed
from models import routing
from models.routing import MISC_TRENDS, Route, Router, is_misc
from tests.unit.test_catalogue import subject

AT = datetime(2016, 9, 7, 12, tzinfo=UTC)


def fed(*titles: str, at: datetime = AT, times: int = 1) -> Router:
    router = Router()
    for title in titles * times:
        router.route(title, at=at)
    return router


def test_the_home_is_a_term_of_the_item_that_was_chosen_before() -> None:
    router = fed(*["The iPhone"] * 8, "Headphone")
    assert router.route("No headphone jack in the iPhone", at=AT).trend_id == "term:iphone"


def test_a_rare_name_wins_over_common_words_from_the_start() -> None:
    assert Router().route("The people of Kathmandu have a new plan for water", at=AT).trend_id == "term:kathmandu"


def test_activity_fades_in_event_time() -> None:
    router = fed("Samsung", times=8)
    for _ in range(4):
        router.route("Snowden", at=AT + timedelta(days=9))
    assert router.route("Snowden on Samsung", at=AT + timedelta(days=9)).trend_id == "term:snowden"
    young = fed("Samsung", times=8)
    for _ in range(4):
        young.route("Snowden", at=AT)
    assert young.route("Snowden on Samsung", at=AT).trend_id == "term:samsung"


def test_boilerplate_never_becomes_a_trend() -> None:
    router = Router()
    titles = ["Show HN: Gardening", "Ask HN: Gardening", "Introducing: gardening", "Gardening tips [video]"]
    assert {router.route(title, at=AT).trend_id for title in titles} == {"term:gardening"}


def test_plural_and_singular_are_one_trend_once_the_singular_prevails() -> None:
    router = fed("Startup life", "A startup", "My startup")
    assert router.route("Startups everywhere", at=AT).trend_id == "term:startup"
    assert fed("iOS beta").route("iOS leaks", at=AT).trend_id == "term:ios"


def test_at_most_two_terms_are_mentioned_established_ones_and_names() -> None:
    titles = ["tesla", "uber", "samsung", "snowden"]
    router = fed(*titles, times=5)
    route = router.route("tesla, uber, samsung and snowden meet kathmandu", at=AT)
    assert len(route.mentions) == 2
    assert {route.trend_id, *route.mentions} <= {f"term:{t}" for t in titles}
    assert fed("tesla", times=5).route("tesla in kathmandu", at=AT) == Route("term:tesla")
    assert fed("tesla", times=5).route("The tesla in Kathmandu", at=AT).mentions == ("term:kathmandu",)


def test_a_name_beats_a_word_that_is_more_active() -> None:
    title = "Every hacker has the password of Kathmandu"
    for written, home in ((title, "kathmandu"), (title.lower(), "hacker"), (title.title(), "hacker")):
        assert fed("Your password was stolen by a hacker").route(written, at=AT).trend_id == f"term:{home}"


def test_what_was_written_as_a_name_is_one_where_capitals_tell_nothing() -> None:
    hackers = ["Your password was stolen by a hacker"] * 2
    told = fed(*hackers, "A hole in the servers of Yahoo")
    assert told.route("Hacker Steals Password of Yahoo", at=AT).trend_id == "term:yahoo"
    assert fed(*hackers).route("Hacker Steals Password of Yahoo", at=AT).trend_id == "term:hacker"


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Harbours are freezing: Divers wait for help", ()),
        ("The divers of Kathmandu wait", ("kathmandu",)),
        ("Why MySQL Divers Wait for Nobody at Harbours", ("mysql",)),
        ("THE DIVERS OF KATHMANDU WAIT", ()),
        ("Die Taucher warten nicht auf einen Zug nach Jena", ()),
    ],
)
def test_capitals_tell_names_only_where_others_are_small(title: str, names: tuple[str, ...]) -> None:
    """A name is mentioned from its first item on, whatever else is more active."""
    router = fed("harbours divers taucher freezing harbours", times=9)
    route = router.route(title, at=AT)
    fresh = {t.removeprefix("term:") for t in (route.trend_id, *route.mentions)} - {"harbours", "divers", "taucher"}
    assert fresh == set(names)


@pytest.mark.parametrize("word", ["500m", "1.05b", "2nd", "10x", "200gb", "1990s"])
def test_amounts_are_no_subjects(word: str) -> None:
    assert Router().route(f"{word} harbours", at=AT) == Route("term:harbours")


def test_a_state_that_does_not_say_how_words_are_written_loads() -> None:
    router = Router()
    router.load(json.dumps({"at": AT.timestamp(), "terms": [["hacker", 9.0, 9.0]]}))
    assert router.route("a hacker in kathmandu", at=AT).trend_id == "term:hacker"


def test_tags_count_as_words_of_the_title_and_the_body_only_where_the_title_says_nothing() -> None:
    router = Router()
    assert router.route("What is it?", tags=["kubernetes"], at=AT).trend_id == "term:kubernetes"
    assert router.route("What is it?", body="<p>Snowden again", at=AT).trend_id == "term:snowden"
    assert Router().route("Tesla", body="Snowden Snowden", at=AT) == Route("term:tesla")


def test_items_without_any_telling_term_are_spread_and_marked() -> None:
    router = Router()
    rng = random.Random(3)
    common = ["what", "why", "how", "is", "are", "you", "we", "do", "it", "to", "the", "new", "time", "now", "good"]
    titles = {" ".join(rng.choices(common, k=6)) for _ in range(2_000)}
    homes = Counter(router.route(title, at=AT).trend_id for title in titles)
    assert all(is_misc(home) for home in homes)
    assert len(homes) == MISC_TRENDS
    assert max(homes.values()) < 0.05 * len(titles)
    assert is_misc(router.route("", at=AT).trend_id)
    assert not is_misc(router.route("Tesla", at=AT).trend_id)


def test_tracked_subjects_come_first_and_follow_at_once() -> None:
    router = fed("Tesla recall", times=5)
    router.update(subject("electric-cars", "tesla", "electric car"))
    assert router.route("Tesla opens a factory", at=AT) == Route("electric-cars")
    router.update(subject("factories", "factory", version=1))
    assert router.route("An electric car factory", at=AT) == Route("electric-cars", ("factories",))


def test_a_subject_that_only_the_body_names_is_mentioned_and_no_home() -> None:
    router = Router()
    router.update(subject("postgres", "postgres"))
    route = router.route("Kathmandu diary", body="… and it runs on Postgres.", at=AT)
    assert route == Route("term:kathmandu", ("postgres",))


def test_tags_do_not_make_phrases_with_each_other() -> None:
    router = Router()
    router.update(subject("galaxy-note", "galaxy note"))
    assert router.route("Phone", tags=["galaxy", "note"], at=AT).trend_id != "galaxy-note"
    assert router.route("Phone", tags=["galaxy note"], at=AT).trend_id == "galaxy-note"


def test_languages_of_a_subject_are_asked() -> None:
    router = Router()
    router.update(subject("bahn", "bahn", langs=("de",)))
    assert router.route("Die Bahn", lang="de", at=AT).trend_id == "bahn"
    assert router.route("Die Bahn", lang="en", at=AT).trend_id == "term:bahn"


def test_memory_is_bounded_and_keeps_the_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_TERMS", 200)
    monkeypatch.setattr(routing, "KEPT_TERMS", 100)
    router = fed("Tesla", times=20)
    for i in range(2_000):
        router.route(f"zzq{i} vvk{i}", at=AT)
        assert len(router) <= 202
    assert router.route("zzq3000 Tesla", at=AT).trend_id == "term:tesla"


def test_a_clock_far_ahead_does_not_erase_what_was_learned() -> None:
    router = fed("Tesla", times=10)
    router.route("Snowden", at=AT + timedelta(days=3650))
    assert router.route("Snowden on Tesla", at=AT).trend_id == "term:tesla"


def test_years_of_event_time_keep_their_numbers_finite() -> None:
    router = Router()
    for day in range(0, 3_000, 3):
        route = router.route("Tesla and Uber", at=AT + timedelta(days=day))
    assert route.trend_id in ("term:tesla", "term:uber")
    state = json.loads(router.dump())
    assert all(0 < seen < 100 for _, seen, *_ in state["terms"])


TITLES = [
    "Tesla recall",
    "He drives an Uber beside Tesla",
    "Uber and Lyft",
    "Lyft",
    "Snowden film",
    "Samsung Tesla deal",
    "What is it",
]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(TITLES), st.integers(0, 200)), min_size=1, max_size=60))
def test_a_restored_router_decides_as_the_one_that_was_saved(items: list[tuple[str, int]]) -> None:
    saved = Router()
    for title, hours in items:
        saved.route(title, at=AT + timedelta(hours=hours))
    restored = Router()
    restored.load(saved.dump())
    at = AT + timedelta(hours=201)
    for title in TITLES:
        assert restored.route(title, at=at) == saved.route(title, at=at)


def test_a_saved_state_is_small_and_keeps_the_most_active() -> None:
    router = fed("Tesla", times=5)
    for i in range(3_000):
        router.route(f"zzq{i}", at=AT)
    text = router.dump(500)
    assert len(text) < 20_000
    assert "tesla" in text
    assert len(json.loads(text)["terms"]) == 500


def test_an_empty_state_loads() -> None:
    router = Router()
    router.load(Router().dump())
    assert router.route("Tesla", at=AT) == Route("term:tesla")


@pytest.mark.parametrize("text", ["", "[]", '{"terms": 3}', '{"terms": [["a"]]}', '{"terms": [["tesla", 1, 1]]}'])
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a state of the router"):
        Router().load(text)


@settings(max_examples=60, deadline=None)  # lists of words are read when their script is first met
@given(st.text(max_size=80), st.text(max_size=80), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_has_a_home_that_is_a_valid_key(title: str, body: str, tags: list[str]) -> None:
    route = Router().route(title, body, tags, at=AT)
    for trend in (route.trend_id, *route.mentions):
        assert 1 <= len(trend) <= 200
        assert "\x00" not in trend
        trend.encode("utf-8")
    assert route.trend_id not in route.mentions


def test_whom_a_post_speaks_to_is_not_what_it_is_about() -> None:
    assert Router().route("@Kathmandu RT: harbours are freezing", at=AT).trend_id == "term:harbours"
    assert Router().route("Write to info@kathmandu.example", at=AT).trend_id != "misc:00"
    assert is_misc(Router().route("@somebody @other", at=AT).trend_id)


def test_the_name_of_the_site_is_no_subject() -> None:
    router = fed("Kathmandu", times=9)
    title = "Harbours are freezing | Kathmandu Post"
    assert router.route(title, at=AT).trend_id == "term:kathmandu"
    assert router.route(title, at=AT, publisher="Kathmandu Post") == Route("term:harbours")
    assert router.route("Kathmandu | Harbours", at=AT, url="https://www.kathmandu.example/1") == Route("term:harbours")


def test_a_hashtag_names_the_subject_that_its_words_name() -> None:
    router = Router()
    router.update(subject("open-source", "open source"))
    assert router.route("Thoughts on #OpenSource", at=AT).trend_id == "open-source"


@pytest.mark.parametrize(
    ("title", "home"),
    [
        ("Это новый мост через Енисей", "term:енисей"),
        ("هذا هو الجسر الجديد في زنجبار", "term:زنجبار"),
        ("上海地铁今天停运", "term:停运"),
        ("札幌で新しい駅", "term:札幌"),
        ("Die Brücke über den Vierwaldstättersee ist nicht offen", "term:vierwaldstättersee"),
        ("El puente que está sobre el Guadalquivir", "term:guadalquivir"),
    ],
)
def test_the_most_telling_word_is_found_in_any_language(title: str, home: str) -> None:
    assert Router().route(title, at=AT).trend_id == home


def test_an_item_that_comes_again_is_placed_and_not_counted() -> None:
    router = fed("Tesla", times=3)
    before = router.dump()
    for _ in range(20):
        assert router.route("Snowden on Tesla", at=AT, again=True).trend_id == "term:tesla"
    assert router.dump() == before
    assert router.route("Snowden", at=AT, again=True).trend_id == "term:snowden"


def test_no_subject_of_a_mixed_world_takes_a_tenth_and_most_are_found() -> None:
    """Floors; .65 and .02 are usual in a longer world."""
    posts = subjects_of_the_world(4_000, 1)
    measures = routed(posts.sightings).measures(posts.labels)
    assert measures["B3 F1"] >= 0.6, measures
    assert measures["reach"] >= 0.7, measures
    assert measures["largest"] <= 0.1, measures


def test_a_term_that_is_no_subject_is_never_chosen_or_mentioned_until_that_is_taken_back() -> None:
    router = fed(*["Weekend in Kathmandu"] * 6, "Weekend", times=3)
    before = router.route("Weekend", at=AT)
    assert before.trend_id == "term:weekend"
    router.refuse("term:weekend")
    for title in ("Weekend", "Weekends", "A weekend in Kathmandu", "Weekend weekend weekend"):
        route = router.route(title, at=AT)
        assert "term:weekend" not in (route.trend_id, *route.mentions)
    later = Router()
    later.refuse("term:weekend")
    later.load(router.dump())
    assert later.route("Weekend", at=AT).trend_id != "term:weekend"
    router.refuse("term:weekend", refused=False)
    assert router.route("Weekend", at=AT).trend_id == "term:weekend"


def test_a_tracked_subject_is_not_refused_by_its_word() -> None:
    router = Router()
    router.update(subject("weekend", "weekend"))
    router.refuse("weekend")
    router.refuse("term:weekend")
    assert router.route("Weekend", at=AT).trend_id == "weekend"
