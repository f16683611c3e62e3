"""What every embedder promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.embedding import CachedEmbedder, Embedder, create
from models.embedding.onnx import _TOKENIZER, _packaged
from tests.unit.embedding_server import EmbeddingServer
from tests.vllm_server import MODEL

TEXTS = [
    "Apple removes the headphone jack",
    "",
    "Rust 1.11 released",
    "Ein längerer Satz über künstliche Intelligenz, der mehr als nur ein paar Wörter hat. " * 4,
    "日本の地震",
    "x",
    "lone surrogate \ud800 inside",
    "line\nbreak and\ttab and nul \x00",
    "word " * 3_000,
    "Rust 1.11 released",
]


@pytest.fixture(
    scope="module",
    params=[
        "null",
        "onnx",
        "cached",
        "openai",
        pytest.param("sentence-transformers", marks=pytest.mark.torch),
        pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(400)]),
    ],
)
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    kind = request.param
    if kind == "openai":
        with EmbeddingServer() as server:
            made: Embedder = create("openai", url=server.url, model="org/tiny", timeout_s=5)
            yield made
            made.close()
        return
    if kind == "vllm":
        made = create("openai", url=request.getfixturevalue("vllm_url"), model=MODEL)
    elif kind == "cached":
        made = CachedEmbedder(create("onnx"))
    elif kind == "sentence-transformers":
        made = create(kind, model=str(_packaged(*_TOKENIZER).parent), name="all-MiniLM-L6-v2", device="cpu")
    else:
        made = create(kind)
    yield made
    made.close()


def test_one_unit_vector_of_float32_a_text_in_their_order(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=2e-3)
    for i in (0, 3, 4):
        assert float(embedder.embed([TEXTS[i]])[0] @ vectors[i]) > 0.999


def test_a_vector_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    backwards = embedder.embed(TEXTS[::-1])[::-1]
    alone = np.vstack([embedder.embed([text]) for text in TEXTS])
    for other in (backwards, alone):
        assert (np.sum(together * other, axis=1) > 0.999).all()


def test_equal_texts_have_equal_vectors_and_others_different_ones(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert float(vectors[2] @ vectors[-1]) > 0.9999
    assert float(vectors[0] @ vectors[2]) < 0.9


def test_no_texts_make_an_empty_array(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_it_names_its_model(embedder: Embedder) -> None:
    assert embedder.name
    assert "/" not in embedder.name
