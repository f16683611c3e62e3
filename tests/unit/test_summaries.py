"""The extractive summariser, labels, and when topics are summarised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from models.summaries import ExtractiveSummariser, Fallback, Summarised, SummarizeEngine, Summary, check_value, extract
from models.summaries.base import words_in
from models.summaries.labels import entities_of, keywords_of, language_of
from streams.codec import decode, encode
from streams.ids import item_hash
from streams.records import Life, TopicSummary, TopicUpdate
from tests.unit.topics import leading, topic

NOW = datetime(2016, 9, 8, tzinfo=UTC)
PLAIN = ExtractiveSummariser()


# ------------------------------------------------------------------------------------------------ what is said


def test_the_headline_is_the_medoids_title_cleaned() -> None:
    update = topic("Show HN: Harbour opens for small boats [video]", "Boats return to the harbour")
    made = extract(update)
    assert (made.headline, made.headline_of) == ("Harbour opens for small boats", update.items[0].item_id)


@pytest.mark.parametrize(
    "first", ["HARBOUR OPENS FOR SMALL BOATS", "You won't believe this harbour!!", "Harbour news!", "Harbour", "Boats…"]
)
def test_a_title_that_shouts_baits_or_says_nothing_is_passed_over(first: str) -> None:
    assert extract(topic(first, "Harbour opens for small boats")).headline == "Harbour opens for small boats"
    assert extract(topic(first, "ALSO SHOUTING AND BAD!!")).headline == first


def test_acronyms_alone_are_no_shouting() -> None:
    assert extract(topic("NASA and ESA plan a launch", "Harbour opens for boats")).headline.startswith("NASA")


BODY = (
    "Subscribe to our harbour newsletter now, it is free. Harbour opens for small boats. The harbour of Lindau, "
    "closed since the storm of 2006, took in its first boats this morning. Read all about the harbour of Lindau at "
    "http://example.com/x and tell everyone about the storm. And the harbour master of Lindau said that boats"
)


def test_sentences_are_quoted_exactly_with_the_item_that_each_is_from() -> None:
    update = topic(leading("Harbour opens for small boats", body=BODY), "Mayor of Lindau cuts a ribbon for the harbour")
    made = extract(update)
    assert made.summary == (
        "The harbour of Lindau, closed since the storm of 2006, took in its first boats this morning. "
        "Mayor of Lindau cuts a ribbon for the harbour."
    )
    assert made.quotes == tuple(item.item_id for item in update.items)


def test_abbreviations_end_no_sentence_and_unfinished_ones_are_not_used() -> None:
    body = "Dr. Miller of Harbour Inc. told the council that boats will return to Lindau. And then the harbour mast"
    made = extract(topic(leading("Harbour opens for boats", body=body)))
    assert made.summary == "Dr. Miller of Harbour Inc. told the council that boats will return to Lindau."


def test_titles_that_are_cut_off_or_say_the_same_again_are_no_summary() -> None:
    update = topic(
        "Harbour opens for small boats", "Harbour opens for the small boats", "Lindau mayor cuts ribbon as boats ..."
    )
    made = extract(update)
    assert (made.summary, made.quotes) == (made.headline, ())


def test_a_summary_says_different_things_within_fifty_words() -> None:
    long = "The harbour of Lindau took in " + ", ".join(f"boat{i} from pier{i}" for i in range(11)) + " this morning."
    titles = [
        "Harbour of Lindau opens for boats",
        "Lindau harbour welcomes boats after the storm damage",
        "Storm damage: Lindau harbour welcomes boats",
        "Harbour of Lindau gets lighthouse and crane for boats",
    ]
    update = topic(*(leading(t, i, body=long if i == 0 else "") for i, t in enumerate(titles)), size=9)
    made = extract(update)
    assert words_in(made.summary) <= 50
    assert "lighthouse" in made.summary
    assert made.summary.count("storm damage") + made.summary.count("Storm damage") == 1


@pytest.mark.parametrize(
    ("title", "body", "said"),
    [
        (
            "港口重新开放",
            "林道港口今天早上重新开放，迎来了第一批船只。风暴过后关闭了十年。",
            "林道港口今天早上重新开放，迎来了第一批船只。",
        ),
        (
            "Гавань снова открыта",
            "Гавань города Линдау сегодня утром приняла первые корабли после долгого ремонта. Это был",
            "Гавань города Линдау сегодня утром приняла первые корабли после долгого ремонта.",
        ),
        (
            "إعادة فتح الميناء",
            "استقبل الميناء في مدينة لينداو أول السفن هذا الصباح بعد إغلاق دام عشر سنوات. وقال",
            "استقبل الميناء في مدينة لينداو أول السفن هذا الصباح بعد إغلاق دام عشر سنوات.",
        ),
        (
            "Hafen öffnet wieder",
            "Der Hafen von Lindau empfing bzw. begrüßte am 3. Mai die ersten Boote. Danach",
            "Der Hafen von Lindau empfing bzw. begrüßte am 3. Mai die ersten Boote.",
        ),
    ],
)
def test_sentences_are_found_in_other_scripts(title: str, body: str, said: str) -> None:
    assert extract(topic(leading(title, body=body), leading(title, 1))).summary.startswith(said)


def test_keywords_do_not_repeat_each_other() -> None:
    terms = ("harbour", "harbours", "boat", "boats", "harbourmaster", "2016", "lindau", "storm")
    update = topic("x y z", terms=tuple((t, 1.0 - i / 10) for i, t in enumerate(terms)))
    assert keywords_of(update) == ("harbour", "boat", "lindau", "storm")


def test_a_keyword_that_stands_in_other_titles_comes_before_one_that_stands_in_the_same() -> None:
    update = topic("harbour boat", "harbour boat", "lindau", terms=(("harbour", 1.0), ("boat", 0.62), ("lindau", 0.6)))
    assert keywords_of(update) == ("harbour", "lindau", "boat")


def test_names_are_what_most_items_write_with_capitals() -> None:
    update = topic(
        "Storm closes the harbour of Lindau, says Erika Miller",
        "Erika Miller: Harbour will open in 2007",
        "Why Lindau Loves Its Harbour And Erika Miller",
    )
    assert entities_of(update) == ("Erika Miller", "Lindau")
    assert entities_of(topic("Fine for Galaulan: 300,000 francs", "Galaulan 300,000 in debt")) == ("Galaulan",)
    assert entities_of(topic("storm closes harbour", "harbour closed by storm")) == ()


def test_the_category_is_that_of_the_subjects_that_most_items_belong_to() -> None:
    categories = {"harbours": "transport", "railways": "transport", "operas": "culture"}
    log = Log(categories=categories)

    def grouped(size: int, **trends: int) -> TopicUpdate:
        return replace(grown(size), trends={"term:lindau": 1, **trends})

    assert log.take(grouped(12, harbours=3, railways=2, operas=4)).summaries[0].category == "transport"
    assert log.take(grouped(24, harbours=3, railways=2, operas=4)).summaries[0].category is None
    categories["harbours"] = "boats"
    assert log.take(grouped(48, harbours=30)).summaries[0].category == "boats"


@pytest.mark.parametrize(
    ("lang", "titles"),
    [
        ("en", ("The harbour is open for the first time in ten years", "Why they have waited for so long")),
        ("de", ("Der Hafen ist zum ersten Mal seit zehn Jahren wieder offen", "Warum sie so lange warten mussten")),
        ("fr", ("Le port est ouvert pour la première fois depuis dix ans", "Pourquoi ils ont attendu si longtemps")),
        ("ru", ("Гавань открыта впервые за десять лет", "Почему они так долго ждали этого")),
        ("ja", ("港が十年ぶりに開いた", "なぜそんなに待ったのか")),
        ("ar", ("الميناء مفتوح لأول مرة منذ عشر سنوات", "لماذا انتظروا كل هذا الوقت")),
        (None, ("Zyxwv 42", "Qwrtz")),
    ],
)
def test_the_language_is_that_of_most_of_the_items(lang: str | None, titles: tuple[str, ...]) -> None:
    assert language_of(topic(*titles)) == lang


def test_a_long_title_is_cut_between_words() -> None:
    headline = extract(topic("harbour " * 60)).headline
    assert len(headline) <= 200
    assert headline.endswith("harbour…")


# -------------------------------------------------------------------------------------------------------- the engine


class Counting:
    """Counts what it is asked; where ``why`` is set, a model was to answer, and could not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.why: Fallback | None = None

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        self.asked += [update.topic_id for update in updates]
        return [replace(made, fallback=self.why) for made in PLAIN.summarise(updates)]

    def forget(self, items: Sequence[str]) -> None: ...

    def close(self) -> None: ...


