"""``trends state check | rebuild | migrate | offsets``: what flows remember, and what to do where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from flows.checking import SPECS, FlowCheck, check, spec_of
from flows.migrating import migrate
from flows.rebuild import Rebuilt, rebuild
from models.clustering import ClusterConfig
from streams.config import KafkaConfig
from streams.errors import ExitCode, StateMismatchError
from streams.groups import FlowGroup, Hold
from streams.io import Positions
from streams.partitions import current
from streams.rewriting import set_offsets
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, err, progress, show
from trends.following import following
from trends.settings import Settings

FlowArgument = Annotated[str, typer.Argument(help="cluster, score or summarize.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Do everything but write.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="What flows remember: check it, build it anew, bring it up to date.")
    group.command("check")(check_state)
    group.command("rebuild")(rebuild_state)
    group.command("migrate")(migrate_state)
    group.command("offsets")(set_offsets_from_state)
    app.add_typer(group, name="state")


def check_state(
    flows: Annotated[
        list[str] | None, typer.Argument(help="cluster, score or summarize; all, if not given.", show_default=False)
    ] = None,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the state of flows, every value of it, and compare what it covers with what they have committed.

    Ends with 1 where something is off, and says what to do about it: `migrate` for an older format, `rebuild` for a
    state that is lost, damaged or left behind, `offsets` where the group's offsets were lost or moved. Flows may run
    meanwhile; nothing is changed.

    \b
    Examples:
      trends state check
      trends state check cluster --json | jq '.[].problems'
    """
    settings = following(current_settings(generation=generation)).settings
    names = [spec_of(name).name for name in flows] if flows else list(SPECS)
    kafka = current(settings.kafka())
    found: list[FlowCheck] = []
    for name in names:
        found.append(_checked(name, kafka, settings))
    show([_as_json(one) for one in found], as_json, lambda: _tables(found))
    if any(one.problems for one in found):
        raise typer.Exit(int(ExitCode.FAILED))


def rebuild_state(
    flow: FlowArgument, dry_run: DryRunOption = False, generation: GenerationOption = None, as_json: JsonOption = False
) -> None:
    """Build the state of a flow anew from what it has written, with the same ids, and go on where its group stands.

    Recorded decisions are applied in the order in which they were made; none is made again. cluster: items.enriched and
    topics.updates (and items.embedded, for when items were observed last). score: trends.mentions and trends.scores.
    summarize: topics.summaries and topics.updates. What those no longer say cannot come back, and is counted.

    No process of the flow may run. The state is written in transactions in the place of what is there; killed in the
    middle, the flow refuses to start until this has been run again.

    \b
    Examples:
      trends state rebuild cluster --dry-run
      trends state rebuild score
    """
    settings = following(current_settings(generation=generation)).settings
    spec_of(flow)
    with _bar() as told:
        done = rebuild(
            flow, current(settings.kafka()), settings.generation, ClusterConfig.of(settings.granularity),
            dry_run=dry_run, progress=told,
        )  # fmt: skip
    show(_rebuilt_as_json(done, dry_run), as_json, lambda: _rebuilt_table(done, dry_run))
    if not dry_run and not as_json:
        progress(f"{flow} can be started again; `trends state check {flow}` looks at what was written")


def migrate_state(
    flow: FlowArgument, dry_run: DryRunOption = False, generation: GenerationOption = None, as_json: JsonOption = False
) -> None:
    """Bring the state of a flow from the format of the former release into that of this one.

    No process of the flow may run. The former state is deleted only when all of the new one is written; killed in the
    middle, run it again. A state that has the right format already is left alone.

    \b
    Examples:
      trends state migrate cluster --dry-run
      trends state migrate cluster
    """
    settings = following(current_settings(generation=generation)).settings
    spec_of(flow)
    with _bar() as told:
        done = migrate(flow, current(settings.kafka()), settings.generation, dry_run=dry_run, progress=told)

    def render() -> str:
        if done.before == done.after:
            return f"the state of {flow} is of format {done.after} already"
        would = "would be" if dry_run else "were"
        return f"{done.records:,} records of {flow} {would} brought from format {done.before} to {done.after}"

    show(asdict(done) | {"dry_run": dry_run}, as_json, render)


def set_offsets_from_state(
    flow: FlowArgument, dry_run: DryRunOption = False, generation: GenerationOption = None, as_json: JsonOption = False
) -> None:
    """Set the offsets of a flow's group to what its state covers, where they were lost, reset or moved.

    A flow commits its output, its state and its offsets together, so what the state covers is where the flow stood.
    All partitions of the state must agree about it. No process of the flow may run.

    \b
    Examples:
      trends state offsets score --dry-run
      trends state offsets cluster
    """
    settings = following(current_settings(generation=generation)).settings
    spec = spec_of(flow)
    kafka = current(settings.kafka())
    found = _checked(flow, kafka, settings)
    covered = _covered(found)
    group = FlowGroup(kafka, settings.generation, spec)
    try:
        before = group.committed()
        if not dry_run:
            with Hold(group) as hold:
                set_offsets(group, hold, covered, settings.generation)
    finally:
        group.close()
    rows = [
        {"stream": p[0], "partition": p[1], "before": before.get(p), "after": offset}
        for p, offset in sorted(covered.items())
    ]
    show(rows, as_json, lambda: _offsets_table(rows, dry_run))


