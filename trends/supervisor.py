"""Processes kept running: started, listened to, started again, stopped. It knows nothing of what they do.

A process ends with an `ExitCode`, and that alone decides what follows: started again at once (the assignment moved),
after a while (it failed, or something could not be reached), or never (fenced, a person must decide, wrong usage): then
everything ends, with that code. Children die with their supervisor, even when it is killed (`lifeline.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from streams.errors import ExitCode

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
RESTART_S = 0.05
"""Before a start that the process itself asked for: so that one that asks for ever does not take a core."""
HEALTHY_S = 60.0
"""A process that lived this long has recovered: its failures before that no longer count."""
MAX_FAILURES = 10
"""Failures in a row, none of them after a healthy time, after which it is a defect and not bad luck."""
STOP_GRACE_S = 20.0
LINE_BYTES = 16_384
"""A longer line is cut into several."""
LAST_LINES = 8
LOG_BYTES = 10 * 1024 * 1024
"""Of the log file of one process; one older file is kept."""

_LIFELINE = Path(__file__).with_name("lifeline.py")

_NEVER_AGAIN = {
    ExitCode.USAGE: "its command line or a setting is wrong",
    ExitCode.FENCED: "another process of the same name took over",
    ExitCode.NEEDS_OPERATOR: "a person must decide",
}

Echo = Callable[[str, str], None]
"""Called with the name of a process and one line of its output, from several threads."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running. ``finite``: it may come to its end (exit 0) and is then not started again."""

    name: str
    command: tuple[str, ...]
    finite: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after ``after_s`` seconds; ``failures`` in a row so far."""

    after_s: float
    failures: int


@dataclass(frozen=True, slots=True)
class Done:
    """It came to its end."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Everything ends, with this exit code and reason."""

    code: ExitCode
    why: str


def decide(code: int, *, finite: bool, ran_s: float, failures: int) -> Again | Done | Fatal:
    """What follows when a process ends.

    Args:
        code: its exit code; negative: the signal that killed it.
        ran_s: how long it ran, seconds.
        failures: failures in a row before this one.
    """
    if code == ExitCode.OK and finite:
        return Done()
    if code == ExitCode.RESTART:
        return Again(RESTART_S, 0)
    if code in _NEVER_AGAIN:
        return Fatal(ExitCode(code), _NEVER_AGAIN[ExitCode(code)])
    failures = 1 if ran_s >= HEALTHY_S else failures + 1
    if failures >= MAX_FAILURES and code != ExitCode.UNAVAILABLE:
        return Fatal(ExitCode.FAILED, f"it failed {failures} times in a row")
    return Again(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16)), failures)


