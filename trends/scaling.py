"""More and fewer processes of a flow, while `trends run` goes on: what it does, and how it is asked to.

Which processes go: those that stand by first, then those with the highest numbers. One that goes leaves its consumer
group at once, so its partitions are read on by the others within seconds.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from streams.errors import SettingsError, UnavailableError
from streams.health import Phase
from trends.control import Tell, control_path, request
from trends.flow_processes import MAX_PROCESSES, specs_of
from trends.flows import FLOWS
from trends.runfiles import SUPERVISOR, RunFile, running
from trends.settings import Settings
from trends.supervisor import STOP_GRACE_S, ProcessReport, Removed, Supervisor

READY_POLL_S: Final = 0.2
MAX_WAIT_S: Final = 3_600.0
SILENCE_S: Final = 60.0
"""A request is answered, or something said of it, after the wait that it asks for and this at most."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What became of a request to scale."""

    flow: str
    before: int
    after: int
    added: tuple[dict[str, Any], ...]
    """Name, phase and partitions of each."""
    removed: tuple[dict[str, Any], ...]
    """Name, exit code, and whether it had to be killed."""
    ready: bool
    """Whether every process of the flow works or stands by."""
    seconds: float


class Scaler:
    """Scales the flows of one supervisor; handles requests of the control socket, one at a time."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._lock = threading.Lock()

    def handle(self, asked: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """A request as it comes over the control socket.

        Raises:
            SettingsError: it is none.
        """
        flow, number, wait_s = asked.get("flow"), asked.get("processes"), asked.get("wait_s", 0)
        if asked.get("do") != "scale" or flow not in FLOWS:
            raise SettingsError(f"not a request: {dict(asked)!r}")
        if not isinstance(number, int) or not 0 <= number <= MAX_PROCESSES:
            raise SettingsError(f"a number of processes is from 0 to {MAX_PROCESSES}")
        if not isinstance(wait_s, int | float) or not 0 <= wait_s <= MAX_WAIT_S:
            raise SettingsError(f"a wait is from 0 to {MAX_WAIT_S:g} s")
        return asdict(self.scale(flow, number, wait_s, tell))

    def scale(self, flow: str, number: int, wait_s: float, tell: Tell) -> Scaled:
        """Make it ``number`` processes of ``flow``; wait up to ``wait_s`` seconds until they are ready."""
        began = time.monotonic()
        with self._lock:
            before = self._of(flow)
            leaving = going(before, len(before) - number)
            specs = specs_of(self._settings, {flow: max(0, number - len(before))}, self._supervisor.specs)
            for spec in specs:
                self._supervisor.add(spec)
                tell(f"{spec.name} started")
            removed = self._remove(leaving, tell)
            added = {spec.name for spec in specs}
            ready = self._await_ready(flow, added, began + wait_s, tell)
        after = self._of(flow)
        return Scaled(
            flow=flow,
            before=len(before),
            after=len(after),
            added=tuple(
                {"name": each.name, "phase": each.said.get("phase", ""), "partitions": each.said.get("partitions", "")}
                for each in after
                if each.name in added
            ),
            removed=tuple(asdict(each) for each in removed),
            ready=ready,
            seconds=round(time.monotonic() - began, 2),
        )

    def _of(self, flow: str) -> list[ProcessReport]:
        return [each for each in self._supervisor.report() if each.group == flow]

    def _remove(self, names: list[str], tell: Tell) -> list[Removed]:
        """All at once: each leaves a group that shrinks once."""

        def remove(name: str) -> Removed:
            gone = self._supervisor.remove(name, STOP_GRACE_S)
            tell(f"{name} {'did not leave in time and was killed' if gone.killed else 'has left'}")
            return gone

        with ThreadPoolExecutor(max(1, len(names))) as pool:
            return list(pool.map(remove, names))

    def _await_ready(self, flow: str, added: set[str], deadline: float, tell: Tell) -> bool:
        """Whether all processes of the flow are ready; waits for it until ``deadline``."""
        said: dict[str, str] = {}
        while True:
            reports = self._of(flow)
            for each in reports:
                phase = str(each.said.get("phase", ""))
                if each.name in added and phase and said.get(each.name) != phase:
                    said[each.name] = phase
                    tell(f"{each.name} {phase.replace('_', ' ')} {each.said.get('partitions', '')}".rstrip())
            ready = all(each.said.get("ready") for each in reports)
            if ready or time.monotonic() >= deadline or self._supervisor.stopping.is_set():
                return ready
            time.sleep(READY_POLL_S)


def going(reports: list[ProcessReport], number: int) -> list[str]:
    """Which processes of a flow go, where ``number`` must: those that stand by first, then the highest numbers."""

    def last_first(report: ProcessReport) -> tuple[bool, int, str]:
        digits = re.search(r"(\d+)$", report.name)
        return report.said.get("phase") != Phase.STANDING_BY, -int(digits[1]) if digits else 0, report.name

    return [each.name for each in sorted(reports, key=last_first)[: max(0, number)]]


def ask_to_scale(home: Path, flow: str, number: int, wait_s: float, tell: Tell, run: str | None = None) -> Scaled:
    """Ask the `trends run` over this data folder to scale a flow; ``run``: which one, where there are several.

    Raises:
        UnavailableError: none runs, or it does not answer.
        SettingsError: several run, and it is not clear which is meant.
        ControlError: it could not do it.
    """
    name = _run_of(home, flow, run).name
    what = {"do": "scale", "flow": flow, "processes": number, "wait_s": wait_s}
    return Scaled(**request(control_path(home, name), what, tell, wait_s + SILENCE_S))


def _run_of(home: Path, flow: str, name: str | None) -> RunFile:
    """The supervisor that is meant: by name, the only one, or the only one that keeps this flow running."""
    entries = running(home)
    runs = [entry for entry in entries if entry.role == SUPERVISOR and name in (None, entry.name)]
    if not runs and name is not None:
        raise UnavailableError(f"no `trends run` of the name {name} runs over {home}; `trends status` lists them")
    if not runs:
        raise UnavailableError(f"no `trends run` runs over {home}: start one (`trends run --detach`), or name its data "
                               "folder (--home, TRENDS_HOME)")  # fmt: skip
    if len(runs) == 1:
        return runs[0]
    parents = {pid for entry in entries if entry.role == flow and (pid := entry.process.parent_pid)}
    theirs = [run for run in runs if run.process.pid in parents]
    if len(theirs) == 1:
        return theirs[0]
    raise SettingsError(
        f"{len(runs)} `trends run` run over {home} ({', '.join(run.name for run in runs)}), {len(theirs) or 'none'} of "
        f"them with processes of {flow}: say which one is meant (--run NAME)"
    )