class Log:
    """An engine with its compacted state."""

    def __init__(self, **more: Any) -> None:
        self.summariser = Counting()
        self.more = more
        self.now = NOW
        self.engine = SummarizeEngine(self.summariser, lambda: self.now, **more)
        self.state: dict[bytes, bytes] = {}

    def take(self, *updates: TopicUpdate, forgotten: Sequence[str] = ()) -> Summarised:
        made = self.engine.apply(updates, {item_hash(item) for item in forgotten}.__contains__)
        for key, value in made.state:
            self.state.pop(key, None)
            if value is not None:
                self.state[key] = value
        return made

    def restart(self) -> None:
        self.engine = SummarizeEngine(self.summariser, lambda: self.now, **self.more)
        for key, value in self.state.items():
            self.engine.restore(key, value)
        self.engine.finish_restore()


def grown(size: int, seq: int = 0, **more: Any) -> TopicUpdate:
    """A topic whose leading items stay the same while it grows."""
    return topic(
        "Harbour opens for boats", "Boats return to harbour", "Lindau harbour", size=size, seq=seq or size, **more
    )


def test_a_topic_is_summarised_at_3_6_12_and_so_on() -> None:
    log = Log()
    acted = [size for size in range(1, 51) if log.take(grown(size)).summaries]
    assert acted == [3, 6, 12, 24, 48]


