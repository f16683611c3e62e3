"""Processes kept running: started, listened to, watched, started again, stopped. It knows nothing of what they do.

A process ends with an `ExitCode`, and that alone decides what follows: started again at once (the assignment moved),
after a while (it failed, or something could not be reached), or never (fenced, a person must decide, wrong usage): then
everything ends, with that code. One that hangs, by its own account or because it gives none, is killed and started
again: its name returns, so whatever the old one still does is fenced off. Processes can be added and removed while the
others run. Children die with their supervisor, even when it is killed (`lifeline.py`).
"""

from __future__ import annotations

import asyncio
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
from typing import IO, Any

from streams import metrics
from streams.errors import ExitCode
from trends.health import ask

BACKOFF_FIRST_S = 0.1
"""A process that was killed once is back before its neighbours notice …"""
BACKOFF_FACTOR = 3.0
"""… and one that fails again and again waits longer each time: two minutes until the last start."""
BACKOFF_MAX_S = 30.0
RESTART_S = 0.05
"""Before a start that the process itself asked for: so that one that asks for ever does not take a core."""
HEALTHY_S = 60.0
"""A process that lived this long has recovered: its failures before that no longer count."""
HUNG_HEALTHY_S = 600.0
"""The same for one that hangs: that is found out after a minute or two only."""
MAX_FAILURES = 10
"""Failures in a row, none of them after a healthy time, after which it is a defect and not bad luck."""
STOP_GRACE_S = 9.0
"""A process ends within `flows.stopping.STOP_S` of being asked; what is left after this is killed."""
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 3.0
PROBES_FAILED = 3
"""So many probes in a row at least: the machine may have slept during one."""
START_S = 120.0
"""Until a process that was started serves its health: an interpreter's start on a machine that is more than busy."""
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
    group: str = ""
    """What it is one of."""


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


def decide(code: int, *, finite: bool, ran_s: float, failures: int, hung: bool = False) -> Again | Done | Fatal:
    """What follows when a process ends.

    Args:
        code: its exit code; negative: the signal that killed it.
        ran_s: how long it ran, seconds.
        failures: failures in a row before this one.
        hung: whether it was killed because it hung.
    """
    if code == ExitCode.OK and finite:
        return Done()
    if code == ExitCode.RESTART:
        return Again(RESTART_S, 0)
    if code in _NEVER_AGAIN:
        return Fatal(ExitCode(code), _NEVER_AGAIN[ExitCode(code)])
    failures = 1 if ran_s >= (HUNG_HEALTHY_S if hung else HEALTHY_S) else failures + 1
    if failures >= MAX_FAILURES and code != ExitCode.UNAVAILABLE:
        return Fatal(ExitCode.FAILED, f"it {'hung' if hung else 'failed'} {failures} times in a row")
    return Again(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * BACKOFF_FACTOR ** min(failures - 1, 16)), failures)


@dataclass(frozen=True, slots=True)
class Watch:
    """How a supervisor finds out that a process hangs: it asks for its ``/health``.

    Attributes:
        address_of: ``host:port`` of the health of a process, by name and pid; None: not known yet.
        silent_s: a process that has answered nothing for so long hangs.
        start_s: and so does one whose address is not known so long after its start.
        every_s, timeout_s: how often each is asked, and how long it is listened to.
    """

    address_of: Callable[[str, int], str | None]
    silent_s: float
    start_s: float = START_S
    every_s: float = PROBE_EVERY_S
    timeout_s: float = PROBE_TIMEOUT_S


