"""A local endpoint that speaks ``/v1/chat/completions`` on a real socket, and misbehaves when told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.unit.embedding_server import EmbeddingServer, Request


class ChatRequest(Request):
    """One request for a summary, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        super().__init__(handler, body | {"input": []})
        self.system, self.user = (message["content"] for message in body["messages"])
        self.items: list[dict[str, str]] = json.loads(self.user)["items"]

    def well(self, rows: Any = None) -> None:
        """Says of the story what its first title says."""
        del rows
        self.reply(json.dumps(self.proper()))

    def proper(self) -> dict[str, Any]:
        """A reply that is what was asked for."""
        title = self.items[0]["title"]
        return {"headline": title, "summary": f"It is said that {title}.", "keywords": ["harbour"], "confidence": 0.9}

    def reply(self, content: str | None, tokens: int | None = 120) -> None:
        """A chat completion with this content."""
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
        self.send(200, json.dumps({"object": "chat.completion", "choices": [choice], **usage}).encode())


class ChatServer(EmbeddingServer):
    """Answers requests with the scripted answers in turn, then (and without a script) properly."""

    REQUEST = ChatRequest
    requests: list[ChatRequest]  # type: ignore[assignment]

    def __enter__(self) -> ChatServer:
        return self


ChatAnswer = Callable[[ChatRequest], None]


def saying(**changes: Any) -> ChatAnswer:
    """Answers with a proper reply, some fields of which are replaced."""
    return lambda request: request.reply(json.dumps(request.proper() | changes))