def test_a_topic_that_jumps_over_sizes_is_summarised_once() -> None:
    log = Log()
    assert [size for size in (2, 20, 22, 23, 24, 40) if log.take(grown(size)).summaries] == [20, 24]


def test_a_topic_that_has_grown_by_half_is_summarised_again_when_what_leads_it_has_changed() -> None:
    log = Log()
    a, b, c, d, e = (leading(f"Harbour opens for boats {i}", i) for i in range(5))
    assert log.take(topic(a, b, c, size=6, seq=1)).summaries
    assert not log.take(topic(d, a, b, size=8, seq=2)).summaries
    assert not log.take(topic(b, a, c, size=9, seq=3)).summaries
    assert not log.take(topic(a, b, c, d, size=9, seq=4)).summaries
    assert log.take(topic(d, a, b, c, size=9, seq=5)).summaries
    assert log.take(topic(a, e, leading("x", 8), leading("y", 9), size=11, seq=6)).summaries == []
    assert log.take(topic(d, e, leading("x", 8), leading("y", 9), size=16, seq=7)).summaries


def test_a_topic_is_summarised_again_when_it_has_lost_a_leading_item() -> None:
    log = Log()
    a, b, c, d = (leading(f"Harbour opens for boats {i}", i) for i in range(4))
    log.take(topic(a, b, c, size=4, seq=1))
    assert not log.take(topic(a, b, c, size=3, seq=2)).summaries
    assert log.take(topic(a, c, d, size=3, seq=3)).summaries


def test_a_headline_stays_until_another_is_clearly_better() -> None:
    log = Log()
    terms = (("harbour", 1.0), ("lindau", 0.9), ("storm", 0.8))
    a, b, c = leading("Storm closes harbour again"), leading("Harbour closed by a storm", 1), leading("In Lindau", 2)
    best = leading("Storm closes the harbour of Lindau", 3)
    said = [
        log.take(topic(*items, size=size, seq=size, terms=terms)).summaries[0].headline
        for size, items in ((3, (a, b, c)), (6, (b, a, c)), (12, (best, b, a)), (24, (a, b, c)))
    ]
    assert said == [a.title, a.title, best.title, best.title]


