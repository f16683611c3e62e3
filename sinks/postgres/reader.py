"""The read side: every question goes to all shards at once, and the answers are merged. Nothing is written in here.

A topic id is never taken at its word: it is resolved through ``merged_into``, so that a merged story shows all items.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray

from sinks.loop import LoopThread
from sinks.postgres.config import SHARED_SCHEMA, PostgresConfig
from sinks.postgres.export import NO_FILTERS, Filters, Plan, merged, plan_of
from sinks.postgres.joining import joined_row, reach
from sinks.postgres.rows import halfvec
from sinks.postgres.shards import Shards, is_transient, place_of
from sinks.views import (
    TERM_PREFIX,
    Bin,
    Evidence,
    ItemView,
    MentionView,
    Now,
    Order,
    RecentTopics,
    ScorePoint,
    SearchHit,
    Standing,
    StoredCounts,
    TopicBrief,
    TopicView,
    TopTrends,
    TrendRow,
    TrendView,
    counts_until,
    title_of,
)
from streams.aliases import names_of, shown_as
from streams.errors import SettingsError, UnavailableError
from streams.metrics import DB_QUERY_SECONDS
from streams.records import Engagement, LeadingItem, TrendScore
from streams.vectors import encode_vector

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS: Final = 3
"""Of one query on one shard, where the connection breaks."""
RETRY_S: Final = 0.2
QUIET_S: Final = 3_600
"""Where the newest event is older than this, "now" is that event: a replayed month is looked at from its end."""
AHEAD_S: Final = 86_400
"""Events later than this are rubbish dates, and never "now"."""
MERGE_LEVELS: Final = 64
"""How long a chain of merged topics is followed."""
REDIRECT_LEVELS: Final = 16
"""How many generations a redirected id is followed through."""
MERGED_IDS: Final = 10_000
"""How many topics that were merged into one are looked at."""
SPARKLINE_SLICES: Final = 96
BURST_SLICES: Final = 24
"""Slices whose items are counted as a trend's current ones where no model says so."""
RISING_CANDIDATES: Final = 300
"""Trends of each shard, by rank key, that are ordered anew for the instant of the question."""
TOPICS_OF_TREND: Final = 200
"""Topics of a trend, the largest in its window, that are looked at before merged ones are put together."""
EVIDENCE_MENTIONS: Final = 100_000
"""Items that an account of a trend's burst is made of."""
MENTIONS_OF_TREND: Final = 1_000
"""Newest mentions of a trend among which its leading items are looked for."""
JOINED_MENTIONS: Final = 50_000
"""Newest mentions of all names of a trend, on each shard, that are looked at to count their items once."""
COMMON_PAIRS: Final = 2_000
"""Pairs of trends with items in common, the most common first."""
QUERY_CHARS: Final = 2_000
"""PostgreSQL parses a query of words recursively: some 100 kB are too deep for its stack."""
TEXT_CANDIDATES: Final = 2_000
"""Newest matches on each shard that are ranked."""
VECTOR_CANDIDATES: Final = 100
SINGLE_TOPICS: Final = 20_000
"""Newest topics of one item on each shard that a query's vector is compared with, one by one (about 10 ms)."""
MIN_SIMILARITY: Final = 0.25
"""Below this cosine a topic has nothing to do with a query (MiniLM: unrelated texts lie around 0.05)."""
RRF_K: Final = 60
"""Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""
HOURLY_UP_TO: Final = timedelta(days=4)
"""A longer timeline goes by days."""
TIMELINE_BINS: Final = 400

_ITEM = (
    "item_id, source, kind, title, url, author, publisher, published_at, first_seen, points, comments, trend_id, "
    "topic_id, echo_of"
)
_ENGLISH = "websearch_to_tsquery('pg_catalog.english', $1)"
_SIMPLE = "websearch_to_tsquery('pg_catalog.simple', $1)"


class PostgresReader:
    """Answers questions from all shards. One event loop; any number of questions at once."""

    def __init__(
        self,
        config: PostgresConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        order: Order | None = None,
    ) -> None:
        """``order`` says which trends rise, and how much; without it they come by their rank key as it was stored."""
        self.config = config
        self._clock = clock
        self._order = order or by_rank
        self._shards = Shards(config)

    async def close(self) -> None:
        """Close all connections."""
        await self._shards.close()

    # -- questions -----------------------------------------------------------------------------------------------

    async def now(self) -> Now:
        """The current time; where the newest event is over an hour old (a replay), the time of that event."""
        clock = self._clock()
        rows = await self._ask(
            "now",
            "SELECT last_seen FROM {g}.trends WHERE last_seen <= $1 ORDER BY last_seen DESC LIMIT 1",
            clock + timedelta(seconds=AHEAD_S),
        )
        newest = max((row["last_seen"] for row in rows), default=clock)
        if newest < clock - timedelta(seconds=QUIET_S):
            return Now(newest, True)
        return Now(clock, False)

    async def top(
        self,
        *,
        window: timedelta = timedelta(hours=96),
        limit: int = 20,
        at: datetime | None = None,
        category: str | None = None,
        source: str | None = None,
        topics: int = 3,
    ) -> TopTrends:
        """The rising trends, the strongest first, among those that had an item in the window.

        Args:
            window: before now, or before ``at``.
            at: a past time; each trend then stands as at the end of its last slice up to it.
            category: only tracked subjects of it, and trends with an item of it in the window.
            source: only trends with items of that source in their burst window.
            topics: headline topics of each trend.
        """
        now = Now(at, False) if at else await self.now()
        since = now.time - window
        if at is None:
            standing = "SELECT * FROM {g}.trends WHERE last_seen > $1 AND last_seen <= $2"
        else:
            standing = (
                "SELECT DISTINCT ON (trend_id) * FROM {g}.trend_scores WHERE slice_start > $1 AND slice_start <= $2 "
                "ORDER BY trend_id, slice_start DESC"
            )
        rows = await self._ask(
            "top",
            f"SELECT t.*, c.title, c.category FROM ({standing}) t LEFT JOIN {{s}}.catalogue c USING (trend_id) "
            "WHERE NOT EXISTS (SELECT FROM {s}.feedback f WHERE f.trend_id = t.trend_id AND f.active) "
            "AND ($4::text IS NULL OR t.sources ? $4) AND ($5::text IS NULL OR c.category = $5 OR EXISTS ("
            "SELECT FROM {g}.items i WHERE i.trend_id = t.trend_id AND i.first_seen > $1 AND i.first_seen <= $2 "
            "AND i.category = $5)) "
            "ORDER BY t.rank DESC NULLS LAST, t.burst DESC, t.trend_id LIMIT $3",
            since, now.time, max(RISING_CANDIDATES, 5 * limit), source, category,
        )  # fmt: skip
        by_id: dict[str, Mapping[str, Any]] = {row["trend_id"]: row for row in _newest(rows, "trend_id")}
        shown = await self._shown()
        names = {t: n for t, n in names_of(shown, list(by_id)).items() if len(n) > 1}
        if names:
            await self._join(by_id, names, standing, since, now.time)
        scores = [trend_score(row, self.config.generation) for row in by_id.values()]
        rising = self._order(scores, now.time)[:limit]
        found = names_of(shown, [s.trend_id for s in rising])
        of_trends = await self._topics_of(found, since, now.time, topics)
        trends = tuple(
            trend_row(by_id[s.trend_id], now.time, window, s, of_trends.get(s.trend_id, ()), found[s.trend_id][1:])
            for s in rising
        )
        return TopTrends(now, int(window.total_seconds()), trends)

    async def trend(
        self,
        trend_id: str,
        *,
        window: timedelta = timedelta(days=7),
        at: datetime | None = None,
        topics: int = 10,
        items: int = 20,
        history: int = 336,
    ) -> TrendView | None:
        """One trend with its past, topics and leading items in the window; None where there is no such trend.

        A tracked subject that has no item yet is a trend without items. Another name leads to the trend that it is
        shown as, and what all its names have is put together.
        """
        now = Now(at, False) if at else await self.now()
        since = now.time - window
        ((trend_id, names),) = names_of(await self._shown(), [trend_id]).items()
        scores, definitions, standing, of_trend, mentions = await asyncio.gather(
            self._ask(
                "trend",
                "SELECT * FROM {g}.trend_scores WHERE trend_id = ANY($1) AND slice_start <= $2 "
                "ORDER BY slice_start DESC LIMIT $3",
                names, now.time, history * len(names),
            ),
            self._ask("trend", "SELECT * FROM {s}.catalogue WHERE trend_id = $1", trend_id),
            self._ask("trend", "SELECT * FROM {g}.trends WHERE trend_id = ANY($1)", names),
            self._topics_of({trend_id: names}, since, now.time, topics),
            self._ask(
                "trend",
                "SELECT item_id, first_seen FROM {g}.mentions WHERE trend_id = ANY($1) AND first_seen > $2 "
                "AND first_seen <= $3 AND present ORDER BY first_seen DESC LIMIT $4",
                names, since, now.time, MENTIONS_OF_TREND,
            ),
        )  # fmt: skip
        definition = max(definitions, key=lambda row: row["version"], default=None)
        own = sorted(_newest((s for s in scores if s["trend_id"] == trend_id), "slice_start"), key=_slice_start)
        latest: Mapping[str, Any] | None
        if at is not None:
            latest_of = {s["trend_id"]: s for s in sorted(scores, key=_slice_start)}
        else:
            latest_of = {s["trend_id"]: s for s in _newest(standing, "trend_id")}
        latest = latest_of.get(trend_id)
        if len(names) > 1 and latest_of:
            latest = await self._joined(trend_id, list(latest_of.values()), now.time)
        if latest is None and definition is None:
            return None
        if latest is None:
            assert definition is not None
            latest = dict(_EMPTY, trend_id=trend_id, slice_start=now.time, first_seen=now.time, last_seen=now.time)
        risen = self._order([trend_score(latest, self.config.generation)], now.time) if latest["counts"] else ()
        row = trend_row(
            {"title": None, "category": None, **dict(latest), **_titles(definition)}, now.time, window,
            risen[0] if risen else None, of_trend.get(trend_id, ()), names[1:],
        )  # fmt: skip
        return TrendView(
            row=row,
            now=now,
            keywords=tuple(definition["keywords"]) if definition else (),
            status=definition["status"] if definition and not trend_id.startswith(TERM_PREFIX) else None,
            history=tuple(
                ScorePoint(s["slice_start"], s["items"], s["expected"], s["burst"], s["velocity"], s["publishers"],
                           s["rank"])
                for s in own[-history:]
            ),
            items=await self._items_of(mentions, items),
        )  # fmt: skip

    async def evidence(self, trend_id: str, *, window: timedelta, at: datetime | None = None) -> Evidence | None:
        """The newest score of a trend and the items of the window that it was counted from; None where it has none."""
        now = Now(at, False) if at else await self.now()
        scores, titles, mentions = await asyncio.gather(
            self._ask(
                "evidence",
                "SELECT * FROM {g}.trend_scores WHERE trend_id = $1 AND slice_start <= $2 "
                "ORDER BY slice_start DESC LIMIT 1",
                trend_id, now.time,
            ),
            self._ask("evidence", "SELECT * FROM {s}.catalogue WHERE trend_id = $1", trend_id),
            self._ask(
                "evidence",
                "SELECT first_seen, item_id, version, topic_id, source, publisher, echo FROM {g}.mentions WHERE "
                "trend_id = $1 AND first_seen > $2 AND first_seen < $3 AND present ORDER BY first_seen DESC LIMIT $4",
                trend_id, now.time - window, now.time + window, EVIDENCE_MENTIONS,
            ),
        )  # fmt: skip
        score = max(scores, key=lambda row: (row["slice_start"], row["version"]), default=None)
        if score is None:
            return None
        found = _newest(mentions, "item_id")
        topics = await self._resolve(sorted({row["topic_id"] for row in found}))
        definition = max(titles, key=lambda row: row["version"], default=None)
        return Evidence(
            now=now,
            title=title_of(trend_id, definition["title"] if definition else None),
            score=trend_score(score, self.config.generation),
            mentions=tuple(_mention_view(row, topics) for row in found),
            complete=len(mentions) < EVIDENCE_MENTIONS,
        )

    async def recent_topics(self, *, window: timedelta, recent: timedelta, at: datetime | None = None) -> RecentTopics:
        """The topics with the most items of late, ``recent`` before now (or ``at``), with their items of the window;
        none that began in a trend that is not to be listed."""
        now = Now(at, False) if at else await self.now()
        rows = await self._ask(
            "recent_topics",
            "SELECT topic_id, count(*) AS n FROM {g}.items WHERE first_seen > $1 AND first_seen <= $2 AND NOT deleted "
            "GROUP BY topic_id HAVING count(*) > 1 ORDER BY n DESC, topic_id LIMIT $3",
            now.time - recent, now.time, RISING_CANDIDATES,
        )  # fmt: skip
        final = await self._resolve(sorted({row["topic_id"] for row in rows}))
        merged = dict(zip(final.values(), await asyncio.gather(*map(self._merged_into, final.values())), strict=True))
        into = {one: topic_id for topic_id, others in merged.items() for one in (topic_id, *others)}
        briefs, hidden, items = await asyncio.gather(
            self._briefs(sorted(merged)),
            self._ask("recent_topics", "SELECT trend_id FROM {s}.feedback WHERE active"),
            self._ask(
                "recent_topics",
                "SELECT first_seen, item_id, version, topic_id, source, publisher, echo_of IS NOT NULL AS echo, "
                "title, url, points, comments FROM {g}.items WHERE topic_id = ANY($1) AND first_seen > $2 "
                "AND first_seen <= $3 AND NOT deleted ORDER BY first_seen DESC LIMIT $4",
                sorted(into), now.time - window, now.time, EVIDENCE_MENTIONS,
            ),
        )  # fmt: skip
        found: dict[str, list[MentionView]] = defaultdict(list)
        for row in _newest(items, "item_id"):
            found[into[row["topic_id"]]].append(_mention_view(row, into))
        unlisted = {row["trend_id"] for row in hidden}
        shown = {topic_id: brief for topic_id, brief in briefs.items() if brief.trend_id not in unlisted}
        return RecentTopics(now, shown, {topic_id: tuple(of) for topic_id, of in found.items() if topic_id in shown})

    async def newest_of(
        self, names: Mapping[str, Sequence[str]], *, window: timedelta, limit: int, at: datetime
    ) -> dict[str, tuple[MentionView, ...]]:
        """The newest items of each trend (of all its names) in the window before ``at``, ``limit`` at most."""
        of = {name: trend_id for trend_id, each in names.items() for name in each}
        rows = await self._ask(
            "newest_of",
            "SELECT * FROM (SELECT trend_id, item_id, first_seen, version, topic_id, source, publisher, echo, "
            "row_number() OVER (PARTITION BY trend_id ORDER BY first_seen DESC, item_id) AS place FROM {g}.mentions "
            "WHERE trend_id = ANY($1) AND first_seen > $2 AND first_seen <= $3 AND present) newest WHERE place <= $4",
            sorted(of), at - window, at, limit,
        )  # fmt: skip
        keys = sorted({(row["first_seen"], row["item_id"]) for row in rows})
        items = await self._ask(
            "newest_of",
            "SELECT item_id, title, url, points, comments, version FROM {g}.items WHERE (first_seen, item_id) IN "
            "(SELECT * FROM unnest($1::timestamptz[], $2::text[])) AND NOT deleted",
            [seen for seen, _ in keys], [item_id for _, item_id in keys],
        )  # fmt: skip
        told = {row["item_id"]: row for row in _newest(items, "item_id")}
        found: defaultdict[str, dict[str, MentionView]] = defaultdict(dict)
        for row in sorted(rows, key=lambda row: (row["first_seen"], row["item_id"]), reverse=True):
            if row["item_id"] in told:
                found[of[row["trend_id"]]].setdefault(
                    row["item_id"], _mention_view({**row, **told[row["item_id"]]}, {})
                )
        return {trend_id: tuple(each.values())[:limit] for trend_id, each in found.items()}

    async def named(
        self, topic_ids: Sequence[str], items: Sequence[tuple[datetime, str]]
    ) -> tuple[dict[str, TopicBrief], dict[str, ItemView]]:
        """Some topics and some items (first seen, id), by their ids; what is not there any more is left out."""
        keys = [{"first_seen": seen, "item_id": item_id} for seen, item_id in items]
        briefs, found = await asyncio.gather(self._briefs(topic_ids), self._items_of(keys, len(keys)))
        return briefs, {item.item_id: item for item in found}

    async def common_items(
        self, *, window: timedelta = timedelta(days=28), limit: int = COMMON_PAIRS
    ) -> tuple[dict[str, int], list[tuple[str, str, int, int]]]:
        """How many items each trend had in the window, and which two trends had how many in common, in how many topics.

        Only homes with what their items mention: an item has one home, so two trends that are mostly the same meet so.
        """
        now = await self.now()
        counted, met = await asyncio.gather(
            self._ask(
                "common",
                "SELECT trend_id, count(*) AS n FROM {g}.mentions WHERE first_seen > $1 AND first_seen <= $2 "
                "AND present GROUP BY 1 HAVING count(*) > 1",
                now.time - window, now.time,
            ),
            self._ask(
                "common",
                "SELECT least(trend_id, mention) AS one, greatest(trend_id, mention) AS other, count(*) AS n, "
                "array_agg(DISTINCT topic_id) AS topics FROM {g}.items, unnest(mentions) mention "
                "WHERE first_seen > $1 AND first_seen <= $2 AND NOT deleted GROUP BY 1, 2 HAVING count(*) > 1 "
                "ORDER BY 3 DESC LIMIT $3",
                now.time - window, now.time, limit,
            ),
        )  # fmt: skip
        items: Counter[str] = Counter()
        for row in counted:
            items[row["trend_id"]] += row["n"]
        same: Counter[tuple[str, str]] = Counter()
        topics: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for row in met:
            same[row["one"], row["other"]] += row["n"]
            topics[row["one"], row["other"]].update(row["topics"])
        return dict(items), [(*pair, n, len(topics[pair])) for pair, n in same.most_common(limit)]

    async def topic(self, topic_id: str, *, members: int = 50) -> TopicView | None:
        """One topic with its items, those of the topics merged into it included; None where there is no such topic.

        The id of a merged topic leads to the one that took it over, that of a topic of a generation that was live
        before to the one that most of its items are in now.
        """
        resolved = await self._resolve([topic_id])
        final, asked_generation = resolved.get(topic_id), None
        if final is None:
            redirect = await self._redirected(topic_id)
            if redirect is None:
                return None
            final, asked_generation = redirect
        briefs, merged, rows = await asyncio.gather(
            self._briefs([final]),
            self._merged_into(final),
            self._ask("topic", "SELECT * FROM {g}.topics WHERE topic_id = $1", final),
        )
        row = max(rows, key=lambda r: r["version"])
        ids = [final, *merged]
        span = row["last_seen"] - row["first_seen"]
        step_s = 3_600 if span <= HOURLY_UP_TO else 86_400
        found, bins = await asyncio.gather(
            self._ask(
                "topic",
                f"SELECT {_ITEM} FROM {{g}}.items WHERE topic_id = ANY($1) AND NOT deleted "
                "ORDER BY points + comments DESC, first_seen, item_id LIMIT $2",
                ids, members,
            ),
            self._ask(
                "topic",
                "SELECT date_bin(make_interval(secs => $2::int), first_seen, timestamptz '2000-01-01 00:00Z') "
                "AS start, count(*) AS items, count(echo_of) AS echoes FROM {g}.items "
                "WHERE topic_id = ANY($1) AND NOT deleted GROUP BY 1 ORDER BY 1 DESC LIMIT $3",
                ids, step_s, TIMELINE_BINS,
            ),
        )  # fmt: skip
        sums: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
        for each in bins:
            sums[each["start"]][0] += each["items"]
            sums[each["start"]][1] += each["echoes"]
        items = sorted(_unique_items(found), key=lambda i: (-(i.points + i.comments), i.first_seen, i.item_id))
        return TopicView(
            brief=briefs[final],
            asked_id=topic_id,
            asked_generation=asked_generation,
            merged=dict(sorted(merged.items())),
            reason=row["reason"],
            sources=_largest_first(msgspec.json.decode(row["sources"])),
            trends=_largest_first(msgspec.json.decode(row["trends"])),
            terms=tuple(term for term, _ in msgspec.json.decode(row["terms"])),
            timeline=tuple(Bin(start, n, echoes) for start, (n, echoes) in sorted(sums.items())[-TIMELINE_BINS:]),
            step_s=step_s,
            members=tuple(items[:members]),
            echoes=sum(echoes for _, echoes in sums.values()),
        )

    async def find(self, name: str) -> tuple[str, str] | None:
        """What a person means by a name: ("trend" or "topic", its id); None where nothing is called that.

        Tried in this order: a trend's id, a term, a tracked subject's title, a topic's id or its beginning (≥ 6
        characters, where only one topic's begins so).
        """
        name = name.strip()
        term = TERM_PREFIX + name.casefold()
        trends, definitions = await asyncio.gather(
            self._ask("find", "SELECT trend_id FROM {g}.trends WHERE trend_id = ANY($1)", [name, term]),
            self._ask(
                "find", "SELECT trend_id FROM {s}.catalogue WHERE trend_id = $1 OR lower(title) = lower($1)", name
            ),
        )
        known = {row["trend_id"] for row in trends} | {row["trend_id"] for row in definitions}
        for candidate in (name, *sorted(row["trend_id"] for row in definitions), term):
            if candidate in known:
                return ("trend", candidate)
        if len(name) < 6:
            return None
        topics = await self._ask(
            "find",
            'SELECT topic_id FROM {g}.topics WHERE topic_id = $1 OR (topic_id > $1 AND topic_id < $1 || $2 '
            "AND starts_with(topic_id, $1)) LIMIT 2",
            name, "g",
        )  # fmt: skip
        ids = sorted({row["topic_id"] for row in topics})
        if not ids:
            ids = await self._redirects_named(name)
        return ("topic", name) if name in ids else ("topic", ids[0]) if len(ids) == 1 else None

    async def search(
        self, text: str, *, vector: NDArray[np.float32] | None = None, limit: int = 20
    ) -> tuple[SearchHit, ...]:
        """Topics that some words are about, best first: by words in items and summaries and, given the vector of the
        query (shape (d,)), by meaning; the three orders are fused by reciprocal rank.

        ``text`` may hold "quoted phrases", or, and -excluded words.

        Raises:
            SettingsError: the vector has other dimensions than this generation, or the text is longer than QUERY_CHARS.
        """
        text = text.replace("\0", " ")
        if len(text) > QUERY_CHARS:
            raise SettingsError(f"{len(text):,} characters to search for: {QUERY_CHARS:,} at most; take a few words")
        # The index finds what either reading of the words matches; each item is then held to that of its language.
        item_query = self._ask(
            "search",
            f"SELECT {_ITEM}, ts_rank(text, query) AS relevance FROM ("
            f"SELECT {_ITEM}, text, query FROM (SELECT *, {{g}}.item_text(lang, title, body) AS text, "
            f"CASE WHEN coalesce(lang, 'en') LIKE 'en%' THEN {_ENGLISH} ELSE {_SIMPLE} END AS query FROM {{g}}.items "
            f"WHERE {{g}}.item_text(lang, title, body) @@ ({_ENGLISH} || {_SIMPLE}) AND NOT deleted) either "
            "WHERE text @@ query ORDER BY first_seen DESC LIMIT $2) found "
            "ORDER BY relevance DESC, points + comments DESC, item_id LIMIT $3",
            text, TEXT_CANDIDATES, 10 * limit,
        )  # fmt: skip
        summary_query = self._ask(
            "search",
            f"SELECT topic_id, ts_rank({{g}}.summary_text(headline, summary, keywords), {_ENGLISH}) AS relevance "
            f"FROM {{g}}.topic_summaries WHERE {{g}}.summary_text(headline, summary, keywords) @@ {_ENGLISH} "
            "ORDER BY relevance DESC, topic_id LIMIT $2",
            text, 5 * limit,
        )  # fmt: skip
        items, summaries, vectors = await asyncio.gather(item_query, summary_query, self._nearest(vector))
        items.sort(key=lambda row: (-row["relevance"], -(row["points"] + row["comments"]), row["item_id"]))
        summaries.sort(key=lambda row: (-row["relevance"], row["topic_id"]))
        asked = {row["topic_id"] for rows in (items, summaries) for row in rows} | {row["topic_id"] for row in vectors}
        resolved = await self._resolve(sorted(asked))
        scores: Counter[str] = Counter()
        found_by: dict[str, list[str]] = defaultdict(list)
        similarity: dict[str, float] = {}
        matched: dict[str, list[ItemView]] = defaultdict(list)
        for name, rows in (("items", items), ("summaries", summaries), ("vectors", vectors)):
            place = 0
            for row in rows:
                topic_id = resolved.get(row["topic_id"])
                if topic_id is None:
                    continue
                if name == "items":
                    matched[topic_id].append(item_view(row))
                if name == "vectors":
                    similarity[topic_id] = max(similarity.get(topic_id, -1.0), row["similarity"])
                if name not in found_by[topic_id]:
                    place += 1
                    found_by[topic_id].append(name)
                    scores[topic_id] += 1 / (RRF_K + place)  # type: ignore[assignment]
        best = sorted(scores, key=lambda topic_id: (-scores[topic_id], topic_id))[:limit]
        briefs = await self._briefs(best)
        return tuple(
            SearchHit(briefs[topic_id], scores[topic_id], similarity.get(topic_id), tuple(found_by[topic_id]),
                      tuple(_unique(matched[topic_id])[:5]))
            for topic_id in best
            if topic_id in briefs
        )  # fmt: skip

    async def counts(self) -> StoredCounts:
        """What is stored, over all shards and on each."""
        shards = await asyncio.gather(
            *(
                self._on_shard(
                    shard,
                    "counts",
                    "SELECT count(*) AS items, count(DISTINCT item_id) AS item_ids, "
                    "count(*) FILTER (WHERE trend_id <> '' AND topic_id <> '') AS items_placed, "
                    "(SELECT count(*) FROM {g}.topics WHERE merged_into IS NULL) AS topics, "
                    "(SELECT count(*) FROM {g}.topics WHERE merged_into IS NOT NULL) AS topics_merged, "
                    "(SELECT count(*) FROM {g}.trends) AS trends, (SELECT count(*) FROM {g}.mentions) AS mentions, "
                    "(SELECT count(*) FROM {g}.trend_scores) AS scores, "
                    "(SELECT count(*) FROM {g}.topic_summaries) AS summaries FROM {g}.items",
                )
                for shard in range(self.config.shards)
            )
        )
        per_shard = tuple(dict(rows[0]) for rows in shards)
        return StoredCounts(**{name: sum(s[name] for s in per_shard) for name in per_shard[0]}, per_shard=per_shard)

    async def export(self, kind: str, filters: Filters = NO_FILTERS) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of a kind (see ``export.KINDS``), in the order of time where they have one; constant memory.

        Pages by key, each its own short query: a long export holds nothing up, and is no snapshot. An item's
        ``topic_id`` is resolved through merges.

        Raises:
            SettingsError: no such kind, or a filter that it does not have.
        """
        plan = plan_of(kind, filters)
        size = self.config.export_rows
        shards = [self._pages(shard, plan, size) for shard in range(self.config.shards)]
        try:
            async for row in merged(shards, plan, size, self._resolve):
                yield row
        finally:
            for shard in shards:
                await shard.aclose()

    async def count_export(self, kind: str, filters: Filters = NO_FILTERS) -> int:
        """How many rows ``export`` is about to give."""
        sql, arguments = plan_of(kind, filters).count()
        return sum(row["n"] for row in await self._ask("export", sql, *arguments))

    # -- parts of answers ----------------------------------------------------------------------------------------

    async def _pages(self, shard: int, plan: Plan, size: int) -> AsyncGenerator[list[Mapping[str, Any]], None]:
        after: tuple[Any, ...] | None = None
        while True:
            sql, arguments = plan.page(after, size)
            rows = await self._on_shard(shard, "export", sql, *arguments)
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = plan.key_of(rows[-1])

    async def _shown(self) -> dict[str, str]:
        """Other names of trends, and the trend that each is shown as."""
        try:
            rows = await self._ask(
                "aliases", "SELECT trend_id, alias_of, version FROM {s}.catalogue WHERE alias_of IS NOT NULL"
            )
        except asyncpg.UndefinedColumnError:  # made by an older release, and not migrated yet
            return {}
        return shown_as({row["trend_id"]: row["alias_of"] for row in _newest(rows, "trend_id")})

    async def _join(
        self,
        by_id: dict[str, Mapping[str, Any]],
        names: Mapping[str, tuple[str, ...]],
        standing: str,
        since: datetime,
        until: datetime,
    ) -> None:
        """Puts one row for all names of a trend in the place of theirs."""
        wanted = sorted({name for each in names.values() for name in each} | names.keys())
        rows = await self._ask(
            "top",
            f"SELECT t.*, c.title, c.category FROM ({standing}) t LEFT JOIN {{s}}.catalogue c USING (trend_id) "
            "WHERE trend_id = ANY($3)",
            since, until, wanted,
        )  # fmt: skip
        found = {row["trend_id"]: row for row in _newest(rows, "trend_id")}
        for trend_id, each in names.items():
            members = [found[name] for name in each if name in found]
            own = found.get(trend_id)
            for name in each:
                by_id.pop(name, None)
            if members:
                titles = {"title": own["title"] if own else None, "category": own["category"] if own else None}
                by_id[trend_id] = {**await self._joined(trend_id, members, until), **titles}

    async def _joined(self, trend_id: str, rows: Sequence[Mapping[str, Any]], until: datetime) -> dict[str, Any]:
        """One row for several, see :func:`sinks.postgres.joining.joined_row`."""
        mentions = await self._ask(
            "joined",
            "SELECT DISTINCT item_id, event_time, publisher, source FROM {g}.mentions WHERE trend_id = ANY($1) "
            "AND first_seen > $2 AND event_time >= $2 AND event_time <= $3 AND present "
            "ORDER BY event_time DESC LIMIT $4",
            sorted({row["trend_id"] for row in rows}), reach(rows), until, JOINED_MENTIONS,
        )  # fmt: skip
        return joined_row(trend_id, rows, mentions, until)

    async def _topics_of(
        self, names: Mapping[str, Sequence[str]], since: datetime, until: datetime, limit: int
    ) -> dict[str, tuple[TopicBrief, ...]]:
        """The topics that most mentions of each trend (of all its names) in the window belong to."""
        if not names or limit < 1:
            return {}
        rows = await self._ask(
            "topics_of",
            "SELECT * FROM (SELECT trend_id, topic_id, count(*) AS n, "
            "row_number() OVER (PARTITION BY trend_id ORDER BY count(*) DESC, topic_id) AS place FROM {g}.mentions "
            "WHERE trend_id = ANY($1) AND first_seen > $2 AND first_seen <= $3 AND present GROUP BY 1, 2) counted "
            "WHERE place <= $4",
            [trend_id for trend_id, each in names.items() if len(each) == 1], since, until, TOPICS_OF_TREND,
        )  # fmt: skip
        for trend_id, each in names.items():
            if len(each) > 1:
                rows += await self._topics_of_names(trend_id, each, since, until)
        resolved = await self._resolve(sorted({row["topic_id"] for row in rows}))
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for row in rows:
            if (topic_id := resolved.get(row["topic_id"])) is not None:
                sums[row["trend_id"]][topic_id] += row["n"]
        # More than asked for: among topics of one size the more discussed ones are shown.
        candidates = {t: sorted(s, key=lambda i: (-s[i], i))[: 5 * limit] for t, s in sums.items()}
        briefs = await self._briefs(sorted({topic_id for ids in candidates.values() for topic_id in ids}))
        result = {}
        for trend_id, ids in candidates.items():
            listed = [briefs[i] for i in ids if i in briefs]
            listed.sort(key=lambda b: (-sums[trend_id][b.topic_id], -(b.points + b.comments), b.topic_id))
            result[trend_id] = tuple(
                TopicBrief(**{**_fields(b), "items": sums[trend_id][b.topic_id]}) for b in listed[:limit]
            )
        return result

    async def _topics_of_names(
        self, trend_id: str, names: Sequence[str], since: datetime, until: datetime
    ) -> list[dict[str, Any]]:
        """The topics of a trend with several names: an item of two of them counts once, on whichever shard they are."""
        found = await self._ask(
            "topics_of",
            "SELECT DISTINCT item_id, topic_id, first_seen FROM {g}.mentions WHERE trend_id = ANY($1) "
            "AND first_seen > $2 AND first_seen <= $3 AND present ORDER BY first_seen DESC LIMIT $4",
            list(names), since, until, JOINED_MENTIONS,
        )  # fmt: skip
        topics = Counter({row["item_id"]: row["topic_id"] for row in found}.values())
        return [{"trend_id": trend_id, "topic_id": t, "n": n} for t, n in topics.most_common(TOPICS_OF_TREND)]

    async def _resolve(self, topic_ids: Sequence[str]) -> dict[str, str]:
        """For each id the topic that it stands for today: the end of its ``merged_into`` chain, or as far as the chain
        is stored. Ids without a row are left out."""
        into: dict[str, str | None] = {}
        ask = list(topic_ids)
        for _ in range(MERGE_LEVELS):
            if not ask:
                break
            rows = await self._ask(
                "resolve", "SELECT topic_id, merged_into, version FROM {g}.topics WHERE topic_id = ANY($1)", ask
            )
            for row in _newest(rows, "topic_id"):
                into[row["topic_id"]] = row["merged_into"]
            missing = set(ask) - into.keys()
            ask = sorted({i for i in into.values() if i is not None and i not in into} - missing)
        resolved = {}
        for topic_id in topic_ids:
            here, seen = topic_id, {topic_id}
            while (there := into.get(here)) is not None and there in into and there not in seen:
                seen.add(there)
                here = there
            if here in into:
                resolved[topic_id] = here
        return resolved

    async def resolve(self, topic_ids: Sequence[str]) -> dict[str, str]:
        """For each id the topic that it stands for today (merged ones: the winner); unknown ids are left out."""
        return await self._resolve(topic_ids)

    async def topics_of_items(self, item_ids: Sequence[str]) -> dict[str, str]:
        """The topic that each item belongs to today; unknown items are left out."""
        rows = await self._ask(
            "topics_of_items",
            "SELECT item_id, topic_id, version FROM {g}.items WHERE item_id = ANY($1) AND topic_id IS NOT NULL",
            list(item_ids),
        )
        found = {row["item_id"]: row["topic_id"] for row in sorted(rows, key=lambda row: row["version"])}
        resolved = await self._resolve(sorted(set(found.values())))
        return {item: resolved[topic] for item, topic in found.items() if topic in resolved}

    async def _redirected(self, topic_id: str) -> tuple[str, str] | None:
        """The topic of this generation that a topic of an earlier one leads to, and which generation that was.

        Where several generations lie between, redirects are followed from one to the next.
        """
        origin: str | None = None
        seen, ask = {topic_id}, [topic_id]
        for _ in range(REDIRECT_LEVELS):
            rows = await self._redirects("SELECT * FROM {s}.redirects WHERE topic_id = ANY($1)", ask)
            for row in rows:
                origin = origin or row["generation"]
            here = sorted(row["new_topic_id"] for row in rows if row["new_generation"] == self.config.generation)
            resolved = await self._resolve(here) if here else {}
            if resolved:
                assert origin is not None
                return resolved[min(resolved)], origin
            ask = sorted({row["new_topic_id"] for row in rows} - seen)
            seen.update(ask)
            if not ask:
                return None
        return None

    async def _redirects_named(self, name: str) -> list[str]:
        """At most two ids of topics of earlier generations that are called, or begin, so."""
        rows = await self._redirects(
            "SELECT DISTINCT topic_id FROM {s}.redirects WHERE topic_id = $1 OR (topic_id > $1 AND "
            "topic_id < $1 || 'g' AND starts_with(topic_id, $1)) LIMIT 2",
            name,
        )
        return sorted({row["topic_id"] for row in rows})

    async def _redirects(self, sql: str, argument: object) -> list[asyncpg.Record]:
        try:
            return await self._ask("redirect", sql, argument)
        except asyncpg.UndefinedTableError:  # made by an older release, and not migrated yet
            return []

    async def _merged_into(self, topic_id: str) -> dict[str, str | None]:
        """All topics that were merged into one, over any number of steps, and why."""
        found: dict[str, str | None] = {}
        ask = [topic_id]
        for _ in range(MERGE_LEVELS):
            rows = await self._ask(
                "resolve",
                "SELECT topic_id, reason FROM {g}.topics WHERE merged_into = ANY($1) LIMIT $2",
                ask,
                MERGED_IDS,
            )
            reasons = {row["topic_id"]: row["reason"] for row in rows if row["topic_id"] != topic_id}
            ask = sorted(reasons.keys() - found.keys())
            found |= {each: reasons[each] for each in ask}
            if not ask or len(found) >= MERGED_IDS:
                break
        return found

    async def _briefs(self, topic_ids: Sequence[str]) -> dict[str, TopicBrief]:
        if not topic_ids:
            return {}
        rows = await self._ask(
            "briefs",
            "SELECT t.topic_id, t.version, t.trend_id, t.life, t.size, t.publishers, t.points, t.comments, "
            "t.first_seen, t.last_seen, t.leading_items, t.terms, s.headline, s.summary, s.keywords, "
            "s.entities, s.lang, s.category, s.method, s.fallback "
            "FROM {g}.topics t LEFT JOIN {g}.topic_summaries s USING (topic_id) WHERE t.topic_id = ANY($1)",
            list(topic_ids),
        )
        return {row["topic_id"]: topic_brief(row) for row in _newest(rows, "topic_id")}

    async def _items_of(self, mentions: Sequence[Mapping[str, Any]], limit: int) -> tuple[ItemView, ...]:
        """The most discussed items among some mentions (an item may be on another shard than its mention)."""
        if not mentions or limit < 1:
            return ()
        rows = await self._ask(
            "items",
            f"SELECT {_ITEM} FROM {{g}}.items WHERE (first_seen, item_id) IN (SELECT * FROM unnest($1::timestamptz[], "
            "$2::text[])) AND NOT deleted ORDER BY points + comments DESC, first_seen DESC, item_id LIMIT $3",
            [row["first_seen"] for row in mentions], [row["item_id"] for row in mentions], limit,
        )  # fmt: skip
        items = _unique_items(rows)
        items.sort(key=lambda i: (-(i.points + i.comments), -i.first_seen.timestamp(), i.item_id))
        return tuple(items[:limit])

    async def _nearest(self, vector: NDArray[np.float32] | None) -> list[dict[str, Any]]:
        """Topics by cosine to a vector, best first."""
        if vector is None:
            return []
        if vector.shape != (self.config.dimensions,):
            raise SettingsError(
                f"the query's vector has {vector.size} dimensions, generation {self.config.generation} has "
                f"{self.config.dimensions}: use the embedding model that made it"
            )
        distance = "centroid OPERATOR({v}.<=>) $1::{v}.halfvec"
        binary = halfvec("query", encode_vector(vector), self.config.dimensions)
        rows = await self._ask(
            "nearest",
            f"WITH known AS ((SELECT topic_id, {distance} AS distance FROM {{g}}.topic_vectors "
            f"WHERE step >= 2 AND centroid IS NOT NULL ORDER BY {distance} LIMIT $2) UNION ALL "
            f"(SELECT topic_id, {distance} AS distance FROM (SELECT topic_id, centroid FROM {{g}}.topic_vectors "
            "WHERE step < 2 ORDER BY version DESC LIMIT $3) single)) "
            "SELECT topic_id, 1 - distance AS similarity FROM known ORDER BY distance LIMIT $2",
            binary, VECTOR_CANDIDATES, SINGLE_TOPICS,
            local=f"SET LOCAL hnsw.ef_search = {VECTOR_CANDIDATES}; SET LOCAL hnsw.iterative_scan = relaxed_order",
        )  # fmt: skip
        near = [dict(row) for row in rows if row["similarity"] >= MIN_SIMILARITY]
        near.sort(key=lambda row: (-row["similarity"], row["topic_id"]))
        return near[:VECTOR_CANDIDATES]

    # -- queries -------------------------------------------------------------------------------------------------

    async def _ask(self, kind: str, sql: str, *arguments: object, local: str = "") -> list[asyncpg.Record]:
        """The rows of all shards."""
        parts = await asyncio.gather(
            *(self._on_shard(shard, kind, sql, *arguments, local=local) for shard in range(self.config.shards))
        )
        return [row for part in parts for row in part]

    async def _on_shard(
        self, shard: int, kind: str, sql: str, *arguments: object, local: str = ""
    ) -> list[asyncpg.Record]:
        """The rows of one shard; a broken connection is replaced.

        Raises:
            UnavailableError: the shard does not answer.
        """
        started = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._shards.acquire(shard) as connection:
                    names = {"{g}": self.config.schema, "{s}": SHARED_SCHEMA, "{v}": self._shards.vector_schema}
                    text = sql
                    for placeholder, name in names.items():
                        text = text.replace(placeholder, name)
                    async with connection.transaction(readonly=True):
                        timeout_ms = int(self.config.read_timeout_s * 1000)
                        await connection.execute(f"SET LOCAL statement_timeout = {timeout_ms}; {local}")
                        rows: list[asyncpg.Record] = await connection.fetch(text, *arguments)
                DB_QUERY_SECONDS.labels(kind).observe(time.monotonic() - started)
                return rows
            except asyncpg.QueryCanceledError as error:
                raise UnavailableError(
                    f"{place_of(self.config, shard)} did not answer {kind!r} within {self.config.read_timeout_s:g} s"
                ) from error
            except Exception as error:
                if not is_transient(error):
                    raise
                if attempt == ATTEMPTS:
                    raise UnavailableError(
                        f"{place_of(self.config, shard)}: {type(error).__name__}: {error}"
                    ) from error
                await asyncio.sleep(RETRY_S * attempt)
        raise AssertionError("unreachable")


