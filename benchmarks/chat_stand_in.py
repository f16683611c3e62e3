"""A chat API on 127.0.0.1 that counts what it is asked, and says of a story what its first titles say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Requests:
    """How many there were."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def one_more(self) -> None:
        with self._lock:
            self.count += 1


@contextmanager
def chat_api() -> Iterator[tuple[str, Requests]]:
    """The API's base (…/v1), and what was asked of it so far."""
    requests = Requests()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.one_more()
            titles = [item.get("title", "") for item in json.loads(asked["messages"][1]["content"])["items"]]
            said = {"headline": " ".join(titles[0].split()[:12]), "summary": " ".join(titles[-1].split()[:40])}
            content = json.dumps(said | {"keywords": titles[0].split()[:3], "confidence": 0.5})
            answer = json.dumps(
                {"choices": [{"message": {"content": content}}], "usage": {"total_tokens": 400}}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
