"""``trends collect``: items from public sources into the raw streams, with a progress bar and a report."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors import KINDS, connector_of, knows_option, pairs
from connectors.base import Connector
from connectors.runner import Progress as Step
from connectors.runner import SourceReport
from flows.stopping import STOP_S
from streams.errors import ExitCode, SettingsError
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, out, print_json, show
from trends.following import following
from trends.settings import Settings


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(collect)


def collect(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE…", help="NAME or NAME:TARGET; --list tells what there is.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on until Ctrl-C, or read everything there is now, once.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.01, help="Follow for so long, then end.", show_default=False)
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="KEY=VALUE for every source that has this option.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=COLUMN of a file: title=headline. Same as -o map.FIELD=…")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="From the beginning, whatever was collected before; repeats do no harm.")
    ] = False,
    list_sources: Annotated[bool, typer.Option("--list", help="Show the sources and their options.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Collect items from sources, route them to trends, and write them to the raw streams.

    Sources are read side by side; one that fails, hangs or limits hurts itself alone. A source goes on where it ended
    last time: its cursor is saved after Kafka has acknowledged what it covers. Rows that cannot be read are counted
    and shown, and stop nothing. Streams that are missing are created.

    \b
    Exit codes: 0 done, 2 wrong source or option, 69 a source (or Kafka) could not be read to the end.
    \b
    Examples:
      trends collect --list
      trends collect hackernews --follow
      trends collect rss:https://news.example/feed.xml rss:feeds.opml hackernews --minutes 5
      trends collect file:posts.csv --map title=headline -o source=hackernews
      zcat posts.jsonl.gz | trends collect file:-
      trends collect synthetic -o items=5000 -o seed=7
    """
    if list_sources:
        _list(as_json)
        return
    if not sources:
        raise SettingsError(f"which sources? There are: {', '.join(KINDS)} (`trends collect --list` explains them)")
    chosen = pairs([*(options or []), *(f"map.{each}" for each in columns or [])])
    for key in chosen:
        if not any(knows_option(source, key) for source in sources):
            raise SettingsError(f"no option {key!r} in {', '.join(sources)}; `trends collect --list` shows them")
    connectors = [
        connector_of(source, {key: value for key, value in chosen.items() if knows_option(source, key)})
        for source in dict.fromkeys(sources)
    ]
    settings = following(current_settings()).settings
    reports, interrupted = _run(settings, connectors, follow or minutes is not None, minutes, not again)
    if as_json:
        print_json([_plain(report) for report in reports])
    else:
        out().print(_table(reports))
        _samples(reports)
    if any(not report.ok for report in reports):
        raise typer.Exit(int(ExitCode.UNAVAILABLE))
    if interrupted and not follow:
        raise typer.Exit(130)


def _run(
    settings: Settings, connectors: Sequence[Connector], follow: bool, minutes: float | None, resume: bool
) -> tuple[tuple[SourceReport, ...], bool]:
    """Collects with a progress bar; Ctrl-C and SIGTERM end it cleanly. The reports, and whether it was interrupted."""
    from trends.collecting import collect as collecting
    from trends.health import CollectAccount, HealthServer
    from trends.logs import configure_logging
    from trends.runfiles import announced

    configure_logging(settings, "collect", sys.stderr)
    interrupted = False
    account = CollectAccount()

    def give_up() -> None:
        late = f"not ended in order within {STOP_S:g} s (does Kafka answer?): what was delivered last is sent again"
        err().print(late, soft_wrap=True)
        os._exit(0 if follow and minutes is None else 130)

    overdue = threading.Timer(STOP_S, give_up)
    overdue.daemon = True

    async def main(bar: Bar) -> tuple[SourceReport, ...]:
        def step(each: Step) -> None:
            account.delivered[each.name] = each.delivered
            bar(each)

        task = asyncio.create_task(
            collecting(
                settings, connectors, follow=follow, resume=resume, for_s=None if minutes is None else minutes * 60,
                progress=step,
            )
        )  # fmt: skip
        turning = asyncio.create_task(account.turn())

        def stop() -> None:
            nonlocal interrupted
            if not interrupted:
                overdue.start()
            interrupted = account.stopping = True
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:  # before anything was collected
            return ()
        finally:
            turning.cancel()

    with (
        HealthServer(settings.metrics_host, settings.metrics_port, account) as server,
        announced(settings.home, "collect", "collect", server.address),
        Bar() as bar,
    ):
        try:
            return asyncio.run(main(bar)), interrupted
        finally:
            overdue.cancel()