def by_rank(scores: Sequence[TrendScore], now: datetime) -> list[Standing]:
    """An order from what was stored alone: by rank key; trends without one do not rise."""
    ranked = sorted((s for s in scores if s.rank is not None), key=lambda s: (-(s.rank or 0.0), s.trend_id))
    return [
        Standing(s.trend_id, sum(s.counts[-BURST_SLICES:]), s.expected, s.burst, s.burst, s.last_seen) for s in ranked
    ]


def trend_score(row: Mapping[str, Any], generation: str) -> TrendScore:
    """The record behind a row of trends or trend_scores."""
    return TrendScore(
        generation=generation, trend_id=row["trend_id"], slice_start=row["slice_start"], slice_s=row["slice_s"],
        counts=(*([0] * (row["slices"] - len(row["counts"]))), *row["counts"]), items=row["items"],
        late=_filled(row["late"], row["slices"]), hidden=_filled(row["hidden"], row["slices"]),
        total=row["total"], publishers=row["publishers"], sources=msgspec.json.decode(row["sources"]),
        expected=row["expected"], burst=row["burst"], velocity=row["velocity"],
        engagement=Engagement(points=row["points"], comments=row["comments"], shares=row["shares"],
                              stars=row["stars"], views=row["views"]),
        spread=row["spread"], rank=row["rank"], first_seen=row["first_seen"], last_seen=row["last_seen"],
        version=row["version"], hour_expected=row["hour_expected"], hour_burst=row["hour_burst"],
        acceleration=row["acceleration"], engagement_velocity=row["engagement_velocity"], peak=row["peak"],
        peaked_at=row["peaked_at"], story=row["story"],
    )  # fmt: skip


