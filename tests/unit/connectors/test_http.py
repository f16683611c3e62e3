"""How the fetcher behaves towards servers that answer, fail, stall, limit and lie. Over real sockets."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime

import pytest

from connectors.base import Limits
from connectors.http import Fetcher, FetchError, Pulse, RateLimit
from tests.unit.connectors.helpers import NOW, Hands
from tests.unit.connectors.server import Answer, Server, page, zipped

LIMITS = Limits(requests_per_s=1_000.0, timeout_s=0.3, attempts=3, body_bytes=100_000)


def fetcher(hands: Hands, limits: Limits = LIMITS) -> Fetcher:
    return Fetcher("test", limits, hands.clockwork())


async def test_a_server_that_fails_is_asked_again_after_a_while(server: Server) -> None:
    server.put("/a", Answer(status=500), Answer(status=503), page([1]))
    hands = Hands()
    async with fetcher(hands) as http:
        answer = await http.get(f"{server.base}/a")
    assert answer.body == b"[1]"
    assert (http.requests, http.retries) == (3, 2)
    assert sum(hands.slept) > 0.3


@pytest.mark.parametrize(
    ("answers", "times", "says"),
    [
        ([Answer(status=500)], 3, "HTTP 500"),
        ([Answer(status=404)], 1, "HTTP 404"),
        ([Answer(status=403)], 1, "HTTP 403"),
        ([page([1], stall_s=5.0)], 3, "no answer within 0.3 s"),
        ([page("x" * 1_000, cut=True)], 3, "Payload"),
        ([Answer(b"x" * 200_000)], 1, "more than 100,000 bytes"),
        ([Answer(endless=True)], 1, "more than 100,000 bytes"),
        ([zipped(b"x" * 10_000_000, "text/plain")], 1, "more than 100,000 bytes"),
        ([Answer(b"no gzip", headers={"Content-Encoding": "gzip"})], 3, "(?i)encod"),
        ([Answer(status=302, headers={"Location": "/a"})], 1, "TooManyRedirects"),
        ([Answer(status=302, headers={"Location": "file:///etc/hosts"})], 1, "Redirect"),
    ],
)
async def test_what_does_not_get_better_is_an_error_after_its_attempts(
    server: Server, answers: list[Answer], times: int, says: str
) -> None:
    server.put("/a", *answers)
    async with fetcher(Hands()) as http:
        with pytest.raises(FetchError, match=says) as raised:
            await http.get(f"{server.base}/a")
    assert http.requests == times
    assert server.base in str(raised.value)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://x.example/", "no url", "http://", "http://[::1/x"])
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    async with fetcher(Hands()) as http:
        with pytest.raises(FetchError):
            await http.get(url)
    assert http.requests == 0


async def test_nobody_listens() -> None:
    async with fetcher(Hands()) as http:
        with pytest.raises(FetchError, match="Cannot connect") as raised:
            await http.get("http://127.0.0.1:1/")
    assert raised.value.again


@pytest.mark.parametrize(
    ("after", "least_s", "most_s"),
    [
        ("7", 7.0, 8.0),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 29.0, 31.0),
        ("86400", 900.0, 901.0),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0.0, 1.0),
        ("soon", 0.0, 1.0),
        ("-5", 0.0, 1.0),
    ],
)
async def test_retry_after_is_honoured_within_bounds(server: Server, after: str, least_s: float, most_s: float) -> None:
    server.put("/a", Answer(status=429, headers={"Retry-After": after}), page([]))
    hands = Hands()
    async with fetcher(hands) as http:
        await http.get(f"{server.base}/a")
    assert least_s <= hands.at_s <= most_s


async def test_a_pause_is_for_the_whole_host(server: Server) -> None:
    server.put("/a", Answer(status=429, headers={"Retry-After": "60"}), page([]))
    server.put("/b", page([]))
    hands = Hands()
    async with fetcher(hands) as http:
        with pytest.raises(FetchError, match="asks to wait 60 s") as raised:
            await http.get(f"{server.base}/a", patience_s=5.0)
        assert raised.value.retry_after_s == pytest.approx(60.0, abs=1.0)
        await http.get(f"{server.base}/b")
    assert hands.at_s >= 60.0
    assert http.limited == 1


async def test_a_second_look_is_conditional(server: Server) -> None:
    server.put("/a", Answer(b"x", headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 12:00:00 GMT"}))
    async with fetcher(Hands()) as http:
        first = await http.get(f"{server.base}/a")
        second = await http.get(f"{server.base}/a", etag=first.etag, last_modified=first.last_modified)
    assert (first.not_modified, second.not_modified, second.body) == (False, True, b"")
    assert server.headers[1]["If-Modified-Since"] == "Sun, 01 Mar 2026 12:00:00 GMT"


async def test_redirects_are_followed_and_gzip_is_read(server: Server) -> None:
    server.put("/a", Answer(status=301, headers={"Location": "/b"}))
    server.put("/b", zipped(b"text", "text/plain"))
    async with fetcher(Hands()) as http:
        answer = await http.get(f"{server.base}/a")
    assert (answer.body, answer.url, answer.content_type) == (b"text", f"{server.base}/b", "text/plain")


async def test_connections_are_bounded(server: Server) -> None:
    server.put("/a", page([], stall_s=0.02))
    async with fetcher(Hands(), Limits(connections=3, requests_per_s=10_000.0)) as http:
        await asyncio.gather(*(http.get(f"{server.base}/a") for _ in range(15)))
    assert server.most_at_once == 3


async def test_requests_are_spaced() -> None:
    hands = Hands()
    clockwork = hands.clockwork()
    limit = RateLimit(10.0, 5, clockwork, Pulse(clockwork))
    for _ in range(25):
        await limit.take("host")
    assert hands.at_s == pytest.approx(2.0 - 0.0, abs=0.41)
    await hands.sleep(100.0)
    before = hands.at_s
    for _ in range(5):
        await limit.take("host")
    assert hands.at_s == before  # a few at once after a rest, and no more than a few
    await limit.take("host")
    assert hands.at_s > before
