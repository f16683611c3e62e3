"""Server processes that outlive the command that started them: start, recognise, stop; and free ports.

A process is named by pid *and* start time, so that a recycled pid is never taken for a server, and never killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LOG_KEEP_BYTES = 10 * 1024 * 1024
"""A server's output file over this size is moved aside (one older one is kept) when the server is started."""

START_TOLERANCE_S = 1.5
"""The kernel's start time is in clock ticks since boot: a shift of the wall clock must not make a server a stranger."""

_children: list[subprocess.Popen[bytes]] = []
"""Servers that this very process started: their handles are kept so that they can be reaped."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process beyond doubt: its pid, and when it started (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The identity of a running process; None where there is none (a zombie counts as none)."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, process.create_time())
        except psutil.NoSuchProcess:
            return None

    def find(self) -> psutil.Process | None:
        """The process, where it still runs and is still the same."""
        now = ProcessId.of(self.pid)
        if now is None or abs(now.started - self.started) > START_TOLERANCE_S:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid)
        return None

    @property
    def alive(self) -> bool:
        return self.find() is not None

    @property
    def parent_pid(self) -> int | None:
        """Who started it; None where it is gone."""
        process = self.find()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                return int(process.ppid())
        return None

    @property
    def own_rss_bytes(self) -> int:
        """Resident memory of the process alone; 0 where it is gone."""
        process = self.find()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                return int(process.memory_info().rss)
        return 0

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the process and its children; 0 where it is gone."""
        total = 0
        process = self.find()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                for each in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += each.memory_info().rss
        return total


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system user to run a server as; needed for PostgreSQL, which refuses to run as root."""

    name: str
    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str],
    account: Account | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path = Path("/"),
) -> ProcessId:
    """Start a server in a session of its own, its output appended to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_KEEP_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    with log.open("ab") as out:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    _children.append(child)
    identity = ProcessId.of(child.pid)
    return identity if identity is not None else ProcessId(child.pid, 0.0)


def stop(process: ProcessId, *, first: signal.Signals, grace_s: float) -> bool:
    """Ask a process to end, wait up to ``grace_s`` seconds, then kill it. True where it ended by itself."""
    running = process.find()
    if running is None:
        reap()
        return True
    gentle = True
    with contextlib.suppress(psutil.NoSuchProcess):
        running.send_signal(first)
        try:
            running.wait(grace_s)
        except psutil.TimeoutExpired:
            gentle = False
            running.kill()
            with contextlib.suppress(psutil.TimeoutExpired):
                running.wait(5)
    reap()
    return gentle


def reap() -> None:
    """Take the exit status of servers that this process started and that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_ports(wanted: Sequence[int]) -> list[int]:
    """Free ports of the loopback address: those wanted where they are free, others where not (0: any)."""
    chosen: list[int] = []
    with contextlib.ExitStack() as held:
        for port in wanted:
            if port and port not in chosen and port_is_free(port):
                chosen.append(port)
                continue
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            while True:
                probe.bind(("127.0.0.1", 0))
                found = int(probe.getsockname()[1])
                if found not in chosen and found not in wanted:
                    break
                probe.close()
                probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            chosen.append(found)
    return chosen


def tail(log: Path, lines: int = 15, limit_bytes: int = 16_384) -> str:
    """The last lines of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])
