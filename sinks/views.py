"""What the read side of a store hands out: plain frozen values, ready to be shown or sent. No queries in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from streams.records import TrendScore

TERM_PREFIX = "term:"


@dataclass(frozen=True, slots=True)
class Now:
    """The instant that a question is asked at."""

    time: datetime
    replayed: bool
    """Whether it is the newest event time in the store, because that lies well in the past."""


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item as it stands."""

    item_id: str
    source: str
    kind: str
    title: str
    url: str | None
    author: str | None
    publisher: str | None
    published_at: datetime
    first_seen: datetime
    points: int
    comments: int
    trend_id: str | None
    topic_id: str | None
    echo_of: str | None
    """The item that this one copies."""


@dataclass(frozen=True, slots=True)
class TopicBrief:
    """A topic in a line or two."""

    topic_id: str
    headline: str
    summary: str | None
    """None until it was summarised (a topic of one or two items is not)."""
    keywords: tuple[str, ...]
    size: int
    """Items, echoes included, over all trends."""
    publishers: int
    points: int
    comments: int
    first_seen: datetime
    last_seen: datetime
    trend_id: str
    life: str
    leading: tuple[ItemView, ...]
    """Up to five items that stand for it, nearest to its centre first."""
    items: int | None = None
    """Where it is listed under a trend: items of that trend in the window asked for."""
    entities: tuple[str, ...] = ()
    """Names as the items write them."""
    lang: str | None = None
    category: str | None = None
    method: str | None = None
    """``extractive`` or ``llm``; None until it was summarised."""
    fallback: str | None = None
    """Why it is extractive although a model was to write it."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One step of a timeline."""

    start: datetime
    items: int
    """Echoes included."""
    echoes: int


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic with everything."""

    brief: TopicBrief
    asked_id: str
    """The id that was asked for: another one where that topic was merged into this one."""
    asked_generation: str | None
    """The earlier generation that the asked id is of; None: this one."""
    merged: dict[str, str | None]
    """Topics that were merged into this one, and why."""
    reason: str | None
    """Why it takes no more items; None while it does."""
    sources: dict[str, int]
    trends: dict[str, int]
    """Items by home trend, the largest first."""
    terms: tuple[str, ...]
    timeline: tuple[Bin, ...]
    step_s: int
    """Length of a step of the timeline, seconds."""
    members: tuple[ItemView, ...]
    """The most discussed items first."""
    echoes: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a trend stands at an instant, by the model that orders trends."""

    trend_id: str
    items: int
    """In the burst window that ends at that instant."""
    expected: float
    burst: float
    strength: float
    peaked_at: datetime
    """The end of the burst window that the strength is of: that instant, or a moment ago."""


Order: TypeAlias = Callable[[Sequence[TrendScore], datetime], Sequence[Standing]]
"""The rising ones among some scores (at most one a trend) at an instant, the strongest first. A store does not know the
models; who opens its read side hands this in."""


@dataclass(frozen=True, slots=True)
class TrendRow:
    """A trend in a list."""

    trend_id: str
    title: str
    tracked: bool
    category: str | None
    counts: tuple[int, ...]
    """Items of the slices up to the instant asked about, oldest first."""
    slice_s: int
    items: int
    """Items in the burst window, as it stands at the instant asked about."""
    window_items: int
    """Items in the window asked for."""
    total: int
    publishers: int
    sources: dict[str, int]
    expected: float
    burst: float
    strength: float
    """The strongest burst, of that instant or faded since, as readers should weigh it; 0: it does not rise."""
    peaked_at: datetime | None
    """The end of the burst window with that burst."""
    velocity: float
    points: int
    comments: int
    spread: float
    rank: float | None
    slice_start: datetime
    first_seen: datetime
    last_seen: datetime
    topics: tuple[TopicBrief, ...] = ()
    """Those that most of its items in the window belong to."""
    aliases: tuple[str, ...] = ()
    """Trends that are other names of this one: what they have is counted here, each item once."""


@dataclass(frozen=True, slots=True)
class TopTrends:
    """The rising trends at some instant."""

    now: Now
    window_s: int
    """Seconds before it in which a trend had an item, and that its topics are of."""
    trends: tuple[TrendRow, ...]


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """How a trend stood at the end of one slice."""

    slice_start: datetime
    items: int
    expected: float
    burst: float
    velocity: float
    publishers: int
    rank: float | None


@dataclass(frozen=True, slots=True)
class TrendView:
    """A trend with everything."""

    row: TrendRow
    now: Now
    keywords: tuple[str, ...]
    """Of a tracked subject."""
    status: str | None
    """Of a tracked subject: active or retired."""
    history: tuple[ScorePoint, ...]
    """Oldest first."""
    items: tuple[ItemView, ...]
    """The most discussed ones in the window."""


@dataclass(frozen=True, slots=True)
class MentionView:
    """An item that counts for a trend."""

    first_seen: datetime
    item_id: str
    topic_id: str
    """The topic that it stands for today."""
    source: str
    publisher: str | None
    echo: bool
    title: str = ""
    """Title, link and engagement are there where the items themselves were read."""
    url: str | None = None
    points: int = 0
    comments: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a trend's standing rests on: its score, and the items that were counted."""

    now: Now
    title: str
    score: TrendScore
    """The newest up to that time."""
    mentions: tuple[MentionView, ...]
    complete: bool
    """Whether these are all; else only the latest."""


@dataclass(frozen=True, slots=True)
class RecentTopics:
    """The topics with the most items of the last days, and what each is made of."""

    now: Now
    topics: dict[str, TopicBrief]
    items: dict[str, tuple[MentionView, ...]]
    """Of the time asked for, by topic; merged ones are one."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A topic that a search found, and by what."""

    topic: TopicBrief
    score: float
    similarity: float | None
    """Cosine of the query and the topic's centroid; None where only words matched."""
    found_by: tuple[str, ...]
    """``items``, ``summaries``, ``vectors``."""
    items: tuple[ItemView, ...]
    """Its items whose words matched, best first."""


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """What the store holds."""

    items: int
    item_ids: int
    """Distinct ones on each shard, added up."""
    items_placed: int
    """Items with a home trend and a topic."""
    topics: int
    """Merged ones not counted."""
    topics_merged: int
    trends: int
    mentions: int
    scores: int
    summaries: int
    per_shard: tuple[dict[str, int], ...]


def title_of(trend_id: str, title: str | None) -> str:
    """What a trend is called: its title in the catalogue, else the word it was found by."""
    return title or trend_id.removeprefix(TERM_PREFIX)


def counts_until(
    counts: Sequence[int], slice_start: datetime, slice_s: int, until: datetime, slices: int
) -> tuple[int, ...]:
    """``slices`` counts up to the slice that ``until`` is in: those known up to ``slice_start``'s, then zeros."""
    quiet = max(0, int((until - slice_start) / timedelta(seconds=slice_s)))
    kept = [*counts, *([0] * min(quiet, slices))][-slices:]
    return (*([0] * (slices - len(kept))), *kept)
