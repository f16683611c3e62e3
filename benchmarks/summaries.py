"""What summaries and labels are worth against the items of their topics, and how often a model would be asked.

Any labelled file (``--data``, ``--label``, ``--map``), an unlabelled one (``--unlabelled``), else the synthetic world:
router, embedder, engine and summaries alone, and the calls through the pipeline. Seeded: the same call prints the same
figures (those of the pipeline depend a little on how its batches fall). Of every topic that was summarised and not
merged away:

- coverage: the share of the weight of its items' terms (share of the items that say it, times salience) that headline
  and summary say;
- redundancy: the share of a summary's terms that the headline or an earlier sentence has said;
- quoted: the share of summaries whose every sentence stands in a title or body, word for word;
- words: of the summary;
- hits: the share of the items of its story (the label that most of its items have) in which a keyword stands, and
  strays: the same of the items of all other stories;
- changes: of the headline, after the first.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Final

from msgspec.structs import replace

from benchmarks.chat_stand_in import chat_api
from benchmarks.harness import Measures, Scores
from benchmarks.labelled import Posts, posts_of, synthetic_posts
from benchmarks.own_stack import own_stack, stored_after
from benchmarks.piped import SETTLE_S, records_of, written
from connectors import connector_of
from connectors.base import Sighting, routing
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import Embedder, EmbeddingCache, create
from models.engine import ClusterEngine
from models.routing import Router
from models.summaries import SummarizeEngine, Summary, extract
from models.summaries.base import words_in
from models.summaries.cached import CachedSummariser, MemoryStore, SummaryStore
from models.summaries.extractive import sentences_of
from models.summaries.labels import title_of, weights_of
from models.summaries.llm import ChatModel, Told
from models.text import clean_title, salience, strip_markup, terms
from sinks.postgres import migrate
from streams.admin import StreamAdmin
from streams.records import Change, TopicSummary, TopicUpdate
from streams.table import SUMMARIES
from trends.demo import Stages, processes
from trends.evaluation import Placed
from trends.flow_processes import flow_supervisor

ITEMS: Final = 5_000
"""Of the synthetic world."""
CHUNK: Final = 256
OTHER_CHUNK: Final = 97
"""How a replay cuts the same items: what a topic's updates are depends on it."""
CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Said:
    """The updates of a run, batch by batch, and where each item is in the end."""

    batches: list[list[TopicUpdate]] = field(default_factory=list)
    placed: Placed = field(default_factory=lambda: Placed({}, {}))


