"""State built anew from recorded decisions is the state of the engine that made them, and goes on as that one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from models.clustering import ClusterConfig
from models.echoes import TICKS
from models.engine import ClusterEngine, Decisions
from models.packed import id_bytes
from models.rebuild import ClusterRebuild, Ending, LastSeen, SummaryRebuild
from models.scoring import ScoringConfig, TrendScorer
from models.summaries import ExtractiveSummariser, SummarizeEngine
from models.topics import micros
from streams.codec import decode, encode
from streams.records import (
    EmbeddedItem,
    Engagement,
    EnrichedItem,
    Feedback,
    FeedbackKind,
    Kind,
    Life,
    Mention,
    TopicUpdate,
)
from tests.unit.test_engine import SMALL, Log, cut, fed, world
from tests.unit.test_scoring import mention
from tests.unit.topics import AT, topic


@dataclass
class Streams:
    """What an engine read and wrote, as it stands in the streams."""

    embedded: list[EmbeddedItem] = field(default_factory=list)
    enriched: list[EnrichedItem] = field(default_factory=list)
    updates: dict[str, TopicUpdate] = field(default_factory=dict)
    """Compacted: the newest of each topic."""
    log: Log = field(default_factory=Log)

    def take(self, items: Sequence[EmbeddedItem], decisions: Decisions) -> None:
        self.log.take(decisions)
        self.embedded += items
        self.enriched += [decode(EnrichedItem, encode(item)) for item in decisions.enriched]
        for update in decisions.updates:
            self.updates[update.topic_id] = decode(TopicUpdate, encode(update))


def run(config: ClusterConfig, seed: int, items: int) -> tuple[ClusterEngine, Streams, list[EmbeddedItem]]:
    """An engine in the middle of a world, what it has written, and what is still to come."""
    stream = world(seed, items)
    middle = len(stream) * 2 // 3
    engine, streams = ClusterEngine(config, "g1"), Streams()
    for part in cut(random.Random(seed), stream[:middle]):
        streams.take(part, engine.apply(part))
    return engine, streams, stream[middle:]


def last_seen(embedded: Sequence[EmbeddedItem]) -> LastSeen:
    seen = LastSeen()
    for e in embedded:
        tick = micros(e.item.observed_at) * TICKS // 1_000_000
        seen.note(id_bytes(e.item.item_id), tick, e.item.kind is Kind.DELETED)
    return seen


def rebuild(config: ClusterConfig, streams: Streams, rng: random.Random, since: int = 0) -> ClusterRebuild:
    """From the records from the ``since``-th decision on."""
    again = ClusterRebuild(config, "g1", last_seen(streams.embedded))
    ended = [Ending.of(u) for u in streams.updates.values() if u.life in (Life.MERGED, Life.FADED)]
    for update in streams.updates.values():
        if update.life not in (Life.MERGED, Life.FADED):
            again.live(update)
    records: list[EnrichedItem | Ending] = [*(e for e in streams.enriched if e.seq >= since), *ended]
    records.sort(key=lambda r: (r.seq, isinstance(r, Ending)))
    begin = 0
    while begin < len(records):
        end = begin + rng.choice([1, 7, 100])
        again.decided(records[begin:end])
        begin = end
    again.finish()
    return again


def snapshot(engine: ClusterEngine) -> dict[bytes, bytes]:
    records = [record for part in engine.snapshot() for record in part]
    state = {key: value for key, value in records if value is not None}
    assert len(state) == len(records)
    return state


def restored(config: ClusterConfig, state: dict[bytes, bytes]) -> ClusterEngine:
    engine = ClusterEngine(config, "g1")
    engine.restore(list(state), list(state.values()))
    engine.finish_restore()
    return engine


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(300, 400))
def test_state_rebuilt_from_the_records_alone_is_the_state_that_was_lost(seed: int, items: int) -> None:
    engine, streams, later = run(SMALL, seed, items)
    again = rebuild(SMALL, streams, random.Random(seed))
    assert (again.report.missing, again.report.unreadable, again.report.corrected) == (0, 0, 0)
    assert again.report.decisions == engine._state.seq
    state = snapshot(again)
    assert state == streams.log.newest
    assert snapshot(engine) == state
    going_on = restored(SMALL, state)
    for part in cut(random.Random(seed), later):
        assert going_on.apply(part) == engine.apply(part)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_merges_that_people_ask_for_are_rebuilt_restored_and_followed_as_any(seed: int) -> None:
    rng = random.Random(seed)
    stream = world(seed, 320)
    names = sorted({e.item.item_id for e in stream})
    words = [
        Feedback(kind=FeedbackKind.MERGE, items=tuple(rng.sample(names, 2)), said_at=AT, version=1) for _ in range(12)
    ]
    engine, streams = ClusterEngine(SMALL, "g1"), Streams()
    middle = len(stream) * 2 // 3
    for word in words[:6]:  # before there is any item
        engine.obey(word)
    said = iter(words[6:])
    for part in cut(rng, stream[:middle]):
        if rng.random() < 0.2 and (word := next(said, None)) is not None:
            engine.obey(word)
        streams.take(part, engine.apply(part))
    again = rebuild(SMALL, streams, random.Random(seed))
    state = snapshot(again)
    assert state == streams.log.newest
    assert snapshot(engine) == state
    going_on = restored(SMALL, state)
    for word in words:  # whoever begins anew is told everything again
        going_on.obey(word)
        engine.obey(word)
    for part in cut(random.Random(seed), stream[middle:]):
        assert going_on.apply(part) == engine.apply(part)


def test_the_worlds_that_are_rebuilt_have_everything_in_them() -> None:
    lives: set[Life] = set()
    prolonged, forgotten = 0, False
    for seed in range(6):
        _, streams, _ = run(SMALL, seed, 320)
        lives |= {update.life for update in streams.updates.values()}
        prolonged += rebuild(SMALL, streams, random.Random(seed)).report.prolonged
        forgotten |= any(key.startswith(b"i:") and value is None for key, value in streams.log.records)
    assert {Life.MERGED, Life.FADED, Life.GREW} <= lives
    assert prolonged
    assert forgotten


def test_a_deletion_that_came_before_its_item_is_still_remembered() -> None:
    engine, streams = ClusterEngine(SMALL, "g1"), Streams()
    items = [fed("1"), changed(fed("2", hours=2), item=changed(fed("2", hours=2).item, kind=Kind.DELETED), vector=None)]
    streams.take(items, engine.apply(items))
    again = rebuild(SMALL, streams, random.Random(1))
    assert snapshot(again) == streams.log.newest
    assert not restored(SMALL, snapshot(again)).apply([fed("2", hours=1)]).enriched


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 150))
def test_topics_older_than_the_records_have_the_counts_of_their_last_update(seed: int, since: int) -> None:
    """Retention has deleted the first records: what is left is counted as recorded, and numbers go on."""
    engine, streams, later = run(SMALL, seed, 320)
    again = rebuild(SMALL, streams, random.Random(seed), since)
    report = again.report
    gone = sum(e.seq < since for e in streams.enriched)
    assert report.missing <= gone
    live = {t: u for t, u in streams.updates.items() if u.life not in (Life.MERGED, Life.FADED)}
    assert again.active_topics == engine.active_topics == len(live)
    going_on = restored(SMALL, snapshot(again))
    for topic_id, update in live.items():
        topic = going_on._topics[topic_id]
        assert (topic.size, topic.echoes, topic.engagement) == (update.size, update.sums.echoes, update.sums.engagement)
        assert (topic.rank, topic.seq, topic.trend_id) == (update.sums.rank, update.seq, update.trend_id)
        assert (topic.sources, topic.first_us, topic.last_us) == (
            update.sources, micros(update.first_seen), micros(update.last_seen),
        )  # fmt: skip
    before = engine._state.seq
    decided = [item for part in cut(random.Random(seed), later) for item in going_on.apply(part).enriched]
    assert all(item.seq > before for item in decided)
    assert len({item.seq for item in decided}) == len(decided)


# -------------------------------------------------------------------------------------------------- score, summarize

PASTS = ScoringConfig(past_slices=24, window_slices=4, fading_slices=8)


def mentions_of(seed: int, number: int = 400) -> list[Mention]:
    """Two days of five trends: some are silent for longer than a past, deletions and late mentions among them."""
    rng = random.Random(seed)
    found: list[Mention] = []
    for seq in range(1, number + 1):
        hour = 48 * seq / number
        trend = rng.choice("ab" if 6 < hour < 40 else "abcde")
        weight = -1 if found and rng.random() < 0.05 else 1
        late = rng.choice([0.0, 0.0, 0.0, 0.7])
        points = Engagement(points=rng.randrange(5))
        found.append(
            mention(f"term:{trend}", hour - late, seq, weight=weight, echo=rng.random() < 0.1, engagement=points)
        )
    return found


def chunks(rng: random.Random, mentions: list[Mention]) -> Iterator[list[Mention]]:
    while mentions:
        size = rng.choice([1, 2, 5])
        yield mentions[:size]
        mentions = mentions[size:]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 200))
@example(225, 1)  # the version is the same without the first mention, the total is not
def test_scores_go_on_from_mentions_that_were_counted_again(seed: int, gone: int) -> None:
    mentions = mentions_of(seed)
    scorer, state, newest = TrendScorer(PASTS, "g1"), {}, {}
    for batch in chunks(random.Random(seed), mentions[:300]):
        scored = scorer.apply(batch)
        newest |= {found.trend_id: found for found in scored.scores}
        state |= dict(scored.state)
    again = TrendScorer(PASTS, "g1")
    for batch in chunks(random.Random(seed + 1), mentions[gone:300]):
        again.recount(batch)
    corrected = sum(again.agree(found) for found in newest.values())
    rebuilt = dict(again.snapshot())
    assert gone or not corrected
    alive = {key for key, value in state.items() if value is not None}
    assert rebuilt.keys() == alive

    going_on = TrendScorer(PASTS, "g1")
    for key, value in rebuilt.items():
        going_on.restore(key, value)
    going_on.finish_restore()
    for batch in chunks(random.Random(seed + 2), mentions[300:]):
        ours, theirs = going_on.apply(batch).scores, scorer.apply(batch).scores
        assert [(s.trend_id, s.version, s.total, s.first_seen) for s in ours] == [
            (s.trend_id, s.version, s.total, s.first_seen) for s in theirs
        ]
        if not gone:
            assert ours == theirs


def test_summaries_go_on_from_what_was_said() -> None:
    engine = SummarizeEngine(ExtractiveSummariser(), lambda: AT)
    state: dict[bytes, bytes] = {}
    said, read, newest = [], [], {}
    steps = [("a", 3), ("a", 4), ("b", 2), ("b", 7), ("c", 3), ("a", 6), ("c", 5), ("d", 3), ("d", 4), ("e", 3)]
    for seq, (name, size) in enumerate(steps, 1):
        life = Life.FADED if (name, size) == ("d", 4) else Life.GREW
        update = topic("One harbour story", "Two harbour stories", size=size, seq=seq, topic_id=name, life=life)
        summarised = engine.apply([update])
        said += summarised.summaries
        read.append(update)
        newest[name] = update
        for key, value in summarised.state:
            state = {k: v for k, v in state.items() if k != key} | ({key: value} if value is not None else {})
    whole, compacted = SummaryRebuild(), SummaryRebuild()
    for summary in said:
        whole.said(summary)
        compacted.said(summary)
    for update in read:
        whole.updated(update)
    for update in newest.values():
        compacted.updated(update)
    assert {key: value for key, value, _ in whole.snapshot()} == state
    assert (whole.inexact, whole.unknown) == (0, 0)
    due = {key: msgspec.msgpack.decode(value)[0] for key, value, _ in compacted.snapshot()}
    assert due == {key: msgspec.msgpack.decode(value)[0] for key, value in state.items()}
    assert compacted.inexact == 1  # c: its summarised update has been replaced
