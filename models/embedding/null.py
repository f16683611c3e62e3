"""The embedder without a model: vectors from a hash of the text, for benchmarks and tests of what lies around it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import shake_128

import numpy as np

from models.embedding.base import Floats, unit


class NullEmbedder:
    """Deterministic unit vectors: equal texts have equal ones, different texts nearly orthogonal ones."""

    def __init__(self, dimensions: int = 384) -> None:
        self.name = "null"
        self.dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`; the bytes of SHAKE-128 are the components."""
        size = 2 * self.dimensions
        raw = b"".join(shake_128(text.encode("utf-8", "surrogatepass")).digest(size) for text in texts)
        return unit(np.frombuffer(raw, dtype="<i2").astype(np.float32).reshape(len(texts), self.dimensions))

    def close(self) -> None:
        """Nothing is held."""
