"""Requests as a good guest makes them: a pool and a rate per source, timeouts, bounded retries, Retry-After, ETag.

One `Fetcher` belongs to one source, so that a source that hangs or limits holds up nobody else.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from connectors.base import Clockwork, Limits
from connectors.times import parse_time
from streams import metrics
from streams.errors import UnavailableError

USER_AGENT: Final = "trend-intelligence/0.1 (+feed and API reader)"
REDIRECTS: Final = 5
HOSTS_KEPT: Final = 4_096
"""Hosts whose pauses are remembered."""
CHUNK_BYTES: Final = 65_536
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(UnavailableError):
    """A request that failed for good: after its attempts, or because another attempt would change nothing."""

    def __init__(
        self, message: str, status: int | None = None, retry_after_s: float | None = None, again: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; None where there was no answer."""
        self.retry_after_s = retry_after_s
        """The pause that the source asked for, within its bound."""
        self.again = again
        """Whether another attempt may end better."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: the whole body, or nothing where the source says that nothing has changed."""

    url: str
    """Where the redirects led to."""
    status: int
    body: bytes
    content_type: str
    charset: str | None
    etag: str | None
    last_modified: str | None

    @property
    def not_modified(self) -> bool:
        return self.status == 304


class Pulse:
    """Says whether a pass is alive: something happened, or it waits on purpose."""

    def __init__(self, clockwork: Clockwork) -> None:
        self._clockwork = clockwork
        self._until = clockwork.monotonic()

    def beat(self) -> None:
        """Something happened."""
        self._until = max(self._until, self._clockwork.monotonic())

    async def sleep(self, seconds: float) -> None:
        """Waits; the time until its end is no silence."""
        self._until = max(self._until, self._clockwork.monotonic() + seconds)
        await self._clockwork.sleep(seconds)

    def silent_s(self) -> float:
        """Seconds since the last beat; negative while it waits on purpose."""
        return self._clockwork.monotonic() - self._until


class RateLimit:
    """So many starts a second, evenly spaced after a first few; a host may be paused on top."""

    def __init__(self, per_s: float, burst: int, clockwork: Clockwork, pulse: Pulse) -> None:
        self._gap_s = 1.0 / per_s
        self._slack_s = self._gap_s * max(0, burst - 1)
        self._clockwork = clockwork
        self._pulse = pulse
        self._next = clockwork.monotonic()
        self._paused: OrderedDict[str, float] = OrderedDict()

    async def take(self, host: str) -> None:
        """Waits until one more request may start."""
        while (pause := self.paused_s(host)) > 0:
            await self._pulse.sleep(pause)
        now = self._clockwork.monotonic()
        self._next = max(self._next, now - self._slack_s)
        wait = self._next - now
        self._next += self._gap_s
        if wait > 0:
            await self._pulse.sleep(wait)

    def paused_s(self, host: str) -> float:
        """How long this host is still to be left alone."""
        return max(0.0, self._paused.get(host, 0.0) - self._clockwork.monotonic())

    def pause(self, host: str, seconds: float) -> None:
        """No request to this host before so many seconds have passed."""
        self._paused[host] = max(self._paused.get(host, 0.0), self._clockwork.monotonic() + seconds)
        self._paused.move_to_end(host)
        while len(self._paused) > HOSTS_KEPT:
            self._paused.popitem(last=False)


