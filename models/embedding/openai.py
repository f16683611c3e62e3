"""The remote embedder: any endpoint that speaks OpenAI's ``/v1/embeddings`` (vLLM, TEI, OpenAI itself).

What is asked and the check of what comes back; requests and retries are ``models.remote``'s, caching and what text is
embedded live elsewhere.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from models.budget import BudgetSpentError, DailyBudget
from models.embedding.base import Floats, unit
from models.remote import RefusedInputError, RemoteApi, RequestLimits, TransientError
from streams.errors import SettingsError
from streams.metrics import EMBEDDING_TOKENS

CHARS_A_TOKEN: Final = 3
"""What texts will cost is estimated by it, on the high side for English, before the endpoint says."""


@dataclass(frozen=True, slots=True)
class Limits(RequestLimits):
    """Every bound of the remote embedder."""

    batch_texts: int = 64
    batch_chars: int = 64_000
    text_chars: int = 8_000
    """Of one text; the rest is cut off. Shortened further where the endpoint refuses it as too long."""
    concurrency: int = 4
    """Requests under way at the same time, each on a connection of its own that is kept."""
    shortenings: int = 4
    """How often a text that is refused is halved before giving up."""


class _Row(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    total_tokens: int | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Row]
    usage: _Usage | None = None


class OpenAIEmbedder:
    """Vectors from an OpenAI-compatible endpoint, checked: as many as texts, by index, finite, of one length. One call
    at a time.

    Args:
        url: the API's base: ``http://localhost:8000/v1``.
        model: its name at the endpoint.
        name: as records carry it (None: the last part of ``model``).
        dimensions: what vectors must have (None: one request asks, which no budget counts).
        budget: the tokens that may be used in a day; texts of one call are taken from it together, before the first
            request. None: as many as are asked for.
        sleep, monotonic, jitter, now: time and chance, injected by tests.

    Raises:
        SettingsError: the address is none, or the endpoint refuses the request that asks for the dimensions.
        UnavailableError: the endpoint does not answer that request.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        name: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        timeout_s: float | None = None,
        budget: DailyBudget | None = None,
        limits: Limits | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        limits = limits or Limits()
        if timeout_s is not None:
            limits = replace(limits, timeout_s=timeout_s)
        self._limits = limits
        self._model = model
        self._api = RemoteApi(
            url, "/embeddings", model=model, about="embedding", api_key=api_key, limits=limits, sleep=sleep,
            monotonic=monotonic, jitter=jitter, now=now,
        )  # fmt: skip
        self._pool = ThreadPoolExecutor(max_workers=self._limits.concurrency, thread_name_prefix="embedding")
        self._expected = dimensions
        self._budget = budget
        self._used = 0
        self._lock = threading.Lock()
        self.name = name or model.rpartition("/")[2]
        try:
            self.dimensions = dimensions or len(self._ask(["dimensions"])[0])
        except BaseException:
            self.close()
            raise
        self._expected = self.dimensions

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`. Batches go out side by side; the first failure ends the call.

        Raises:
            BudgetSpentError: the day's tokens do not suffice for these texts; nothing was asked.
        """
        clean = [text[: self._limits.text_chars].encode("utf-8", "replace").decode() or " " for text in texts]
        if self._budget is None:
            return self._embedded(clean)
        taken = self._budget.take(sum(map(_estimate, clean)))
        if taken is None:
            raise BudgetSpentError(
                f"the tokens for embeddings of the day ({self._budget.tokens_per_day:,}, all processes together) are "
                f"spent; there are new ones at {(until := self._budget.renewed_at()):%Y-%m-%d %H:%M} UTC",
                until,
            )
        before = self._used
        try:
            return self._embedded(clean)
        finally:
            self._budget.settle(taken, self._used - before)

    def _embedded(self, clean: Sequence[str]) -> Floats:
        vectors = np.empty((len(clean), self.dimensions), dtype=np.float32)
        batches = list(self._batches(clean))
        if len(batches) == 1:
            vectors[:] = self._settled(clean)
            return unit(vectors)
        futures = [(rows, self._pool.submit(self._settled, [clean[i] for i in rows])) for rows in batches]
        try:
            for rows, future in futures:
                vectors[rows.start : rows.stop] = future.result()
        finally:
            for _, future in futures:
                future.cancel()
        return unit(vectors)

    def close(self) -> None:
        """Closes the connections; requests under way end first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._api.close()
        if self._budget is not None:
            self._budget.close()

    def _batches(self, texts: Sequence[str]) -> Iterator[range]:
        start = chars = 0
        for i, text in enumerate(texts):
            full = i - start >= self._limits.batch_texts or chars + len(text) > self._limits.batch_chars
            if i > start and full:
                yield range(start, i)
                start, chars = i, 0
            chars += len(text)
        if start < len(texts):
            yield range(start, len(texts))

    def _settled(self, texts: Sequence[str]) -> Floats:
        """The vectors of one batch. Where the endpoint refuses it, halves are tried, so that one text that is too
        long for the model keeps no other back; it is shortened itself."""
        try:
            return self._ask(texts)
        except RefusedInputError as error:
            if len(texts) == 1:
                return self._shortened(texts[0], error)
        middle = len(texts) // 2
        return np.concatenate([self._settled(texts[:middle]), self._settled(texts[middle:])])

    def _shortened(self, text: str, error: RefusedInputError) -> Floats:
        for _ in range(self._limits.shortenings):
            text = text[: len(text) // 2]
            if not text:
                break
            try:
                return self._ask([text])
            except RefusedInputError as again:
                error = again
        raise SettingsError(f"the embedding API refuses even a short text: {error}")

    def _ask(self, texts: Sequence[str]) -> Floats:
        """One request, with its further attempts; vectors (n, d) in the order of the texts."""
        body = json.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"}).encode()
        return self._api.ask(body, lambda answer: self._checked(answer, texts))

    def _count(self, answer: _Answer, texts: Sequence[str]) -> None:
        said = answer.usage.total_tokens if answer.usage else None
        used = sum(map(_estimate, texts)) if said is None else max(0, said)
        EMBEDDING_TOKENS.inc(used)
        with self._lock:
            self._used += used

    def _checked(self, answer: bytes, texts: Sequence[str]) -> Floats:
        """What an endpoint may get wrong for a moment (a proxy's page, half an answer) is tried again."""
        wanted = len(texts)
        try:
            decoded = msgspec.json.decode(answer, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TransientError(f"{self._api.where} answered with something else than embeddings: {error}") from None
        self._count(decoded, texts)
        rows = decoded.data
        if sorted(row.index for row in rows) != list(range(wanted)):
            raise TransientError(
                f"{self._api.where} answered {len(rows)} embeddings, indices wrong, for {wanted} texts"
            )
        size = self._expected or len(rows[0].embedding)
        if any(len(row.embedding) != size for row in rows) or not size:
            found = sorted({len(row.embedding) for row in rows})
            raise SettingsError(f"{self._api.where}: {self._model} has {found} dimensions, {size} were expected")
        vectors: Floats = np.empty((wanted, size), dtype=np.float32)
        with np.errstate(over="ignore"):
            for row in rows:
                vectors[row.index] = row.embedding
        if not np.isfinite(vectors).all():
            raise TransientError(f"{self._api.where} answered an embedding with a component that is not finite")
        return vectors


def _estimate(text: str) -> int:
    """Tokens of a text, or little more."""
    return len(text) // CHARS_A_TOKEN + 1
