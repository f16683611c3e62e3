"""``trends run``: the flows as processes of this machine, kept running by the supervisor."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from streams.errors import UnavailableError
from streams.spec import OnGap
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import out, progress
from trends.control import ControlServer, control_path
from trends.flow_processes import MAX_PROCESSES, RunAccount, counts, flow_supervisor
from trends.flows import FLOWS
from trends.following import following
from trends.health import HealthServer
from trends.runfiles import SUPERVISOR, announced, running
from trends.scaling import Scaler
from trends.settings import Settings, environment_of
from trends.stack.processes import spawn
from trends.supervisor import Echo, Supervisor

DETACHED_START_S = 30.0
PREFIX_WIDTH = 11

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(run)


def run(
    flows: Annotated[
        list[str] | None, typer.Argument(help="Flows, each with a number where wanted: embed=2; all, if not given.")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-n", min=1, max=MAX_PROCESSES, help="Processes of each flow.")
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; `trends down` ends it. Output: logs/run.log.")
    ] = False,
    on_gap: Annotated[
        OnGap | None,
        typer.Option(help="Records deleted before they were read: stop with exit 78 (default), or skip and record."),
    ] = None,
    generation: GenerationOption = None,
) -> None:
    """Run flows as processes, with their log lines side by side, until Ctrl-C.

    What fails is started again, at once at first, later and later while it goes on failing; what hangs (no progress
    although there is lag, or no answer at its /health) is killed and started again. A process that must not be started
    again (another one of its name took over, a person must decide, ten failures in a row) ends everything, with its
    exit code. Each process keeps its log in the data folder (logs/NAME.log). More processes of a flow share its
    partitions; of cluster one works, and the others stand by. `trends scale` changes how many there are while data
    flows.

    \b
    Examples:
      trends run
      trends run embed=2 cluster score summarize store
      trends run --generation g2                 those of a generation that is not the live one
      trends run embed --processes 4             more of one flow, beside another `trends run`
    """
    settings = current_settings(on_gap=on_gap, generation=generation)
    settings.kafka()  # where there is none, one clear error instead of one from every process
    settings = following(settings).settings
    wanted = counts(flows or FLOWS, processes)
    if detach:
        run_detached(settings, flows or [], processes)
        return
    # Lines of JSON carry the name of their process already, and stay lines of JSON.
    echo = prefixed() if settings.log_format == "text" else lambda _name, line: print(line, flush=True)
    supervisor = flow_supervisor(settings, wanted, echo)
    name = _free_name(settings, f"run-{supervisor.names[0]}")
    with (
        ControlServer(control_path(settings.home, name), Scaler(settings, supervisor).handle),
        HealthServer(settings.metrics_host, settings.metrics_port, RunAccount(name, supervisor)) as server,
        announced(settings.home, name, SUPERVISOR, server.address),
    ):
        _until_signalled(supervisor)
    if supervisor.failure:
        print(supervisor.failure, file=sys.stderr)
    raise typer.Exit(int(supervisor.exit_code))


def _free_name(settings: Settings, name: str) -> str:
    """A name that no other `trends run` of this data folder has: its first process may have been scaled away."""
    taken = {entry.name for entry in running(settings.home)}
    return f"{name}-{os.getpid()}" if name in taken else name


def prefixed() -> Echo:
    """Prints lines with the name of their process in front, in a colour of its own where there are colours."""
    coloured = out().is_terminal
    seen: dict[str, str] = {}
    lock = threading.Lock()

    def prefix_of(name: str) -> str:
        text = f"{name:<{PREFIX_WIDTH}} │"
        return f"\x1b[{_COLOURS[len(seen) % len(_COLOURS)]}m{text}\x1b[0m" if coloured else text

    def echo(name: str, line: str) -> None:
        with lock:
            prefix = seen.setdefault(name, prefix_of(name))
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


def run_detached(settings: Settings, flows: list[str], processes: int = 1) -> None:
    """Run flows in the background; `trends down` ends them.

    Raises:
        UnavailableError: they did not start.
    """
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