class Supervisor:
    """Keeps processes running while the context lasts, or until one of them ends everything.

    ::

        with Supervisor(specs, echo=print, environment=environment_of(settings)) as supervisor:
            supervisor.wait(60)
        code = supervisor.exit_code

    Args:
        specs: the processes; names differ.
        echo: called with every line of output.
        logs: folder for one log file a process; None: none.
        environment: of the processes.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        echo: Echo = lambda _name, _line: None,
        logs: Path | None = None,
        environment: Mapping[str, str],
    ) -> None:
        if len({spec.name for spec in specs}) < len(specs):
            raise ValueError("two processes have the same name")
        self._minders = [_Minder(spec, self, logs) for spec in specs]
        self.echo = echo
        self.environment = environment
        self.stopping = threading.Event()
        self._finished = threading.Event()
        self._lock = threading.Lock()
        self._fatal: tuple[str, Fatal, tuple[str, ...]] | None = None

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process. Returns at once."""
        for minder in self._minders:
            minder.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all is over: every finite process at its end, or one that ends everything; False: not yet."""
        return self._finished.wait(timeout_s)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask every process to end, wait up to ``grace_s`` seconds together, then kill what is left."""
        with self._lock:
            self.stopping.set()
        for minder in self._minders:
            minder.send(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for minder in self._minders:
            minder.join(max(0.0, deadline - time.monotonic()))
        self.kill()
        for minder in self._minders:
            minder.join(5)
        self._finished.set()

    def kill(self) -> None:
        """End every process at once. The log is the state: nothing is lost by it."""
        with self._lock:
            self.stopping.set()
        for minder in self._minders:
            minder.send(signal.SIGKILL)

    @property
    def exit_code(self) -> ExitCode:
        """How the whole ended: OK, or the code of the process that ended it."""
        return self._fatal[1].code if self._fatal else ExitCode.OK

    @property
    def failure(self) -> str | None:
        """What ended everything, with the last lines of that process; None where nothing did."""
        if self._fatal is None:
            return None
        name, fatal, lines = self._fatal
        return "\n".join([f"{name} ended with {int(fatal.code)} ({fatal.why}); its last lines:", *lines])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all processes, in the order given."""
        return tuple(minder.spec.name for minder in self._minders)

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {minder.spec.name: pid for minder in self._minders if (pid := minder.pid) is not None}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again, by name."""
        return {minder.spec.name: max(0, minder.starts - 1) for minder in self._minders}

    def _ended(self, minder: _Minder, fatal: Fatal | None) -> None:
        with self._lock:
            if fatal is not None and self._fatal is None and not self.stopping.is_set():
                self._fatal = (minder.spec.name, fatal, tuple(minder.last_lines))
            if self._fatal is not None or all(each.done for each in self._minders):
                self._finished.set()


class _Minder(threading.Thread):
    """Looks after one process. The thread that started a child must live as long as the child: the kernel's
    parent-death signal is about the thread."""

    def __init__(self, spec: ProcessSpec, supervisor: Supervisor, logs: Path | None) -> None:
        super().__init__(name=f"minder-{spec.name}", daemon=True)
        self.spec = spec
        self.done = False
        self.starts = 0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._supervisor = supervisor
        self._log = _BoundedLog(logs / f"{spec.name}.log") if logs else None
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        failures, after_s = 0, 0.0
        fatal: Fatal | None = None
        while not self._supervisor.stopping.wait(after_s):
            started = time.monotonic()
            code = self._once()
            if code is None or self._supervisor.stopping.is_set():
                break
            next_ = decide(code, finite=self.spec.finite, ran_s=time.monotonic() - started, failures=failures)
            if isinstance(next_, Fatal):
                fatal = next_
                break
            if isinstance(next_, Done):
                break
            failures, after_s = next_.failures, next_.after_s
            if code != ExitCode.RESTART:
                self._say(f"ended with {_named(code)}; started again in {after_s:g} s")
        self.done = True
        if self._log:
            self._log.close()
        self._supervisor._ended(self, fatal)

    def _once(self) -> int | None:
        """Run the process once, to its end; None where everything is being stopped."""
        with self._supervisor._lock:
            if self._supervisor.stopping.is_set():
                return None
            self.starts += 1
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LIFELINE), str(os.getpid()), *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**self._supervisor.environment, **self.spec.environment},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops them in order
            )
        assert self._child.stdout is not None
        with self._child.stdout as pipe:
            reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
            reader.start()
            code = self._child.wait()
            reader.join(2)  # a grandchild can hold the pipe open
        return code

    def _read(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed under our hands, see above
            while line := pipe.readline(LINE_BYTES):
                self._say(line.decode(errors="replace").rstrip("\r\n"))

    def _say(self, line: str) -> None:
        self.last_lines.append(line)
        if self._log:
            self._log.write(line)
        self._supervisor.echo(self.spec.name, line)

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    def send(self, number: signal.Signals) -> None:
        child = self._child
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)


def _named(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    with contextlib.suppress(ValueError):
        return f"{code} ({ExitCode(code).name.lower()})"
    return str(code)


class _BoundedLog:
    """A log file that is moved aside when it has grown to its bound."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")

    def write(self, line: str) -> None:
        if self._file.closed:
            return
        if self._file.tell() > LOG_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("ab")
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
