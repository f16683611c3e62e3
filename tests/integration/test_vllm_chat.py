"""Summaries by vLLM itself: its server takes what is asked of it, and random weights mislead nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from models.remote import RequestLimits
from models.summaries import Fallback
from models.summaries.cached import CachedSummariser, MemoryStore
from models.summaries.llm import REPLY_TOKENS, ChatModel
from streams.records import TopicUpdate
from tests.unit.topics import leading, topic
from tests.vllm_server import CHATTY, CONTEXT_TOKENS

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

NOW = datetime(2016, 9, 8, 12, tzinfo=UTC)
BABBLE = {Fallback.NOT_JSON, Fallback.EMPTY, Fallback.TOO_LONG, Fallback.UNGROUNDED}


def story(number: int, body: str = "") -> TopicUpdate:
    titles = ("Harbour of Lindau opens for boats", "Boats return to the harbour of Lindau", "Lindau opens its harbour")
    return topic(*(leading(t, i, body=body or f"Body {number}.") for i, t in enumerate(titles)), size=6)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def summariser(vllm_chat_url: str, store: MemoryStore) -> Iterator[CachedSummariser]:
    model = ChatModel(vllm_chat_url, CHATTY, limits=RequestLimits(attempts=1, timeout_s=120))
    made = CachedSummariser(model, store, lambda: NOW, tokens_per_day=10**9)
    yield made
    made.close()


def test_the_server_takes_the_request_and_its_babble_is_not_used_but_paid(
    summariser: CachedSummariser, store: MemoryStore
) -> None:
    made = summariser.summarise([story(i) for i in range(6)])
    assert {summary.fallback for summary in made} <= BABBLE
    assert {summary.headline for summary in made} == {"Harbour of Lindau opens for boats"}
    spent = store.spend("2016-09-08", 0)
    assert 6 * 1_000 < spent < 6 * (CONTEXT_TOKENS + REPLY_TOKENS), "a token is a byte here: the prompt alone is 1,800"


def test_a_topic_that_is_too_long_for_the_model_is_refused_and_no_other_with_it(summariser: CachedSummariser) -> None:
    long, short = summariser.summarise([story(1, "字" * 600), story(2)])
    assert long.fallback is Fallback.REFUSED
    assert short.fallback in BABBLE


def test_a_model_that_is_not_there_is_refused(vllm_chat_url: str) -> None:
    summariser = CachedSummariser(ChatModel(vllm_chat_url, "none"), None, lambda: NOW)
    assert summariser.summarise([story(1)])[0].fallback is Fallback.REFUSED
    summariser.close()