def _covered(found: FlowCheck) -> Positions:
    """What the state covers.

    Raises:
        StateMismatchError: it covers nothing, does not agree with itself, or cannot be read.
    """
    rebuild_it = f"`trends state rebuild {found.flow}` builds it anew, where the group still has its offsets"
    if wrong := next((p for p in found.partitions if p.unreadable or set(p.formats) - {found.format}), None):
        raise StateMismatchError(
            f"state partition {wrong.partition} of {found.flow} cannot be read by this release: see "
            f"`trends state check {found.flow}`. Nothing was changed."
        )
    covered: Positions = {}
    for cover in found.covers:
        place = (cover.stream, cover.partition)
        if cover.covered is None or covered.setdefault(place, cover.covered) != cover.covered:
            raise StateMismatchError(
                f"the state of {found.flow} does not say how far it was in {place[0]}/{place[1]}: state partition "
                f"{cover.state_partition} covers {'nothing' if cover.covered is None else f'{cover.covered:,}'} of it. "
                f"{rebuild_it}. Nothing was changed."
            )
    return covered


# ------------------------------------------------------------------------------------------------------------ showing


Told = Callable[[str, int, int], None]


@contextmanager
def _bar() -> Iterator[Told]:
    """A progress bar on stderr, one step after the other."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=err(), transient=True,
    )  # fmt: skip
    task = bar.add_task("starting", total=None)

    def told(what: str, done: int, total: int) -> None:
        bar.update(task, description=what, completed=done, total=total or None)

    with bar:
        yield told


def _checked(flow: str, kafka: KafkaConfig, settings: Settings) -> FlowCheck:
    with _bar() as told:
        return check(flow, kafka, settings.generation, lambda done, total: told(f"state of {flow}", done, total))


def _as_json(found: FlowCheck) -> dict[str, Any]:
    value = asdict(found)
    value["covers"] = [asdict(cover) | {"verdict": cover.verdict} for cover in found.covers]
    return value


def _tables(found: Sequence[FlowCheck]) -> RenderableType:
    figures = [Column(name, justify="right") for name in ("records", "keys", "bad")]
    table = Table(
        "flow", Column("state partition", no_wrap=True), *figures, "format", "covers", box=None, header_style="bold"
    )
    lines: list[RenderableType] = [table]
    for one in found:
        for p in one.partitions:
            covers = [cover for cover in one.covers if cover.state_partition == p.partition]
            good = sum(cover.verdict == "ok" for cover in covers)
            colour = "green" if good == len(covers) and not p.unreadable else "yellow"
            table.add_row(
                one.flow, f"{one.stream}/{p.partition}", f"{p.records:,}", f"{p.keys:,}", f"{p.unreadable:,}",
                ", ".join(map(str, p.formats)) or "–", f"[{colour}]{good} of {len(covers)} ok[/{colour}]",
            )  # fmt: skip
    for one in found:
        for problem in one.problems:
            lines.append(f"\n[yellow]{one.flow}:[/yellow] {escape(problem.what)}\n  → {escape(problem.way_on)}")
    return Group(*lines)


def _rebuilt_as_json(done: Rebuilt, dry_run: bool) -> dict[str, Any]:
    return {
        "flow": done.flow,
        "dry_run": dry_run,
        "written": done.written,
        "figures": [figure._asdict() for figure in done.figures],
        "offsets": [
            {"stream": stream, "partition": partition, "offset": offset}
            for (stream, partition), offset in sorted(done.offsets.items())
        ],
    }


def _rebuilt_table(done: Rebuilt, dry_run: bool) -> Table:
    table = Table("", Column("", justify="right"), "", box=None, show_header=False)
    for figure in done.figures:
        table.add_row(figure.name, f"{figure.value:,}", "" if figure.exact else "[yellow]not as it was[/yellow]")
    table.add_row(
        "state records that would be written" if dry_run else "state records written", f"{done.written:,}", ""
    )
    return table


def _offsets_table(rows: Sequence[dict[str, Any]], dry_run: bool) -> Table:
    right = [Column(name, justify="right") for name in ("before", "would be" if dry_run else "now")]
    table = Table(Column("stream", no_wrap=True), "partition", *right, box=None, header_style="bold")
    for row in rows:
        before = "–" if row["before"] is None else f"{row['before']:,}"
        table.add_row(str(row["stream"]), str(row["partition"]), before, f"{row['after']:,}")
    return table
