"""``trends demo``: the whole platform in one command, with data that is there, given, or live."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from streams.errors import ExitCode, SettingsError
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, out, print_json, progress

LIVE_MINUTES = 3.0


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="A CSV or JSON Lines file of posts (also gzipped).", exists=True)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="A live source instead: hackernews, or rss:FEED-URL.")
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="How long to collect from a live source.")] = (
        LIVE_MINUTES
    ),
    items: Annotated[int | None, typer.Option("--items", min=100, help="Size of the synthetic world.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Which synthetic world.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack and the flows running.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Where the HTML report goes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """See everything work: starts the stack, feeds data, waits until it is stored, shows what is rising.

    Without options a synthetic world is made whose true stories are known, and the quality of the clustering is
    measured against them. What was stored before stays; a second run adds only what is new. Nothing is left running,
    unless --keep is given.

    \b
    Examples:
      trends demo
      trends demo --data posts.csv
      trends demo --source hackernews --minutes 5
      trends demo --keep && trends top
    """
    from connectors import connector_of
    from trends.cli.run import run_detached
    from trends.cli.views import subjects_table
    from trends.demo import Stage, Watch, processes, run_demo

    settings = current_settings()
    if data and source:
        raise SettingsError("--data and --source: take one of them")
    options: dict[str, object] = {}
    if not data and not source:
        options = {k: v for k, v in {"items": items, "seed": seed}.items() if v is not None}
    elif items is not None or seed is not None:
        raise SettingsError("--items and --seed belong to the synthetic world, not to a file or a live source")
    name = f"file:{data}" if data else source or "synthetic"
    connector = connector_of(name, options)
    live_s = minutes * 60 if source else None
    report = report or settings.home / "report.html"

    bars = Progress(
        SpinnerColumn(), TextColumn("{task.description:10}"), BarColumn(40), TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(), console=err(), transient=True,
    )  # fmt: skip
    tasks = {}

    def bar(task: str, done: float, total: float | None, count: str) -> None:
        if task not in tasks:
            tasks[task] = bars.add_task(task, count="")
        bars.update(tasks[task], completed=done, total=total, count=count)

    def on_stages(stages: list[Stage]) -> None:
        for stage in stages:
            bar(stage.flow, stage.done, stage.total, f"{stage.done:,}")

    watch = Watch(
        line=progress,
        collected=lambda p: bar("collect", p.fraction or 0.0, 1.0 if p.fraction is not None else None,
                                f"{p.delivered:,}"),
        stages=on_stages,
    )  # fmt: skip
    began = time.monotonic()
    with Live(bars, console=bars.console, transient=True, refresh_per_second=4):
        outcome = run_demo(settings, connector, live_s=live_s, keep=keep, watch=watch, report=report)
    total_s = time.monotonic() - began
    if keep:
        run_detached(settings, [f"{flow}={number}" for flow, number in processes().items()])
    # A live source that ends on a hiccup has still been shown; a file that was not read to its end has not.
    failed = any(not told.ok and (live_s is None or not told.delivered) for told in outcome.reports)
    if as_json:
        print_json({"source": outcome.source, "delivered": outcome.delivered, "seconds": outcome.seconds,
                    "setup_s": outcome.setup_s, "counts": outcome.counts, "quality": outcome.quality,
                    "dead_letters": outcome.dead_letters, "restarts": outcome.restarts, "reports": outcome.reports,
                    "top": outcome.top, "report": str(report)})  # fmt: skip
        raise typer.Exit(int(ExitCode.UNAVAILABLE if failed else ExitCode.OK))
    lines: list[RenderableType] = [subjects_table(outcome.top), Text()]
    counts = outcome.counts
    rate = outcome.delivered / outcome.seconds if outcome.seconds else 0.0
    what = (
        f"{outcome.delivered:,} observations in {outcome.seconds:.1f} s ({rate:,.0f} a second)"
        if outcome.delivered
        else "nothing new: all of it had been collected before"
        if not failed
        else "nothing: the source could not be read"
    )
    lines.append(Text(f"Processed   {what}; set up in {outcome.setup_s:.1f} s, {total_s:.0f} s in all"))
    lines.append(
        Text(
            f"Stored      {counts.items:,} items in {counts.topics:,} topics and {counts.trends:,} trends, over "
            f"{len(counts.per_shard)} shards; {outcome.dead_letters:,} dead letters"
        )
    )
    for told in outcome.reports:
        if told.bad or told.error:
            detail = f"{told.bad:,} bad rows" + (f", such as {told.samples[0]}" if told.samples else "")
            lines.append(Text(f"Collected   {told.name}: {detail}{'; ' + told.error if told.error else ''}", "yellow"))
    if outcome.restarts:
        lines.append(Text(f"Restarted   {', '.join(f'{k} {n}x' for k, n in outcome.restarts.items())}", "yellow"))
    if (quality := outcome.quality) is not None:
        lines.append(
            Text(
                f"Quality     BCubed F1 {quality.f1:.3f} (precision {quality.precision:.3f}, recall "
                f"{quality.recall:.3f}), NMI {quality.nmi:.3f} against the {quality.classes:,} true topics of "
                f"{quality.items:,} items"
            )
        )
    lines.append(Text(f"Report      {report}"))
    up = "" if keep else "trends up && "
    lines.append(Text(f"Look on     {up}trends top · trends show TREND · trends search WORDS · trends export items"))
    out().print(Group(*lines))
    if failed:
        raise typer.Exit(int(ExitCode.UNAVAILABLE))
