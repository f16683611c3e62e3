"""The flows as supervised processes: how many of each, under which names, with which settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from streams.errors import SettingsError
from trends.flows import FLOWS
from trends.health import Verdict
from trends.runfiles import address_of, running
from trends.settings import Settings, environment_of
from trends.supervisor import Echo, ProcessSpec, Supervisor, Watch

MAX_PROCESSES = 64
PORT = "TRENDS_METRICS_PORT"
WATCH_HANG_S = 30.0
"""All processes are asked for their health every few seconds: a supervisor that has not for so long stands still."""

ONE_THREAD = {
    # A flow grows by processes. The threads of numpy's algebra would only wait for each other, at full speed.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Freed memory is kept for the next batch: without this every batch has its pages given back and faulted in again.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
    "MALLOC_ARENA_MAX": "2",
}
"""What every flow process is started with."""


def counts(words: Iterable[str], processes: int = 1) -> dict[str, int]:
    """Processes of each flow, from words ``FLOW`` (then ``processes``) and ``FLOW=N``.

    Raises:
        SettingsError: there is no such flow, or N is no number from 1 to 64.
    """
    wanted: dict[str, int] = {}
    for word in words:
        flow, equals, number = word.partition("=")
        if flow not in FLOWS:
            raise SettingsError(f"no flow {flow!r}; there are: {', '.join(FLOWS)}")
        if equals and not (number.isdecimal() and 1 <= int(number) <= MAX_PROCESSES):
            raise SettingsError(f"{word}: a number of processes is from 1 to {MAX_PROCESSES}")
        wanted[flow] = int(number) if equals else processes
    return wanted


def specs_of(settings: Settings, wanted: Mapping[str, int], beside: Iterable[ProcessSpec] = ()) -> list[ProcessSpec]:
    """A specification of each process, under names that no process of this data folder has now.

    A fixed port of the metrics is that of the supervisor; its processes take the ones that follow.

    Args:
        beside: what the supervisor keeps running already.
    """
    beside = list(beside)
    taken = {entry.name for entry in running(settings.home)} | {spec.name for spec in beside}
    ports = {spec.environment.get(PORT) for spec in beside}
    free_ports = (port for i in count(1) if (port := str(settings.metrics_port + i)) not in ports)
    specs: list[ProcessSpec] = []
    for flow, number in wanted.items():
        free = (name for i in range(len(taken) + number) if (name := f"{flow}-{i}") not in taken)
        for _, name in zip(range(number), free, strict=False):
            port = next(free_ports) if settings.metrics_port else "0"
            command = (sys.executable, "-u", "-m", "trends", "flow", flow, "--name", name)
            specs.append(ProcessSpec(name, command, environment={PORT: port} | ONE_THREAD, group=flow))
    return specs


def flow_supervisor(settings: Settings, wanted: Mapping[str, int], echo: Echo) -> Supervisor:
    """A supervisor (not started) of so many processes of each flow; each keeps its log in ``logs/NAME.log``."""
    return Supervisor(
        specs_of(settings, wanted),
        echo=echo,
        logs=settings.home / "logs",
        environment=environment_of(settings),
        watch=Watch(lambda name, pid: address_of(settings.home, name, pid), settings.silent_s),
    )


@dataclass(frozen=True, slots=True)
class RunAccount:
    """What a `trends run` says of itself: healthy while it watches its processes, ready while all of them are."""

    name: str
    supervisor: Supervisor

    def health(self) -> Verdict:
        """It has asked its processes for their health lately."""
        hung = self._hung()
        return Verdict(hung is None, self._body(hung))

    def ready(self) -> Verdict:
        """Every process works or stands by."""
        body = self._body(self._hung())
        return Verdict(bool(body["ready"]), body)

    def _hung(self) -> str | None:
        unwatched_s = self.supervisor.unwatched_s
        return None if unwatched_s <= WATCH_HANG_S else f"it has not watched its processes for {unwatched_s:.0f} s"

    def _body(self, hung: str | None) -> dict[str, Any]:
        reports = self.supervisor.report()
        stopping = self.supervisor.stopping.is_set()
        return {
            "process": self.name,
            "phase": "stopping" if stopping else "running",
            "processes": [
                {key: value for key, value in asdict(each).items() if key != "said"}
                | {key: each.said.get(key) for key in ("phase", "partitions", "lag_records", "ready")}
                for each in reports
            ],
            "ready": hung is None and not stopping and all(each.said.get("ready") for each in reports),
            "hung": hung,
        }
