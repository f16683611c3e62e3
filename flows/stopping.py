"""How a flow process is asked to end: SIGTERM and SIGINT (its name returns), SIGUSR1 (it leaves for good).

The main thread may be inside a call of librdkafka, of a model or of a store for longer than anyone who stops it waits,
and Python runs signal handlers only there. So signals are taken by a thread of their own, which tells the session at
once and, where the end does not come in time, ends the process without it: the log is the state, so nothing is lost by
that, and what was not committed is read again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, Protocol

log = logging.getLogger(__name__)

STOP_S: Final = 8.0
"""How long a process that was asked to end may take to finish what it has begun."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stoppable(Protocol):
    """What is told: a :class:`streams.session.Session`. Called from another thread than the worker's."""

    def stop(self) -> None:
        """Finish what was read, and end."""

    def leave(self) -> None:
        """The same, and give the place in the group away."""


class StopSignals:
    """Takes this process's signals while the context lasts. Enter it in the main thread, as early as possible.

    A signal before :meth:`tell` ends the process at once with 0: nothing was begun. After it the session is told, and
    the process ends with 0 within ``stop_s`` seconds, come what may; a second signal ends it at once.

    Args:
        stop_s: seconds between the first signal and the end.
        leave: ends the process; replaced by tests.
    """

    def __init__(self, stop_s: float = STOP_S, leave: Callable[[int], None] = os._exit) -> None:
        self._stop_s = stop_s
        self._exit = leave
        self._session: Stoppable | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.asked = threading.Event()
        """Whether a signal has come."""
        self._before: dict[signal.Signals, object] = {}
        self._awake, self._wake = socket.socketpair()

    def __enter__(self) -> StopSignals:
        self._wake.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            self._before[number] = signal.signal(number, _noted)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_before)
        self._wake.close()  # the end of the thread
        self._thread.join(1.0)

    def tell(self, session: Stoppable) -> None:
        """From now on a signal is passed on to ``session``."""
        with self._lock:
            self._session = session

    def _watch(self) -> None:
        while number := self._next(None):
            with self._lock:
                session = self._session
            self.asked.set()
            if session is None:
                self._end("before it had begun")
                return
            (session.leave if number == signal.SIGUSR1 else session.stop)()
            self._await_end()
            return

    def _await_end(self) -> None:
        if self._next(self._stop_s):
            self._end("at once, as asked twice")
        elif not self._ended.is_set():
            self._end(
                f"without finishing what it had begun, which took longer than {self._stop_s:g} s; it will be read again"
            )

    def _next(self, timeout_s: float | None) -> int:
        """The number of the next signal of ours; 0: none came in time, or the context ended."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._awake.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            try:
                got = self._awake.recv(1)
            except OSError:
                return 0
            if not got or got[0] in SIGNALS:
                return got[0] if got else 0

    def _end(self, how: str) -> None:
        if self._ended.is_set():
            return
        log.warning("stopped %s", how)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._exit(0)


def _noted(number: int, frame: FrameType | None) -> None:
    """Python must have a handler for the wakeup descriptor to be written to; the thread does the rest."""
