"""``trends run``: the flows as processes of this machine, kept running by the supervisor."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from streams.errors import SettingsError, UnavailableError
from trends.cli.context import current_settings
from trends.cli.output import out, progress
from trends.flows import FLOWS
from trends.runfiles import SUPERVISOR, announced, running
from trends.settings import Settings, environment_of
from trends.stack.processes import spawn
from trends.supervisor import Echo, ProcessSpec, Supervisor

MAX_PROCESSES = 64
DETACHED_START_S = 30.0

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(run)


def run(
    flows: Annotated[
        list[str] | None, typer.Argument(help="Flows, each with a number where wanted: embed=2. [default: all]")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, max=MAX_PROCESSES, help="Processes of each flow.")
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; `trends down` ends it. Output: logs/run.log.")
    ] = False,
) -> None:
    """Run flows as processes, with their log lines side by side, until Ctrl-C.

    What fails is started again after a while, and what asks for it at once. A process that must not be started again
    (another one of its name took over, or a person must decide) ends everything, with its exit code. Each process
    keeps its log in the data folder (logs/NAME.log). More processes of a flow share its partitions; of cluster one
    works, and the others stand by.

    \b
    Examples:
      trends run
      trends run embed=2 cluster score summarize store
      trends run embed --processes 4             more of one flow, beside another `trends run`
    """
    settings = current_settings()
    settings.kafka()  # where there is none, one clear error instead of one from every process
    specs = specs_of(settings, counts(flows or list(FLOWS), processes))
    if detach:
        _detach(settings, flows or [], processes)
        return
    with announced(settings.home, f"run-{specs[0].name}", SUPERVISOR):
        supervisor = Supervisor(
            specs, echo=prefixed(specs), logs=settings.home / "logs", environment=environment_of(settings)
        )
        _until_signalled(supervisor)
    if supervisor.failure:
        print(supervisor.failure, file=sys.stderr)
    raise typer.Exit(int(supervisor.exit_code))


def counts(words: list[str], processes: int) -> dict[str, int]:
    """Processes of each flow, from ``FLOW`` and ``FLOW=N``.

    Raises:
        SettingsError: there is no such flow, or N is no number from 1 to 64.
    """
    wanted: dict[str, int] = {}
    for word in words:
        flow, _, number = word.partition("=")
        if flow not in FLOWS:
            raise SettingsError(f"no flow {flow!r}; there are: {', '.join(FLOWS)}")
        if number and not (number.isdecimal() and 1 <= int(number) <= MAX_PROCESSES):
            raise SettingsError(f"{word}: a number of processes is from 1 to {MAX_PROCESSES}")
        wanted[flow] = int(number) if number else processes
    return wanted


def specs_of(settings: Settings, wanted: dict[str, int]) -> list[ProcessSpec]:
    """One process specification each, under names that no process of this data folder has now."""
    taken = {entry.name for entry in running(settings.home)}
    specs: list[ProcessSpec] = []
    for flow, number in wanted.items():
        free = (name for i in range(10_000) if (name := f"{flow}-{i}") not in taken)
        for _, name in zip(range(number), free, strict=False):
            port = settings.metrics_port + len(specs) if settings.metrics_port else 0
            command = (sys.executable, "-u", "-m", "trends", "flow", flow, "--name", name)
            specs.append(ProcessSpec(name, command, environment={"TRENDS_METRICS_PORT": str(port)}))
    return specs


def prefixed(specs: list[ProcessSpec]) -> Echo:
    """Prints lines with the name of their process in front, in a colour of its own where there are colours."""
    width = max(len(spec.name) for spec in specs)
    colours = {spec.name: _COLOURS[i % len(_COLOURS)] for i, spec in enumerate(specs)} if out().is_terminal else {}
    lock = threading.Lock()

    def echo(name: str, line: str) -> None:
        prefix = f"{name:<{width}} │"
        if colours:
            prefix = f"\x1b[{colours[name]}m{prefix}\x1b[0m"
        with lock:
            print(f"{prefix} {line}", flush=True)

    return echo


def _until_signalled(supervisor: Supervisor) -> None:
    """Run until the end, or until SIGINT, SIGTERM or SIGHUP: then stop in order, and at the second one at once."""
    asked = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            supervisor.kill()
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        supervisor.start()
        while not asked.wait(0.2) and not supervisor.wait(0):
            pass
        if asked.is_set():
            progress("stopping (again Ctrl-C: at once)")
    finally:
        supervisor.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _detach(settings: Settings, flows: list[str], processes: int) -> None:
    command = [sys.executable, "-u", "-m", "trends", "run", *flows, "--processes", str(processes)]
    log = settings.home / "logs" / "run.log"
    process = spawn(command, log, environment=environment_of(settings), cwd=Path.cwd())
    deadline = time.monotonic() + DETACHED_START_S
    while process.alive and time.monotonic() < deadline:
        if any(entry.process.pid == process.pid for entry in running(settings.home)):
            progress(f"running in the background (pid {process.pid}), output in {log}; `trends down` ends it")
            return
        time.sleep(0.1)
    raise UnavailableError(f"it did not start; see {log}")
