"""How well bursts tell what has broken: router, embedder, engine and scorer over one stream, looked at every quarter of
an hour of its own time.

The synthetic world knows its stories: which bursts have one behind them (precision), how many of the stories that five
publishers told within a day made one (recall), how long after the fifth publisher and before the strongest burst. By
trends (`trends top --trends`), by topics (`--stories`), by either, and by subjects (`trends top`). A file (``--data``)
has no such truth: the first ten subjects of every midnight are printed for a reader's eye, and for each
``--story WORDS[@TIME]`` when a subject with one of the words, in a trend's name or in the title that it is shown under,
was first among them; by the models alone, and as the stores of the real pipeline say afterwards. Seeded: the same call
prints the same figures.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Final, Protocol, TypeAlias

from benchmarks.harness import Measures, Scores
from benchmarks.labelled import posts_of
from benchmarks.piped import piped
from connectors.base import Sighting, routing
from connectors.synthetic import SyntheticOptions, Truth, World
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import EmbeddingCache, create
from models.engine import ClusterEngine
from models.routing import Router
from models.scoring import Rising, ScoringConfig, TrendScorer, publisher_of, rising
from models.subjects import ITEMS as ITEMS_SHOWN
from models.subjects import TOPIC_BURST, Candidate, Subject, Told, looked_at, subjects, topics_config
from models.text import clean_title
from models.why import Counted, score_of
from streams.errors import SettingsError
from streams.ids import item_id_of
from streams.records import Mention, TopicUpdate, TrendScore
from trends.reading import open_reader, rising_subjects
from trends.settings import Settings

ITEMS: Final = 6_000
"""Of the synthetic world."""
TICK: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)
CANDIDATE_TRENDS: Final = 60
"""Rising trends that subjects are looked for among (``trends.reading``)."""
CANDIDATES: Final = 300
"""Trends of the best rank keys that a store looks at (``sinks.postgres.reader``)."""
TOP: Final = 10
PUBLISHERS: Final = 5
"""Who tell a story within a day make it a burst that was planted."""
BURST: Final = 1.0
Newest: TypeAlias = tuple[datetime, str]
"""When an item was first seen, and which."""


@dataclass(slots=True)
class Board:
    """What a scorer says of trends (or of topics), as a store would show it."""

    scorer: TrendScorer
    scores: dict[str, TrendScore] = field(default_factory=dict)
    recent: dict[str, deque[tuple[datetime, str]]] = field(default_factory=lambda: defaultdict(deque))
    """When which items of each came within the last day."""
    newest: dict[str, deque[Newest]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=ITEMS_SHOWN)))

    def take(self, mentions: Sequence[Mention]) -> None:
        """Counts what came in a tick."""
        for mention in mentions:
            if mention.weight > 0:
                self.recent[mention.trend_id].append((mention.event_time, mention.item_id))
                self.newest[mention.trend_id].append((mention.first_seen, mention.item_id))
        for score in self.scorer.apply(mentions).scores:
            self.scores[score.trend_id] = score

    def rising(self, now: datetime) -> list[Rising]:
        """Those that rise, the strongest first."""
        ranked = [s for s in self.scores.values() if s.rank is not None and now - s.last_seen < 4 * DAY]
        ranked.sort(key=lambda s: (-(s.rank or 0.0), s.trend_id))
        return rising(ranked[:CANDIDATES], now, self.scorer.config, min_burst=BURST)

    def items_of(self, trend_id: str, now: datetime) -> list[str]:
        """Items of the day before ``now``."""
        recent = self.recent[trend_id]
        while recent and recent[0][0] <= now - DAY:
            recent.popleft()
        return [item_id for _, item_id in recent]


@dataclass(slots=True)
class TopicBoard:
    """What is said of topics, as it is read from a store: of the items that a topic has today, merges followed."""

    items: dict[str, dict[str, Counted]] = field(default_factory=lambda: defaultdict(dict))
    merged: dict[str, str] = field(default_factory=dict)
    config: ScoringConfig = field(default_factory=ScoringConfig)

    def take(self, mentions: Iterable[Mention], updates: Iterable[TopicUpdate]) -> None:
        """What has changed in a tick."""
        for m in mentions:
            if m.home and m.weight > 0:
                of, e = m.topic_id, m.engagement
                seen = Counted(m.first_seen, m.item_id, of, m.source, m.publisher, m.echo, e.points, e.comments)
                self.items[self._final(m.topic_id)][m.item_id] = seen
            elif m.home and m.weight < 0:
                self.items[self._final(m.topic_id)].pop(m.item_id, None)
        for update in updates:
            if update.merged_into:
                self.merged[update.topic_id] = update.merged_into
                self.items[self._final(update.topic_id)].update(self.items.pop(update.topic_id, {}))

    def rising(self, now: datetime, config: ScoringConfig | None = None, min_burst: float = BURST) -> list[Rising]:
        """Those that rise, the strongest first."""
        config = config or self.config
        since = now - looked_at(config)
        recent = {
            topic_id: count
            for topic_id, items in self.items.items()
            if len(items) > 1 and (count := sum(since < seen.first_seen <= now for seen in items.values())) > 1
        }
        largest = sorted(recent, key=lambda topic_id: (-recent[topic_id], topic_id))[:CANDIDATES]
        scores = [score_of(topic_id, "bench", self.items[topic_id].values(), now, config) for topic_id in largest]
        return rising(scores, now, config, min_burst=min_burst)

    def newest(self, topic_id: str) -> list[Newest]:
        """Its last items, oldest first."""
        return sorted((seen.first_seen, item_id) for item_id, seen in self.items[topic_id].items())[-ITEMS_SHOWN:]

    def items_of(self, topic_id: str, now: datetime) -> list[str]:
        """Items of the day before ``now``."""
        if len(self.items[topic_id]) < 2:
            return []
        return [i for i, seen in self.items[topic_id].items() if now - DAY < seen.first_seen <= now]

    def _final(self, topic_id: str) -> str:
        while topic_id in self.merged:
            topic_id = self.merged[topic_id]
        return topic_id


def shown(
    trends: Board, topics: TopicBoard, now: datetime, titles: Mapping[str, str], limit: int = TOP
) -> list[tuple[Subject, Rising]]:
    """The list as `trends top` shows it, each with how its strongest trend or topic stands."""
    config = topics.config
    risen = {r.score.trend_id: r for r in trends.rising(now)[:CANDIDATE_TRENDS]}
    told = {r.score.trend_id: r for r in topics.rising(now, topics_config(config), TOPIC_BURST)}

    def candidate(each: Rising, topic: bool, newest: Iterable[Newest]) -> Candidate:
        line = [(config.slice_of(at), item_id) for at, item_id in newest]
        recent = [item_id for number, item_id in line if number > line[-1][0] - config.window_slices]
        items = [Told(item_id, titles[item_id]) for item_id in reversed(recent)]
        return Candidate(each.score.trend_id, topic, each.strength, items)

    found = subjects(
        [candidate(r, False, trends.newest[name]) for name, r in risen.items()]
        + [candidate(r, True, topics.newest(topic_id)) for topic_id, r in told.items()],
        limit,
    )
    return [(subject, told.get(subject.lead) or risen[subject.lead]) for subject in found]


def watched(sightings: Iterable[Sighting]) -> Iterator[tuple[datetime, Board, TopicBoard]]:
    """The boards of trends and of topics at the end of every tick in which something came."""
    route = routing(Router())
    embedder = create("onnx")
    embed, cluster = EmbedEngine(embedder, EmbeddingCache(10_000)), ClusterEngine(ClusterConfig(), "bench")
    trends, topics = Board(TrendScorer(ScoringConfig(), "bench")), TopicBoard()
    for now, batch in _ticks(sightings):
        decided = cluster.apply(embed.apply([seen.routed(route(seen)) for seen in batch]))
        trends.take(decided.mentions)
        topics.take(decided.mentions, decided.updates)
        yield now, trends, topics
    embedder.close()


def _ticks(sightings: Iterable[Sighting]) -> Iterator[tuple[datetime, list[Sighting]]]:
    batch: list[Sighting] = []
    end: datetime | None = None
    for seen in sightings:
        if end is not None and seen.observed_at >= end and batch:
            yield end, batch
            batch = []
        if end is None or seen.observed_at >= end:
            end = datetime.fromtimestamp((seen.observed_at.timestamp() // TICK.seconds + 1) * TICK.seconds, UTC)
        batch.append(seen)
    if end is not None:
        yield end, batch


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Precision, recall and lead time of bursts; or the first ten of a file's midnights and the way of its stories."""
    if args.data:
        return of_file(args, tell)
    world = World(SyntheticOptions(items=args.items or ITEMS, seed=args.seed))
    return of_world(world, tell)


