"""The extractive summariser, and when topics are summarised."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from models.summaries import ExtractiveSummariser, Summarised, SummarizeEngine, Summary
from streams.codec import decode, encode
from streams.errors import UnavailableError
from streams.records import Life, TopicSummary, TopicUpdate
from tests.unit.topics import leading, topic

NOW = datetime(2016, 9, 8, tzinfo=UTC)
PLAIN = ExtractiveSummariser()


# -------------------------------------------------------------------------------------------------------- extractive


def test_the_headline_is_the_medoids_title_cleaned() -> None:
    update = topic("Show HN: Harbour opens for small boats [video]", "Boats return to the harbour")
    assert PLAIN.summarise(update).headline == "Harbour opens for small boats"


@pytest.mark.parametrize(
    "first", ["HARBOUR OPENS FOR SMALL BOATS", "You won't believe this harbour!!", "Harbour news!", "Harbour", "Boats…"]
)
def test_a_title_that_shouts_baits_or_says_nothing_is_passed_over(first: str) -> None:
    assert PLAIN.summarise(topic(first, "Harbour opens for small boats")).headline == "Harbour opens for small boats"
    assert PLAIN.summarise(topic(first, "ALSO SHOUTING AND BAD!!")).headline == first


def test_acronyms_alone_are_no_shouting() -> None:
    assert PLAIN.summarise(topic("NASA and ESA plan a launch", "Harbour opens for boats")).headline.startswith("NASA")


def test_a_sentence_of_a_body_is_preferred_when_it_says_more_than_the_headline() -> None:
    body = (
        "Subscribe now. Harbour opens for small boats. The harbour of Lindau, closed since the storm of 2006, "
        "took in its first boats this morning. Read more at http://example.com/x and tell everyone about the harbour."
    )
    update = topic(leading("Harbour opens for small boats", body=body), "Boats return to the harbour", size=12)
    said = PLAIN.summarise(update).summary
    assert said.startswith(
        "The harbour of Lindau, closed since the storm of 2006, took in its first boats this morning."
    )
    assert said.endswith("12 items from 2 publishers.")


def test_abbreviations_end_no_sentence_and_unfinished_ones_are_not_used() -> None:
    body = "Dr. Miller of Harbour Inc. told the council that boats will return to Lindau. And then the harbour mast"
    update = topic(leading("Harbour opens for boats", body=body))
    assert PLAIN.summarise(update).summary.startswith("Dr. Miller of Harbour Inc. told the council")


def test_without_bodies_the_other_title_that_adds_most_is_quoted() -> None:
    update = topic(
        "Harbour opens for small boats",
        "Harbour opens for small boats today",
        "Lindau mayor cuts ribbon as boats enter harbour",
        size=7,
        publishers=5,
    )
    assert PLAIN.summarise(update).summary == (
        "7 items from 5 publishers; also: Lindau mayor cuts ribbon as boats enter harbour."
    )


def test_one_item_alone_names_its_publisher() -> None:
    assert PLAIN.summarise(topic("Harbour opens for small boats")).summary == "One item from site0.example."
    assert PLAIN.summarise(topic(leading("Harbour opens", publisher=None))).summary == "One item."


def test_keywords_do_not_repeat_each_other() -> None:
    terms = ("harbour", "harbours", "boat", "boats", "harbourmaster", "2016", "lindau", "storm")
    update = topic("x y z", terms=tuple((t, 1.0 - i / 10) for i, t in enumerate(terms)))
    assert PLAIN.summarise(update).keywords == ("harbour", "boat", "lindau", "storm")


def test_a_long_title_is_cut_between_words() -> None:
    headline = PLAIN.summarise(topic("harbour " * 60)).headline
    assert len(headline) <= 200
    assert headline.endswith("harbour…")


# -------------------------------------------------------------------------------------------------------- the engine


class Counting:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    def summarise(self, update: TopicUpdate) -> Summary:
        if self.down:
            raise UnavailableError("down")
        self.asked.append(update.topic_id)
        return PLAIN.summarise(update)


class Log:
    """An engine with its compacted state."""

    def __init__(self, **more: Any) -> None:
        self.summariser = Counting()
        self.more = more
        self.engine = SummarizeEngine(self.summariser, lambda: NOW, **more)
        self.state: dict[bytes, bytes] = {}

    def take(self, *updates: TopicUpdate) -> Summarised:
        made = self.engine.apply(updates)
        for key, value in made.state:
            self.state.pop(key, None)
            if value is not None:
                self.state[key] = value
        return made

    def restart(self) -> None:
        self.engine = SummarizeEngine(self.summariser, lambda: NOW, **self.more)
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


def test_a_topic_is_summarised_again_when_what_leads_it_changes() -> None:
    log = Log()
    a, b, c, d, e = (leading(f"Harbour opens for boats {i}", i) for i in range(5))
    assert log.take(topic(a, b, c, size=6, seq=1)).summaries
    assert not log.take(topic(b, a, c, size=7, seq=2)).summaries
    assert not log.take(topic(a, b, c, d, size=8, seq=3)).summaries
    assert log.take(topic(d, a, b, c, size=9, seq=4)).summaries
    assert log.take(topic(a, e, leading("x", 8), leading("y", 9), size=10, seq=5)).summaries


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


def test_equal_input_is_summarised_once_whatever_its_case_and_spaces() -> None:
    log = Log()
    log.take(grown(3))
    again = topic(
        leading("harbour  OPENS for boats"), leading("Boats return to harbour", 1), leading("Lindau harbour", 2),
        size=3, seq=9, topic_id="topic-2",
    )  # fmt: skip
    made = log.take(again).summaries[0]
    assert (made.cached, made.topic_id) == (True, "topic-2")
    assert log.summariser.asked == ["topic-1"]


def test_the_cache_is_bounded() -> None:
    log = Log(cache_entries=2)
    for i in (1, 2, 3, 1):
        log.take(topic("Harbour opens", "Boats", "Lindau", topic_id=f"t{i}", publishers=i))
    assert log.summariser.asked == ["t1", "t2", "t3"]
    log.take(topic("Harbour opens", "Boats", "Lindau", topic_id="t9", publishers=1))
    assert log.summariser.asked == ["t1", "t2", "t3", "t9"]


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


def test_a_failure_remembers_nothing_so_that_the_batch_can_be_tried_again() -> None:
    log = Log()
    log.summariser.down = True
    with pytest.raises(UnavailableError):
        log.take(grown(3))
    log.summariser.down = False
    assert len(log.take(grown(3)).summaries) == 1


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
