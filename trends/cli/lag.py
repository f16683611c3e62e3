"""``trends lag``: how far each flow is behind, in records and seconds, for people and for scripts that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Final

import orjson
import typer
from rich.live import Live
from rich.table import Column, Table

from streams.errors import ExitCode, SettingsError
from streams.lag import LagProbe, PartitionLag
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, out, progress, show
from trends.flows import FLOWS, prepare
from trends.following import following
from trends.settings import Settings

WAIT_EVERY_S: Final = 0.25
SHOWN_PARTITIONS: Final = 6
"""Partitions of one stream that the table names, those furthest behind first."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(lag)


def lag(
    flows: Annotated[
        list[str] | None, typer.Option("--flow", help="A flow; may be given several times; all, if not given.")
    ] = None,
    every_partition: Annotated[
        bool, typer.Option("--partitions", help="One row for each partition, also those that are not behind.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, max=3_600.0, help="Seconds between two looks of --watch.")
    ] = 1.0,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", min=0.0, help="Wait until nothing is behind, at most so many seconds.", show_default=False
        ),
    ] = None,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far each flow is behind: records that it has not committed yet, and how old the oldest of them is.

    Records are offsets, as Kafka's own tools count them; the age goes by when the broker appended a record. A flow
    that has read everything is at 0, also where its input ends with the markers of transactions. --json has every
    partition; with --watch, one line of JSON for each look.

    Ends with 0 whatever the lag; with --wait, with 1 where something is still behind when the time has passed. Flows
    are looked at in the order in which records pass them, so after --wait what was collected before it is stored.

    \b
    Examples:
      trends lag
      trends lag --flow store --flow score --watch
      trends lag --wait 60 && trends top
      trends lag --json | jq '[.[].records] | add'
    """
    if watch and wait is not None:
        raise SettingsError("--watch goes on until Ctrl-C and --wait ends by itself: take one of them")
    settings = following(current_settings(generation=generation)).settings
    chosen = _chosen(flows)
    with _probes(settings, chosen) as probes:
        if watch:
            _watch(probes, every, every_partition, as_json)
            return
        seen = _look(probes) if wait is None else _wait(probes, wait)
    show([_as_json(p) for p in seen], as_json, lambda: table(seen, every_partition))
    if wait is not None and any(p.records for p in seen):
        raise typer.Exit(int(ExitCode.FAILED))


def _chosen(flows: Sequence[str] | None) -> list[str]:
    for name in flows or ():
        if name not in FLOWS:
            raise SettingsError(f"no flow {name!r}; there are: {', '.join(FLOWS)}")
    return [name for name in FLOWS if not flows or name in flows]


@contextmanager
def _probes(settings: Settings, flows: Sequence[str]) -> Iterator[list[LagProbe]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                closing(LagProbe(settings.kafka(), settings.generation, flow, prepare(flow, settings)[0].inputs))
            )
            for flow in flows
        ]


def _look(probes: Sequence[LagProbe], ages: bool = True) -> list[PartitionLag]:
    return [lag for probe in probes for lag in probe.partitions(ages=ages)]


def _wait(probes: Sequence[LagProbe], seconds: float) -> list[PartitionLag]:
    """Looks until nothing is behind, or the time has passed; the last look."""
    deadline = time.monotonic() + seconds
    told = 0.0
    while True:
        seen = _look(probes, ages=False)
        behind = sum(p.records for p in seen)
        now = time.monotonic()
        if not behind or now >= deadline:
            return _look(probes) if behind else seen
        if now - told >= 5.0:
            told = now
            progress(f"{behind:,} records behind")
        time.sleep(min(WAIT_EVERY_S, deadline - now))


def _watch(probes: Sequence[LagProbe], every_s: float, every_partition: bool, as_json: bool) -> None:
    if as_json:
        while True:
            typer.echo(orjson.dumps([_as_json(p) for p in _look(probes)]).decode())
            time.sleep(every_s)
    console = out()
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(table(_look(probes), every_partition), refresh=True)
            time.sleep(every_s)


def _as_json(lag: PartitionLag) -> dict[str, Any]:
    return {**asdict(lag), "seconds": round(lag.seconds, 3), "records": lag.records, "gone": lag.gone}


def table(lags: Sequence[PartitionLag], every_partition: bool) -> Table:
    """One row a stream of each flow, or one a partition."""
    last = ("partition", "committed", "end") if every_partition else ("behind, by partition",)
    columns = [Column(name, justify="right") for name in ("records", "seconds")]
    shown = Table("flow", Column("stream", no_wrap=True), *columns, *last, box=None, header_style="bold")
    for flow, stream in dict.fromkeys((lag.flow, lag.stream) for lag in lags):
        own = [lag for lag in lags if (lag.flow, lag.stream) == (flow, stream)]
        if every_partition:
            for lag in own:
                committed = "–" if lag.committed is None else f"{lag.committed:,}"
                shown.add_row(flow, stream, *_figures([lag]), str(lag.partition), committed, f"{lag.end:,}")
        else:
            shown.add_row(flow, stream, *_figures(own), _behind(own))
    return shown


def _figures(lags: Sequence[PartitionLag]) -> tuple[str, str]:
    records, seconds = sum(lag.records for lag in lags), max(lag.seconds for lag in lags)
    colour = "yellow" if records else "green"
    return f"[{colour}]{records:,}[/{colour}]", f"{seconds:,.1f}"


def _behind(lags: Sequence[PartitionLag]) -> str:
    """``3: 1,200  5: 7 …``, and what can never be read."""
    behind = sorted((lag for lag in lags if lag.records), key=lambda lag: (-lag.records, lag.partition))
    parts = [f"{lag.partition}: {lag.records:,}" for lag in behind[:SHOWN_PARTITIONS]]
    text = "  ".join(parts) + (f"  and {len(behind) - len(parts)} more" if len(behind) > len(parts) else "")
    gone = sum(lag.gone for lag in lags)
    return f"{text}  [red]{gone:,} deleted unread[/red]" if gone else text