def test_a_headline_is_given_up_when_its_item_is_to_be_forgotten_even_if_that_leads_no_more() -> None:
    log = Log()
    a, b, c, d = (leading(f"Harbour opens for boats {i}", i) for i in range(4))
    log.take(topic(a, b, c, size=3, seq=1))
    kept = log.take(topic(b, c, d, size=6, seq=2)).summaries[0]
    assert kept.headline_of == a.item_id
    log.restart()
    anew = log.take(topic(b, c, d, size=7, seq=3), forgotten=[a.item_id]).summaries[0]
    assert (anew.headline, anew.headline_of) == (b.title, b.item_id)
    assert not any(a.title.encode() in value for value in log.state.values())


def test_keywords_stay_until_they_are_clearly_outweighed() -> None:
    log = Log()

    def weighted(size: int, **weights: float) -> TopicUpdate:
        return topic("one two three", size=size, seq=size, terms=tuple(sorted(weights.items(), key=lambda p: -p[1])))

    first = {f"keyword{i}": 1.0 - i / 100 for i in range(8)}
    assert set(log.take(weighted(3, **first)).summaries[0].keywords) == {*first}
    assert set(log.take(weighted(6, **first, newcomer=0.99)).summaries[0].keywords) == {*first}
    assert "newcomer" in log.take(weighted(12, **first, newcomer=1.5)).summaries[0].keywords


def test_what_a_model_could_not_write_is_owed_and_tried_again_later() -> None:
    log = Log()
    log.summariser.why = Fallback.UNAVAILABLE
    first = log.take(grown(3, seq=7)).summaries[0]
    assert (first.fallback, first.attempt) == ("unavailable", 1)
    assert not log.engine.waiting()
    log.now += timedelta(seconds=60)
    assert log.engine.waiting()
    assert log.take().summaries == []  # still away: nothing is said twice
    assert not log.engine.waiting()
    log.restart()
    log.now += timedelta(seconds=119)
    assert not log.engine.waiting()
    log.now += timedelta(seconds=1)
    log.summariser.why = None
    second = log.take().summaries[0]
    assert (second.fallback, second.attempt, second.topic_seq) == (None, 3, 7)
    assert log.engine.owed == 0
    log.restart()
    assert log.engine.owed == 0


def test_what_is_owed_is_given_up_after_a_day() -> None:
    log = Log()
    log.summariser.why = Fallback.UNGROUNDED
    log.take(grown(3))
    tries = 0
    while log.engine.owed:
        log.now += timedelta(hours=6)
        tries += len(log.summariser.asked) < 50 and bool(log.take().state)
    assert len(log.summariser.asked) == 12


def test_what_is_owed_of_an_item_to_be_forgotten_is_dropped() -> None:
    log = Log()
    log.summariser.why = Fallback.EMPTY
    update = grown(3)
    log.take(update)
    log.now += timedelta(minutes=2)
    made = log.take(forgotten=[update.items[1].item_id])
    assert made.summaries == []
    assert log.engine.owed == 0
    assert not any(update.items[1].title.encode() in value for value in log.state.values())


def test_what_is_owed_is_bounded_and_replaced_by_a_newer_summary() -> None:
    log = Log(max_owed=2)
    log.summariser.why = Fallback.BUDGET
    for i in range(4):
        log.take(grown(3, topic_id=f"t{i}"))
        log.now += timedelta(seconds=1)
    assert log.engine.owed == 2
    log.summariser.why = None
    log.take(grown(6, topic_id="t3"))
    assert log.engine.owed == 1
    log.now += timedelta(hours=1)
    assert [s.topic_id for s in log.take().summaries] == ["t2"]


