"""From observations to embedded items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

import numpy as np
import pytest
from msgspec.structs import replace

from models.embed_step import EmbedEngine, check
from models.embedding import Floats
from models.embedding.null import NullEmbedder
from streams.codec import RecordError, decode, encode
from streams.ids import item_id_of
from streams.records import EmbeddedItem, Kind, Observation, Reason
from streams.vectors import decode_vector

AT = datetime(2016, 9, 7, tzinfo=UTC)


def seen(external_id: str, title: str, **more: object) -> Observation:
    return Observation(
        item_id=item_id_of("file", external_id),
        source="file",
        external_id=external_id,
        kind=Kind.POST,
        title=title,
        observed_at=AT,
        published_at=AT,
        trend_id="term:x",
        **more,  # type: ignore[arg-type]
    )


class Watched(NullEmbedder):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__(16)
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Floats:
        self.calls.append(list(texts))
        return super().embed(texts)


def test_every_observation_becomes_one_item_with_the_vector_of_its_cleaned_text_in_order() -> None:
    items = [seen("1", "Show HN: A harbour for small boats"), seen("2", "Volcano wakes after forty years of sleep")]
    made = EmbedEngine(NullEmbedder(16)).apply(items)
    assert [m.item for m in made] == items
    for embedded, text in zip(made, ["A harbour for small boats", items[1].title], strict=True):
        assert embedded.vector is not None
        assert np.allclose(decode_vector(embedded.vector, 16), NullEmbedder(16).embed([text])[0], atol=1e-3)
        assert embedded.text_hash == sha256(text.encode()).hexdigest()
        assert (embedded.model, embedded.dimensions) == ("null", 16)
        assert decode(EmbeddedItem, encode(embedded)) == embedded


def test_deletions_and_items_without_text_have_no_vector_and_are_not_embedded() -> None:
    embedder = Watched()
    items = [replace(seen("1", "gone"), kind=Kind.DELETED)]
    items += [seen("2", " \u200b "), seen("3", "A harbour for small boats")]
    made = EmbedEngine(embedder).apply(items)
    assert [m.vector is None for m in made] == [True, True, False]
    assert embedder.calls == [["A harbour for small boats"]]


def test_a_batch_of_deletions_asks_for_nothing() -> None:
    embedder = Watched()
    assert len(EmbedEngine(embedder).apply([replace(seen("1", "x"), kind=Kind.DELETED)])) == 1
    assert embedder.calls == []


def test_repeats_and_new_engagement_are_computed_once() -> None:
    embedder = Watched()
    engine = EmbedEngine(embedder)
    one = seen("1", "A harbour for small boats")
    first = engine.apply([one, seen("2", "A harbour for small boats")])
    again = engine.apply([replace(one, observed_at=AT.replace(hour=5))])
    assert embedder.calls == [["A harbour for small boats"]]
    assert first[0].vector == first[1].vector == again[0].vector


def test_an_identity_that_contradicts_itself_is_refused() -> None:
    check(seen("1", "x"))
    with pytest.raises(RecordError, match="item_id_of") as caught:
        check(replace(seen("1", "x"), external_id="2"))
    assert caught.value.reason is Reason.INVALID_VALUE