# ------------------------------------------------------------------------------------------------ the synthetic world


@dataclass(slots=True)
class Bursts:
    """The bursts that one board (or both) showed, against the stories behind them."""

    alarms: int = 0
    true: int = 0
    found: dict[str, datetime] = field(default_factory=dict)
    strongest: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)
    """When each trend (or topic) was last seen bursting: within a day of it, it is the same burst."""

    def see(self, now: datetime, who: str, burst: float, stories: Counter[str | None], size: int) -> None:
        """Takes down that ``who`` bursts, with these stories behind the items of its last day."""
        told, items = max(((s, n) for s, n in stories.items() if s), key=lambda entry: entry[1], default=("", 0))
        enough = items >= ScoringConfig().min_story
        if enough:
            self.found.setdefault(told, now)
            if burst > self.strongest.get(told, (0.0, now))[0]:
                self.strongest[told] = (burst, now)
        if who not in self.last or now - self.last[who] >= DAY:
            self.alarms += 1
            self.true += enough and 2 * items >= size
        self.last[who] = now

    def measures(self, name: str, planted: Mapping[str, datetime]) -> Measures:
        """As a row of the table; ``planted``: when each story had its fifth publisher."""
        found = [story for story in planted if story in self.found]
        hours = timedelta(hours=1)
        after = [(self.found[s] - planted[s]) / hours for s in found]
        before = [(self.strongest[s][1] - self.found[s]) / hours for s in found]
        values = {
            "precision": self.true / max(1, self.alarms), "recall": len(found) / max(1, len(planted)),
            "h after the fifth": median(after or [0.0]), "h before the peak": median(before or [0.0]),
        }  # fmt: skip
        return Measures(name, values, f"{self.alarms:,} bursts, {len(found):,} of {len(planted):,} stories")


