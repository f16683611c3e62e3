"""``/health``, ``/ready`` and ``/metrics`` of one process, over real HTTP; and asking another process for them.

One thread with an event loop of its own serves all three, so the work of the process never waits for whoever asks: a
client that is slow has its connection closed, and one too many pushes out the oldest. What a process says of itself
comes from an :class:`Account`; nothing here decides what counts as hung (`streams/health.py` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from streams.errors import SettingsError
from streams.health import FlowStatus

CONNECTIONS: Final = 32
"""Clients at the same time; one more closes the oldest connection, so that slow ones keep nobody out."""
EXCHANGE_S: Final = 5.0
"""For a whole exchange: the request read, the answer taken."""
HEAD_BYTES: Final = 8_192
ANSWER_BYTES: Final = 65_536
"""Of another process's answer, at most."""
TURN_S: Final = 1.0
COLLECT_HANG_S: Final = 60.0
"""The event loop of `trends collect` turns every second; still for so long, it hangs. (Each request has bounds of its
own.)"""

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer: whether all is well (200, else 503), and what is said about it."""

    ok: bool
    body: Mapping[str, Any]


class Account(Protocol):
    """What a process says of itself. Called by the server's thread: it must answer at once."""

    def health(self) -> Verdict:
        """Whether it lives and gets on."""

    def ready(self) -> Verdict:
        """Whether it does its work, or stands by for one that does."""


@dataclass(slots=True)
class FlowAccount:
    """A flow process's: what its status says."""

    status: FlowStatus
    hang_s: float

    def health(self) -> Verdict:
        """Not hung: a process that joins, restores, waits for a store or stands by is healthy."""
        hung = self.status.hung(self.hang_s)
        return Verdict(hung is None, self._body(hung))

    def ready(self) -> Verdict:
        """Running or standing by, and not hung."""
        hung = self.status.hung(self.hang_s)
        return Verdict(self.status.ready and hung is None, self._body(hung))

    def _body(self, hung: str | None) -> dict[str, Any]:
        return self.status.report() | {"ready": self.status.ready and hung is None, "hung": hung}


@dataclass(slots=True)
class CollectAccount:
    """`trends collect`'s: whether its loop turns, and what each source has delivered."""

    process: str = "collect"
    clock: Callable[[], float] = time.monotonic
    stopping: bool = False
    delivered: dict[str, int] = field(default_factory=dict)
    _turned_at: float | None = None

    def turned(self) -> None:
        """The loop has come round; said every second."""
        self._turned_at = self.clock()

    async def turn(self) -> None:
        """Says so for ever; a task of the loop."""
        while True:
            self.turned()
            await asyncio.sleep(TURN_S)

    def health(self) -> Verdict:
        """The loop turns. Before it does (the router is read back) nothing can hang: every call has a bound."""
        still_s = self._still_s()
        hung = None if still_s <= COLLECT_HANG_S else f"its event loop has stood still for {still_s:.0f} s"
        return Verdict(hung is None, self._body(hung))

    def ready(self) -> Verdict:
        """It collects."""
        ready = self._phase() == "running" and self._still_s() <= COLLECT_HANG_S
        return Verdict(ready, self._body(None))

    def _still_s(self) -> float:
        return 0.0 if self._turned_at is None else self.clock() - self._turned_at

    def _phase(self) -> str:
        return "stopping" if self.stopping else "running" if self._turned_at is not None else "joining"

    def _body(self, hung: str | None) -> dict[str, Any]:
        return {
            "process": self.process,
            "phase": self._phase(),
            "delivered": dict(self.delivered),
            "ready": self._phase() == "running" and hung is None,
            "hung": hung,
        }


class HealthServer:
    """Serves one account, and this process's metrics, while the context lasts.

    Args:
        host, port: where; port 0: any free one, see :attr:`port`.
        account: may be replaced while it serves.

    Raises:
        SettingsError: the address cannot be served.
    """

    def __init__(self, host: str, port: int, account: Account) -> None:
        self.account = account
        self.host = host
        self._loop = asyncio.new_event_loop()
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES, backlog=CONNECTIONS)
            )
        except (OSError, OverflowError) as error:
            self._loop.close()
            raise SettingsError(
                f"health and metrics cannot be served at {host}:{port} ({error}): set TRENDS_METRICS_PORT to a free "
                "port (0: any), TRENDS_METRICS_HOST to an address of this machine"
            ) from None
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; open connections are closed."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(EXCHANGE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(EXCHANGE_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= CONNECTIONS:
            oldest = next(iter(self._clients))
            self._clients.pop(oldest).transport.abort()
            oldest.cancel()
        self._clients[task] = writer
        try:
            async with asyncio.timeout(EXCHANGE_S):
                writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:  # pushed out, or the server ends: the task has nothing more to do
            pass
        finally:
            self._clients.pop(task, None)
            writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        """The whole answer to one request, HTTP/1.1, one request a connection."""
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if " HTTP/1." not in lines[0]:
            return _response(400, "text/plain; charset=utf-8", b"not an HTTP/1 request\n")
        if method not in ("GET", "HEAD"):
            return _response(405, "text/plain; charset=utf-8", b"GET and HEAD only\n", "Allow: GET, HEAD\r\n")
        status, kind, body = self._content(path, _header(lines, "accept"))
        answer = _response(status, kind, body)
        return answer if method == "GET" else answer[: -len(body)]

    def _content(self, path: str, accept: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return 200, kind, encode(REGISTRY)
        if path in ("/health", "/ready"):
            verdict = self.account.health() if path == "/health" else self.account.ready()
            return 200 if verdict.ok else 503, "application/json", json.dumps(verdict.body).encode() + b"\n"
        return 404, "text/plain; charset=utf-8", b"/health, /ready, /metrics\n"


def _response(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode("latin-1") + body


def _header(lines: list[str], name: str) -> str:
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


async def ask(address: str, path: str, timeout_s: float) -> Verdict | None:
    """What the process at ``host:port`` answers; None where it does not, in time or in JSON."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=ANSWER_BYTES)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                body = bytearray()
                while len(body) <= ANSWER_BYTES and (part := await reader.read(ANSWER_BYTES)):
                    body += part
            finally:
                writer.transport.abort()
        said = json.loads(body)
        return Verdict(head.split(b" ", 2)[1] == b"200", said) if isinstance(said, dict) else None
    except (OSError, TimeoutError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
