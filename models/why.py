"""Why a trend trends, as arithmetic: what was expected and what came, and whose the items are that make the difference.

Nothing is guessed here. A burst is counted in units (an item, or a publisher's copies in one slice, see
``models.scoring``); every unit belongs to one topic, one source and one publisher, so each of the three lists adds up
to the count that was scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.scoring import ScoringConfig, bursts, course, hourly, laid, publisher_of, standing
from streams.records import Engagement, TrendScore

SHOWN_ITEMS: Final = 3
"""Items that stand for a share or a step, the earliest ones."""
MAX_SHARES: Final = 10
"""Of one list; what is beyond stands in one line, so that the sum stays whole."""


@dataclass(frozen=True, slots=True)
class Counted:
    """An item that counts for a trend, as a store has it."""

    first_seen: datetime
    item_id: str
    topic_id: str
    source: str
    publisher: str | None
    echo: bool
    points: int = 0
    comments: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one topic, source or publisher has of the burst window."""

    name: str | None
    """None: all that are not listed."""
    count: int
    share: float
    """Of all that was counted, 0 … 1."""
    above: float
    """Of the items above what was expected, its part: share · (observed − expected)."""
    first_seen: datetime
    item_ids: tuple[str, ...]
    """The earliest ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """From one source to the next."""

    source: str
    """Who took it up …"""
    after: str | None
    """… after whom (None: the first), …"""
    lead_s: float
    """… so many seconds later; 0 for the first."""
    first_seen: datetime
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Expected against observed, in one length of time."""

    slices: int
    observed: int
    expected: float
    deviation: float
    """By how much such a count goes up and down without anything having happened."""
    burst: float
    """(observed − expected) / (deviation + bias); negative: below."""


@dataclass(frozen=True, slots=True)
class Why:
    """A trend's burst, taken apart."""

    trend_id: str
    at: datetime
    slice_s: int
    bias: float
    day: Span
    """The burst window that ends at that time."""
    hour: Span
    """Its last slice."""
    peak: float
    """The strongest burst that still counts …"""
    peaked_at: datetime
    """… and the end of its window."""
    velocity: float
    """Items an hour in the burst window, minus those in the window before."""
    acceleration: float
    """Items an hour each hour, see ``TrendScore``."""
    hidden: float
    """The share of the window in which the trend's sources were down."""
    counted: int
    """Units found in the store: ``day.observed``, once it has stored all that was scored."""
    publishers: int
    topics: tuple[Share, ...]
    sources: tuple[Share, ...]
    by_publisher: tuple[Share, ...]
    spread: tuple[Step, ...]
    """The sources in the order in which they took it up in the window."""