def planted(told: Iterable[tuple[datetime, str, str]]) -> dict[str, datetime]:
    """When stories had been told by so many publishers within a day; ``told``: time, story and publisher, in order."""
    recent: dict[str, deque[tuple[datetime, str]]] = defaultdict(deque)
    found: dict[str, datetime] = {}
    for at, story, publisher in told:
        line = recent[story]
        line.append((at, publisher))
        while line[0][0] <= at - DAY:
            line.popleft()
        if len({who for _, who in line}) >= PUBLISHERS:
            found.setdefault(story, at)
    return found


def of_world(world: World, tell: Callable[[str], None]) -> Scores:
    """Bursts against the stories that the world has planted."""
    sightings = list(world)
    truth: dict[str, Truth] = {item_id_of(s.source, s.external_id): world.truth[s.external_id] for s in sightings}
    firsts = {seen.item_id: seen for seen in reversed(sightings)}
    told = sorted(
        (seen.event_time, truth[i].topic, publisher_of(seen.publisher, seen.source))
        for i, seen in firsts.items()
        if truth[i].trend is not None
    )
    titles = {i: clean_title(seen.title, seen.publisher, seen.url) for i, seen in firsts.items()}
    ways = {"trends": Bursts(), "topics": Bursts(), "either": Bursts(), "subjects": Bursts()}
    for now, trends, topics in watched(sightings):
        boards: tuple[tuple[str, Board | TopicBoard], ...] = (("trends", trends), ("topics", topics))
        for name, board in boards:
            for each in board.rising(now):
                if each.burst < BURST:
                    continue  # it has passed, and is still listed
                who = each.score.trend_id
                items = board.items_of(who, now)
                stories = Counter(truth[i].topic if truth[i].trend else None for i in items)
                for way in (name, "either"):
                    ways[way].see(now, who, each.burst, stories, len(items))
        for subject, each in shown(trends, topics, now, titles, CANDIDATES):
            if each.burst >= BURST:
                items = (topics if subject.lead == subject.topic_id else trends).items_of(subject.lead, now)
                stories = Counter(truth[i].topic if truth[i].trend else None for i in items)
                ways["subjects"].see(now, subject.lead, each.burst, stories, len(items))
    known = planted(told)
    tell(f"{len(sightings):,} sightings of {len(firsts):,} items, {len(known):,} bursts planted")
    rows = tuple(way.measures(name, known) for name, way in ways.items())
    facts = {"data": "the synthetic world", "items": len(firsts), "seed": world.options.seed, "planted": len(known)}
    return Scores("trends", rows, facts)


# ------------------------------------------------------------------------------------------------------------- a file


@dataclass(frozen=True, slots=True)
class Story:
    """What must rise: words of titles and of trends' names, from a time on."""

    words: tuple[str, ...]
    since: datetime

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, self.words))})(?!\w)", re.IGNORECASE)

    def tells(self, text: str) -> bool:
        """Whether a title, or the name of a trend, has one of the words."""
        return self.pattern.search(text.removeprefix("term:").replace("-", " ")) is not None or bool(
            self.pattern.search(text)
        )


