"""Which processes of the platform run over a data folder: one small file each in ``run/``, true while they live.

A process that was killed leaves its file behind; readers tell by pid and start time, so nobody has to clean up.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from trends.stack.processes import ProcessId, stop

log = logging.getLogger(__name__)

SUPERVISOR = "run"
"""The role of a process that keeps others running."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """One process: its name, what it does (a flow, ``run``, a connector), and where its metrics are."""

    name: str
    role: str
    process: ProcessId
    metrics: str | None = None
    """``host:port`` of its Prometheus metrics."""


def _folder(home: Path) -> Path:
    return home / "run"


@contextlib.contextmanager
def announced(home: Path, name: str, role: str, metrics: str | None = None) -> Iterator[RunFile]:
    """Say that this process runs, for as long as the context lasts.

    Where nothing can be written (a container without a volume), it runs all the same, unlisted.
    """
    process = ProcessId.of(os.getpid())
    assert process is not None
    entry = RunFile(name, role, process, metrics)
    path = _folder(home) / f"{name}.json"
    new = path.with_name(f"{path.name}.{process.pid}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(asdict(entry)) + "\n")
        new.replace(path)
    except OSError as error:
        log.info("not listed in %s (%s): `trends status` there does not show this process", path.parent, error)
    try:
        yield entry
    finally:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if _read(path).process == process:  # not that of a successor of the same name
                path.unlink()


def _read(path: Path) -> RunFile:
    raw = json.loads(path.read_text())
    return RunFile(raw["name"], raw["role"], ProcessId(**raw["process"]), raw["metrics"])


def stop_supervisors(home: Path, grace_s: float) -> tuple[str, ...]:
    """End every `trends run` over this data folder, and with it its processes; returns their names."""
    supervisors = [entry for entry in running(home) if entry.role == SUPERVISOR]
    for entry in supervisors:
        stop(entry.process, first=signal.SIGTERM, grace_s=grace_s)
    return tuple(entry.name for entry in supervisors)


def address_of(home: Path, name: str, pid: int) -> str | None:
    """``host:port`` of the health and metrics of a process, by name and pid; None: it has not said it (yet)."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entry = _read(_folder(home) / f"{name}.json")
        if entry.process.pid == pid:
            return entry.metrics
    return None


def running(home: Path) -> tuple[RunFile, ...]:
    """The processes that run over this data folder now, by name."""
    found = []
    for path in sorted(_folder(home).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            entry = _read(path)
            if entry.process.alive:
                found.append(entry)
    return tuple(found)