@dataclass(slots=True)
class Pulse:
    """What one process (one pid) has answered so far."""

    pid: int
    began: float
    address: str | None = None
    failed: int = 0
    failing_since: float = 0.0
    said: Mapping[str, Any] | None = None
    """The body of its last answer."""

    def answered(self, body: Mapping[str, Any]) -> None:
        """It answered, whatever."""
        self.failed, self.said = 0, body

    def silent(self, now: float) -> None:
        """A probe that began at ``now`` was not answered."""
        if not self.failed:
            self.failing_since = now
        self.failed += 1

    def hung(self, now: float, watch: Watch) -> str | None:
        """Why it counts as hung without having said so itself; None where it does not."""
        if self.address is None:
            if now - self.began > watch.start_s:
                return f"it has not begun to serve its health {watch.start_s:g} s after its start"
        elif self.failed >= PROBES_FAILED and now - self.failing_since >= watch.silent_s:
            return f"it has not answered at {self.address} for {now - self.failing_since:.0f} s"
        return None


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """How one process stands."""

    name: str
    group: str
    pid: int | None
    """None: it is being started again."""
    restarts: int
    hangs: int
    """Of those restarts, because it hung."""
    said: Mapping[str, Any]
    """What it last said of itself (the body of its ``/health``); empty where it has said nothing yet."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A process that was taken out."""

    name: str
    code: int | None
    """Its exit code; None: it did not run just then."""
    killed: bool
    """It did not end in time, so its place in the group is free only when its session has timed out."""


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
        watch: how to find out that one hangs; None: it is not looked for.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        echo: Echo = lambda _name, _line: None,
        logs: Path | None = None,
        environment: Mapping[str, str],
        watch: Watch | None = None,
    ) -> None:
        if len({spec.name for spec in specs}) < len(specs):
            raise ValueError("two processes have the same name")
        self._logs = logs
        self._minders = {spec.name: _Minder(spec, self, logs) for spec in specs}
        self.echo = echo
        self.environment = environment
        self.stopping = threading.Event()
        self._finished = threading.Event()
        self._lock = threading.RLock()  # a signal handler may stop it at any point of the main thread
        self._fatal: tuple[str, Fatal, tuple[str, ...]] | None = None
        self._watch = watch
        self._watched_at = time.monotonic()
        self._watcher = threading.Thread(target=self._keep_watch, name="watcher", daemon=True)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every process. Returns at once."""
        for minder in self._all():
            minder.start()
        if self._watch is not None:
            self._watched_at = time.monotonic()
            self._watcher.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all is over: every finite process at its end, or one that ends everything; False: not yet."""
        return self._finished.wait(timeout_s)

    def add(self, spec: ProcessSpec) -> None:
        """One more process, started at once.

        Raises:
            ValueError: there is one of that name.
        """
        minder = _Minder(spec, self, self._logs)
        with self._lock:
            if spec.name in self._minders:
                raise ValueError(f"there is a process {spec.name} already")
            if self.stopping.is_set():
                return
            self._minders[spec.name] = minder
        minder.start()

    def remove(self, name: str, grace_s: float = STOP_GRACE_S) -> Removed:
        """One process less: it is told to leave for good (SIGUSR1), and killed where it has not within ``grace_s``.

        Raises:
            KeyError: there is none of that name.
        """
        with self._lock:
            minder = self._minders[name]
            minder.ending.set()
        running = minder.pid is not None
        minder.send(signal.SIGUSR1)
        minder.join(grace_s)
        killed = minder.is_alive()
        if killed:
            minder.send(signal.SIGKILL)
            minder.join(5)
        with self._lock:
            self._minders.pop(name, None)
        return Removed(name, minder.code if running else None, killed)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask every process to end, wait up to ``grace_s`` seconds together, then kill what is left."""
        self._let_end(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for minder in self._all():
            minder.join(max(0.0, deadline - time.monotonic()))
        self.kill()
        for minder in self._all():
            minder.join(5)
        self._finished.set()

    def kill(self) -> None:
        """End every process at once. The log is the state: nothing is lost by it."""
        self._let_end(signal.SIGKILL)

    def _let_end(self, number: signal.Signals) -> None:
        with self._lock:
            self.stopping.set()
            minders = list(self._minders.values())
            for minder in minders:
                minder.ending.set()
        for minder in minders:
            minder.send(number)

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
        return tuple(minder.spec.name for minder in self._all())

    @property
    def specs(self) -> tuple[ProcessSpec, ...]:
        """What it keeps running now."""
        return tuple(minder.spec for minder in self._all())

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {minder.spec.name: pid for minder in self._all() if (pid := minder.pid) is not None}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process was started again, by name."""
        return {minder.spec.name: max(0, minder.starts - 1) for minder in self._all()}

    def report(self) -> tuple[ProcessReport, ...]:
        """How each process stands, in the order given."""
        reports = []
        for minder in self._all():
            pid, pulse = minder.pid, minder.pulse
            said = pulse.said if pulse is not None and pulse.pid == pid else None
            spec, restarts = minder.spec, max(0, minder.starts - 1)
            reports.append(ProcessReport(spec.name, spec.group, pid, restarts, minder.hangs, said or {}))
        return tuple(reports)

    @property
    def unwatched_s(self) -> float:
        """Seconds since all processes were last asked for their health; 0 where that is not done."""
        return time.monotonic() - self._watched_at if self._watch is not None else 0.0

    def _all(self) -> list[_Minder]:
        with self._lock:
            return list(self._minders.values())

    def _ended(self, minder: _Minder, fatal: Fatal | None) -> None:
        with self._lock:
            if fatal is not None and self._fatal is None and not self.stopping.is_set():
                self._fatal = (minder.spec.name, fatal, tuple(minder.last_lines))
            removed = minder.ending.is_set() and not self.stopping.is_set()
            if self._fatal is not None or (not removed and all(each.done for each in self._minders.values())):
                self._finished.set()

    # -- watching -----------------------------------------------------------------------------------------------

    def _keep_watch(self) -> None:
        asyncio.run(self._probe_for_ever())

    async def _probe_for_ever(self) -> None:
        assert self._watch is not None
        while not self.stopping.is_set():
            await asyncio.gather(*(self._probe(minder, self._watch) for minder in self._all()))
            self._watched_at = time.monotonic()
            await asyncio.sleep(self._watch.every_s)

    async def _probe(self, minder: _Minder, watch: Watch) -> None:
        """Ask one process how it is, and kill it where it hangs."""
        pulse = minder.pulse
        if pulse is None or pulse.pid != minder.pid:
            return
        now = time.monotonic()
        pulse.address = pulse.address or watch.address_of(minder.spec.name, pulse.pid)
        hung = None
        if pulse.address is not None:
            verdict = await ask(pulse.address, "/health", watch.timeout_s)
            if verdict is None:
                pulse.silent(now)
            else:
                pulse.answered(verdict.body)
                hung = None if verdict.ok else str(verdict.body.get("hung") or "it says that it is not healthy")
        hung = hung or pulse.hung(time.monotonic(), watch)
        if hung is not None:
            minder.end_hung(pulse.pid, hung)


