"""Tokens of a day: taken before they are used, settled afterwards, shared by processes, done without a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.budget import STORE_PAUSE, BudgetSpentError, DailyBudget, Ledger, MaybeAway, MemoryLedger, Taken
from models.embedding.openai import Limits, OpenAIEmbedder
from streams.errors import SettingsError, UnavailableError
from tests.unit.embedding_server import Answer, EmbeddingServer, Request


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2016, 9, 7, 23, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Flaky(MemoryLedger):
    away = False

    def spend(self, day: str, tokens: int) -> int:
        if self.away:
            raise UnavailableError("nobody there")
        return super().spend(day, tokens)


def budget(tokens: int, ledger: Ledger | None, clock: Clock, **more: bool) -> DailyBudget:
    return DailyBudget(tokens, MaybeAway(ledger, clock, "tokens are"), clock, **more)


def test_two_processes_take_from_one_day_and_give_back_what_they_did_not_use() -> None:
    clock, ledger = Clock(), MemoryLedger()
    one, other = budget(100, ledger, clock), budget(100, ledger, clock)
    taken = one.take(80)
    assert taken == Taken("2016-09-07", 80)
    assert other.take(30) is None
    one.settle(taken, 50)
    assert other.take(30) is not None
    assert other.take(21) is None
    assert other.take(20) is not None


def test_the_next_day_begins_at_midnight_and_what_is_settled_late_counts_for_the_day_it_was_taken_on() -> None:
    clock, ledger = Clock(), MemoryLedger()
    mine = budget(100, ledger, clock)
    assert mine.renewed_at() == datetime(2016, 9, 8, tzinfo=UTC)
    taken = mine.take(100)
    assert taken is not None
    clock.now = mine.renewed_at()
    assert mine.take(100) is not None
    mine.settle(taken, 10)
    assert mine.take(1) is None, "yesterday's rest is not for today"


def test_a_piece_of_work_larger_than_the_budget_is_done_once_a_day_where_that_is_wanted() -> None:
    clock = Clock()
    assert budget(10, None, clock).take(11) is None
    mine = budget(10, None, clock, at_least_one=True)
    assert mine.take(11) is not None
    assert mine.take(11) is None
    clock.now += timedelta(days=1)
    assert mine.take(11) is not None


def test_while_the_ledger_is_away_the_budget_is_the_process_s_own() -> None:
    clock, ledger = Clock(), Flaky()
    clock.now = datetime(2016, 9, 7, 1, tzinfo=UTC)
    mine = budget(100, ledger, clock)
    assert mine.take(40) is not None
    ledger.away = True
    assert mine.take(40) is not None
    assert mine.take(40) is None
    ledger.away = False
    ledger.spend("2016-09-07", 55)  # another process
    assert mine.take(10) is not None, "left alone for a while"
    clock.now += STORE_PAUSE
    assert mine.take(10) is None


@contextmanager
def remote(
    ledger: Ledger, clock: Clock, tokens: int, *script: Answer, **limits: Any
) -> Iterator[tuple[OpenAIEmbedder, EmbeddingServer]]:
    with EmbeddingServer(*script) as server:
        embedder = OpenAIEmbedder(
            server.url, "org/tiny", dimensions=16, sleep=lambda _: None, limits=Limits(timeout_s=5, **limits),
            budget=budget(tokens, ledger, clock, at_least_one=True),
        )  # fmt: skip
        try:
            yield embedder, server
        finally:
            embedder.close()


def costing(tokens: int) -> Answer:
    return lambda request: request.well(usage={"total_tokens": tokens})


def test_what_the_endpoint_says_is_counted_and_beyond_the_budget_nothing_is_asked() -> None:
    clock, ledger = Clock(), MemoryLedger()
    with remote(ledger, clock, 100, costing(70), costing(20), batch_texts=1) as (embedder, server):
        embedder.embed(["a title", "another"])
        assert ledger.spend("2016-09-07", 0) == 90
        with pytest.raises(BudgetSpentError, match="2016-09-08 00:00 UTC") as raised:
            embedder.embed(["a title of more than ten tokens, as far as one can tell"])
        assert raised.value.until == datetime(2016, 9, 8, tzinfo=UTC)
        assert len(server.requests) == 2
        assert ledger.spend("2016-09-07", 0) == 90
        clock.now = raised.value.until
        assert embedder.embed(["a title of more than ten tokens, as far as one can tell"]).shape == (1, 16)


def test_an_endpoint_that_does_not_say_costs_the_estimate_and_one_that_fails_costs_nothing() -> None:
    clock, ledger = Clock(), MemoryLedger()
    with remote(ledger, clock, 1_000) as (embedder, server):
        embedder.embed(["x" * 30])
        assert ledger.spend("2016-09-07", 0) == 11
        server.script(lambda request: request.send(401, b"no"))
        with pytest.raises(SettingsError):
            embedder.embed(["y" * 30])
        assert ledger.spend("2016-09-07", 0) == 11


def test_half_an_answer_has_been_paid_for() -> None:
    clock, ledger = Clock(), MemoryLedger()

    def half(request: Request) -> None:
        request.well(request.rows()[:1], usage={"total_tokens": 7})

    with remote(ledger, clock, 1_000, half, costing(8)) as (embedder, _):
        embedder.embed(["one", "two"])
    assert ledger.spend("2016-09-07", 0) == 15
