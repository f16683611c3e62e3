"""What every store of summaries promises, as checks that a test runs on one that is empty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from models.summaries.cached import SummaryStore

NOW: Final = datetime.now(UTC)
LATER: Final = NOW + timedelta(days=30)
KEYS: Final = [sha256(bytes([i])).digest() for i in range(8)]


def keeps_and_replaces(store: SummaryStore) -> None:
    store.put({KEYS[0]: (b"one", ("a", "b")), KEYS[1]: (b"\x00\xff", ())}, LATER)
    assert store.get(KEYS, NOW) == {KEYS[0]: b"one", KEYS[1]: b"\x00\xff"}
    store.put({KEYS[0]: (b"other", ("c",))}, LATER)
    assert store.get(KEYS[:1], NOW) == {KEYS[0]: b"other"}
    assert store.get([], NOW) == {}


def lets_expire(store: SummaryStore) -> None:
    store.put({KEYS[0]: (b"old", ("a",))}, NOW - timedelta(seconds=5))
    store.put({KEYS[1]: (b"new", ("a",))}, LATER)
    assert store.get(KEYS, NOW) == {KEYS[1]: b"new"}


def forgets_by_item(store: SummaryStore) -> None:
    store.put({KEYS[i]: (b"s", items) for i, items in enumerate([("a", "b"), ("b", "c"), ("d",), ()])}, LATER)
    store.forget(["b", "unknown"])
    assert store.get(KEYS, NOW).keys() == {KEYS[2], KEYS[3]}
    store.forget([])
    store.forget([f"item {i}" for i in range(1_200)] + ["d"])
    assert store.get(KEYS, NOW).keys() == {KEYS[3]}


def counts_tokens_by_day(store: SummaryStore) -> None:
    assert store.spend("2016-09-07", 700) == 700
    assert store.spend("2016-09-07", 500) == 1_200
    assert store.spend("2016-09-07", -300) == 900
    assert store.spend("2016-09-08", 5) == 5


def closes_twice(store: SummaryStore) -> None:
    store.put({KEYS[0]: (b"one", ())}, LATER)
    store.close()
    store.close()


CONTRACT: Final[tuple[Callable[[SummaryStore], None], ...]] = (
    keeps_and_replaces, lets_expire, forgets_by_item, counts_tokens_by_day, closes_twice,
)  # fmt: skip
