"""Opens the read side of the store with the model that orders trends. What is asked of it is the callers' affair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.scoring import Rising, ScoringConfig, rising
from models.subjects import ITEMS, TOPIC_BURST, Candidate, Subject, Told, looked_at, subjects, topics_config
from models.text import clean_title
from models.why import Counted, Share, Step, Why, score_of, why
from sinks.postgres import SyncReader
from sinks.views import ItemView, MentionView, Now, RecentTopics, Standing, TopicBrief, TrendRow, counts_until
from streams.records import TrendScore
from trends.following import following
from trends.settings import Settings

CANDIDATES: Final = 60
"""Rising trends that subjects are looked for among."""


def rising_standings(scores: Sequence[TrendScore], now: datetime) -> list[Standing]:
    """The rising ones among some scores at an instant, the strongest first, see :func:`models.scoring.rising`."""
    return [_standing(each) for each in rising(scores, now)]


def _standing(r: Rising) -> Standing:
    return Standing(r.score.trend_id, r.items, r.expected, r.burst, r.strength, r.peaked_at)


def open_reader(settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SyncReader:
    """The read side of the store of these settings: of the generation that was set, else of the live one.

    Close it, or use it as a context manager.

    Raises:
        SettingsError: there is no store, or the generation is dropped.
        UnavailableError: no generation was set, and Kafka does not say which one is live.
    """
    return SyncReader(following(settings).settings.postgres(), clock=clock, order=rising_standings)


@dataclass(frozen=True, slots=True)
class Account:
    """Why a trend trends, with what its topics and items are called."""

    title: str
    now: Now
    complete: bool
    """Whether all items of the window are in it."""
    why: Why
    topics: dict[str, TopicBrief]
    items: dict[str, ItemView]


def account(sync: SyncReader, trend_id: str, at: datetime | None) -> Account | None:
    """Takes a trend's burst apart, now or as it was at a past time; None where the trend has no score up to then."""
    config = ScoringConfig()
    window = timedelta(seconds=config.slice_s * (config.window_slices + 1))
    found = sync.ask(sync.reader.evidence(trend_id, window=window, at=at))
    if found is None:
        return None
    reasons = why(found.score, found.now.time, _counted(found.mentions), config)
    shares: tuple[Share | Step, ...] = (*reasons.topics, *reasons.sources, *reasons.by_publisher, *reasons.spread)
    named = {item_id for share in shares for item_id in share.item_ids}
    seen = [(m.first_seen, m.item_id) for m in found.mentions if m.item_id in named]
    topics, items = sync.ask(sync.reader.named([t.name for t in reasons.topics if t.name], seen))
    return Account(found.title, found.now, found.complete, reasons, topics, items)


def _counted(mentions: Sequence[MentionView]) -> list[Counted]:
    return [
        Counted(m.first_seen, m.item_id, m.topic_id, m.source, m.publisher, m.echo, m.points, m.comments)
        for m in mentions
    ]


@dataclass(frozen=True, slots=True)
class RisingTopic:
    """A story as it stands."""

    topic: TopicBrief
    counts: tuple[int, ...]
    """Items of the last slices, oldest first."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class RisingTopics:
    """The rising stories at some instant, the strongest first."""

    now: Now
    topics: tuple[RisingTopic, ...]


def rising_topics(sync: SyncReader, limit: int, at: datetime | None) -> RisingTopics:
    """The stories that are above their own past, by the scores of trends: a story may be spread over many trends, and
    a trend may be of many stories."""
    config = ScoringConfig()
    found, standings = _topics(sync, at, config, 1.0)
    return RisingTopics(
        found.now,
        tuple(
            RisingTopic(found.topics[r.score.trend_id], _course(r.score, found.now.time), _standing(r))
            for r in standings[:limit]
        ),
    )


def _topics(
    sync: SyncReader, at: datetime | None, config: ScoringConfig, min_burst: float
) -> tuple[RecentTopics, list[Rising]]:
    window = timedelta(seconds=config.slice_s * config.past_slices)
    found = sync.ask(sync.reader.recent_topics(window=window, recent=looked_at(config), at=at))
    generation, now = sync.reader.config.generation, found.now.time
    scores = [score_of(topic_id, generation, _counted(of), now, config) for topic_id, of in found.items.items()]
    return found, rising(scores, now, config, min_burst=min_burst)


def _course(score: TrendScore, until: datetime) -> tuple[int, ...]:
    return counts_until(score.counts, score.slice_start, score.slice_s, until, len(score.counts))


@dataclass(frozen=True, slots=True)
class RisingSubject:
    """A subject as it stands: a trend, a story, or both."""

    trends: tuple[str, ...]
    """The names that people talk under, the strongest first; none: the story has no name of its own."""
    names: tuple[str, ...]
    """The same as they are shown."""
    tracked: bool
    topic_id: str | None
    headline: str
    """The title that is most like those of the subject's other items."""
    url: str | None
    counts: tuple[int, ...]
    """Items of the last slices, oldest first: of the strongest of its trends and stories, as all that follows."""
    slice_s: int
    publishers: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class RisingSubjects:
    """What rises at some instant, the strongest first."""

    now: Now
    subjects: tuple[RisingSubject, ...]


