"""The remote embedder: any endpoint that speaks OpenAI's ``/v1/embeddings`` (vLLM, TEI, OpenAI itself).

Requests, retries and the check of what comes back; caching and what text is embedded live elsewhere.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Final
from urllib.parse import urlsplit

import msgspec
import numpy as np

from models.embedding.base import Floats, unit
from streams.errors import SettingsError, TrendsError, UnavailableError

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_REFUSED_INPUT: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the remote embedder."""

    batch_texts: int = 64
    batch_chars: int = 64_000
    text_chars: int = 8_000
    """Of one text; the rest is cut off. Shortened further where the endpoint refuses it as too long."""
    concurrency: int = 4
    """Requests under way at the same time, each on a connection of its own that is kept."""
    attempts: int = 5
    timeout_s: float = 30.0
    """For one attempt: connecting, sending, and the whole answer."""
    backoff_s: float = 0.5
    """Before the second attempt; doubled for each further one, then a random part of it."""
    backoff_max_s: float = 15.0
    retry_after_max_s: float = 60.0
    """An endpoint that asks for a longer pause gets this one."""
    answer_bytes: int = 64 * 1_048_576
    shortenings: int = 4
    """How often a text that is refused is halved before giving up."""


class _Row(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Row]


class _TransientError(TrendsError):
    """Worth another attempt, ``after_s`` seconds from now where the endpoint said so."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class _RefusedInputError(TrendsError):
    """The endpoint takes requests, but not this one."""


class OpenAIEmbedder:
    """Vectors from an OpenAI-compatible endpoint, checked: as many as texts, by index, finite, of one length.

    Args:
        url: the API's base: ``http://localhost:8000/v1``.
        model: its name at the endpoint.
        name: as records carry it (None: the last part of ``model``).
        dimensions: what vectors must have (None: one request asks).
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
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SettingsError(f"the embedding API's address must look like http://host:8000/v1, not {url!r}")
        limits = limits or Limits()
        if timeout_s is not None:
            limits = replace(limits, timeout_s=timeout_s)
        self._limits = limits
        self._secure = address.scheme == "https"
        self._host, self._port = address.hostname, address.port
        self._path = address.path.rstrip("/") + "/embeddings"
        self._where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{self._path}"
        self._model = model
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._sleep, self._monotonic, self._jitter, self._now = sleep, monotonic, jitter, now
        self._connections = _Connections(self._connect)
        self._pool = ThreadPoolExecutor(max_workers=self._limits.concurrency, thread_name_prefix="embedding")
        self._expected = dimensions
        self.name = name or model.rpartition("/")[2]
        try:
            self.dimensions = dimensions or len(self._ask(["dimensions"])[0])
        except BaseException:
            self.close()
            raise
        self._expected = self.dimensions

    def embed(self, texts: Sequence[str]) -> Floats:
        """See :class:`models.embedding.base.Embedder`. Batches go out side by side; the first failure ends the call."""
        clean = [text[: self._limits.text_chars].encode("utf-8", "replace").decode() or " " for text in texts]
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
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
        self._connections.close()

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
        except _RefusedInputError as error:
            if len(texts) == 1:
                return self._shortened(texts[0], error)
        middle = len(texts) // 2
        return np.concatenate([self._settled(texts[:middle]), self._settled(texts[middle:])])

    def _shortened(self, text: str, error: _RefusedInputError) -> Floats:
        for _ in range(self._limits.shortenings):
            text = text[: len(text) // 2]
            if not text:
                break
            try:
                return self._ask([text])
            except _RefusedInputError as again:
                error = again
        raise SettingsError(f"the embedding API refuses even a short text: {error}")

    def _ask(self, texts: Sequence[str]) -> Floats:
        """One request, with its further attempts; vectors (n, d) in the order of the texts."""
        body = json.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"}).encode()
        for attempt in count(1):
            try:
                return self._checked(self._post(body), len(texts))
            except _TransientError as error:
                if attempt >= self._limits.attempts:
                    raise UnavailableError(f"{error} ({attempt} attempts)") from None
                self._sleep(self._pause_s(attempt, error.after_s))
        raise AssertionError("unreachable")

    def _pause_s(self, attempt: int, after_s: float | None) -> float:
        backoff = min(self._limits.backoff_s * 2.0 ** (attempt - 1), self._limits.backoff_max_s)
        wait = backoff * (0.5 + 0.5 * self._jitter())
        return wait if after_s is None else min(after_s, self._limits.retry_after_max_s) + wait

    def _checked(self, answer: bytes, wanted: int) -> Floats:
        """What an endpoint may get wrong for a moment (a proxy's page, half an answer) is tried again."""
        try:
            rows = msgspec.json.decode(answer, type=_Answer).data
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _TransientError(f"{self._where} answered with something else than embeddings: {error}") from None
        if sorted(row.index for row in rows) != list(range(wanted)):
            raise _TransientError(f"{self._where} answered {len(rows)} embeddings, indices wrong, for {wanted} texts")
        size = self._expected or len(rows[0].embedding)
        if any(len(row.embedding) != size for row in rows) or not size:
            found = sorted({len(row.embedding) for row in rows})
            raise SettingsError(f"{self._where}: {self._model} has {found} dimensions, {size} were expected")
        vectors: Floats = np.empty((wanted, size), dtype=np.float32)
        with np.errstate(over="ignore"):
            for row in rows:
                vectors[row.index] = row.embedding
        if not np.isfinite(vectors).all():
            raise _TransientError(f"{self._where} answered an embedding with a component that is not finite")
        return vectors

    def _post(self, body: bytes) -> bytes:
        deadline = self._monotonic() + self._limits.timeout_s
        connection = self._connections.take()
        try:
            status, after, answer = self._exchange(connection, body, deadline)
        except TimeoutError:
            connection.close()
            raise _TransientError(f"{self._where} gave no whole answer within {self._limits.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _TransientError(f"{self._where} cannot be reached: {error or type(error).__name__}") from None
        except BaseException:
            connection.close()
            raise
        finally:
            self._connections.give_back(connection)
        if status == 200:
            return answer
        said = f"{self._where} answered {status}: {answer[:300].decode('utf-8', 'replace')}"
        if status in _RETRIED:
            raise _TransientError(said, self._after_s(after))
        if status in _REFUSED_INPUT:
            raise _RefusedInputError(said)
        raise SettingsError(f"{said} (check the address, the key and the name of the model, {self._model!r})")

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, deadline: float
    ) -> tuple[int, str | None, bytes]:
        """One request on a connection that may be an old one; the deadline holds for every byte of the answer."""
        reused = connection.sock is not None
        try:
            self._limit(connection, deadline)
            connection.request("POST", self._path, body, self._headers)
            self._limit(connection, deadline)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            # The endpoint may close an idle connection while we begin to use it: that is no failure.
            connection.close()
            if not reused:
                raise
            connection.request("POST", self._path, body, self._headers)
            self._limit(connection, deadline)
            response = connection.getresponse()
        with response:
            parts: list[bytes] = []
            size = 0
            while True:
                self._limit(connection, deadline)
                part = response.read1(1 << 16)
                if not part:
                    break
                parts.append(part)
                size += len(part)
                if size > self._limits.answer_bytes:
                    raise OSError(f"the answer is larger than {self._limits.answer_bytes} bytes")
            if response.length:
                raise OSError(f"the answer ended {response.length} bytes early")
            if response.will_close:
                connection.close()
            return response.status, response.headers.get("Retry-After"), b"".join(parts)

    def _limit(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        left = deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)

    def _after_s(self, header: str | None) -> float | None:
        """Seconds of a Retry-After header (RFC 9110: seconds or a date); None where there is none to be made out."""
        if header is None:
            return None
        if header.strip().isdigit():
            return float(header)
        try:
            return max(0.0, (parsedate_to_datetime(header) - self._now()).total_seconds())
        except (ValueError, TypeError):
            return None

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._limits.timeout_s, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._limits.timeout_s)


class _Connections:
    """Connections that wait for their next request: never more than there are threads that use one."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection]) -> None:
        self._connect = connect
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def take(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
