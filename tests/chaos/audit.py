"""What is in streams and stores after a run, against what the world says must be: record by record.

Independent of ``trends verify``: it knows what was sent, and asks the product for nothing but its records and rows.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from streams.records import DeadLetter, EmbeddedItem, EnrichedItem, Mention, TopicUpdate, TrendScore
from streams.table import DEAD_LETTERS, EMBEDDED, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES, raw
from tests.chaos.fuzz import messages, read
from tests.chaos.world import SOURCE, Truth
from trends.settings import Settings

SHOWN = 6


@dataclass(slots=True)
class Audit:
    """Findings, by what they are about; empty lists where everything is as it must be."""

    counts: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)

    def compare(self, what: str, found: Counter[Any], expected: Counter[Any]) -> None:
        """Two multisets that must be equal: what is missing is lost, what is there too often is doubled."""
        for label, diff in ((self.lost, expected - found), (self.doubled, found - expected)):
            if diff:
                label.append(f"{what}: {sum(diff.values())}, such as {_few(diff)}")

    def expect(self, what: str, found: dict[Any, Any], expected: dict[Any, Any]) -> None:
        """Two mappings that must be equal."""
        off = {
            k: (found.get(k), expected.get(k))
            for k in found.keys() | expected.keys()
            if found.get(k) != expected.get(k)
        }
        if off:
            self.wrong.append(f"{what}: {len(off)}, such as (found, expected) {_few(off)}")


def _few(values: Any) -> str:
    items = list(values.items()) if hasattr(values, "items") else list(values)
    return ", ".join(str(i) for i in items[:SHOWN])


def audit(settings: Settings, truth: Truth) -> Audit:
    """Audits everything that follows from the messages of a truth."""
    found = Audit()
    _streams(settings, truth, found)
    asyncio.run(_stores(settings, truth, found))
    return found


def _streams(settings: Settings, truth: Truth, found: Audit) -> None:
    name = raw(SOURCE).physical(settings.kafka(), settings.generation)
    rubbish, sightings = Counter[str](), Counter[tuple[str, str]]()
    good = {value: (made.fields["item_id"], made.fields["observed_at"]) for value, made in truth.good.items()}
    strangers = 0
    for message in messages(settings, raw(SOURCE)):
        value = message.value()
        if value in truth.rubbish:
            rubbish[f"{name}/{message.partition()}/{message.offset()}"] += 1
        elif value in good:
            sightings[good[value]] += 1
        else:
            strangers += 1
    found.counts["raw"] = sum(sightings.values()) + sum(rubbish.values())
    missing = set(good.values()) - sightings.keys()
    if missing:
        found.lost.append(f"acknowledged and not in the raw stream: {len(missing)}, such as {_few(missing)}")
    if strangers:
        found.counts["sent and not acknowledged"] = strangers

    letters = Counter(
        r.letter_id for _, r in read(settings, DEAD_LETTERS) if isinstance(r, DeadLetter) and r.stream == name
    )
    others = [r for _, r in read(settings, DEAD_LETTERS) if isinstance(r, DeadLetter) and r.stream != name]
    if others:
        examples = [(o.letter_id, o.error) for o in others]
        found.wrong.append(f"records of our own in dead letters: {len(others)}, such as {_few(examples)}")
    found.counts["dead letters"] = sum(letters.values())
    found.compare("dead letters", letters, rubbish)

    embedded = Counter(
        (r.item.item_id, r.item.observed_at.isoformat())
        for _, r in read(settings, EMBEDDED)
        if isinstance(r, EmbeddedItem)
    )
    found.counts["embedded"] = sum(embedded.values())
    found.compare("items.embedded", embedded, Counter({(i, _iso(at)): n for (i, at), n in sightings.items()}))

    decisions: Counter[str] = Counter()
    seqs: Counter[int] = Counter()
    for _, record in read(settings, ENRICHED):
        assert isinstance(record, EnrichedItem)
        decisions[record.item.item_id] += 1
        seqs[record.seq] += 1
    found.counts["decisions"] = sum(decisions.values())
    found.compare("items.enriched", decisions, Counter({i: t.decisions for i, t in truth.items.items()}))
    found.compare("numbers of decisions", seqs, Counter(dict.fromkeys(seqs, 1)))

    weights: Counter[str] = Counter()
    mentions: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for _, record in read(settings, MENTIONS):
        assert isinstance(record, Mention)
        ids[record.record_id] += 1
        weights[record.trend_id] += record.weight
        mentions[record.trend_id] += 1
    found.compare("trends.mentions", ids, Counter(dict.fromkeys(ids, 1)))
    trends = truth.trends()
    found.expect("weights of mentions", dict(weights), {t: n for t, (n, _, _) in trends.items()})

    newest: dict[str, TrendScore] = {}
    versions: Counter[tuple[str, int]] = Counter()
    for _, record in read(settings, SCORES):
        assert isinstance(record, TrendScore)
        versions[record.trend_id, record.version] += 1
        if record.trend_id not in newest or newest[record.trend_id].version < record.version:
            newest[record.trend_id] = record
    found.compare("trends.scores", versions, Counter(dict.fromkeys(versions, 1)))
    found.expect(
        "scores (items, points, comments)",
        {t: (s.total, s.engagement.points, s.engagement.comments) for t, s in newest.items()},
        dict(trends),
    )
    for stream in (UPDATES, SUMMARIES):
        twice = Counter(r.record_id for _, r in read(settings, stream))
        found.compare(stream.name, twice, Counter(dict.fromkeys(twice, 1)))
    found.counts["topics"] = len({r.topic_id for _, r in read(settings, UPDATES) if isinstance(r, TopicUpdate)})


def _iso(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


async def _rows(settings: Settings, sql: str) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = []
    for dsn in settings.dsns():
        connection = await asyncpg.connect(dsn)
        try:
            rows += await connection.fetch(sql.replace("{g}", settings.generation))
        finally:
            await connection.close()
    return rows


async def _stores(settings: Settings, truth: Truth, found: Audit) -> None:
    items = await _rows(settings, "SELECT item_id, trend_id, topic_id, title, points, comments, deleted FROM {g}.items")
    found.counts["stored items"] = len(items)
    found.compare("items in the stores", Counter(r["item_id"] for r in items), Counter(dict.fromkeys(truth.items, 1)))
    found.expect(
        "items as stored (trend, title, deleted, points, comments)",
        {r["item_id"]: _stored(r) for r in items},
        {i: (t.home, t.title, t.deleted, *(t.engagement if not t.deleted else (0, 0))) for i, t in truth.items.items()},
    )
    rows = await _rows(settings, "SELECT trend_id, item_id, present FROM {g}.mentions")
    found.compare(
        "mentions in the stores",
        Counter((r["trend_id"], r["item_id"], r["present"]) for r in rows),
        Counter((trend, i, not t.deleted) for i, t in truth.items.items() for trend in (t.home, *t.mentions)),
    )
    rows = await _rows(settings, "SELECT trend_id, total, points, comments FROM {g}.trends")
    found.expect(
        "trends as stored (items, points, comments)",
        {r["trend_id"]: (r["total"], r["points"], r["comments"]) for r in rows},
        dict(truth.trends()),
    )
    await _topics(settings, items, found)


def _stored(row: asyncpg.Record) -> tuple[Any, ...]:
    sums = (0, 0) if row["deleted"] else (row["points"], row["comments"])
    return (row["trend_id"], row["title"], row["deleted"], *sums)


async def _topics(settings: Settings, items: Iterable[asyncpg.Record], found: Audit) -> None:
    """Sizes are those of the items; a topic that was merged away leads to one that is there."""
    rows = await _rows(settings, "SELECT topic_id, merged_into, size, life FROM {g}.topics")
    into = {r["topic_id"]: r["merged_into"] for r in rows}
    sizes: defaultdict[str, int] = defaultdict(int)
    for row in items:
        topic, steps = row["topic_id"], 0
        while into.get(topic) and steps < 100:
            topic, steps = into[topic], steps + 1
        if topic not in into or steps == 100:
            found.wrong.append(f"item {row['item_id']} leads to topic {topic}, which is not stored")
        sizes[topic] += not row["deleted"]
    # A topic whose last item was deleted has faded, and takes none any more, not even that item when it comes back.
    emptied = {r["topic_id"] for r in rows if r["life"] == "faded" and not r["size"]}
    found.expect(
        "sizes of topics",
        {r["topic_id"]: r["size"] for r in rows if r["merged_into"] is None and r["size"]},
        {topic: size for topic, size in sizes.items() if size and topic not in emptied},
    )
    found.counts["topics merged"] = sum(1 for r in rows if r["merged_into"])
