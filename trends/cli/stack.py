"""``trends up | down | status``: the local stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from streams.errors import ExitCode
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, progress, show
from trends.health import Verdict, ask
from trends.runfiles import RunFile, running, stop_supervisors
from trends.settings import Settings, masked
from trends.stack import StackStatus
from trends.stack.outside import kafka_answers, postgres_answers
from trends.stack.stack import PartStatus
from trends.supervisor import STOP_GRACE_S

CHECK_TIMEOUT_S = 3.0
SUPERVISOR_GRACE_S = STOP_GRACE_S + 10


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(as_json: JsonOption = False) -> None:
    """Start the local stack: Apache Kafka and PostgreSQL with pgvector. What runs already is left alone.

    The first start fetches Kafka's jars (43 MB, once). Data, logs and ports are kept in the data folder (.trends, or
    TRENDS_HOME). Nothing local is started for what TRENDS_KAFKA_BOOTSTRAP or TRENDS_POSTGRES_DSNS name outside.

    \b
    Examples:
      trends up
      TRENDS_POSTGRES_SHARDS=4 trends up
      trends --home /data/trends-two up         a second stack beside the first
    """
    settings = current_settings()
    started = time.monotonic()
    settings.local_stack().up(progress)
    seen = _whole_status(settings)
    if seen.running:
        progress(f"ready after {time.monotonic() - started:.1f} s")
    show(seen, as_json, lambda: _tables(seen))
    if not seen.running:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


def down(as_json: JsonOption = False) -> None:
    """Stop what runs over the data folder: `trends run`, then the local stack. The data stays.

    \b
    Examples:
      trends down
      trends down && rm -rf .trends             stop, and throw the data away
    """
    settings = current_settings()
    stopped = [*stop_supervisors(settings.home, SUPERVISOR_GRACE_S), *settings.local_stack().down()]
    text = f"stopped: {', '.join(stopped)}" if stopped else "nothing was running"
    show({"stopped": stopped}, as_json, lambda: text)


def status(
    dsns: Annotated[
        bool, typer.Option("--dsns", help="Print only the PostgreSQL connection strings, passwords included.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what runs, where, and how much memory and disk it takes. Each part is asked, not assumed.

    Ends with 0 where every part is up, with 69 where one is not.

    \b
    Examples:
      trends status
      trends status --json
      psql "$(trends status --dsns | head -1)"
    """
    settings = current_settings()
    if dsns:
        for dsn in settings.dsns():
            typer.echo(dsn)
        return
    seen = _whole_status(settings)
    show(seen, as_json, lambda: _tables(seen))
    if not seen.running:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))


@dataclass(frozen=True, slots=True)
class _WholeStatus:
    """The local parts, and the outside ones that stand for them."""

    home: str
    running: bool
    parts: tuple[dict[str, object], ...]
    processes: tuple[dict[str, object], ...]
    """Flows and the like that run over this data folder."""


def _whole_status(settings: Settings) -> _WholeStatus:
    local: StackStatus = settings.local_stack().status()
    parts: list[PartStatus] = []
    if settings.kafka_bootstrap:
        answer = kafka_answers(settings.kafka(), CHECK_TIMEOUT_S)
        parts.append(PartStatus("Kafka (outside)", _said(answer), settings.kafka_bootstrap, None, 0, 0, ""))
    for number, dsn in enumerate(settings.postgres_dsns):
        answer = postgres_answers(dsn, CHECK_TIMEOUT_S)
        parts.append(PartStatus(f"PostgreSQL shard {number} (outside)", _said(answer), masked(dsn), None, 0, 0, ""))
    for part in local.parts:
        replaced = settings.kafka_bootstrap if part.name == "Kafka" else settings.postgres_dsns
        if not replaced or part.status != "down":
            parts.append(part)
    wanted = ("Kafka" if not settings.kafka_bootstrap else "", "PostgreSQL" if not settings.postgres_dsns else "")
    missing = [name for name in wanted if name and not any(part.name.startswith(name) for part in parts)]
    parts += [PartStatus(name, "down", "", None, 0, 0, "") for name in missing]
    return _WholeStatus(
        local.home,
        all(part.status == "up" for part in parts),
        tuple(asdict(part) for part in parts),
        tuple(
            {
                "name": entry.name,
                "role": entry.role,
                "pid": entry.process.pid,
                "up_s": round(time.time() - entry.process.started),
                "memory_mib": entry.process.own_rss_bytes // 1_048_576,
                "metrics": entry.metrics and f"http://{entry.metrics}/metrics",
                "health": entry.metrics and f"http://{entry.metrics}/health",
                **said,
            }
            for entry, said in _asked(running(settings.home))
        ),
    )


