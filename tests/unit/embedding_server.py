"""A local endpoint that speaks ``/v1/embeddings`` on a real socket, and misbehaves when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.embedding.null import NullEmbedder

Answer = Callable[["Request"], None]


class Request:
    """One request as the script of a test sees it, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        self.handler = handler
        self.body = body
        self.texts: list[str] = body["input"]
        self.authorization = handler.headers.get("Authorization")
        self.path = handler.path

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def rows(self) -> list[dict[str, Any]]:
        vectors = NullEmbedder(16).embed(self.texts) * 3  # not of unit length: that is the client's part
        return [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]

    def well(self, rows: list[dict[str, Any]] | None = None, **more: Any) -> None:
        data = self.rows() if rows is None else rows
        self.send(200, json.dumps({"object": "list", "data": data} | more).encode())

    def drip(self, pause_s: float) -> None:
        self.handler.send_response(200)
        self.handler.send_header("Content-Length", "100000")
        self.handler.end_headers()
        try:
            for _ in range(200):
                self.handler.wfile.write(b" ")
                self.handler.wfile.flush()
                time.sleep(pause_s)
        except OSError:
            pass
        self.hang_up()

    def hang_up(self) -> None:
        self.handler.close_connection = True


class EmbeddingServer:
    """Answers requests with the scripted answers in turn, then (and without a script) properly."""

    REQUEST: type[Request] = Request

    def __init__(self, *script: Answer) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._script = list(script)
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = outer.REQUEST(self, body)
                with outer._lock:
                    outer.requests.append(request)
                    answer = outer._script.pop(0) if outer._script else outer.REQUEST.well
                answer(request)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def script(self, *answers: Answer) -> None:
        """What the next requests get."""
        with self._lock:
            self._script.extend(answers)

    def __enter__(self) -> EmbeddingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