class Counted(ChatModel):
    """A model that is counted and not asked: it says what the extractive way does."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9/v1", "counted")
        self.calls = 0

    def ask(self, update: TopicUpdate) -> Told:
        self.calls += 1
        return Told(replace(extract(update), method="llm"), 0)


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Scores:
    """Measures of the summaries that the extractive way ends with, beside leading titles and heaviest terms alone."""
    columns = dict(pair.split("=", 1) for pair in args.map)
    posts = (
        posts_of(args.data, args.label, columns, labelled=not args.unlabelled)
        if args.data
        else synthetic_posts(args.items or ITEMS, args.seed)
    )
    embedder, cache = create("onnx"), EmbeddingCache(max(1, len(posts.sightings)))
    began = time.perf_counter()
    said, replayed = (clustered(posts, embedder, cache, chunk) for chunk in (CHUNK, OTHER_CHUNK))
    embedder.close()
    tell(f"clustered twice: {2 * len(posts.sightings) / (time.perf_counter() - began):,.0f} posts/s")
    model, store = Counted(), MemoryStore(max(1, len(posts.sightings)))
    facts: dict[str, object] = {}
    for name, each in (("calls", said), ("calls of a replay", replayed)):
        asked, calls = calls_of(each, model, store)
        facts[f"{name} per 1,000 items"] = round(1_000 * calls / len(posts.sightings), 1)
        facts[f"{name}, cache hits"] = f"{1 - calls / max(1, asked):.3f} of {asked:,}"
    if not args.models_only:
        facts |= through_pipeline(posts, tell)
    return Scores(
        "summaries",
        rows_of(posts, said),
        {"data": posts.name, "posts": len(posts.sightings), "seed": args.seed} | facts,
    )


def clustered(posts: Posts, embedder: Embedder, cache: EmbeddingCache, chunk: int) -> Said:
    """The updates of posts in their order, cut into batches."""
    said, route = Said(), routing(Router())
    embed, cluster = EmbedEngine(embedder, cache), ClusterEngine(ClusterConfig(), "bench")
    observations = [seen.routed(route(seen)) for seen in posts.sightings]
    for begin in range(0, len(observations), chunk):
        decided = cluster.apply(embed.apply(observations[begin : begin + chunk]))
        said.batches.append(decided.updates)
        said.placed.topics.update((e.item.item_id, e.topic_id) for e in decided.enriched if e.change is Change.FIRST)
        said.placed.merged.update((u.topic_id, u.merged_into) for u in decided.updates if u.merged_into)
    return said


def rows_of(posts: Posts, said: Said) -> tuple[Measures, Measures]:
    """Leading titles and heaviest terms alone, and the extractive way."""
    last, changes = summarised(said.batches)
    members: dict[str, list[Sighting]] = defaultdict(list)
    for seen in posts.sightings:
        members[said.placed.final(said.placed.topics[seen.item_id])].append(seen)
    return (
        measured("leading title, heaviest terms", [plainly(u, s) for u, s in last.values()], members, posts, {}),
        measured("extractive", [s for _, s in last.values()], members, posts, changes),
    )


def calls_of(said: Said, model: Counted, store: SummaryStore) -> tuple[int, int]:
    """How many summaries are asked of the model or its cache, and how many of the model."""
    before = model.calls
    asked = asked_of(said.batches, CachedSummariser(model, store, lambda: CLOCK))
    return asked, model.calls - before


def through_pipeline(posts: Posts, tell: Callable[[str], None]) -> dict[str, object]:
    """Requests to a model from the real pipeline, on a stack of its own, and from a second generation that reads the
    same raw streams again."""
    with (
        chat_api() as (url, requests),
        own_stack() as made,
        tempfile.TemporaryDirectory() as folder,
    ):
        connector = connector_of(
            f"file:{written(posts.sightings, Path(folder))}", {"source": posts.sightings[0].source}
        )
        calls = []
        for generation in ("g1", "g2"):
            settings = made.having(
                generation=generation, summarizer="openai", summarizer_url=url, summarizer_model="counted"
            )
            StreamAdmin(settings.kafka(), generation).apply()
            asyncio.run(migrate(settings.postgres()))
            before = requests.count
            with flow_supervisor(settings, processes(), lambda _n, _l: None) as flows, Stages(settings) as stages:
                seconds = stored_after(settings, connector if generation == "g1" else None, flows, stages, SETTLE_S)
            calls.append(requests.count - before)
            by_model = [s for s in records_of(settings, SUMMARIES, TopicSummary) if s.method == "llm"]
            tell(f"pipeline, {generation}: {len(posts.sightings) / seconds:,.0f} posts/s, {calls[-1]} requests")
        return {
            "pipeline, calls per 1,000 items": round(1_000 * calls[0] / len(posts.sightings), 1),
            "pipeline, calls of a second generation": f"{calls[1] / max(1, calls[0]):.3f} of the first's",
            "pipeline, cache hits of a second generation": (
                f"{sum(s.cached for s in by_model) / max(1, len(by_model)):.3f} of {len(by_model):,}"
            ),
        }


class _Extractive:
    """The extractive way without a store."""

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        return [extract(update) for update in updates]

    def forget(self, items: Sequence[str]) -> None: ...

    def close(self) -> None: ...


def summarised(
    batches: Sequence[Sequence[TopicUpdate]],
) -> tuple[dict[str, tuple[TopicUpdate, TopicSummary]], dict[str, int]]:
    """The last summary of every topic that was not merged away, with its update, and how often its headline changed."""
    engine = SummarizeEngine(_Extractive(), lambda: CLOCK)
    last: dict[str, tuple[TopicUpdate, TopicSummary]] = {}
    changes: Counter[str] = Counter()
    for batch in batches:
        updates = {update.topic_id: update for update in batch}
        for made in engine.apply(batch).summaries:
            if made.topic_id in last:
                changes[made.topic_id] += last[made.topic_id][1].headline != made.headline
            last[made.topic_id] = (updates[made.topic_id], made)
        for update in batch:
            if update.merged_into:
                last.pop(update.topic_id, None)
    return last, {topic_id: changes[topic_id] for topic_id in last}


def asked_of(batches: Sequence[Sequence[TopicUpdate]], summariser: CachedSummariser) -> int:
    """How many summaries are asked of the model or its cache."""
    engine = SummarizeEngine(summariser, lambda: CLOCK)
    made = [summary for batch in batches for summary in engine.apply(batch).summaries]
    asked = sum(summary.method == "llm" for summary in made)
    summariser.close()
    return asked


def plainly(update: TopicUpdate, made: TopicSummary) -> TopicSummary:
    """What could be said without any summariser."""
    title = next((title for item in update.items if (title := title_of(item))), made.headline)
    return replace(made, headline=title, summary=title, quotes=(), keywords=tuple(weights_of(update))[:8])


def measured(
    name: str,
    summaries: Sequence[TopicSummary],
    members: Mapping[str, Sequence[Sighting]],
    posts: Posts,
    changes: Mapping[str, int],
) -> Measures:
    """The means over topics."""
    stories: dict[str, list[set[str]]] = defaultdict(list)
    for seen in posts.sightings:
        if seen.item_id in posts.labels:
            stories[posts.labels[seen.item_id]].append(_terms_of(seen))
    values: dict[str, list[float]] = defaultdict(list)
    for made in summaries:
        items = members.get(made.topic_id)
        if not items:
            continue
        weights = Counter(term for seen in items for term in _terms_of(seen))
        whole = sum(n * salience(term) for term, n in weights.items())
        said = set(terms(f"{made.headline} {made.summary}"))
        values["coverage"].append(sum(weights[t] * salience(t) for t in said) / whole if whole else 0.0)
        sentences, exact = quoted(made, {seen.item_id: seen for seen in items})
        values["redundancy"].append(_redundancy(made.headline, sentences))
        values["quoted"].append(exact)
        values["words"].append(words_in(made.summary))
        story = Counter(posts.labels[seen.item_id] for seen in items if seen.item_id in posts.labels).most_common(1)
        if story:
            keywords = set(made.keywords)
            own = stories[story[0][0]]
            hit = sum(not keywords.isdisjoint(found) for found in own)
            values["hits"].append(hit / len(own))
            others = sum(map(len, stories.values())) - len(own)
            strayed = sum(not keywords.isdisjoint(f) for label, s in stories.items() if label != story[0][0] for f in s)
            values["strays"].append(strayed / max(1, others))
        values["changes"].append(changes.get(made.topic_id, 0))
    return Measures(name, {key: fmean(found) for key, found in values.items()}, f"{len(values['words']):,} topics")


def quoted(made: TopicSummary, items: Mapping[str, Sighting]) -> tuple[list[str], bool]:
    """The sentences of a summary, and whether each stands in the item that it is said to be from, word for word."""
    rest, sentences = made.summary, list[str]()
    for item_id in made.quotes:
        seen = items.get(item_id)
        said = [seen.title, strip_markup(seen.title), *sentences_of(strip_markup(seen.body))] if seen else []
        said += [clean_title(seen.title, seen.publisher, seen.url)] if seen else []
        found = max((text for text in said if text and rest.startswith(text)), key=len, default=None)
        if found is None:
            return [made.summary], False
        sentences.append(found)
        rest = rest[len(found) :].removeprefix(".").lstrip()
    return sentences or [made.summary], not rest if made.quotes else made.summary == made.headline


def _terms_of(seen: Sighting) -> set[str]:
    return set(terms(f"{seen.title} {strip_markup(seen.body)}"))


def _redundancy(headline: str, sentences: Sequence[str]) -> float:
    heard, repeated, count = set(terms(headline)), 0, 0
    for sentence in sentences:
        found = set(terms(sentence))
        repeated += len(found & heard)
        count += len(found)
        heard |= found
    return repeated / count if count else 1.0