def test_the_label_of_a_model_outlives_a_summary_without_it() -> None:
    log = Log()
    update = grown(3)
    told = replace(extract(update), headline="Harbour of Lindau opens for boats", headline_of=None, method="llm")
    log.summariser.summarise = lambda updates: [told for _ in updates]  # type: ignore[method-assign]
    log.take(update)
    log.summariser.summarise = lambda updates: [replace(extract(u), fallback=Fallback.EMPTY) for u in updates]  # type: ignore[method-assign]
    assert log.take(grown(6)).summaries[0].headline == told.headline


def test_state_of_the_former_release_is_read() -> None:
    old = msgspec.msgpack.encode([6, [b"12345678"], "term:boats"])
    check_value(b"topic-1", old)
    engine = SummarizeEngine(PLAIN, lambda: NOW)
    engine.restore(b"topic-1", old)
    engine.finish_restore()
    assert engine.apply([topic("Harbour opens", size=5)]).summaries
    with pytest.raises(ValueError):
        check_value(b"topic-1", msgspec.msgpack.encode([6, [b"x"], "t", "", None, [], "", 0, [1, 2, b"{}"]]))


def test_the_summary_carries_what_it_is_of() -> None:
    made = Log().take(grown(3, seq=17)).summaries[0]
    assert (made.topic_id, made.trend_id, made.generation) == ("topic-1", "term:iphone", "g1")
    assert (made.topic_seq, made.attempt, made.cached, made.created_at) == (17, 1, False, NOW)
    assert (made.method, made.headline) == ("extractive", "Harbour opens for boats")
    assert decode(TopicSummary, encode(made)) == made


def test_only_the_newest_update_of_a_batch_is_looked_at() -> None:
    log = Log()
    made = log.take(grown(3), grown(13), grown(5))
    assert [s.topic_seq for s in made.summaries] == [13]
    assert len(made.state) == 1


@pytest.mark.parametrize("life", [Life.MERGED, Life.FADED])
def test_a_topic_that_ends_is_forgotten_and_not_summarised(life: Life) -> None:
    log = Log()
    log.take(grown(3))
    merged = {"merged_into": "topic-9"} if life is Life.MERGED else {}
    made = log.take(grown(12, life=life, **merged))
    assert (made.summaries, made.state) == ([], [(b"topic-1", None)])
    assert len(log.engine) == 0
    assert log.take(grown(13, life=life, **merged)).state == []


def test_memory_of_topics_is_bounded_with_tombstones() -> None:
    log = Log(max_topics=2)
    for i in range(5):
        log.take(grown(3, topic_id=f"t{i}"))
    assert len(log.engine) == 2
    assert set(log.state) == {b"t3", b"t4"}


def test_every_state_record_has_the_home_trend_that_places_it() -> None:
    log = Log(max_topics=1)
    log.take(replace(grown(3, topic_id="a"), trend_id="term:boats"))
    log.restart()
    made = log.take(replace(grown(3, topic_id="b"), trend_id="term:lindau"))
    assert made.homes == {b"a": "term:boats", b"b": "term:lindau"}
    assert {key for key, _ in made.state} == {b"a", b"b"}


def test_a_topic_without_leading_items_waits() -> None:
    assert Log().take(topic(size=9)).summaries == []


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.integers(1, 30),
            st.permutations("uvwxyz"),
            st.sampled_from([*[Life.GREW] * 5, Life.FADED]),
        ),
        min_size=1,
        max_size=25,
    ),
    st.integers(0, 24),
)
def test_a_restored_engine_decides_as_the_uninterrupted_one(steps: Any, stop: int) -> None:
    straight, stopped = Log(max_topics=3), Log(max_topics=3)
    for seq, (topic_id, size, titles, life) in enumerate(steps):
        if seq == stop:
            stopped.restart()
        items = [leading(f"Harbour opens {title}", i) for i, title in enumerate(titles[:3])]
        update = topic(*items, size=size, seq=seq, topic_id=topic_id, life=life)
        expected, got = straight.take(update), stopped.take(update)
        assert [s.topic_seq for s in got.summaries] == [s.topic_seq for s in expected.summaries]
        assert got.state == expected.state


def test_bounds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError):
        SummarizeEngine(PLAIN, lambda: NOW, max_topics=0)
