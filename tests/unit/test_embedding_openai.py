"""The remote embedder against an endpoint on a real socket that fails, limits and lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from models.embedding.null import NullEmbedder
from models.embedding.openai import Limits, OpenAIEmbedder
from streams.errors import SettingsError, UnavailableError
from tests.unit.embedding_server import Answer, EmbeddingServer, Request

NOW = datetime(2016, 9, 7, 12, tzinfo=UTC)
PLAIN = NullEmbedder(16)


@contextmanager
def remote(*script: Answer, **more: Any) -> Iterator[tuple[OpenAIEmbedder, EmbeddingServer, list[float]]]:
    """An embedder, its endpoint, and the pauses that it made (none of them really)."""
    pauses: list[float] = []
    more.setdefault("limits", Limits(timeout_s=5))
    with EmbeddingServer(*script) as server:
        embedder = OpenAIEmbedder(
            server.url, "org/tiny", dimensions=16, sleep=pauses.append, jitter=lambda: 1.0, now=lambda: NOW, **more
        )
        try:
            yield embedder, server, pauses
        finally:
            embedder.close()


def fail(status: int, **headers: str) -> Answer:
    return lambda request: request.send(status, b'{"error": {"message": "not now"}}', **headers)


def lie(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Answer:
    return lambda request: request.well(change(request.rows()))


def test_vectors_come_normalised_in_the_order_of_the_texts_and_not_of_the_answer() -> None:
    with remote(lie(lambda rows: rows[::-1])) as (embedder, _, _):
        assert np.allclose(embedder.embed(["a", "b", "c"]), PLAIN.embed(["a", "b", "c"]), atol=1e-6)


def test_batches_are_bounded_in_texts_and_characters_and_their_vectors_put_together() -> None:
    limits = Limits(batch_texts=5, batch_chars=40, text_chars=20, timeout_s=5)
    texts = [f"text {i}" for i in range(12)] + ["y" * 20, "z" * 19, "w"] + ["long" * 100]
    with remote(limits=limits) as (embedder, server, _):
        vectors = embedder.embed(texts)
    assert np.allclose(vectors, PLAIN.embed([t[:20] for t in texts]), atol=1e-6)
    assert all(len(r.texts) <= 5 and sum(map(len, r.texts)) <= 40 for r in server.requests)
    assert sorted(len(r.texts) for r in server.requests) == [3, 3, 5, 5]


def test_the_key_travels_as_a_bearer_token_and_connections_are_kept() -> None:
    with remote(api_key="secret") as (embedder, server, _):
        for _ in range(3):
            embedder.embed(["a"])
    assert {r.authorization for r in server.requests} == {"Bearer secret"}
    assert {r.path for r in server.requests} == {"/v1/embeddings"}
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        fail(500),
        fail(503),
        fail(429),
        Request.hang_up,
        lambda r: r.send(200, b"<html>gateway</html>"),
        lambda r: r.send(200, b'{"data": [{"index": 0'),
        lie(lambda rows: rows[:-1]),
        lie(lambda rows: rows + rows[:1]),
        lie(lambda rows: [{**row, "index": 0} for row in rows]),
        lie(lambda rows: [{**row, "embedding": [1e999] * 16} for row in rows]),
        lie(lambda rows: [{**row, "embedding": "AAAA"} for row in rows]),
        lambda r: (r.handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"), r.hang_up())[1],
        lambda r: (r.handler.wfile.write(b"SSH-2.0-nonsense\r\n\r\n"), r.hang_up())[1],
    ],
)
def test_what_goes_wrong_for_a_moment_is_tried_again(answer: Answer) -> None:
    with remote(answer) as (embedder, server, pauses):
        assert np.allclose(embedder.embed(["a", "b"]), PLAIN.embed(["a", "b"]), atol=1e-6)
        assert len(server.requests) == 2
    assert pauses == [0.5]


def test_pauses_double_up_to_their_bound_and_attempts_end() -> None:
    limits = Limits(attempts=5, backoff_s=1, backoff_max_s=3, timeout_s=5)
    with remote(*[fail(503)] * 5, limits=limits) as (embedder, server, pauses):
        with pytest.raises(UnavailableError, match=r"503.*5 attempts"):
            embedder.embed(["a"])
        assert len(server.requests) == 5
    assert pauses == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("7", 7.5),
        ("999999", 60.5),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9.5),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.5),
        ("soon", 0.5),
    ],
)
def test_retry_after_is_waited_for_within_its_bound(header: str, pause: float) -> None:
    with remote(fail(429, Retry_After=header)) as (embedder, _, pauses):
        embedder.embed(["a"])
    assert pauses == [pytest.approx(pause)]


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    with remote(lambda r: r.drip(0.02), limits=Limits(timeout_s=0.3, attempts=1)) as (embedder, _, _):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=r"within 0\.3 s"):
            embedder.embed(["a"])
        assert time.monotonic() - started < 2


def test_an_answer_without_end_is_cut_off() -> None:
    limits = Limits(answer_bytes=100_000, attempts=1)
    with (
        remote(lambda r: r.send(200, b" " * 300_000), limits=limits) as (embedder, _, _),
        pytest.raises(UnavailableError, match="larger than 100000 bytes"),
    ):
        embedder.embed(["a"])


def test_nobody_listening_is_unavailable() -> None:
    with EmbeddingServer() as server:
        url = server.url
    with pytest.raises(UnavailableError, match="cannot be reached"):
        OpenAIEmbedder(url, "tiny", limits=Limits(attempts=2, timeout_s=2), sleep=lambda s: None)


def test_one_text_that_is_too_long_for_the_model_keeps_no_other_back() -> None:
    def strict(request: Request) -> None:
        if any(len(text) > 100 for text in request.texts):
            request.send(400, b'{"error": {"message": "maximum context length"}}')
        else:
            request.well()

    texts = ["a", "b" * 350, "c", "d"]
    with remote(*[strict] * 20) as (embedder, _, pauses):
        vectors = embedder.embed(texts)
    assert np.allclose(vectors, PLAIN.embed(["a", "b" * 87, "c", "d"]), atol=1e-6)
    assert pauses == []


def test_an_endpoint_that_refuses_even_short_texts_is_a_setting() -> None:
    with remote(*[fail(400)] * 20) as (embedder, server, _):
        with pytest.raises(SettingsError, match="refuses even a short text"):
            embedder.embed(["some text"] * 4)
        assert len(server.requests) < 10


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_a_wrong_address_key_or_model_is_said_at_once(status: int) -> None:
    with remote(fail(status)) as (embedder, server, _):
        with pytest.raises(SettingsError, match=f"{status}.*check the address, the key and the name"):
            embedder.embed(["a"])
        assert len(server.requests) == 1


def test_other_dimensions_than_expected_are_said_at_once() -> None:
    with (
        remote(lie(lambda rows: [{**row, "embedding": [1.0] * 8} for row in rows])) as (embedder, _, _),
        pytest.raises(SettingsError, match=r"\[8\] dimensions, 16 were expected"),
    ):
        embedder.embed(["a"])


def test_dimensions_are_asked_for_where_they_are_not_given() -> None:
    with EmbeddingServer() as server:
        embedder = OpenAIEmbedder(server.url, "org/tiny")
        assert (embedder.dimensions, embedder.name) == (16, "tiny")
        embedder.close()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="must look like"):
        OpenAIEmbedder(url, "m", dimensions=3)


def test_a_connection_that_the_endpoint_closed_while_idle_costs_no_attempt() -> None:
    def last(request: Request) -> None:
        request.well()
        request.handler.close_connection = True  # without saying so

    with remote(last) as (embedder, server, pauses):
        embedder.embed(["a"])
        time.sleep(0.05)
        embedder.embed(["b"])
        assert len(server.requests) == 2
    assert pauses == []