class _Minder(threading.Thread):
    """Looks after one process. The thread that started a child must live as long as the child: the kernel's
    parent-death signal is about the thread."""

    def __init__(self, spec: ProcessSpec, supervisor: Supervisor, logs: Path | None) -> None:
        super().__init__(name=f"minder-{spec.name}", daemon=True)
        self.spec = spec
        self.done = False
        self.ending = threading.Event()
        """It is not started again."""
        self.starts = 0
        self.hangs = 0
        self.code: int | None = None
        """How it ended last."""
        self.pulse: Pulse | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._supervisor = supervisor
        self._log = _BoundedLog(logs / f"{spec.name}.log") if logs else None
        self._child: subprocess.Popen[bytes] | None = None
        self._hung: int | None = None
        """The pid that was killed because it hung."""

    def run(self) -> None:
        failures, after_s = 0, 0.0
        fatal: Fatal | None = None
        while not self.ending.wait(after_s):
            started = time.monotonic()
            code = self.code = self._once()
            if code is None or self.ending.is_set():
                break
            hung = self._child is not None and self._hung == self._child.pid
            next_ = decide(
                code, finite=self.spec.finite, ran_s=time.monotonic() - started, failures=failures, hung=hung
            )
            if isinstance(next_, Fatal):
                fatal = next_
                break
            if isinstance(next_, Done):
                break
            failures, after_s = next_.failures, next_.after_s
            metrics.PROCESS_RESTARTS.labels(self.spec.name, "hung" if hung else "ended").inc()
            if code != ExitCode.RESTART:
                self._say(f"ended with {_named(code)}; started again in {after_s:.2g} s")
        self.done = True
        if self._log:
            self._log.close()
        self._supervisor._ended(self, fatal)

    def _once(self) -> int | None:
        """Run the process once, to its end; None where everything is being stopped."""
        with self._supervisor._lock:
            if self.ending.is_set():
                return None
            self.starts += 1
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LIFELINE), str(os.getpid()), *self.spec.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**self._supervisor.environment, **self.spec.environment},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops them in order
            )
            self.pulse = Pulse(child.pid, time.monotonic())
            self._child = child
        assert child.stdout is not None
        with child.stdout as pipe:
            reader = threading.Thread(target=self._read, args=(pipe,), daemon=True)
            reader.start()
            code = child.wait()
            reader.join(2)  # a grandchild can hold the pipe open
        return code

    def end_hung(self, pid: int, why: str) -> None:
        """Kill the process because it hangs, where it is still this one."""
        if self.pid != pid or self.ending.is_set() or self._hung == pid:
            return
        self._hung = pid
        self.hangs += 1
        self._say(f"hangs: {why}; killed")
        self.send(signal.SIGKILL)

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
        self._file = path.open("ab", buffering=0)

    def write(self, line: str) -> None:
        if self._file.closed:
            return
        # A full disk costs lines of a log. It must not cost the thread that reads them: with nobody to read it, the
        # pipe fills, and the process stands still at its next line.
        with contextlib.suppress(OSError):
            if self._file.tell() > LOG_BYTES:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._file.close()
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line.encode() + b"\n")

    def close(self) -> None:
        self._file.close()
