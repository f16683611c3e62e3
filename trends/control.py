"""How a command talks to a running `trends run`: a Unix socket in the data folder, which its owner alone may open.

One request, one line of JSON; lines that say what is being done, then one with the result or the error. Requests are
taken one after the other. What can be asked for is not decided here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from streams.errors import ExitCode, SettingsError, TrendsError, UnavailableError

log = logging.getLogger(__name__)

REQUEST_BYTES: Final = 4_096
LINE_BYTES: Final = 65_536
"""Of one line of an answer."""
LINES: Final = 1_000
"""Of one answer."""
REQUEST_S: Final = 5.0
"""For a request to arrive, and for a line of the answer to be taken: a client that stands still is let go."""
BACKLOG: Final = 8
TURN_S: Final = 0.5

Tell = Callable[[str], None]
Handler = Callable[[Mapping[str, Any], Tell], Mapping[str, Any]]
"""Does what a request asks for; raises a TrendsError where it cannot."""


def control_path(home: Path, name: str) -> Path:
    """The socket of the `trends run` of that name."""
    return home / "run" / f"{name}.sock"


class ControlServer:
    """Answers requests, one at a time, while the context lasts.

    Raises:
        SettingsError: the socket cannot be made.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> ControlServer:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # of one that was killed
            umask = os.umask(0o177)  # the owner's alone, from the first moment
            try:
                with _short(self._path) as address:
                    self._socket.bind(address)
            finally:
                os.umask(umask)
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            raise SettingsError(
                f"cannot make {self._path} ({error}): `trends run` needs a data folder that it may write to, see "
                "TRENDS_HOME"
            ) from None
        self._socket.settimeout(TURN_S)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(REQUEST_S)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with client:
                client.settimeout(REQUEST_S)
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        def send(line: Mapping[str, Any]) -> None:
            with contextlib.suppress(OSError):  # it has gone; what it asked for is done all the same
                client.sendall(json.dumps(line).encode() + b"\n")

        try:
            with client.makefile("rb") as lines:
                request = json.loads(lines.readline(REQUEST_BYTES))
            if not isinstance(request, dict):
                raise ValueError("not an object")
        except (OSError, ValueError) as error:
            send({"error": f"not a request: {error}", "code": int(ExitCode.USAGE)})
            return
        try:
            send({"result": self._handler(request, lambda text: send({"note": text}))})
        except TrendsError as error:
            send({"error": str(error), "code": int(error.exit_code)})
        except Exception as error:
            log.exception("a request failed: %r", request)
            send({"error": f"{type(error).__name__}: {error}", "code": int(ExitCode.FAILED)})


class ControlError(TrendsError):
    """What a request was answered with: the error of the other side, with its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


def request(path: Path, what: Mapping[str, Any], tell: Tell, timeout_s: float) -> dict[str, Any]:
    """Ask a running `trends run` for something, and wait for it.

    Args:
        tell: called with every line that says what is being done.
        timeout_s: the longest silence.

    Raises:
        UnavailableError: it does not answer, or ended meanwhile.
        ControlError: it could not do it.
    """
    try:
        with socket.socket(socket.AF_UNIX) as server, _short(path) as address:
            server.settimeout(timeout_s)
            server.connect(address)
            server.sendall(json.dumps(what).encode() + b"\n")
            with server.makefile("rb") as lines:
                for _ in range(LINES):
                    said = json.loads(lines.readline(LINE_BYTES) or b"null")
                    if not isinstance(said, dict):
                        break
                    if "result" in said:
                        return dict(said["result"])
                    if "error" in said:
                        raise ControlError(said["error"], said["code"])
                    tell(str(said.get("note")))
    except (OSError, ValueError) as error:
        raise UnavailableError(f"`trends run` does not answer at {path}: {error or 'no answer in time'}") from None
    raise UnavailableError(f"`trends run` ended before it had done it; see {path.parent.parent / 'logs'}")


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address of a socket that fits its 108 bytes, however deep the data folder lies."""
    if not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
