"""The flows as supervised processes: how many of each, under which names, with which settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from streams.errors import SettingsError
from trends.flows import FLOWS
from trends.runfiles import running
from trends.settings import Settings, environment_of
from trends.supervisor import Echo, ProcessSpec, Supervisor

MAX_PROCESSES = 64

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


def specs_of(settings: Settings, wanted: Mapping[str, int]) -> list[ProcessSpec]:
    """A specification of each process, under names that no process of this data folder has now.

    A fixed port of the metrics is that of the first process; the others take the ones that follow.
    """
    taken = {entry.name for entry in running(settings.home)}
    specs: list[ProcessSpec] = []
    for flow, number in wanted.items():
        free = (name for i in range(len(taken) + number) if (name := f"{flow}-{i}") not in taken)
        for _, name in zip(range(number), free, strict=False):
            port = settings.metrics_port + len(specs) if settings.metrics_port else 0
            command = (sys.executable, "-u", "-m", "trends", "flow", flow, "--name", name)
            specs.append(ProcessSpec(name, command, environment={"TRENDS_METRICS_PORT": str(port)} | ONE_THREAD))
    return specs


def flow_supervisor(settings: Settings, wanted: Mapping[str, int], echo: Echo) -> Supervisor:
    """A supervisor (not started) of so many processes of each flow; each keeps its log in ``logs/NAME.log``."""
    return Supervisor(
        specs_of(settings, wanted), echo=echo, logs=settings.home / "logs", environment=environment_of(settings)
    )
