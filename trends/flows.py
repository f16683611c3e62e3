"""Which flows there are, and how each gets its models and stores from the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.runtime import LOCAL_MODEL_S, REMOTE_MODEL_S, Wired
from flows.since import Since
from models.budget import DailyBudget, MaybeAway
from models.embedding import Embedder
from models.summaries import Summariser
from models.summaries.cached import SummaryStore
from streams.dead_letters import now_utc
from streams.errors import SettingsError
from streams.records import Generation
from streams.session import Session
from streams.spec import FlowSpec, Limits
from trends.settings import Settings

if TYPE_CHECKING:
    from sinks.postgres.summary_cache import TokensOf

FLOWS: tuple[str, ...] = ("embed", "cluster", "score", "summarize", "store")
"""In the order in which records pass them."""

Wire = Callable[[Session], Wired]


HISTORY_FLOWS: tuple[str, ...] = ("history", "copy")
"""Flows that run while a generation is built, and end when they have read all of it."""


def prepare(flow: str, settings: Settings, record: Generation | None = None) -> tuple[FlowSpec, Wire]:
    """A flow's specification, and what wires it; imports only what that flow needs.

    Args:
        record: what is recorded of the settings' generation, where it was built; flows of history need it.

    Raises:
        SettingsError: there is no such flow, or a setting that it needs cannot be used.
    """
    if flow in ("embed", "history"):
        from flows import embed
        from models.embed_step import EmbedEngine

        bound_s = REMOTE_MODEL_S if settings.embedder == "openai" else LOCAL_MODEL_S
        spec = embed.SPEC if flow == "embed" else embed.HISTORY_SPEC
        return spec, lambda s: embed.wire(
            s, EmbedEngine(embedder_of(settings, embedding_budget_of(settings))), bound_s, since_of(record)
        )
    if flow == "copy":
        from flows import copy

        if record is None or record.built_from is None:
            raise SettingsError(f"generation {settings.generation} is not built from another one: nothing to copy")
        return copy.spec_of(record.built_from), lambda s: copy.wire(s, settings.embedder_dimensions, since_of(record))
    if flow == "cluster":
        from flows import cluster
        from models.clustering import ClusterConfig
        from models.engine import ClusterEngine

        config = ClusterConfig.of(settings.granularity)
        return cluster.SPEC, lambda s: cluster.wire(s, ClusterEngine(config, settings.generation))
    if flow == "score":
        from flows import score
        from models.scoring import ScoringConfig, TrendScorer

        return score.SPEC, lambda s: score.wire(s, TrendScorer(ScoringConfig(), settings.generation))
    if flow == "summarize":
        from flows import summarize

        return summarize.SPEC, lambda s: summarize.wire(s, summariser_of(settings))
    if flow == "store":
        from flows import store

        return store.SPEC, lambda s: store.wire(s, settings.postgres())
    raise SettingsError(f"no flow {flow!r}; there are: {', '.join(FLOWS)}")


def since_of(record: Generation | None) -> Since | None:
    """What history a generation leaves out."""
    if record is None or record.from_time is None:
        return None
    return Since(record.from_time, record.made_at)


def embedder_of(settings: Settings, budget: DailyBudget | None = None) -> Embedder:
    """The embedding model of the settings.

    Args:
        budget: what a model behind an API may cost in a day; None: it is not counted.

    Raises:
        SettingsError: something that it needs is missing, or its vectors have other dimensions than the settings say.
        UnavailableError: a remote one does not answer.
    """
    from models.embedding import create

    key = settings.embedder_api_key
    embedder = create(
        settings.embedder,
        model=settings.embedder_model,
        threads=settings.embedder_threads,
        device=settings.embedder_device,
        dimensions=settings.embedder_dimensions,
        url=settings.embedder_url,
        api_key=key.get_secret_value() if key else None,
        budget=budget,
    )
    if embedder.dimensions != settings.embedder_dimensions:
        embedder.close()
        raise SettingsError(
            f"{embedder.name} makes vectors of {embedder.dimensions} dimensions, TRENDS_EMBEDDER_DIMENSIONS says "
            f"{settings.embedder_dimensions}: set it (--dimensions of `trends replay build`), "
            "in a generation of its own"
        )
    return embedder


def embedding_budget_of(settings: Settings) -> DailyBudget | None:
    """What a model behind an API may cost in a day; None: the model is in this process.

    Raises:
        SettingsError: there is nowhere to count it, see :func:`summary_store_of`.
    """
    if settings.embedder != "openai":
        return None
    shared = MaybeAway(summary_store_of(settings, "embedding"), now_utc, "tokens for embeddings are")
    return DailyBudget(settings.embedder_tokens_per_day, shared, now_utc, at_least_one=True)


def summariser_of(settings: Settings) -> Summariser:
    """The way to summaries of the settings.

    Raises:
        SettingsError: something that it needs is missing.
    """
    from models.summaries import ExtractiveSummariser

    if settings.summarizer == "extractive":
        return ExtractiveSummariser()
    from models.remote import RequestLimits
    from models.summaries.cached import CachedSummariser
    from models.summaries.llm import MAX_ANSWER_BYTES, ChatModel

    assert settings.summarizer_url is not None
    assert settings.summarizer_model is not None
    key = settings.summarizer_api_key
    model = ChatModel(
        settings.summarizer_url,
        settings.summarizer_model,
        api_key=key.get_secret_value() if key else None,
        limits=RequestLimits(attempts=3, timeout_s=settings.summarizer_timeout_s, answer_bytes=MAX_ANSWER_BYTES),
    )
    return CachedSummariser(
        model,
        summary_store_of(settings),
        now_utc,
        concurrency=settings.summarizer_concurrency,
        tokens_per_day=settings.summarizer_tokens_per_day,
        from_items=settings.summarizer_from_items,
    )


def summary_store_of(settings: Settings, tokens_of: TokensOf = "summary") -> SummaryStore:
    """Where summaries by a model are kept and tokens counted: Redis where it is set, else PostgreSQL.

    Raises:
        SettingsError: there is neither, or what Redis needs is not installed.
    """
    if settings.cache_url is not None:
        from sinks.redis_cache import RedisSummaryStore

        return RedisSummaryStore(settings.cache_url.get_secret_value(), settings.stack, tokens_of)
    from sinks.postgres.summary_cache import PostgresSummaryStore

    return PostgresSummaryStore(settings.postgres(), tokens_of)


def limits(settings: Settings) -> Limits:
    """The bounds of one flow process."""
    return Limits(
        chunk_records=settings.batch_records,
        commit_ms=settings.commit_ms,
        commit_records=settings.commit_records,
        commit_bytes=settings.commit_bytes,
    )
