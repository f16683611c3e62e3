"""The stores of summaries that need no server of ours: memory, and Redis' protocol on a real socket.

PostgreSQL keeps the same contract in ``tests/integration/test_summary_cache.py``; with a Redis in TRENDS_TEST_REDIS it
is asked instead of the stand-in.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from models.summaries.cached import MemoryStore, SummaryStore
from sinks.redis_cache import RedisSummaryStore
from streams.errors import SettingsError, UnavailableError
from tests.unit.contract.summary_stores import CONTRACT, KEYS, LATER, NOW
from tests.unit.resp_server import RespServer


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[SummaryStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if url := os.environ.get("TRENDS_TEST_REDIS"):
        made = RedisSummaryStore(url, f"test-{uuid.uuid4().hex}")
        yield made
        made.close()
        return
    with RespServer() as server:
        made = RedisSummaryStore(server.url, "test")
        yield made
        made.close()


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_a_store_keeps_the_contract(store: SummaryStore, check: Callable[[SummaryStore], None]) -> None:
    check(store)


@pytest.mark.parametrize("reply", [b"-LOADING the data\r\n", b"+what\r\n", b"$3\r\nab", b"<html>\r\n", None])
def test_a_server_that_is_away_or_talks_rubbish_is_unavailable(reply: bytes | None) -> None:
    with RespServer() as server:
        store = RedisSummaryStore(server.url)
        store.put({KEYS[0]: (b"one", ())}, LATER)
        server.rubbish = reply
        for ask in (lambda: store.get([KEYS[1]], NOW), lambda: store.spend("2016-09-07", 1)):
            if reply == b"+what\r\n":
                continue  # a status is an answer: it is no summary, and no number
            with pytest.raises(UnavailableError, match=r"redis://127\.0\.0\.1"):
                ask()
        server.rubbish = b""
        assert store.get(KEYS[:1], NOW) == {KEYS[0]: b"one"}, "it is back, and so is what it held"
        store.close()


def test_stacks_share_a_server_and_see_only_their_own() -> None:
    with RespServer() as server:
        one, other = RedisSummaryStore(server.url, "one"), RedisSummaryStore(server.url, "other")
        one.put({KEYS[0]: (b"one", ("a",))}, LATER)
        other.forget(["a"])
        assert other.get(KEYS, NOW) == {}
        assert one.get(KEYS, NOW) == {KEYS[0]: b"one"}
        one.close()
        other.close()


def test_tokens_of_summaries_and_of_embeddings_are_counted_apart() -> None:
    with RespServer() as server:
        summaries, embeddings = RedisSummaryStore(server.url, "one"), RedisSummaryStore(server.url, "one", "embedding")
        assert summaries.spend("2016-09-07", 5) == 5
        assert embeddings.spend("2016-09-07", 70) == 70
        assert summaries.spend("2016-09-07", 0) == 5
        summaries.close()
        embeddings.close()


def test_nobody_listens_and_no_address() -> None:
    store = RedisSummaryStore("redis://user:secret@127.0.0.1:9/0")
    with pytest.raises(UnavailableError) as raised:
        store.get(KEYS, NOW)
    assert "secret" not in str(raised.value)
    store.close()
    with pytest.raises(SettingsError, match="TRENDS_CACHE_URL"):
        RedisSummaryStore("http://127.0.0.1")