def story_of(text: str) -> Story:
    """``word,two words@2016-09-14T16:00``.

    Raises:
        SettingsError: no words, or the time cannot be read.
    """
    words, _, since = text.partition("@")
    try:
        at = datetime.fromisoformat(since or "0001-01-01")
    except ValueError:
        raise SettingsError(f"--story {text!r}: after @ stands a time such as 2016-09-14T16:00") from None
    found = tuple(word.strip() for word in words.split(",") if word.strip())
    if not found:
        raise SettingsError(f"--story {text!r} has no words")
    return Story(found, at.replace(tzinfo=UTC) if at.tzinfo is None else at)


class Line(Protocol):
    """A subject as it is listed."""

    @property
    def trends(self) -> tuple[str, ...]: ...
    @property
    def headline(self) -> str: ...


Lists: TypeAlias = Iterable[tuple[datetime, Sequence[Line]]]
"""The first subjects at the end of every tick."""


def of_file(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """The first ten subjects of every midnight, and when each story came among the first ten: by the models alone, and
    as the stores of the real pipeline say, asked for each of these times once all is there."""
    posts = posts_of(args.data, None, dict(pair.split("=", 1) for pair in args.map), labelled=False)
    stories = [story_of(text) for text in args.story]
    sightings = sorted(posts.sightings, key=lambda seen: seen.observed_at)
    rows: list[Measures] = []
    facts: dict[str, str] = {"data": posts.name, "posts": f"{len(sightings):,}"}

    def judge(name: str, lists: Lists) -> None:
        entered, midnights = _judged(lists, stories)
        rows.extend(_way(name, story, sightings, entered.get(story)) for story in stories)
        facts.update({f"{day} 00:00, {name}": listed for day, listed in midnights.items()})
        tell(f"{name}: {len(midnights):,} lists of the first {TOP}")

    judge("alone", alone(sightings))
    if not args.models_only:
        with piped(sightings, tell) as settings:
            judge("stored", stored(settings, sightings, tell))
    return Scores("trends", tuple(rows) or (Measures("no --story was named", {}),), facts)


def alone(sightings: Sequence[Sighting]) -> Lists:
    """As the models list them while the posts come."""
    titles = {seen.item_id: clean_title(seen.title, seen.publisher, seen.url) for seen in sightings}
    for now, trends, topics in watched(sightings):
        yield now, [subject for subject, _ in shown(trends, topics, now, titles)]


def stored(settings: Settings, sightings: Sequence[Sighting], tell: Callable[[str], None]) -> Lists:
    """As `trends top --at` lists them."""
    seconds = []
    with open_reader(settings) as sync:
        for now, _ in _ticks(sightings):
            began = time.perf_counter()
            found = rising_subjects(sync, TOP, now).subjects
            seconds.append(time.perf_counter() - began)
            yield now, found
    tell(f"stored: a list took {1_000 * median(seconds):.0f} ms (median of {len(seconds):,})")


def _judged(lists: Lists, stories: Sequence[Story]) -> tuple[dict[Story, tuple[datetime, int, str]], dict[date, str]]:
    """When each story came among the first, where and in which line; and what stood there at midnights."""
    entered: dict[Story, tuple[datetime, int, str]] = {}
    midnights: dict[date, str] = {}
    day: date | None = None
    before: list[str] = []
    for now, first in lists:
        ended = (now - TICK).date()
        if day is not None and now.date() > day and ended > day:
            midnights[ended] = "; ".join(before)
        day = max(day or ended, ended)
        before = [_line(subject) for subject in first]
        for story in stories:
            if story not in entered and now > story.since:
                place = next((n for n, s in enumerate(first) if any(map(story.tells, (*s.trends, s.headline)))), None)
                if place is not None:
                    entered[story] = (now, place + 1, before[place])
    return entered, midnights


def _line(subject: Line) -> str:
    names = ", ".join(name.removeprefix("term:") for name in subject.trends)
    return f"{names}: {subject.headline}" if names else subject.headline


def _way(name: str, story: Story, sightings: Sequence[Sighting], entered: tuple[datetime, int, str] | None) -> Measures:
    """A row of the table: nan where there is no such figure."""
    posts = [s.event_time for s in sightings if s.event_time >= story.since and story.tells(s.title)]
    fifth = posts[4] if len(posts) > 4 else None
    late, place, count, note = float("nan"), float("nan"), float("nan"), "never among the first ten"
    if entered:
        at, place, line = entered
        count = float(sum(post <= at for post in posts))
        late = (at - fifth) / timedelta(hours=1) if fifth else late
        note = f"{line}, {at:%d %B %H:%M}"
    values = {"h after the fifth": late, "posts by then": count, "place": float(place)}
    return Measures(f"{name}: {', '.join(story.words)}", values, note)
