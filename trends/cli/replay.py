"""``trends replay store | build``: stored again from the streams, and the next generation out of history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from streams.errors import ExitCode, SettingsError
from streams.table import SOURCES
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, err, progress_bar, show
from trends.replay import Range, Replayed
from trends.text import instant


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="Replay: into the stores again, or into the next generation.")
    group.command()(store)
    app.add_typer(group, name="replay")


def store(
    since: Annotated[
        str | None, typer.Option("--from", help="Event time from which on: 2016-09-07, 2016-09-07T18:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Event time up to which.")] = None,
    log_since: Annotated[str | None, typer.Option("--log-from", help="Arrival in the streams from which on.")] = None,
    log_until: Annotated[str | None, typer.Option("--log-to", help="Arrival up to which.")] = None,
    partitions: Annotated[
        str | None, typer.Option("--partitions", help="Only these partitions: 0,3-5.", show_default=False)
    ] = None,
    sources: Annotated[
        str | None, typer.Option("--sources", help="Only these sources, with commas.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it would be.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a range again from the streams (items, mentions, topics, summaries, scores, the catalogue).

    For a shard that lost rows, or a store that was wrong: what is missing or older is mended, what is there stays, and
    a second run changes nothing. Live traffic goes on, and goes first: the replay slows down while the store flow is
    behind. At least one end must be given; a day's own end is its last moment.

    \b
    Exit codes: 0 done, 1 some records cannot be stored, 69 a part cannot be reached (run it again).
    \b
    Examples:
      trends replay store --from 2016-09-07 --to 2016-09-08 --dry-run
      trends replay store --log-from 2026-03-01T09:30 --partitions 3
      trends replay store --from 2016-09-01 --sources hackernews,rss --json
    """
    from trends.following import following
    from trends.replay import replay_store
    from trends.yielding import yielding

    if since is None and until is None and log_since is None and log_until is None:
        raise SettingsError("which range? --from and --to are event time, --log-from and --log-to arrival")
    wanted = Range(
        since=_begin(since), until=_end(until), log_since=_begin(log_since), log_until=_end(log_until),
        partitions=None if partitions is None else partition_numbers(partitions), sources=_sources(sources),
    )  # fmt: skip
    for first, last in ((wanted.since, wanted.until), (wanted.log_since, wanted.log_until)):
        if first is not None and last is not None and first >= last:
            raise SettingsError(f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} is no range")
    settings = following(current_settings(generation=generation)).settings
    with yielding(settings, "replay", flows=("store",)) as throttle, progress_bar("replaying") as bar:
        done = replay_store(settings, wanted, throttle=throttle, dry_run=dry_run, progress=bar)
    show(done, as_json, lambda: _report(done))
    for why in done.samples:
        err().print(escape(why), style="dim", soft_wrap=True)
    if done.refused or done.unreadable:
        raise typer.Exit(int(ExitCode.FAILED))


def _report(done: Replayed) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("records looked at", f"{done.read:,}")
    table.add_row("in the range", f"{done.selected:,}")
    if done.forgotten:
        table.add_row("forgotten, left out", f"{done.forgotten:,}")
    if done.refused:
        table.add_row("[red]refused[/red]", f"{done.refused:,}")
    if done.unreadable:
        table.add_row("[red]not readable[/red]", f"{done.unreadable:,}")
    if done.dry_run:
        table.add_row("", "nothing was written (--dry-run)")
        return table
    for name, count in done.rows.items():
        table.add_row(f"rows changed in {name}", f"{count:,}")
    if not done.rows:
        table.add_row("rows changed", "none: all was there")
    return table


def _begin(text: str | None) -> datetime | None:
    """The first moment of a day, or a time."""
    if text is None:
        return None
    time = instant(text)
    return time - timedelta(days=1) if len(text.strip()) == 10 else time


def _end(text: str | None) -> datetime | None:
    """The last moment of a day, or a time."""
    return None if text is None else instant(text)


def partition_numbers(text: str) -> frozenset[int]:
    """The numbers of ``0,3-5``.

    Raises:
        SettingsError: it is no such list.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError(f"{text!r} is no list of partitions: 0,3-5")
        if int(last or first) > 1_023:
            raise SettingsError(f"{part}: partitions are numbered from 0 to 1023 at most")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _sources(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(names - set(SOURCES)):
        raise SettingsError(f"no source {unknown[0]!r}; there are: {', '.join(SOURCES)}")
    return names