class Fetcher:
    """GET for one source. An async context manager: the pool opens with the first request and closes at the end."""

    def __init__(self, source: str, limits: Limits, clockwork: Clockwork) -> None:
        self._source = source
        self._limits = limits
        self._clockwork = clockwork
        self.pulse = Pulse(clockwork)
        self._rate = RateLimit(limits.requests_per_s, limits.connections, clockwork, self.pulse)
        self._session: aiohttp.ClientSession | None = None
        self.requests = 0
        self.retries = 0
        self.limited = 0
        """Answers that asked for a pause."""

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limits.connections, enable_cleanup_closed=True),
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def get(
        self,
        url: str,
        *,
        accept: str = "*/*",
        etag: str | None = None,
        last_modified: str | None = None,
        patience_s: float = math.inf,
    ) -> Response:
        """The answer to a GET, with retries; with ``etag`` or ``last_modified`` a conditional one (RFC 9110, 13).

        Raises:
            FetchError: no usable answer after all attempts, a status that will not change, too large a body, or the
                host asks for a longer pause than ``patience_s``.
        """
        headers = {"Accept": accept}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        host = _host(url)
        for attempt in range(1, self._limits.attempts + 1):
            if (pause := self._rate.paused_s(host)) > patience_s:
                raise FetchError(f"{host} asks to wait {pause:.0f} s", 429, pause)
            try:
                return await self._once(url, host, headers)
            except FetchError as error:
                if attempt == self._limits.attempts or not error.again:
                    raise
                self.retries += 1
                if not error.retry_after_s:
                    wait = self._clockwork.backoff_s(attempt, self._limits)
                    if error.status == 429:
                        self._rate.pause(host, wait)
                    else:
                        await self.pulse.sleep(wait)
        raise AssertionError("unreachable: attempts is at least 1")

    async def _once(self, url: str, host: str, headers: dict[str, str]) -> Response:
        await self._rate.take(host)
        self.requests += 1
        self.pulse.beat()
        result = "error"
        try:
            async with self._opened().get(url, headers=headers, max_redirects=REDIRECTS) as answer:
                if answer.status in (429, 503) and (pause := self._retry_after(answer)) is not None:
                    result = "limited"
                    self.limited += 1
                    self._rate.pause(host, pause)
                    raise FetchError(f"{url}: HTTP {answer.status}, asks to wait {pause:g} s", answer.status, pause)
                if answer.status != 304 and not 200 <= answer.status < 300:
                    raise FetchError(f"{url}: HTTP {answer.status}", answer.status, again=answer.status in _AGAIN)
                body = b"" if answer.status == 304 else await self._body(url, answer)
                result = "not_modified" if answer.status == 304 else "ok"
                return Response(
                    url=str(answer.url),
                    status=answer.status,
                    body=body,
                    content_type=answer.content_type,
                    charset=answer.charset,
                    etag=answer.headers.get("ETag"),
                    last_modified=answer.headers.get("Last-Modified"),
                )
        except TimeoutError:
            result = "timeout"
            raise FetchError(f"{url}: no answer within {self._limits.timeout_s:g} s") from None
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, aiohttp.TooManyRedirects) as error:
            raise FetchError(f"{url}: {type(error).__name__}", again=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"{url}: {type(error).__name__}: {error}") from None
        finally:
            self.pulse.beat()
            metrics.SOURCE_REQUESTS.labels(self._source, result).inc()

    async def _body(self, url: str, answer: aiohttp.ClientResponse) -> bytes:
        """Reads within the size limit, counted after decompression."""
        parts = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            parts += chunk
            if len(parts) > self._limits.body_bytes:
                raise FetchError(f"{url}: more than {self._limits.body_bytes:,} bytes", again=False)
            self.pulse.beat()
        return bytes(parts)

    def _retry_after(self, answer: aiohttp.ClientResponse) -> float | None:
        """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date), bounded; None without."""
        text = answer.headers.get("Retry-After", "").strip()
        if not text:
            return None
        try:
            seconds = float(text) if text.isdigit() else self._until(text)
        except ValueError:
            return None
        return max(0.0, min(seconds, self._limits.retry_after_max_s))

    def _until(self, text: str) -> float:
        try:
            when = parse_time(parsedate_to_datetime(text))
        except (TypeError, IndexError) as error:
            raise ValueError(text) from error
        return (when - self._clockwork.now()).total_seconds()


def _host(url: str) -> str:
    """Host and port of a URL that can be fetched."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise FetchError(f"{url}: no valid URL", again=False) from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FetchError(f"{url}: not an http or https URL", again=False)
    return parts.netloc.lower()
