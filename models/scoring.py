"""How strongly a trend rises above its own past: its counts by slices of time, and what readers order trends by.

Everything that is said about a trend is a function of sums that add up in any order, and of event time alone: never of
when it was computed. Which items a trend has is settled before (``models.routing``, ``models.clustering``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from math import log
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.routing import is_misc
from streams.metrics import ACTIVE_TRENDS
from streams.records import Engagement, Mention, TrendScore

Matrix = NDArray[np.float64]

DAY_S: Final = 86_400
SKETCH: Final = 64
"""Distinct publishers of one slice that are counted exactly; above, the estimate is off by about 12%."""
MAX_SOURCES: Final = 32
"""Sources of one slice that are told apart."""
MAX_COUNT: Final = 2**53
"""What a count on the wire may be (``streams.records.Count``)."""
MAX_SUM: Final = 2**62
"""What a sum of a slice may be: far beyond what is shown, so that what was added can be taken off again."""
MIN_SEASON_DAYS: Final = 3
"""Earlier days that must be known before the same hours of those days are an expectation."""


@dataclass(frozen=True, slots=True)
class ScoringConfig:
    """What a past is, and what stands out of it.

    Raises:
        ValueError: the figures contradict each other.
    """

    slice_s: int = 3_600
    """Must divide a day, so that the same hours of earlier days are whole slices."""
    past_slices: int = 168
    """A week of hours: all that is remembered of a trend's counts."""
    window_slices: int = 24
    """The burst window: its counts are compared with the past before it. A whole day has every hour once."""
    memory_half_life_slices: float = 72.0
    """How fast a past counts less."""
    prior_items: float = 1.0
    """Items in a window that one expects of a trend nothing is known about …"""
    prior_slices: float = 3.0
    """… which counts as much as so many slices of its own past."""
    swing: float = 0.15
    """Counts go up and down by so much of what is expected without anything having happened."""
    bias: float = 1.0
    """Added to the deviation, so that a few items above nothing are no burst (SigniTrend's bias)."""
    min_items: int = 5
    min_publishers: int = 2
    half_life_slices: float = 36.0
    """By when a burst that has passed is worth half."""
    fading_slices: int = 96
    """How long ago a burst may have been and still count."""
    max_trends: int = 200_000
    """Trends in memory, about 1.5 kB each; the longest idle is forgotten beyond."""

    def __post_init__(self) -> None:
        if self.slice_s < 1 or DAY_S % self.slice_s:
            raise ValueError(f"slice_s must divide a day, {self.slice_s} s does not")
        if not 1 <= self.window_slices <= self.past_slices // 2:
            raise ValueError(f"window_slices must be 1 … {self.past_slices // 2} (half the past): {self.window_slices}")
        if not 2 <= self.past_slices <= 168:
            raise ValueError(f"past_slices must be 2 … 168: {self.past_slices}")
        if not 0 <= self.fading_slices <= self.past_slices - 2 * self.window_slices:
            most = self.past_slices - 2 * self.window_slices
            raise ValueError(f"fading_slices must be 0 … {most} (the past without two windows): {self.fading_slices}")
        if min(self.bias, self.half_life_slices, self.memory_half_life_slices) <= 0 or self.max_trends < 1:
            raise ValueError("bias, half-lives and max_trends must be positive")

    @property
    def step_slices(self) -> int:
        """Between the windows of the past that are looked at for a burst that is fading."""
        return max(1, self.window_slices // 4)

    def slice_of(self, at: datetime) -> int:
        """The number of the slice that an instant lies in."""
        return int(at.timestamp() // self.slice_s)

    def start_of(self, number: int) -> datetime:
        """When a slice begins."""
        return datetime.fromtimestamp(number * self.slice_s, UTC)


@dataclass(frozen=True, slots=True)
class Scored:
    """What one batch of mentions changed: a score a trend, and the state to write (None: a tombstone)."""

    scores: list[TrendScore]
    state: list[tuple[bytes, bytes | None]]


# ------------------------------------------------------------------------------------------- counts against their past


def bursts(counts: Matrix, known: NDArray[np.int64], config: ScoringConfig) -> tuple[Matrix, Matrix]:
    """What the past of trends lets one expect in their burst window, and how far they are above it.

    The expectation is the larger of two: the exponentially weighted mean of the past before the window, and the mean
    of the same hours of earlier days. The deviation is that of earlier windows, exponentially weighted, and never
    below what chance does to counts (√expected, and a part of what is expected). (count − expected) / (deviation +
    bias) is SigniTrend's significance (Schubert et al., KDD 2014); the seasonal expectation is that of Gnip's trend
    detection (Hendrickson et al., 2015).

    Args:
        counts: shape (n, past_slices), oldest slice first, the last one is now; 0 where nothing is known.
        known: shape (n,), how many of the last slices something is known about (an empty slice is knowledge too).

    Returns:
        expected and burst, shape (n,); floors are not applied, a burst may be negative.
    """
    past, window = config.past_slices, config.window_slices
    ages = np.arange(past - 1, -1, -1)
    seen = ages[None, :] < known[:, None]
    now = counts[:, past - window :].sum(axis=1)

    weights = 2.0 ** (-(ages[: past - window] - window) / config.memory_half_life_slices) * seen[:, : past - window]
    prior_rate = config.prior_items / window
    rate = ((weights * counts[:, : past - window]).sum(axis=1) + config.prior_slices * prior_rate) / (
        weights.sum(axis=1) + config.prior_slices
    )
    expected: Matrix = window * rate

    sums = np.zeros((len(counts), past + 1))
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    windows = sums[:, window:] - sums[:, :-window]  # column j: the window whose newest slice is j + window − 1

    day = DAY_S // config.slice_s
    shifts = [d for d in range(1, past // day + 1) if d * day >= window and past - window - d * day >= 0]
    if shifts:
        columns = [past - window - d * day for d in shifts]
        whole = np.stack([known >= d * day + window for d in shifts], axis=1)
        days = whole.sum(axis=1)
        season = (windows[:, columns] * whole).sum(axis=1) / np.maximum(days, 1)
        expected = np.where(days >= MIN_SEASON_DAYS, np.maximum(expected, season), expected)

    earlier = windows[:, : past - 2 * window + 1]
    whole_windows = seen[:, : past - 2 * window + 1] * weights[:, window - 1 : past - window]
    total = np.maximum(whole_windows.sum(axis=1), 1e-300)
    mean = (whole_windows * earlier).sum(axis=1) / total
    variance = (whole_windows * (earlier - mean[:, None]) ** 2).sum(axis=1) / total
    deviation = np.sqrt(np.maximum(variance, expected + (config.swing * expected) ** 2))
    return expected, (now - expected) / (deviation + config.bias)


@dataclass(frozen=True, slots=True)
class Standing:
    """How trends stand at one time, arrays of shape (n,)."""

    items: NDArray[np.int64]
    """In the burst window."""
    expected: Matrix
    burst: Matrix
    """At this time; 0 below the floor of items."""
    peak: Matrix
    """The strongest burst of this time and before, each halved with every half-life that has passed since."""
    age: NDArray[np.int64]
    """Slices since that burst."""


def standing(counts: Matrix, known: NDArray[np.int64], config: ScoringConfig) -> Standing:
    """Compares the burst window of each trend, and those before it that still count, each with its own past.

    What rises is what is above its own past now, or was a moment ago: the burst of yesterday evening is worth half this
    evening, so a night or a weekend does not wipe the list clean. Arguments as for :func:`bursts`.
    """
    past, window = config.past_slices, config.window_slices
    expected, burst = bursts(counts, known, config)
    items = counts[:, past - window :].sum(axis=1)
    burst = np.where(items >= config.min_items, np.maximum(burst, 0.0), 0.0)
    peak, age = burst.copy(), np.zeros(len(counts), dtype=np.int64)
    # Most trends are small: none of their windows can have reached the floor, and nothing more is computed for them.
    rows = np.flatnonzero(counts[:, past - window - config.fading_slices :].sum(axis=1) >= config.min_items)
    for shift in range(config.step_slices, config.fading_slices + 1, config.step_slices) if len(rows) else ():
        before = np.zeros((len(rows), past))
        before[:, shift:] = counts[rows, : past - shift]
        enough = before[:, past - window :].sum(axis=1) >= config.min_items
        faded = bursts(before, np.maximum(known[rows] - shift, 0), config)[1] * 2.0 ** (
            -shift / config.half_life_slices
        )
        better = enough & (faded > peak[rows])
        peak[rows[better]], age[rows[better]] = faded[better], shift
    return Standing(items.astype(np.int64), expected, burst, peak, age)


def attention(engagement: Engagement) -> float:
    """What an audience has done, as one figure: points, comments and the like one each, views a hundredth."""
    e = engagement
    return max(0.0, e.points + e.comments + e.shares + e.stars + e.views / 100.0)


def strength(burst: float, spread: float, engagement: Engagement) -> float:
    """A burst as readers should weigh it: by how many stand behind it and how many care. 0 for no burst."""
    if burst <= 0.0:
        return 0.0
    return burst * (0.5 + 0.5 * min(1.0, spread)) * (1.0 + log(1.0 + attention(engagement)) / 4.0)


@dataclass(frozen=True, slots=True)
class Rising:
    """A trend as it stands at a time."""

    score: TrendScore
    items: int
    """In the burst window that ends at that time."""
    expected: float
    burst: float
    strength: float
    """What the list is ordered by: of the strongest burst, now or faded."""
    peaked_at: datetime
    """The end of the window with that burst."""


def rising(
    scores: Sequence[TrendScore], now: datetime, config: ScoringConfig | None = None, *, min_burst: float = 1.0
) -> list[Rising]:
    """The trends that are above their own past at ``now``, or were a moment ago, the strongest first.

    A score says how its trend stood when it was last mentioned; here its counts are compared anew with the window that
    ends at ``now``: what has been silent since then has fallen, what is later than ``now`` is not looked at.

    Args:
        scores: at most one a trend, all of slices of ``config.slice_s``.
        now: any instant; only the week before the newest score of a trend can be looked at again.
        min_burst: a (faded) burst below this is noise.

    Raises:
        ValueError: a score has slices of another length.
    """
    config = config or ScoringConfig()
    if not scores:
        return []
    counts = np.zeros((len(scores), config.past_slices))
    known = np.zeros(len(scores), dtype=np.int64)
    current = config.slice_of(now)
    for row, score in enumerate(scores):
        if score.slice_s != config.slice_s:
            raise ValueError(f"{score.trend_id}: slices of {score.slice_s} s, {config.slice_s} s were expected")
        known[row] = _lay(score.counts, current - config.slice_of(score.slice_start), counts[row])
    at = standing(counts, known, config)
    found = []
    for row, score in enumerate(scores):
        if at.peak[row] < min_burst or score.publishers < config.min_publishers or is_misc(score.trend_id):
            continue
        found.append(
            Rising(
                score=score,
                items=int(at.items[row]),
                expected=float(at.expected[row]),
                burst=float(at.burst[row]),
                strength=strength(float(at.peak[row]), score.spread, score.engagement),
                peaked_at=config.start_of(current + 1 - int(at.age[row])),
            )
        )
    return sorted(found, key=lambda r: (-r.strength, r.score.trend_id))


def _lay(counts: Sequence[int], silent: int, row: Matrix) -> int:
    """Lays counts whose last slice lies ``silent`` slices ago (negative: ahead, and cut off) into a row that ends now;
    how many slices of the row are known."""
    past = len(row)
    if silent < 0:
        counts, silent = counts[: max(0, len(counts) + silent)], 0
    if not counts or silent >= past:
        return 0
    kept = counts[max(0, len(counts) + silent - past) :]
    row[past - silent - len(kept) : past - silent] = kept
    return len(kept) + silent


# ------------------------------------------------------------------------------------------------ distinct publishers


def _hash(publisher: str) -> int:
    return int.from_bytes(blake2b(publisher.encode("utf-8", "replace"), digest_size=4).digest(), "big")


def _remember(sketch: set[int], value: int) -> None:
    """Adds to a sketch: the smallest hashes of a set, whatever the order of arrival (KMV: Bar-Yossef et al., 2002)."""
    sketch.add(value)
    if len(sketch) > SKETCH + 1:
        sketch.discard(max(sketch))


def _distinct(sketches: Iterable[set[int]]) -> int:
    """How many distinct values stand in all sketches together: exact while none of them is full."""
    union: set[int] = set()
    limit = 1 << 32
    for sketch in sketches:
        union |= sketch
        if len(sketch) > SKETCH:
            limit = min(limit, max(sketch))
    if limit == 1 << 32:
        return len(union)
    return round(sum(1 for value in union if value < limit) * float(1 << 32) / max(limit, 1))


# ------------------------------------------------------------------------------------------------------ a trend's past


class _Slice(msgspec.Struct, array_like=True):
    """One slice of the burst window, with all that is told about it."""

    items: int = 0
    publishers: set[int] = msgspec.field(default_factory=set)
    echoes: set[int] = msgspec.field(default_factory=set)
    """Publishers of echoes: each counts as one item of the slice, however often it copies."""
    sources: dict[str, int] = msgspec.field(default_factory=dict)
    engagement: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0, 0])

    def count(self) -> int:
        return self.items + (_distinct((self.echoes,)) if self.echoes else 0)


class _Past(msgspec.Struct, array_like=True):
    """All that is remembered of a trend: a bounded state that is written after every change."""

    base: int
    """What ``version`` is counted from, see ``TrendScorer``."""
    first_s: float
    last_s: float
    newest: int
    """Number of the newest slice."""
    mentions: int = 0
    total: int = 0
    recent: dict[int, _Slice] = msgspec.field(default_factory=dict)
    older: dict[int, int] = msgspec.field(default_factory=dict)
    """Counts of the slices before the burst window; only those with any."""
    since: int = 0
    clock: int = 0


class _Head(msgspec.Struct, array_like=True):
    """A past as it stands in the state stream, as far as the order of trends needs it: the rest is not decoded."""

    base: int
    first_s: float
    last_s: float
    newest: int
    mentions: int = 0
    total: int = 0
    recent: msgspec.Raw = msgspec.Raw(b"\x80")
    older: msgspec.Raw = msgspec.Raw(b"\x80")
    since: int = 0
    clock: int = 0


def _by_trend(mentions: Sequence[Mention]) -> dict[str, list[Mention]]:
    found: dict[str, list[Mention]] = {}
    for mention in mentions:
        found.setdefault(mention.trend_id, []).append(mention)
    return found


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Past).decode
_head = msgspec.msgpack.Decoder(_Head).decode


def check_value(key: bytes, value: bytes) -> None:
    """Reads a state record as a scorer would.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        key.decode()
        _decode(value)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


class TrendScorer:
    """Mentions to scores, one a changed trend and batch.

    A late mention goes to the slice it belongs to: within the burst window with all that it carries, within the
    remembered past with its item. An echo counts once a publisher and slice. ``version`` grows by one with every
    mention; it starts at the ``seq`` of a trend's first mention, so that a trend that was forgotten and comes back
    goes on above where it stopped.
    """

    def __init__(self, config: ScoringConfig, generation: str) -> None:
        self.config = config
        self._generation = generation
        self._trends: dict[str, _Past | bytes] = {}
        """A trend that was read back stays as it stands in the state stream until it is mentioned: that takes a quarter
        of the time and a tenth of the memory, and most are not."""
        self._by_newest: dict[int, dict[str, None]] = {}
        self._since: int | None = None
        """The slice from which on a trend that was not mentioned had no items: fixed by the first batch."""
        self._clock = 0
        """The newest slice, followed in steps of at most a burst window a batch: one item from the future ages
        nobody."""
        self._fading = log(2.0) / config.half_life_slices

    def __len__(self) -> int:
        return len(self._trends)

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the state stream, in log order; None is a tombstone."""
        trend_id = key.decode()
        self._unlink(trend_id)
        if value is None:
            return
        head = _head(value)
        self._trends[trend_id] = value
        self._by_newest.setdefault(head.newest, {})[trend_id] = None
        self._since = head.since if self._since is None else min(self._since, head.since)
        self._clock = max(self._clock, head.clock)

    def finish_restore(self) -> None:
        """Says that the state is complete."""
        ACTIVE_TRENDS.set(len(self._trends))

    def apply(self, mentions: Sequence[Mention]) -> Scored:
        """Counts mentions, each exactly once; the scores and the state of the trends that they changed."""
        if not mentions:
            return Scored([], [])
        since = self._set_clock(mentions)
        changed = _by_trend(mentions)
        pasts = [self._count(trend_id, batch) for trend_id, batch in changed.items()]
        scores = self._scores(list(changed), pasts)
        gone = self._forget()
        kept = [trend_id for trend_id in changed if trend_id not in gone]
        # The clock travels with the records: where none is left to carry it, the newest trend does.
        kept = kept or [min(self._by_newest[max(self._by_newest)])]
        state: list[tuple[bytes, bytes | None]] = []
        for trend_id in kept:
            past = self._past(trend_id)
            assert past is not None
            past.since, past.clock = since, self._clock
            state.append((trend_id.encode(), _encode(past)))
        state += [(trend_id.encode(), None) for trend_id in gone]
        ACTIVE_TRENDS.set(len(self._trends))
        return Scored(scores, state)

    def recount(self, mentions: Sequence[Mention]) -> None:
        """Counts mentions that were scored before, to have the state that they left behind."""
        if mentions:
            self._set_clock(mentions)
            for trend_id, batch in _by_trend(mentions).items():
                self._count(trend_id, batch)
            self._forget()

    def agree(self, score: TrendScore) -> bool:
        """Goes on from what was last said about a trend, where its first mentions are gone; whether they are."""
        past = self._past(score.trend_id)
        if past is None:
            return False
        before = past.base, past.total, past.first_s
        past.base = score.version - past.mentions
        # A score shows a total below 0 as 0; a past that says so too knows it better.
        past.total = score.total if score.total != max(0, past.total) else past.total
        past.first_s = score.first_seen.timestamp()
        return before != (past.base, past.total, past.first_s)

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """All of the state as records; a scorer that is given them with ``restore`` goes on as this one."""
        since = self._since or 0
        for trend_id in list(self._trends):
            past = self._past(trend_id)
            assert past is not None
            past.since, past.clock = since, self._clock
            yield trend_id.encode(), _encode(past)

    def _set_clock(self, mentions: Sequence[Mention]) -> int:
        """The clock goes on; the slice from which on silence is knowledge."""
        newest = max(self.config.slice_of(m.first_seen) for m in mentions)
        since = self._since
        if since is None:
            since = self._since = self._clock = newest
        self._clock = max(self._clock, min(newest, self._clock + self.config.window_slices))
        return since

    def _count(self, trend_id: str, mentions: Sequence[Mention]) -> _Past:
        slice_of = self.config.slice_of
        past = self._past(trend_id)
        if past is None:
            past = _Past(
                base=min(m.seq for m in mentions) - 1,
                first_s=min(m.first_seen.timestamp() for m in mentions),
                last_s=max(m.event_time.timestamp() for m in mentions),
                newest=max(slice_of(m.first_seen) for m in mentions),
            )
        else:
            self._unlink(trend_id)
        for mention in mentions:
            past.first_s = min(past.first_s, mention.first_seen.timestamp())
            past.last_s = max(past.last_s, mention.event_time.timestamp())
            past.newest = max(past.newest, slice_of(mention.first_seen))
        past.mentions += len(mentions)
        for mention in mentions:
            self._add(past, mention)
        self._trim(past)
        self._link(trend_id, past)
        return past

    def _past(self, trend_id: str) -> _Past | None:
        past = self._trends.get(trend_id)
        if isinstance(past, bytes):
            past = self._trends[trend_id] = _decode(past)
        return past

    def _add(self, past: _Past, mention: Mention) -> None:
        # first_seen, not event_time: a deletion, and what an edit did to the date, must meet the slice that counted.
        number = self.config.slice_of(mention.first_seen)
        past.total += mention.weight
        if number > past.newest - self.config.window_slices:
            self._add_recent(past.recent.setdefault(number, _Slice()), mention)
        elif number > past.newest - self.config.past_slices and not mention.echo and mention.weight:
            past.older[number] = past.older.get(number, 0) + mention.weight

    def _add_recent(self, part: _Slice, mention: Mention) -> None:
        if mention.weight > 0:
            publisher = _hash((mention.publisher or f"source {mention.source}").casefold())
            _remember(part.publishers, publisher)
            if mention.echo:
                _remember(part.echoes, publisher)
        if not mention.echo:
            part.items += mention.weight
        if mention.weight and (mention.source in part.sources or len(part.sources) < MAX_SOURCES):
            part.sources[mention.source] = part.sources.get(mention.source, 0) + mention.weight
        e = mention.engagement
        for i, value in enumerate((e.points, e.comments, e.shares, e.stars, e.views)):
            part.engagement[i] = max(-MAX_SUM, min(MAX_SUM, part.engagement[i] + value))

    def _trim(self, past: _Past) -> None:
        """Slices that have left the burst window keep their count alone, those that have left the past nothing."""
        for number in [n for n in past.recent if n <= past.newest - self.config.window_slices]:
            count = past.recent.pop(number).count()
            past.older[number] = past.older.get(number, 0) + count
        for number in [n for n in past.older if n <= past.newest - self.config.past_slices or not past.older[n]]:
            del past.older[number]

    def _scores(self, trend_ids: Sequence[str], pasts: Sequence[_Past]) -> list[TrendScore]:
        assert self._since is not None
        length = self.config.past_slices
        counts = np.zeros((len(pasts), length))
        known = np.empty(len(pasts), dtype=np.int64)
        for row, past in enumerate(pasts):
            last = length - 1 - past.newest
            for number, count in past.older.items():
                counts[row, last + number] = max(0, count)
            for number, part in past.recent.items():
                counts[row, last + number] = max(0, part.count())
            oldest = min(self._since, min(past.older, default=past.newest), min(past.recent, default=past.newest))
            known[row] = min(length, past.newest - oldest + 1)
        at = standing(counts, known, self.config)
        return [
            self._score(trend_id, past, counts[row, length - known[row] :], at, row)
            for row, (trend_id, past) in enumerate(zip(trend_ids, pasts, strict=True))
        ]

    def _score(self, trend_id: str, past: _Past, counts: Matrix, at: Standing, row: int) -> TrendScore:
        config = self.config
        window = config.window_slices
        parts = list(past.recent.values())
        publishers = _distinct(part.publishers for part in parts)
        sources: dict[str, int] = {}
        for part in parts:
            for source, n in part.sources.items():
                sources[source] = sources.get(source, 0) + n
        points, comments, shares, stars, views = (
            max(-MAX_COUNT, min(MAX_COUNT, sum(values)))
            for values in zip(*(part.engagement for part in parts), strict=True)
        )
        engagement = Engagement(points=points, comments=comments, shares=shares, stars=stars, views=views)
        items = int(at.items[row])
        before = int(counts[-2 * window : -window].sum())
        spread = min(1.0, publishers / items) if items > 0 else 0.0
        above = publishers >= config.min_publishers and not is_misc(trend_id)
        value = strength(float(at.peak[row]), spread, engagement) if above else 0.0
        return TrendScore(
            generation=self._generation,
            trend_id=trend_id,
            slice_start=config.start_of(past.newest),
            slice_s=config.slice_s,
            counts=tuple(counts.astype(np.int64).tolist()),
            items=int(counts[-1]),
            total=max(0, past.total),
            publishers=publishers,
            sources={source: n for source, n in sorted(sources.items()) if n > 0},
            expected=float(at.expected[row]),
            burst=float(at.burst[row]) if above else 0.0,
            velocity=(items - before) * 3_600.0 / (window * config.slice_s),
            engagement=engagement,
            spread=spread,
            # log(strength · e^(λ·slice)): every strength fades alike, so the order of two trends stays as it is
            # written (forward decay), until one of them is mentioned again.
            rank=log(value) + self._fading * past.newest if value > 0.0 else None,
            first_seen=datetime.fromtimestamp(past.first_s, UTC),
            last_seen=datetime.fromtimestamp(past.last_s, UTC),
            version=min(MAX_COUNT, past.base + past.mentions),
        )

    def _link(self, trend_id: str, past: _Past) -> None:
        self._trends[trend_id] = past
        self._by_newest.setdefault(past.newest, {})[trend_id] = None

    def _unlink(self, trend_id: str) -> None:
        past = self._trends.pop(trend_id, None)
        if past is not None:
            newest = _head(past).newest if isinstance(past, bytes) else past.newest
            same = self._by_newest[newest]
            del same[trend_id]
            if not same:
                del self._by_newest[newest]

    def _forget(self) -> set[str]:
        """Lets go of trends that a whole past has been silent, and of the longest silent beyond the bound."""
        gone: set[str] = set()
        limit = self._clock - self.config.past_slices
        surplus = len(self._trends) - self.config.max_trends
        if surplus <= 0 and (not self._by_newest or min(self._by_newest) > limit):
            return gone
        for number in sorted(self._by_newest):
            for trend_id in sorted(self._by_newest[number]):
                if number > limit and len(gone) >= surplus:
                    return gone
                gone.add(trend_id)
                self._unlink(trend_id)
        return gone
