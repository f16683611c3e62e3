"""A web server on a free port of this machine that answers, fails, stalls, limits and lies as a test tells it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict


@dataclass(frozen=True)
class Answer:
    """One answer."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stall_s: float = 0.0
    """Silence before the answer."""
    cut: bool = False
    """The connection ends in the middle of the body."""
    endless: bool = False
    """The body never ends."""


def page(value: object, **more: object) -> Answer:
    """JSON."""
    return Answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"}, **more)  # type: ignore[arg-type]


def zipped(body: bytes, content_type: str) -> Answer:
    return Answer(gzip.compress(body), headers={"Content-Type": content_type, "Content-Encoding": "gzip"})


class Server:
    """Answers by path: the first of a list until only one is left, which stays. What is not there is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[Answer]] = {}
        self.asked: list[str] = []
        self.headers: list[CIMultiDict[str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.base = ""

    def put(self, path: str, *answers: Answer) -> None:
        self.answers[path] = deque(answers)

    def count(self, path: str) -> int:
        return Counter(self.asked)[path]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers.append(request.headers.copy())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        answers = self.answers.get(request.path)
        if not answers:
            return web.Response(status=404, text="nothing here")
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if answer.stall_s:
            await asyncio.sleep(answer.stall_s)
        if answer.status == 200 and answer.headers.get("ETag") and (
            request.headers.get("If-None-Match") == answer.headers["ETag"]
        ):  # fmt: skip
            return web.Response(status=304, headers={"ETag": answer.headers["ETag"]})
        if not answer.cut and not answer.endless:
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if answer.cut:
            response.content_length = len(answer.body)
        await response.prepare(request)
        if answer.cut:
            await response.write(answer.body[: len(answer.body) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        while True:
            await response.write(b"x" * 65_536)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server for as long as the context lasts."""
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server._handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.base = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