def _filled(counts: Sequence[int], slices: int) -> tuple[int, ...]:
    """Slices that stand without their leading zeros; none where all are 0."""
    return (*([0] * (slices - len(counts))), *counts) if counts else ()


def trend_row(
    row: Mapping[str, Any],
    until: datetime,
    window: timedelta,
    standing: Standing | None,
    topics: tuple[TopicBrief, ...],
    aliases: tuple[str, ...] = (),
) -> TrendRow:
    """A row of trends or trend_scores, with the catalogue's title and category, as it is looked at from ``until``.

    Without a standing the trend does not rise.
    """
    slice_s = row["slice_s"]
    slices = max(1, round(window.total_seconds() / slice_s))
    whole = counts_until(row["counts"], row["slice_start"], slice_s, until, max(slices, SPARKLINE_SLICES))
    counts = whole[-SPARKLINE_SLICES:]
    return TrendRow(
        trend_id=row["trend_id"],
        title=title_of(row["trend_id"], row["title"]),
        tracked=row["title"] is not None and not row["trend_id"].startswith(TERM_PREFIX),
        category=row["category"],
        counts=counts,
        slice_s=slice_s,
        items=standing.items if standing else sum(counts[-BURST_SLICES:]),
        window_items=sum(whole[-slices:]),
        total=row["total"],
        publishers=row["publishers"],
        sources=_largest_first(msgspec.json.decode(row["sources"])),
        expected=standing.expected if standing else row["expected"],
        burst=standing.burst if standing else 0.0,
        strength=standing.strength if standing else 0.0,
        peaked_at=standing.peaked_at if standing else None,
        velocity=row["velocity"],
        points=row["points"],
        comments=row["comments"],
        spread=row["spread"],
        rank=row["rank"],
        slice_start=row["slice_start"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        topics=topics,
        aliases=aliases,
    )


def topic_brief(row: Mapping[str, Any]) -> TopicBrief:
    """A row of topics with its summary (or none: then the leading item's title speaks for it)."""
    leading = tuple(
        ItemView(
            item_id=item.item_id, source=item.source, kind="", title=item.title, url=item.url, author=None,
            publisher=item.publisher, published_at=item.published_at, first_seen=item.published_at,
            points=item.points, comments=item.comments, trend_id=None, topic_id=row["topic_id"], echo_of=None,
        )
        for item in msgspec.json.decode(row["leading_items"], type=tuple[LeadingItem, ...])
    )  # fmt: skip
    terms = [term for term, _ in msgspec.json.decode(row["terms"])]
    titles = [item.title for item in leading if item.title]
    return TopicBrief(
        topic_id=row["topic_id"],
        headline=row["headline"] or (titles[0] if titles else " ".join(terms[:5]) or row["topic_id"]),
        summary=row["summary"],
        keywords=tuple(row["keywords"] if row["keywords"] is not None else terms[:5]),
        size=row["size"],
        publishers=row["publishers"],
        points=row["points"],
        comments=row["comments"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        trend_id=row["trend_id"],
        life=row["life"],
        leading=leading,
        entities=tuple(row["entities"] or ()),
        lang=row["lang"],
        category=row["category"],
        method=row["method"],
        fallback=row["fallback"],
    )


def item_view(row: Mapping[str, Any]) -> ItemView:
    """A row of items."""
    return ItemView(**{name: row[name] for name in ItemView.__slots__})


_EMPTY: Final[dict[str, Any]] = {
    "slice_s": 3_600, "counts": (), "slices": 0, "items": 0, "total": 0, "publishers": 0, "sources": b"{}",
    "expected": 0.0, "burst": 0.0, "velocity": 0.0, "points": 0, "comments": 0, "shares": 0, "stars": 0, "views": 0,
    "spread": 0.0, "rank": None, "version": 0, "late": (), "hidden": (), "hour_expected": 0.0, "hour_burst": 0.0,
    "acceleration": 0.0, "engagement_velocity": 0.0, "peak": 0.0, "story": None,
}  # fmt: skip
"""A tracked subject that nothing was found for yet."""


def _slice_start(row: Mapping[str, Any]) -> datetime:
    start: datetime = row["slice_start"]
    return start


def _titles(definition: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"title": definition["title"], "category": definition["category"]} if definition else {}


def _fields(brief: TopicBrief) -> dict[str, Any]:
    return {name: getattr(brief, name) for name in TopicBrief.__slots__}


def _mention_view(row: Mapping[str, Any], topics: Mapping[str, str]) -> MentionView:
    topic_id = topics.get(row["topic_id"], row["topic_id"])
    told = {name: row[name] for name in ("title", "url", "points", "comments") if "title" in row}
    return MentionView(
        row["first_seen"], row["item_id"], topic_id, row["source"], row["publisher"], row["echo"], **told
    )


def _newest(rows: Iterable[asyncpg.Record], key: str) -> list[asyncpg.Record]:
    """One row for a key: while a bucket moves, two shards may have it."""
    newest: dict[Any, asyncpg.Record] = {}
    for row in rows:
        before = newest.get(row[key])
        if before is None or row["version"] > before["version"]:
            newest[row[key]] = row
    return list(newest.values())


def _unique_items(rows: Iterable[Mapping[str, Any]]) -> list[ItemView]:
    """One view an item: its newest sighting."""
    return _unique(sorted(map(item_view, rows), key=lambda item: item.first_seen, reverse=True))


def _unique(items: Iterable[ItemView]) -> list[ItemView]:
    return list({item.item_id: item for item in reversed(list(items))}.values())[::-1]


def _largest_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


class SyncReader:
    """The reader for code that is not asynchronous: the same answers, on an event loop of its own."""

    def __init__(
        self,
        config: PostgresConfig,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        order: Order | None = None,
    ) -> None:
        self._thread = LoopThread("postgres-reader")
        self.reader = PostgresReader(config, clock=clock, order=order)

    def __enter__(self) -> SyncReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer to a question of ``reader``: ``sync.ask(sync.reader.top(limit=5))``."""
        return self._thread.run(question)

    def export(self, kind: str, filters: Filters = NO_FILTERS) -> Generator[dict[str, Any], None, None]:
        """See :meth:`PostgresReader.export`. Close it (``contextlib.closing``) where it may not be read to its end."""
        rows = self.reader.export(kind, filters)

        async def some() -> list[dict[str, Any]]:
            page = []
            async for row in rows:
                page.append(row)
                if len(page) >= self.reader.config.export_rows:
                    break
            return page

        try:
            while page := self._thread.run(some()):
                yield from page
        finally:
            self._thread.run(rows.aclose())

    def close(self) -> None:
        """Close all connections, and the loop."""
        self._thread.run(self.reader.close())
        self._thread.close()