def _asked(entries: Sequence[RunFile]) -> Iterator[tuple[RunFile, dict[str, object]]]:
    """Each process with what it says of itself, and how often its supervisor has started it again."""

    async def ask_all() -> list[Verdict | None]:
        return await asyncio.gather(*(ask_if(entry.metrics) for entry in entries))

    async def ask_if(address: str | None) -> Verdict | None:
        return await ask(address, "/health", CHECK_TIMEOUT_S) if address else None

    answers = [dict(answer.body) if answer else {} for answer in asyncio.run(ask_all())]
    restarts = {
        (each["name"], each["pid"]): each["restarts"] for answer in answers for each in answer.get("processes", ())
    }
    for entry, answer in zip(entries, answers, strict=True):
        silent = bool(entry.metrics) and not answer
        yield (
            entry,
            {
                "phase": "not answering" if silent else "hung" if answer.get("hung") else answer.get("phase"),
                "detail": answer.get("hung") or answer.get("detail") or None,
                "partitions": answer.get("partitions"),
                "lag_records": answer.get("lag_records"),
                "restarts": restarts.get((entry.name, entry.process.pid)),
            },
        )


def _said(answer: bool) -> str:
    return "up" if answer else "not answering"


def _tables(seen: _WholeStatus) -> RenderableType:
    return Group(_parts(seen), _processes(seen)) if seen.processes else _parts(seen)


def _processes(seen: _WholeStatus) -> Table:
    table = Table(header_style="bold")
    left = ("process", "phase", "health and metrics")
    for name in ("process", "phase", "lag", "restarts", "pid", "up", "memory MiB", "health and metrics"):
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for each in seen.processes:
        up_for = str(timedelta(seconds=int(str(each["up_s"]))))
        phase = str(each["phase"] or "").replace("_", " ")
        colour = {"running": "green", "standing by": "green", "hung": "red", "not answering": "red"}.get(
            phase, "yellow"
        )
        lag, restarts = each["lag_records"], each["restarts"]
        table.add_row(
            str(each["name"]), f"[{colour}]{phase}[/{colour}]" if phase else "",
            "" if lag is None else f"{lag:,}", "" if restarts is None else str(restarts),
            str(each["pid"]), up_for, str(each["memory_mib"]), str(each["metrics"] or "").removesuffix("/metrics"),
        )  # fmt: skip
    return table


def _parts(seen: _WholeStatus) -> Table:
    table = Table(title=f"data and logs in {seen.home}", title_justify="left", header_style="bold", title_style="dim")
    for name in ("part", "status", "address", "pid", "memory MiB", "disk MiB"):
        table.add_column(name, justify="right" if name.endswith("MiB") or name == "pid" else "left", overflow="fold")
    for part in seen.parts:
        colour = {"up": "green", "down": "dim"}.get(str(part["status"]), "red")
        table.add_row(
            str(part["name"]), f"[{colour}]{part['status']}[/{colour}]", str(part["address"]), str(part["pid"] or ""),
            str(part["memory_mib"] or ""), str(part["disk_mib"] or ""),
        )  # fmt: skip
    return table
