"""A server that speaks as much of Redis' protocol (RESP2) as the cache of summaries needs, on a real socket."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from typing import Any, BinaryIO


class RespServer:
    """Strings, sets, counters and expiry. ``rubbish`` replaces every answer; None: connections are cut."""

    def __init__(self) -> None:
        self.rubbish: bytes | None = b""
        self.values: dict[bytes, Any] = {}
        self.expires: dict[bytes, float] = {}
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    while command := _command(self.rfile):
                        if outer.rubbish is None:
                            return
                        answer = outer.rubbish or outer.answer(*command)
                        self.wfile.write(answer)
                        if outer.rubbish:
                            return

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> RespServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, name: bytes, *args: bytes) -> bytes:
        """What a server says to one command."""
        for key in [key for key, at in self.expires.items() if at <= time.time()]:
            self.values.pop(key, None)
            del self.expires[key]
        match name.upper(), args:
            case b"GET", (key,):
                return _bulk(self.values.get(key))
            case b"SET", (key, value, b"EXAT", at):
                self.values[key], self.expires[key] = value, float(at)
                return b"+OK\r\n"
            case b"SADD", (key, member):
                self.values.setdefault(key, set()).add(member)
                return b":1\r\n"
            case b"SMEMBERS", (key,):
                members = sorted(self.values.get(key, ()))
                return b"*%d\r\n" % len(members) + b"".join(map(_bulk, members))
            case b"DEL", (key,):
                self.expires.pop(key, None)
                return b":%d\r\n" % (self.values.pop(key, None) is not None)
            case b"INCRBY", (key, number):
                self.values[key] = b"%d" % (int(self.values.get(key, 0)) + int(number))
                return b":%s\r\n" % self.values[key]
            case b"EXPIREAT", (key, at):
                self.expires[key] = float(at)
                return b":1\r\n"
            case b"EXPIRE", (key, seconds):
                self.expires[key] = time.time() + float(seconds)
                return b":1\r\n"
            case b"CLIENT" | b"SELECT", _:
                return b"+OK\r\n"
        return b"-ERR unknown command '%s'\r\n" % name


def _command(stream: BinaryIO) -> list[bytes]:
    line = stream.readline()
    return [_argument(stream) for _ in range(int(line[1:]))] if line else []


def _argument(stream: BinaryIO) -> bytes:
    size = int(stream.readline()[1:])
    return stream.read(size + 2)[:size]


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
