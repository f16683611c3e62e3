"""What every embedder promises."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.embedding import CachedEmbedder, Embedder, Floats, create
from models.embedding.base import batches
from models.embedding.onnx import _TOKENIZER, _packaged
from streams.errors import SettingsError
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


@pytest.fixture(scope="module")
def reference(embedder: Embedder) -> Floats:
    """Each text by itself."""
    return np.vstack([embedder.embed([text]) for text in TEXTS])


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


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(composition=st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=24))
def test_a_vector_is_the_same_in_whatever_batch_it_comes(
    embedder: Embedder, reference: Floats, composition: list[int]
) -> None:
    vectors = embedder.embed([TEXTS[i] for i in composition])
    assert (np.sum(vectors * reference[composition], axis=1) >= 0.999).all()


@pytest.mark.torch
def test_vectors_are_those_of_the_library_itself_in_float32() -> None:
    from sentence_transformers import SentenceTransformer

    folder = str(_packaged(*_TOKENIZER).parent)
    texts = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    own = SentenceTransformer(folder, device="cpu").encode(texts, normalize_embeddings=True)
    # The weights of onnx are int8 on disk: what is no text in words ("", "x") comes out a little further away.
    for made, least in ((create("sentence-transformers", model=folder, device="cpu"), 0.999), (create("onnx"), 0.995)):
        cosines = np.sum(made.embed(TEXTS) * own, axis=1)
        made.close()
        assert cosines.min() >= least
        assert cosines[[0, 2]].min() >= 0.999


@pytest.mark.torch
def test_a_gpu_that_is_not_there_is_said() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SettingsError, match="there is no cuda:7"):
        create("sentence-transformers", model=str(_packaged(*_TOKENIZER).parent), device="cuda:7")


@given(lengths=st.lists(st.integers(1, 256), max_size=60), tokens=st.integers(256, 2_000))
def test_batches_hold_each_row_once_sorted_and_within_their_budget(lengths: list[int], tokens: int) -> None:
    made = list(batches(lengths, tokens))
    rows = [row for batch in made for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch) * max(lengths[row] for row in batch) <= tokens for batch in made)
    for one, following in itertools.pairwise(made):
        assert (len(one) + 1) * lengths[following[0]] > tokens, "no batch is smaller than it need be"


def test_equal_texts_have_equal_vectors_and_others_different_ones(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert float(vectors[2] @ vectors[-1]) > 0.9999
    assert float(vectors[0] @ vectors[2]) < 0.9


def test_no_texts_make_an_empty_array(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_it_names_its_model(embedder: Embedder) -> None:
    assert embedder.name
    assert "/" not in embedder.name
