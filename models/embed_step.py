"""The decisions of the embed step: which observations are what they claim, which text stands for each, its vector."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from models.embedding import CachedEmbedder, Embedder, EmbeddingCache
from models.text import embedding_text, text_hash
from streams.codec import RecordError
from streams.ids import item_id_of
from streams.records import EmbeddedItem, Kind, Observation, Reason
from streams.vectors import encode_vector


def check(item: Observation) -> None:
    """Refuses an observation whose identity contradicts itself: it would split one item into two.

    Raises:
        RecordError: ``item_id`` is not that of (source, external_id).
    """
    expected = item_id_of(item.source, item.external_id)
    if item.item_id != expected:
        raise RecordError(
            Reason.INVALID_VALUE,
            f"item_id is {item.item_id!r}, but ({item.source!r}, {item.external_id!r}) gives {expected!r}: "
            "leave identities to streams.ids.item_id_of",
        )


class EmbedEngine:
    """Observations to embedded items; holds nothing but the cache of vectors."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache | None = None) -> None:
        self._embedder = CachedEmbedder(embedder, cache)

    def apply(
        self, observations: Sequence[Observation], arrived: Sequence[datetime | None] | None = None
    ) -> list[EmbeddedItem]:
        """The embedded items, in the order of the (checked) observations; the embedder is called once.

        Args:
            arrived: when each was appended to its raw stream; None: not known.

        Raises:
            UnavailableError, SettingsError: see :meth:`models.embedding.base.Embedder.embed`.
        """
        texts = ["" if item.kind is Kind.DELETED else embedding_text(item) for item in observations]
        spoken = [text for text in texts if text]
        vectors = iter(self._embedder.embed(spoken)) if spoken else iter(())
        return [
            EmbeddedItem(
                item=item,
                text_hash=text_hash(text),
                vector=encode_vector(next(vectors)) if text else None,
                model=self._embedder.name,
                dimensions=self._embedder.dimensions,
                arrived_at=arrived_at,
            )
            for item, text, arrived_at in zip(observations, texts, arrived or [None] * len(observations), strict=True)
        ]

    def close(self) -> None:
        """Closes the embedder."""
        self._embedder.close()
