"""The embed flow's model: observations in, embedded items out. The text that is embedded, its hash, its vector."""

from __future__ import annotations

from collections.abc import Sequence

from models.embedding import CachedEmbedder, Embedder
from models.text import embedding_text, text_hash
from streams.records import EmbeddedItem, Kind, Observation
from streams.vectors import encode_vector


class EmbedEngine:
    """Embeds batches of observations; repeats and copies are computed once (see the cache)."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = CachedEmbedder(embedder)

    def apply(self, observations: Sequence[Observation]) -> list[EmbeddedItem]:
        """One embedded item for each observation, in their order. A deletion, or an item without text, has no vector.

        Raises:
            UnavailableError: a remote model does not answer.
        """
        texts = ["" if o.kind is Kind.DELETED else embedding_text(o) for o in observations]
        wanted = [i for i, text in enumerate(texts) if text]
        vectors: list[str | None] = [None] * len(texts)
        if wanted:
            for i, vector in zip(wanted, self._embedder.embed([texts[i] for i in wanted]), strict=True):
                vectors[i] = encode_vector(vector)
        return [
            EmbeddedItem(
                item=observation,
                text_hash=text_hash(text),
                vector=vector,
                model=self._embedder.name,
                dimensions=self._embedder.dimensions,
            )
            for observation, text, vector in zip(observations, texts, vectors, strict=True)
        ]

    def close(self) -> None:
        """Closes the embedder."""
        self._embedder.close()
