"""A bounded memory of vectors, so that repeats, edits that change nothing and copies are not computed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.embedding.base import Embedder, Floats
from streams.metrics import CACHE_HITS

ENTRIES: Final = 50_000
"""Vectors kept: with 384 dimensions about 50 MB."""

_HIT = CACHE_HITS.labels("embedding", "hit")
_MISS = CACHE_HITS.labels("embedding", "miss")

Halves = NDArray[np.float16]


class EmbeddingCache:
    """Vectors by (model, hash of the text), the longest unused forgotten first. float16, as on the wire."""

    def __init__(self, entries: int = ENTRIES) -> None:
        if entries < 1:
            raise ValueError(f"a cache needs room for at least one entry, not {entries}")
        self._entries = entries
        self._vectors: OrderedDict[tuple[str, bytes], Halves] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, model: str, text_hash: bytes) -> Halves | None:
        """The vector of shape (d,), or None."""
        vector = self._vectors.get((model, text_hash))
        if vector is not None:
            self._vectors.move_to_end((model, text_hash))
        return vector

    def put(self, model: str, text_hash: bytes, vector: Floats | Halves) -> None:
        """Remembers a vector of shape (d,)."""
        self._vectors[model, text_hash] = np.array(vector, dtype=np.float16)
        self._vectors.move_to_end((model, text_hash))
        if len(self._vectors) > self._entries:
            self._vectors.popitem(last=False)


class CachedEmbedder:
    """An embedder that computes a text once: within a batch, and for as long as the cache remembers it.

    Vectors are rounded to float16 whether they were remembered or not: a hit changes nothing that is written.
    """

    def __init__(self, embedder: Embedder, cache: EmbeddingCache | None = None) -> None:
        self._embedder = embedder
        self._cache = cache if cache is not None else EmbeddingCache()
        self.name = embedder.name
        self.dimensions = embedder.dimensions

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`."""
        hashes = [sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        known: dict[bytes, Halves] = {}
        missing: dict[bytes, str] = {}
        for digest, text in zip(hashes, texts, strict=True):
            if digest in known or digest in missing:
                continue
            vector = self._cache.get(self.name, digest)
            if vector is None:
                missing[digest] = text
            else:
                known[digest] = vector
        if missing:
            for digest, row in zip(missing, self._embedder.embed(list(missing.values())), strict=True):
                known[digest] = row.astype(np.float16)
                self._cache.put(self.name, digest, known[digest])
        _MISS.inc(len(missing))
        _HIT.inc(len(texts) - len(missing))
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for i, digest in enumerate(hashes):
            vectors[i] = known[digest]
        return vectors

    def close(self) -> None:
        """Closes the embedder behind it."""
        self._embedder.close()
