"""The remote embedder against vLLM itself: the same model there gives the same vectors as the packaged one here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from models.embedding import create
from models.embedding.openai import Limits, OpenAIEmbedder
from tests.vllm_server import MODEL

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

SUBJECTS = ("Harbour", "Volcano", "Compiler", "Election", "Telescope", "Orchestra", "Vaccine", "Railway")
EVENTS = ("opens after long delay", "surprises its critics", "is closed for good", "sets a record", "needs money")
TITLES = [f"{subject} {event}" for subject in SUBJECTS for event in EVENTS]


@pytest.fixture
def remote(vllm_url: str) -> Iterator[OpenAIEmbedder]:
    # 40 titles are 6 requests, up to 4 of them under way at the same time.
    embedder = OpenAIEmbedder(vllm_url, MODEL, limits=replace(Limits(), batch_texts=7))
    yield embedder
    embedder.close()


def test_vectors_are_those_of_the_packaged_model_in_the_same_order(remote: OpenAIEmbedder) -> None:
    texts = [title + " and its neighbours watch" * (i % 9) for i, title in enumerate(TITLES)]
    packaged = create("onnx")
    here, there = packaged.embed(texts), remote.embed(texts)
    packaged.close()
    cosines = there @ here.T
    assert np.diagonal(cosines).min() > 0.998  # the packaged weights are int8: the least here is .9991
    assert cosines.argmax(axis=1).tolist() == list(range(len(texts)))


def test_the_endpoint_is_asked_for_name_and_dimensions(remote: OpenAIEmbedder) -> None:
    assert remote.dimensions == 384
    assert remote.name == "all-MiniLM-L6-v2"


def test_a_text_too_long_for_the_model_is_shortened_and_keeps_no_other_back(remote: OpenAIEmbedder) -> None:
    head = "harbour " * 225  # a quarter, which is the first that the model's 256 tokens hold
    vectors = remote.embed([TITLES[0], head + "volcano " * 675, TITLES[1]])
    expected = np.vstack([remote.embed([text]) for text in (TITLES[0], head, TITLES[1])])
    assert np.sum(vectors * expected, axis=1).min() > 0.9999
