"""The bounded memory of vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.embedding import CachedEmbedder, EmbeddingCache, Floats
from models.embedding.null import NullEmbedder
from streams.metrics import CACHE_HITS


class Counting(NullEmbedder):
    """Remembers what it was asked to compute."""

    def __init__(self, name: str = "null") -> None:
        super().__init__(8)
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Floats:
        self.asked.extend(texts)
        return super().embed(texts)


def hits(result: str) -> float:
    return CACHE_HITS.labels("embedding", result)._value.get()


def test_a_text_is_computed_once_within_a_batch_and_across_batches() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, EmbeddingCache(10))
    before = hits("hit"), hits("miss")
    first = cached.embed(["a", "b", "a"])
    second = cached.embed(["b", "c"])
    assert inner.asked == ["a", "b", "c"]
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(first[1], second[0])
    assert (hits("hit") - before[0], hits("miss") - before[1]) == (2, 3)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=12), st.integers(1, 5))
def test_vectors_are_those_of_the_embedder_whatever_is_remembered(batches: list[list[str]], room: int) -> None:
    cache = EmbeddingCache(room)
    cached = CachedEmbedder(NullEmbedder(8), cache)
    plain = NullEmbedder(8)
    for texts in batches:
        assert np.array_equal(cached.embed(texts), plain.embed(texts).astype(np.float16).astype(np.float32))
        assert len(cache) <= room


def test_the_longest_unused_is_forgotten_first() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, EmbeddingCache(2))
    for text in ("a", "b", "a", "c", "a", "b"):
        cached.embed([text])
    assert inner.asked == ["a", "b", "c", "b"]


def test_models_do_not_share_vectors() -> None:
    cache = EmbeddingCache(10)
    one, two = Counting("one"), Counting("two")
    CachedEmbedder(one, cache).embed(["a"])
    CachedEmbedder(two, cache).embed(["a"])
    assert two.asked == ["a"]


def test_a_remembered_vector_cannot_be_changed_from_outside() -> None:
    cached = CachedEmbedder(NullEmbedder(8), EmbeddingCache(10))
    vectors = cached.embed(["a"])
    kept = vectors.copy()
    vectors[:] = 0
    assert np.array_equal(cached.embed(["a"]), kept)


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError):
        EmbeddingCache(0)