class Bar:
    """A line for each source on stderr: what it has delivered, how far it is. Silent where stderr is no terminal."""

    def __init__(self) -> None:
        console = err()
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[delivered]:>9,} items"),
            TextColumn("{task.fields[speed]:>7,.0f}/s"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def __call__(self, step: Step) -> None:
        """Shows one step of one source."""
        task = self._tasks.get(step.name)
        if task is None:
            task = self._tasks[step.name] = self._progress.add_task(
                shown(step.name), total=None, delivered=0, speed=0.0, note=""
            )  # fmt: skip
        elapsed = self._progress.tasks[self._progress.task_ids.index(task)].elapsed or 0.0
        fields: dict[str, Any] = {
            "delivered": step.delivered,
            "speed": step.delivered / elapsed if elapsed else 0.0,
            "note": step.note[:60] or (f"{step.bad:,} bad rows" if step.bad else ""),
        }
        if step.fraction is not None:
            self._progress.update(task, total=1.0, completed=step.fraction, **fields)
        else:
            self._progress.update(task, **fields)


def shown(name: str) -> str:
    """A connector's name without the digest that tells two of one kind apart."""
    return re.sub(r":[0-9a-f]{12}$", "", name)


def _plain(report: SourceReport) -> dict[str, object]:
    return {
        "name": report.name, "source": report.source, "ok": report.ok, "error": report.error,
        "delivered": report.delivered, "bad": report.bad, "samples": report.samples,
        "passes": report.passes, "failures": report.failures, "requests": report.requests, "retries": report.retries,
        "limited": report.limited, "seconds": round(report.seconds, 3),
    }  # fmt: skip


def _table(reports: Sequence[SourceReport]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("source", overflow="fold")
    table.add_column("")
    for column in ("items", "bad rows", "seconds", "items/s", "requests", "retries"):
        table.add_column(column, justify="right", no_wrap=True)
    for report in reports:
        speed = report.delivered / report.seconds if report.seconds else 0.0
        table.add_row(
            shown(report.name), "done" if report.ok else "[red]failed[/red]", f"{report.delivered:,}",
            f"{report.bad:,}", f"{report.seconds:,.1f}", f"{speed:,.0f}", f"{report.requests:,}", f"{report.retries:,}",
        )  # fmt: skip
    return table


def _samples(reports: Sequence[SourceReport]) -> None:
    """Why sources failed and some of the bad rows, on stderr."""
    console = err()
    for report in reports:
        if report.error is not None:
            console.print(f"[red]{escape(shown(report.name))}[/red]: {escape(report.error)}", soft_wrap=True)
        for line in report.samples:
            console.print(f"{shown(report.name)}: {line}", style="dim", markup=False, soft_wrap=True)
        if report.bad > len(report.samples) > 0:
            console.print(f"… and {report.bad - len(report.samples):,} more", style="dim")


def _list(as_json: bool) -> None:
    rows = [
        {
            "name": kind.name,
            "target": kind.target,
            "help": kind.help,
            "options": [{"name": o.name, "default": o.default, "help": o.help} for o in kind.options],
        }
        for kind in KINDS.values()
    ]

    def render() -> Table:
        table = Table("source", "option", "default", "", box=None, header_style="bold")
        for kind in KINDS.values():
            name = kind.name if kind.target is None else f"{kind.name}:{kind.target}"
            table.add_row(name, "", "", kind.help, style="bold")
            for option in kind.options:
                table.add_row("", f"-o {option.name}=…", option.default, option.help)
        return table

    show(rows, as_json, render)