def rising_subjects(
    sync: SyncReader, limit: int, at: datetime | None, window: timedelta = timedelta(days=4)
) -> RisingSubjects:
    """Rising trends and stories in one list, each subject once (``models.subjects``).

    Args:
        limit: at most so many.
        at: a past time; None: now.
        window: only trends with an item in it.
    """
    config = ScoringConfig()
    top = sync.ask(sync.reader.top(window=window, limit=max(CANDIDATES, 2 * limit), at=at, topics=0))
    now, rows = top.now, {row.trend_id: row for row in top.trends}
    of_trends = sync.ask(
        sync.reader.newest_of(
            {t: (t, *row.aliases) for t, row in rows.items()}, window=looked_at(config), limit=ITEMS, at=now.time
        )
    )
    stories, standings = _topics(sync, now.time, topics_config(config), TOPIC_BURST)
    risen = {r.score.trend_id: r for r in standings}
    seen = of_trends | {t: tuple(sorted(stories.items[t], key=_newest_first)) for t in risen}
    candidates = [
        Candidate(name, topic, strength, _told(seen.get(name, ()), config))
        for name, topic, strength in (
            *((t, False, row.strength) for t, row in rows.items()),
            *((t, True, r.strength) for t, r in risen.items()),
        )
    ]
    found = subjects(candidates, limit, frozenset(t for t, row in rows.items() if row.tracked))
    urls = {m.item_id: m.url for each in seen.values() for m in each}
    return RisingSubjects(now, tuple(_row(s, rows, risen.get(s.lead), urls[s.item_id], now.time) for s in found))


def _newest_first(mention: MentionView) -> tuple[float, str]:
    return (-mention.first_seen.timestamp(), mention.item_id)


def _told(newest: Sequence[MentionView], config: ScoringConfig) -> list[Told]:
    """The items of the burst window before the newest of them."""
    last = config.slice_of(newest[0].first_seen) if newest else 0
    recent = [m for m in newest[:ITEMS] if config.slice_of(m.first_seen) > last - config.window_slices]
    return [Told(m.item_id, clean_title(m.title, m.publisher, m.url)) for m in recent]


def _row(
    subject: Subject, rows: Mapping[str, TrendRow], risen: Rising | None, url: str | None, now: datetime
) -> RisingSubject:
    trends = [rows[t] for t in subject.trends]
    if risen is not None:
        counts, slice_s = _course(risen.score, now), risen.score.slice_s
        publishers, standing = risen.score.publishers, _standing(risen)
    else:
        row = rows[subject.lead]
        assert row.peaked_at is not None  # it rises
        counts, slice_s, publishers = row.counts, row.slice_s, row.publishers
        standing = Standing(row.trend_id, row.items, row.expected, row.burst, row.strength, row.peaked_at)
    return RisingSubject(
        subject.trends, tuple(row.title for row in trends), any(row.tracked for row in trends), subject.topic_id,
        subject.headline, url, counts, slice_s, publishers, standing,
    )  # fmt: skip


def query_vector(settings: Settings, text: str) -> NDArray[np.float32] | None:
    """The vector of a search text, shape (d,), by the generation's embedder; None where that one has no meaning.

    Raises:
        SettingsError, UnavailableError: the embedder cannot be made, or does not answer.
    """
    settings = following(settings).settings
    if settings.embedder == "null" or not text.strip():
        return None
    from trends.flows import embedder_of

    embedder = embedder_of(settings)
    try:
        vector: NDArray[np.float32] = embedder.embed([text])[0]
        return vector
    finally:
        embedder.close()
