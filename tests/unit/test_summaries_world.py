"""Summaries of a small synthetic world, by the models as they are deployed: floors, so that a change that spoils them
is seen. `python -m benchmarks run summaries` prints the same for any file."""

from __future__ import annotations

import pytest

from benchmarks.harness import Measures
from benchmarks.labelled import Posts, synthetic_posts
from benchmarks.summaries import CHUNK, Counted, Said, calls_of, clustered, rows_of
from models.embedding import EmbeddingCache, create
from models.summaries.cached import MemoryStore


@pytest.fixture(scope="module")
def posts() -> Posts:
    return synthetic_posts(500, seed=3)


@pytest.fixture(scope="module")
def said(posts: Posts) -> Said:
    return clustered(posts, create("onnx", threads=1), EmbeddingCache(), CHUNK)


def test_summaries_quote_exactly_and_say_more_than_a_title(posts: Posts, said: Said) -> None:
    plain, extractive = rows_of(posts, said)
    assert extractive.values["quoted"] == 1.0
    assert extractive.values["words"] <= 50
    assert extractive.values["coverage"] >= plain.values["coverage"] + FLOORS["more coverage"], shown(extractive)
    assert extractive.values["redundancy"] <= FLOORS["redundancy"], shown(extractive)
    assert extractive.values["hits"] >= FLOORS["hits"], shown(extractive)
    assert extractive.values["strays"] <= FLOORS["strays"], shown(extractive)


def test_a_replay_asks_no_model_again(said: Said) -> None:
    model, store = Counted(), MemoryStore()
    asked, calls = calls_of(said, model, store)
    assert 0 < calls <= asked < 30, "of 500 items"
    assert calls_of(said, model, store) == (asked, 0)


FLOORS = {"more coverage": 0.2, "redundancy": 0.55, "hits": 0.9, "strays": 0.08}


def shown(row: Measures) -> str:
    """All its values, for a person."""
    return ", ".join(f"{name} {value:.3f}" for name, value in row.values.items())
