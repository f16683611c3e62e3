"""Opens the read side of the store with the model that orders trends. What is asked of it is the callers' affair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from models.scoring import ScoringConfig, rising
from models.why import Counted, Share, Step, Why, score_of, why
from sinks.postgres import SyncReader
from sinks.views import ItemView, MentionView, Now, Standing, TopicBrief
from streams.records import TrendScore
from trends.following import following
from trends.settings import Settings


def rising_standings(scores: Sequence[TrendScore], now: datetime) -> list[Standing]:
    """The rising ones among some scores at an instant, the strongest first, see :func:`models.scoring.rising`."""
    return [
        Standing(r.score.trend_id, r.items, r.expected, r.burst, r.strength, r.peaked_at) for r in rising(scores, now)
    ]


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
    return [Counted(m.first_seen, m.item_id, m.topic_id, m.source, m.publisher, m.echo) for m in mentions]


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
    window = timedelta(seconds=config.slice_s * config.past_slices)
    found = sync.ask(sync.reader.recent_topics(window=window, at=at))
    scores = []
    for topic_id, items in found.items.items():
        scores.append(score_of(topic_id, sync.reader.config.generation, _counted(items), found.now.time, config))
    counts = {score.trend_id: score.counts for score in scores}
    standings = rising_standings(scores, found.now.time)[:limit]
    return RisingTopics(
        found.now, tuple(RisingTopic(found.topics[s.trend_id], counts[s.trend_id], s) for s in standings)
    )


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