def units(found: Iterable[Counted], slice_s: int) -> list[Counted]:
    """Items as the scorer counts them: of a publisher's echoes in one slice the first stands for all. In order of
    time."""
    seen: set[tuple[int, str]] = set()
    counted = []
    for each in sorted(found, key=lambda c: (c.first_seen, c.item_id)):
        if each.echo:
            copy = (int(each.first_seen.timestamp() // slice_s), publisher_of(each.publisher, each.source))
            if copy in seen:
                continue
            seen.add(copy)
        counted.append(each)
    return counted


def score_of(name: str, generation: str, found: Iterable[Counted], now: datetime, config: ScoringConfig) -> TrendScore:
    """How some items stand against their own past, as if they were a trend: a topic's, over all trends. As a trend's
    score it is of the newest slice with an item up to that of ``now``; what is later is not looked at."""
    last = config.slice_of(now)
    counted = [c for c in units(found, config.slice_s) if c.first_seen < config.start_of(last + 1)]
    last = max((config.slice_of(c.first_seen) for c in counted), default=last)
    slices = Counter(config.slice_of(c.first_seen) for c in counted)
    counts = tuple(slices[last + 1 - config.past_slices + i] for i in range(config.past_slices))
    recent = [c for c in counted if config.slice_of(c.first_seen) > last - config.window_slices]
    publishers = len({publisher_of(c.publisher, c.source) for c in recent})
    times = [c.first_seen for c in counted] or [now]
    return TrendScore(
        generation=generation, trend_id=name, slice_start=config.start_of(last), slice_s=config.slice_s, counts=counts,
        items=counts[-1], total=len(counted), publishers=publishers, sources=Counter(c.source for c in recent),
        expected=0.0, burst=0.0, velocity=0.0,
        engagement=Engagement(points=sum(c.points for c in recent), comments=sum(c.comments for c in recent)),
        spread=min(1.0, publishers / max(1, len(recent))), rank=None, first_seen=min(times), last_seen=max(times),
        version=len(counted), story=len(recent),
    )  # fmt: skip


def why(score: TrendScore, now: datetime, found: Sequence[Counted], config: ScoringConfig | None = None) -> Why:
    """Takes a trend apart as it stands at ``now``.

    Args:
        score: the newest up to that time.
        found: all present items of the trend; those outside the burst window are not looked at.

    Raises:
        ValueError: the score has slices of another length.
    """
    config = config or ScoringConfig()
    counts = laid([score], now, config)
    at = standing(counts, config)
    last = config.slice_of(now)
    begin = config.start_of(last + 1 - config.window_slices)
    end = config.start_of(last + 1)
    counted = units((c for c in found if begin <= c.first_seen < end), config.slice_s)
    day, hour = (
        Span(c.window_slices, int(counts.items[0, -c.window_slices :].sum()), *(float(a[0]) for a in bursts(counts, c)))
        for c in (config, hourly(config))
    )
    above = day.observed - day.expected

    def shares(of: Callable[[Counted], str]) -> tuple[Share, ...]:
        return _shares(counted, of, above)

    age = int(at.age[0])
    velocity, acceleration = course(counts, config)
    return Why(
        trend_id=score.trend_id,
        at=now,
        slice_s=config.slice_s,
        bias=config.bias,
        day=day,
        hour=hour,
        peak=float(at.peak[0]) * 2.0 ** (age / config.half_life_slices),
        peaked_at=config.start_of(last + 1 - age),
        velocity=float(velocity[0]),
        acceleration=float(acceleration[0]),
        hidden=1.0 - float(counts.seen[0, -config.window_slices :].mean()),
        counted=len(counted),
        publishers=len({publisher_of(c.publisher, c.source) for c in counted}),
        topics=shares(lambda c: c.topic_id),
        sources=shares(lambda c: c.source),
        by_publisher=shares(lambda c: publisher_of(c.publisher, c.source)),
        spread=_spread(counted),
    )


def _groups(counted: Iterable[Counted], of: Callable[[Counted], str]) -> dict[str, list[Counted]]:
    groups: dict[str, list[Counted]] = {}
    for each in counted:
        groups.setdefault(of(each), []).append(each)
    return groups


def _shares(counted: Sequence[Counted], of: Callable[[Counted], str], above: float) -> tuple[Share, ...]:
    groups: list[tuple[str | None, list[Counted]]] = sorted(
        _groups(counted, of).items(), key=lambda group: (-len(group[1]), group[1][0].first_seen, group[0])
    )
    listed, others = groups[:MAX_SHARES], [each for _, group in groups[MAX_SHARES:] for each in group]
    if others:
        listed.append((None, sorted(others, key=lambda c: (c.first_seen, c.item_id))))
    return tuple(
        Share(name, len(group), len(group) / len(counted), len(group) / len(counted) * above, group[0].first_seen,
              _earliest(group))
        for name, group in listed
    )  # fmt: skip


def _spread(counted: Sequence[Counted]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for source, group in _groups(counted, lambda c: c.source).items():  # in the order of first appearance
        first = group[0].first_seen
        before = steps[-1] if steps else None
        lead = (first - before.first_seen) if before else timedelta(0)
        steps.append(Step(source, before.source if before else None, lead.total_seconds(), first, _earliest(group)))
    return tuple(steps)


def _earliest(group: Sequence[Counted]) -> tuple[str, ...]:
    return tuple(each.item_id for each in group[:SHOWN_ITEMS])
