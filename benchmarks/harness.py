"""What all benchmarks share: a result with its rows, facts about the machine, the table and the JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One way of doing it: its rates (one a round), in ``unit``."""

    name: str
    rates: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark's outcome. ``ratios`` compare medians; machines are noisy, so these are what to quote."""

    name: str
    unit: str
    rows: tuple[Row, ...]
    ratios: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measures:
    """One way of doing it: how good its outcome is, by the names of the measures."""

    name: str
    values: dict[str, float]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """The outcome of a benchmark of quality: no rates, so no medians; seeded, so the same on every machine."""

    name: str
    rows: tuple[Measures, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("bytewax", "confluent-kafka", "onnxruntime", "numpy", "asyncpg")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(psutil.getloadavg()[0], 2),
        "packages": {p: metadata.version(p) for p in packages},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(rounds: int, ways: dict[str, Callable[[], float]], tell: Callable[[str], None]) -> dict[str, list[float]]:
    """Runs every way once a round, A B A B …, so that a drift of the machine meets all; the rates of each."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            rate = way()
            rates[name].append(rate)
            tell(f"round {number + 1}/{rounds}  {name}: {rate:,.0f}")
    return rates


def show(result: Result | Scores, console: Console) -> None:
    """The result as a table for people."""
    console.print(_scores(result) if isinstance(result, Scores) else _rates(result))
    if isinstance(result, Result):
        for name, ratio in result.ratios.items():
            console.print(f"  {name}: [bold]{ratio:.2f}[/bold]")
    for name, fact in result.facts.items():
        console.print(f"  [dim]{name}: {fact}[/dim]")


def _rates(result: Result) -> Table:
    table = Table(title=f"{result.name} ({result.unit})", title_justify="left", box=None, header_style="bold")
    for column, justify in (("way", "left"), ("median", "right"), ("min", "right"), ("max", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in result.rows:
        figures = (row.median, min(row.rates), max(row.rates))
        table.add_row(row.name, *(f"{figure:,.0f}" for figure in figures), row.note)
    return table


def _scores(result: Scores) -> Table:
    table = Table(title=result.name, title_justify="left", box=None, header_style="bold")
    table.add_column("way")
    for measure in result.rows[0].values:
        table.add_column(measure, justify="right")
    table.add_column("")
    for row in result.rows:
        table.add_row(row.name, *(f"{value:.3f}" for value in row.values.values()), row.note)
    return table


def write_json(results: Sequence[Result | Scores], path: Path) -> None:
    """All results with the facts of the machine, as one JSON file."""
    rows = [
        asdict(r) | ({"medians": {row.name: row.median for row in r.rows}} if isinstance(r, Result) else {})
        for r in results
    ]
    path.write_bytes(orjson.dumps({"machine": machine(), "results": rows}, option=orjson.OPT_INDENT_2) + b"\n")
