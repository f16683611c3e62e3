"""``trends verify``: whether everything that went in is where it belongs, exactly once."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from streams.errors import ExitCode, SettingsError
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, err, out, print_json
from trends.following import following
from trends.text import instant, moment, plain

if TYPE_CHECKING:
    from trends.verify import Check, Report, Span


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(verify)


def verify(
    event_from: Annotated[
        str | None, typer.Option("--from", help="Event time from which on: 2016-09-07, 2016-09-07T18:00.")
    ] = None,
    event_to: Annotated[str | None, typer.Option("--to", help="Event time before which (a day: with it).")] = None,
    log_from: Annotated[str | None, typer.Option("--log-from", help="Arrival time from which on.")] = None,
    log_to: Annotated[str | None, typer.Option("--log-to", help="Arrival time before which (a day: with it).")] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="How long the flows may take to catch up, seconds.")
    ] = 60.0,
    examples: Annotated[
        int, typer.Option("--examples", "-n", min=0, max=1_000, help="How many of each fault to show.")
    ] = 10,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="Folder for temporary files, about 1 kB an item.", exists=True, file_okay=False),
    ] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="Say what each check promises, and end.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that every record is where it belongs, exactly once: streams, dead letters and all shards, by id.

    Nothing is changed, and the flows may go on: what stood in the raw streams at the start is followed to its end.
    Ends with 0 when every promise was kept, with 1 when anything is off, with 69 when a flow does not catch up.
    A range limits which records are asked for; sizes and totals are always over everything that is kept.

    \b
    Examples:
      trends verify
      trends verify --log-from 2026-03-01T12:00 --wait 300
      trends verify --from 2016-09-07 --to 2016-09-08
      trends verify --json | jq '.checks[] | select(.off > 0)'
    """
    from trends.verify import CHECKS, Span, audit

    if list_checks:
        if as_json:
            print_json([{"name": name, "says": says} for name, says in CHECKS.items()])
        else:
            out().print(_list(CHECKS))
        return
    span = Span(_from(event_from), _to(event_to), _from(log_from), _to(log_to))
    for name, begin, end in (("", span.event_from, span.event_to), ("log-", span.log_from, span.log_to)):
        if begin and end and begin >= end:
            raise SettingsError(f"--{name}from must be before --{name}to: {moment(begin)}, {moment(end)}")
    settings = following(current_settings(generation=generation)).settings
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn(),
        console=err(), transient=True,
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        name = "waiting" if what.startswith("waiting") else what
        if name not in tasks:
            tasks[name] = bars.add_task(what)
        bars.update(tasks[name], description=what, completed=done, total=max(total, 1))

    with bars:
        report = audit(settings, span, wait_s=wait, examples=examples, progress=tell, folder=scratch)
    if as_json:
        print_json({"clean": report.clean, "failed": report.failed, **_plain(report)})
    else:
        out().print(_shown(report))
    raise typer.Exit(int(ExitCode.OK if report.clean else ExitCode.FAILED))


def _from(text: str | None) -> datetime | None:
    """A day alone means its beginning."""
    if text is None:
        return None
    time = instant(text)
    return time - timedelta(days=1) if len(text.strip()) == len("2016-09-07") else time


def _to(text: str | None) -> datetime | None:
    return instant(text) if text is not None else None


def _plain(report: Report) -> dict[str, object]:
    """The fields of a report; orjson knows what is in them."""
    return {field.name: getattr(report, field.name) for field in fields(report)}


def _list(checks: dict[str, str]) -> Table:
    table = Table("check", "promises", box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for name, says in checks.items():
        table.add_row(name, says)
    return table


def _shown(report: Report) -> RenderableType:
    """What was audited, the checks, and the examples of what is off."""
    lines: list[RenderableType] = [_table(report.checks), Text()]
    for check in report.checks:
        if not check.off:
            continue
        lines.append(Text.assemble((check.name, "bold red"), f"  {check.off:,} off"))
        for example in check.examples:
            lines.append(
                Text(f"  {plain(example.id, 120)}  {example.what}  ({plain(example.where, 160)})", no_wrap=False)
            )
        if check.off > len(check.examples):
            lines.append(Text(f"  … and {check.off - len(check.examples):,} more", "dim"))
    if not report.clean:
        lines.append(Text())
    read = sum(part.records for part in report.streams)
    rows = sum(report.rows.values())
    lines.append(
        Text(
            f"Audited generation {report.generation}, {_range(report.span)}: {read:,} records of "
            f"{len(report.streams)} streams, {rows:,} rows, {report.dead_letters:,} dead letters, in "
            f"{report.seconds:.1f} s with at most {report.peak_mib:,} MiB."
        )
    )
    if report.since is not None:
        lines.append(
            Text(
                f"Built from {moment(report.since)} on: {report.left_out:,} observations of what happened before are "
                "left out on purpose.",
                "dim",
            )
        )
    cut = [part.stream for part in report.streams if not part.whole]
    if cut:
        lines.append(
            Text(f"Not read from their beginning (older records are gone, or out of range): {', '.join(cut)}.", "dim")
        )
    off = report.off
    verdict = "Every promise was kept." if report.clean else f"{off:,} things are off, in {len(report.failed)} checks."
    lines.append(Text(verdict, "bold green" if report.clean else "bold red"))
    return Group(*lines)


def _table(checks: tuple[Check, ...]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    table.add_column("check", no_wrap=True)
    table.add_column("promise", overflow="fold", ratio=1)
    table.add_column("examined", justify="right", no_wrap=True)
    table.add_column("off", justify="right", no_wrap=True)
    for check in checks:
        examined = f"{check.examined:,}" + (f" (+{check.unexamined:,}?)" if check.unexamined else "")
        off = Text(f"{check.off:,}", "bold red") if check.off else Text("0", "green")
        table.add_row(check.name, check.says, examined, off)
    return table


def _range(span: Span) -> str:
    """``all that is kept``, or the times."""
    parts = [
        f"{what} time {moment(begin) if begin else '…'} to {moment(end) if end else '…'}"
        for what, begin, end in (
            ("event", span.event_from, span.event_to),
            ("arrival", span.log_from, span.log_to),
        )
        if begin or end
    ]
    return " and ".join(parts) or "all that is kept"
