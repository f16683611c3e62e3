"""Hostile input, without a broker: what is no record is refused with its reason, and no engine fails on what is one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine, check
from models.embedding import create
from models.engine import ClusterEngine
from models.scoring import ScoringConfig, TrendScorer, trend_of_state
from models.summaries import ExtractiveSummariser, SummarizeEngine
from sinks.postgres import PostgresConfig
from sinks.postgres.rows import RowBuilder, RowError
from streams.codec import RecordError, decode, encode
from streams.config import KafkaConfig
from streams.dead_letters import HEADERS, WHOLE_BYTES, Decoder, letter_of, misplaced
from streams.keys import is_place_of, partition_of
from streams.records import (
    EmbeddedItem,
    Engagement,
    Kind,
    LeadingItem,
    Life,
    Mention,
    Observation,
    Reason,
    Record,
    TopicSums,
    TopicUpdate,
    TrendScore,
)
from streams.table import DEAD_LETTERS, raw
from tests.chaos.hostile import Hostile, Sent, begin_of
from tests.unit.test_engine import SMALL, embedded, engine, unit

DIMENSIONS = 8
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Message:
    """What a flow sees of a message of Kafka."""

    def __init__(self, sent: Sent, offset: int = 0, stream: str = "raw.file") -> None:
        self.sent, self._offset, self._stream = sent, offset, stream

    def topic(self) -> str:
        return self._stream

    def partition(self) -> int:
        return partition_of(self.sent.trend_id, 4) if len(self.sent.trend_id) > 0 else 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes | None:
        return self.sent.value

    def key(self) -> bytes | None:
        return self.sent.key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.sent.headers or None

    def timestamp(self) -> tuple[int, int]:
        return 2, int(NOW.timestamp() * 1000)


def judged(sent: Sent) -> Observation | RecordError:
    """What embed makes of a message."""
    decoder = Decoder({"raw.file": Observation}, "embed")
    try:
        record = decoder._decode(Message(sent))
        check(record)
    except RecordError as error:
        return error
    return record


def test_every_hostile_message_is_taken_or_refused_with_its_reason() -> None:
    source = Hostile(1, NOW - timedelta(days=1))
    cases = set()
    for sent in source.messages(6_000):
        cases.add(sent.case)
        verdict = judged(sent)
        if sent.good:
            assert isinstance(verdict, Observation), (sent.case, sent.value and sent.value[:300], verdict)
            assert verdict.item_id == sent.item_id
        else:
            assert isinstance(verdict, RecordError), (sent.case, sent.value and sent.value[:300])
            assert verdict.reason in sent.reasons, (sent.case, verdict.reason, str(verdict)[:200])
    assert len(cases) > 30, cases


def test_the_whole_pipeline_of_engines_takes_what_is_well_formed() -> None:
    """Embed, cluster, score, summarise, and rows for the store, one after the other: what one writes the next can read,
    and nothing of it is refused."""
    embed = EmbedEngine(create("null", dimensions=DIMENSIONS))
    cluster = ClusterEngine(ClusterConfig(), "g1")
    score, summarize = TrendScorer(ScoringConfig(), "g1"), SummarizeEngine(ExtractiveSummariser(), lambda: NOW)
    rows = RowBuilder(PostgresConfig(dsns=("postgresql://none",), generation="g1", dimensions=DIMENSIONS))
    source = Hostile(2, begin_of(3_000), large=False)
    good = [verdict for sent in source.messages(3_000) if isinstance(verdict := judged(sent), Observation)]
    stored = set()
    for begin in range(0, len(good), 97):
        items = again(embed.apply(good[begin : begin + 97], [source.now] * len(good[begin : begin + 97])))
        decisions = cluster.apply(items)
        assert not decisions.failed
        records: list[Record] = [*again(decisions.enriched), *again(decisions.mentions), *again(decisions.updates)]
        scored = score.apply(again(decisions.mentions))
        records += again(scored.scores)
        records += again(summarize.apply(again(decisions.updates)).summaries)
        for record in records:
            rows.build(record)
            for name in ("rank", "similarity", "burst", "velocity"):
                value = getattr(record, name, None)
                assert value is None or math.isfinite(value)
        stored |= {e.item.item_id for e in decisions.enriched}
        # State that cannot be written would stop the flow, and one that cannot be read its successor.
        fresh = TrendScorer(ScoringConfig(), "g1")
        for key, state in scored.state:
            fresh.restore(key, state)
    assert stored >= {o.item_id for o in good if o.kind is not Kind.DELETED}


def again(records: Any) -> Any:
    """Records as the next flow reads them."""
    return [decode(type(record), encode(record)) for record in records]


# ------------------------------------------------------------------------------------------------------------ clocks


def story(number: int, **more: Any) -> EmbeddedItem:
    name = f"word{number % 20} thing{number % 20} name{number % 20}"
    return embedded(f"honest{number}", name, vector=unit(name), hours=number / 40, trend=f"term:t{number % 20}", **more)


def arrived(item: EmbeddedItem, at: datetime) -> EmbeddedItem:
    return msgspec.structs.replace(item, arrived_at=at)


def dated(number: int, at: datetime, arrived_at: datetime | None = None, trend: str = "term:t1") -> EmbeddedItem:
    item = embedded(f"dated{number}", f"x{number} y{number} z{number}", vector=unit(f"d{number}"), trend=trend)
    observation = msgspec.structs.replace(item.item, observed_at=at, published_at=at)
    return msgspec.structs.replace(item, item=observation, arrived_at=arrived_at)


FAR = datetime(9999, 6, 1, tzinfo=UTC)
PAST = datetime(1, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("when", [FAR, NOW + timedelta(days=40), PAST], ids=lambda w: f"year {w.year}")
@pytest.mark.parametrize("share", [0.02, 0.9])
def test_wrong_times_fade_no_other_topic_and_age_no_trend(when: datetime, share: float) -> None:
    """A few, or nine of ten: honest topics and trends end as if the others had never been sent."""
    config = replace(SMALL, fade_after=timedelta(hours=20), max_topics=10_000)

    def run(wrong: bool) -> tuple[set[str], dict[str, TrendScore]]:
        running, scorer = engine(config), TrendScorer(ScoringConfig(), "g1")
        scores: dict[str, TrendScore] = {}
        faded: set[str] = set()
        number, sent = 0, 0.0
        while number < 200:
            at = story(number).item.observed_at
            batch = [arrived(story(number), at + timedelta(seconds=2))]
            number += 1
            while wrong and number > 30 and sent / number < share / (1.0 - share):
                batch.append(dated(int(sent), when, at, trend="term:t1"))
                sent += 1
            decisions = running.apply(batch)
            faded |= {u.topic_id for u in decisions.updates if u.life is Life.FADED and u.trend_id != "term:t1"}
            assert all(u.sums.rank is None or math.isfinite(u.sums.rank) for u in decisions.updates)
            for scored in scorer.apply(decisions.mentions).scores:
                scores[scored.trend_id] = scored
        return faded, scores

    faded, scores = run(wrong=True)
    _, honest = run(wrong=False)
    assert faded == set()
    others = [t for t in honest if t != "term:t1"]
    assert [scores[t].counts for t in others] == [honest[t].counts for t in others]
    mixed = scores["term:t1"]
    assert mixed.slice_start <= honest["term:t1"].slice_start + timedelta(hours=2)
    assert mixed.last_seen <= honest["term:t1"].last_seen + timedelta(hours=2)


def test_an_item_of_a_slow_source_keeps_its_time() -> None:
    """One item in two days: each is further ahead than is believed of one, but its arrival bears it out."""
    running = engine()
    for i in range(60):
        item = embedded(str(i), f"word{i} thing{i}", vector=unit(str(i)), hours=48 * i)
        [enriched] = running.apply([arrived(item, item.item.observed_at + timedelta(seconds=5))]).enriched
        assert enriched.first_seen == item.item.observed_at


@given(
    gap_days=st.sampled_from([0.5, 1, 2, 7]),
    jitter=st.lists(st.floats(0, 0.99), min_size=200, max_size=200),
    logged=st.booleans(),
    wrong=st.none() | st.integers(10, 190),
)
@example(gap_days=1, jitter=[0.99, 0.0] * 100, logged=False, wrong=None)  # in twos, two days from the last ones
@example(gap_days=7, jitter=[0.0, 0.99] * 100, logged=True, wrong=10)
@settings(max_examples=25, deadline=None)
def test_an_old_archive_of_one_item_a_day_keeps_every_time(
    gap_days: float, jitter: list[float], logged: bool, wrong: int | None
) -> None:
    """Replayed years later, so that arrival bears nothing out; one item of a wrong year among them changes nothing."""
    running = engine()
    for day, within in enumerate(jitter):
        at = NOW - timedelta(days=2_000) + timedelta(days=(day + within) * gap_days)
        items = [dated(day, at, NOW if logged else None)]
        if day == wrong:
            items.append(dated(1_000, NOW - timedelta(days=100), NOW if logged else None))
        decided = running.apply(items).enriched
        assert decided[0].first_seen == at.replace(microsecond=0)
        assert all(e.first_seen <= at for e in decided[1:])


def test_live_items_keep_their_time_while_an_old_archive_is_fed() -> None:
    running = engine()
    running.apply([dated(i, NOW - timedelta(days=3_000), NOW) for i in range(400)])
    [live] = running.apply([dated(1_000, NOW, NOW + timedelta(seconds=1))]).enriched
    assert live.first_seen == NOW


def test_an_impossible_observation_does_not_shut_out_the_true_ones_after_it() -> None:
    running = engine()
    for at in (FAR, NOW):
        first = arrived(dated(1, at), NOW)
        running.apply([first])
    later = msgspec.structs.replace(
        dated(1, NOW + timedelta(hours=3)).item, engagement=Engagement(points=9), observed_at=NOW + timedelta(hours=3)
    )
    item = msgspec.structs.replace(dated(1, NOW), item=later, arrived_at=NOW + timedelta(hours=3))
    [enriched] = running.apply([item]).enriched
    assert enriched.item.engagement.points == 9


# ------------------------------------------------------------------------------------- any record that can be decoded

instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=60)
slugs = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=200)
whole = st.sampled_from([-(2**53), -1, 0, 1, 2**53]) | st.integers(-(2**53), 2**53)
engagements = st.builds(Engagement, points=whole, comments=whole, shares=whole, stars=whole, views=whole)
ids = st.sampled_from([f"0000000{i}-0000-5000-8000-000000000000" for i in range(5)]) | words
vectors = (
    st.none() | words | st.sampled_from(["A" * 21 + "A" * 1, "AAAAAAAAAAAAAAAAAAAAAA==", "AHwAfAB8AHwAfAB8AHwAfA=="])
)
observations = st.builds(
    Observation,
    item_id=ids.filter(bool), source=slugs, external_id=slugs, kind=st.sampled_from(Kind), title=words, body=words,
    observed_at=instants, published_at=instants, trend_id=slugs, url=st.none() | words, author=st.none() | words,
    publisher=st.none() | words, engagement=engagements, mentions=st.lists(slugs, max_size=4).map(tuple),
)  # fmt: skip
items = st.builds(
    EmbeddedItem,
    item=observations, text_hash=slugs, vector=vectors, model=st.sampled_from(["m", "other"]),
    dimensions=st.sampled_from([8, 8, 8, 1, 65_536]), arrived_at=st.none() | instants,
)  # fmt: skip
mentions = st.builds(
    Mention,
    generation=slugs, trend_id=st.sampled_from(["a", "b"]) | slugs, item_id=slugs, topic_id=slugs, home=st.booleans(),
    event_time=instants, first_seen=instants, publisher=st.none() | words, source=slugs, weight=st.integers(-1, 1),
    echo=st.booleans(), engagement=engagements, seq=whole,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(items, max_size=12), st.integers(1, 5))
def test_cluster_takes_any_embedded_item(records: list[EmbeddedItem], size: int) -> None:
    running = ClusterEngine(replace(SMALL, merge_every_items=3), "g1")
    restored = ClusterEngine(replace(SMALL, merge_every_items=3), "g1")
    for begin in range(0, len(records), size):
        decisions = running.apply(records[begin : begin + size])
        again([*decisions.enriched, *decisions.mentions, *decisions.updates])
        restored.restore([key for key, _ in decisions.state], [value for _, value in decisions.state])
    restored.finish_restore()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mentions, max_size=25), st.integers(1, 8))
def test_score_takes_any_mention(records: list[Mention], size: int) -> None:
    running, restored = TrendScorer(ScoringConfig(), "g1"), TrendScorer(ScoringConfig(), "g1")
    for begin in range(0, len(records), size):
        scored = running.apply(records[begin : begin + size])
        again(scored.scores)
        for key, value in scored.state:
            restored.restore(key, value)
    restored.finish_restore()


def test_engagement_beyond_what_a_record_holds_is_shown_as_the_most_that_it_holds() -> None:
    scorer = TrendScorer(ScoringConfig(), "g1")
    most = [
        Mention(
            generation="g1",
            trend_id="t",
            item_id=str(i),
            topic_id="x",
            home=True,
            event_time=NOW,
            first_seen=NOW,
            source="s",
            weight=1,
            engagement=Engagement(points=2**53),
            seq=i + 1,
        )
        for i in range(5_000)
    ]
    for begin in range(0, len(most), 500):
        scored = scorer.apply(most[begin : begin + 500])
    again(scored.scores)
    assert scored.scores[0].engagement.points == 2**53
    assert {trend_of_state(key) for key, _ in scored.state} == {"t"}


updates = st.builds(
    TopicUpdate,
    generation=slugs, topic_id=st.sampled_from(["a", "b"]) | slugs, life=st.sampled_from(Life),
    merged_into=st.none() | slugs, size=whole, publishers=whole, sources=st.dictionaries(words, whole, max_size=3),
    centroid=words, model=slugs, dimensions=st.integers(1, 65_536),
    terms=st.lists(st.tuples(words, st.floats(allow_nan=False, allow_infinity=False)), max_size=5).map(tuple),
    sums=st.builds(TopicSums),
    items=st.lists(
        st.builds(
            LeadingItem,
            item_id=slugs, title=words, url=st.none() | words, body=words, publisher=st.none() | words, source=slugs,
            published_at=instants,
        ), max_size=5,
    ).map(tuple),
    first_seen=instants, last_seen=instants, trend_id=slugs, seq=whole,
    trends=st.dictionaries(words, whole, max_size=3),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(updates, max_size=10))
def test_summarize_takes_any_update(records: list[TopicUpdate]) -> None:
    running, restored = (SummarizeEngine(ExtractiveSummariser(), lambda: NOW, max_topics=3) for _ in range(2))
    summarised = running.apply(records)
    again(summarised.summaries)
    for key, value in summarised.state:
        restored.restore(key, value)
    restored.finish_restore()
    rows = RowBuilder(PostgresConfig(dsns=("postgresql://none",), generation="g1", dimensions=DIMENSIONS))
    for record in records:
        with contextlib.suppress(RowError):
            rows.build(record)


# ----------------------------------------------------------------------------------------------------- dead letters


@pytest.mark.parametrize("kafka", [KafkaConfig(""), KafkaConfig("", max_record_bytes=16_384)], ids=["1 MiB", "16 KiB"])
def test_a_letter_of_the_worst_message_fits_into_its_stream(kafka: KafkaConfig) -> None:
    largest = raw("file").largest_bytes(kafka)
    headers = [(f"{i}\x01", b"\x01" * 300) for i in range(largest // 900)]
    left = largest - sum(len(n) + len(v or b"") for n, v in headers)
    for value in (b"\x01" * min(left, WHOLE_BYTES), b""):
        sent = Sent("", "t", value, b"\x01" * (left - len(value)), headers)
        letter = letter_of(Message(sent), Reason.NOT_JSON, "\x01" * 10_000, "embed")
        assert len(letter.headers) == HEADERS
        assert len(encode(letter)) <= DEAD_LETTERS.largest_bytes(kafka)


def test_headers_that_cannot_be_read_are_none() -> None:
    class Unreadable(Message):
        def headers(self) -> list[tuple[str, bytes | None]] | None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    message = Unreadable(Sent("", "t", b"x", b"k"))
    oks, [letter] = Decoder({"raw.file": Observation}, "embed")(type("C", (), {"messages": [message]})())
    assert not oks
    assert letter.reason is Reason.NOT_JSON


@given(slugs, st.sampled_from([1, 2, 4, 8, 16, 64, 1024]), st.integers(0, 1023))
def test_a_record_stands_where_its_trend_stands_or_stood(trend: str, partitions: int, other: int) -> None:
    grown = partitions
    while grown <= 1024:
        assert is_place_of(trend, partition_of(trend, partitions), grown)
        grown *= 2
    if not any(partition_of(trend, 2**i) == other for i in range(11)):
        assert misplaced(trend, other, 1024)
