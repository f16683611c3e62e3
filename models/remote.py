"""Requests to a model behind an HTTP API: attempts, pauses, deadlines, kept connections. What is asked is its user's.

Any OpenAI-compatible endpoint: vLLM, TEI, llama.cpp, the vendor.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Final, TypeVar
from urllib.parse import urlsplit

from streams.errors import SettingsError, TrendsError, UnavailableError

T = TypeVar("T")

_RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_REFUSED_INPUT: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Every bound of one request."""

    attempts: int = 5
    timeout_s: float = 30.0
    """For one attempt: connecting, sending, and the whole answer."""
    backoff_s: float = 0.5
    """Before the second attempt; doubled for each further one, then a random part of it."""
    backoff_max_s: float = 15.0
    retry_after_max_s: float = 60.0
    """An endpoint that asks for a longer pause gets this one."""
    answer_bytes: int = 64 * 1_048_576


class TransientError(TrendsError):
    """Worth another attempt, ``after_s`` seconds from now where the endpoint said so."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class RefusedInputError(TrendsError):
    """The endpoint takes requests, but not this one."""


class RemoteApi:
    """One path of an API, asked by any number of threads at once, each on a connection of its own that is kept.

    Args:
        url: the API's base: ``http://localhost:8000/v1``.
        path: what is asked of it: ``/embeddings``.
        model: its name at the endpoint, for messages.
        about: what the API is, for messages: ``embedding``.
        sleep, monotonic, jitter, now: time and chance, injected by tests; ``sleep`` None: until :meth:`close` at most.

    Raises:
        SettingsError: the address is none.
    """

    def __init__(
        self,
        url: str,
        path: str,
        *,
        model: str,
        about: str,
        api_key: str | None = None,
        limits: RequestLimits | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SettingsError(f"the {about} API's address must look like http://host:8000/v1, not {url!r}")
        self._limits = limits or RequestLimits()
        self._secure = address.scheme == "https"
        self._host, self._port = address.hostname, address.port
        self._path = address.path.rstrip("/") + path
        self.where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{self._path}"
        """The address without user and password, for messages."""
        self._model = model
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._closing = threading.Event()
        self._sleep, self._monotonic, self._jitter, self._now = sleep or self._closing.wait, monotonic, jitter, now
        self._connections = _Connections(self._connect)

    def ask(self, body: bytes, checked: Callable[[bytes], T]) -> T:
        """What ``checked`` makes of the answer to a request, with its further attempts.

        Args:
            checked: raises TransientError for an answer that another attempt may better.

        Raises:
            RefusedInputError: this request is not taken (400, 413, 422).
            UnavailableError: no attempt got an answer that could be used.
            SettingsError: the endpoint refuses requests as they are.
        """
        for attempt in count(1):
            try:
                return checked(self._post(body))
            except TransientError as error:
                if attempt >= self._limits.attempts or self._closing.is_set():
                    raise UnavailableError(f"{error} ({attempt} attempts)") from None
                self._sleep(self._pause_s(attempt, error.after_s))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes all connections: requests under way fail at once."""
        self._closing.set()
        self._connections.close()

    def _pause_s(self, attempt: int, after_s: float | None) -> float:
        backoff = min(self._limits.backoff_s * 2.0 ** (attempt - 1), self._limits.backoff_max_s)
        wait = backoff * (0.5 + 0.5 * self._jitter())
        return wait if after_s is None else min(after_s, self._limits.retry_after_max_s) + wait

    def _post(self, body: bytes) -> bytes:
        deadline = self._monotonic() + self._limits.timeout_s
        connection = self._connections.take()
        try:
            status, after, answer = self._exchange(connection, body, deadline)
        except TimeoutError:
            connection.close()
            raise TransientError(f"{self.where} gave no whole answer within {self._limits.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransientError(f"{self.where} cannot be reached: {error or type(error).__name__}") from None
        except BaseException:
            connection.close()
            raise
        finally:
            self._connections.give_back(connection)
        if status == 200:
            return answer
        said = f"{self.where} answered {status}: {answer[:300].decode('utf-8', 'replace')}"
        if status in _RETRIED:
            raise TransientError(said, self._after_s(after))
        if status in _REFUSED_INPUT:
            raise RefusedInputError(said)
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
    """Connections, in use or waiting for their next request: never more than there are threads that use one."""

    def __init__(self, connect: Callable[[], http.client.HTTPConnection]) -> None:
        self._connect = connect
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def take(self) -> http.client.HTTPConnection:
        with self._lock:
            connection = self._idle.pop() if self._idle else self._connect()
            self._busy.add(connection)
            return connection

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
            self._idle.append(connection)

    def close(self) -> None:
        with self._lock:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            for connection in self._busy:
                if (sock := connection.sock) is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
