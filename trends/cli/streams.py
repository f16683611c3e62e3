"""``trends streams list | apply | describe | grow | gaps | outages``: the streams, and what the broker has of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from msgspec import to_builtins
from rich.table import Column, Table

from streams.admin import StreamAdmin, StreamState
from streams.codec import json_schema
from streams.errors import ExitCode, SettingsError
from streams.growth import Growth
from streams.outages import OutageFollower
from streams.records import Gap, SourceGap
from streams.state import ControlReader
from streams.table import GAPS, TABLE, Stream, by_name
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, out, progress, show
from trends.following import following
from trends.text import plain


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="The streams: what there is, create them, look at one, grow.")
    group.command("list")(list_streams)
    group.command()(apply)
    group.command()(describe)
    group.command()(grow)
    group.command()(gaps)
    group.command()(outages)
    app.add_typer(group, name="streams")


def list_streams(as_json: JsonOption = False) -> None:
    """Show the stream table: names, keys, retention, what each carries. Asks no broker: partitions are those that a
    new stack gets (`trends streams describe` says what there are).

    \b
    Examples:
      trends streams list
      trends streams list --json | jq '.[].name'
    """
    settings = current_settings()
    rows = [
        {
            "name": s.name,
            "scope": s.scope.value,
            "key": s.key,
            "partitions": s.partitions or settings.kafka_partitions,
            "kept": _kept(s),
            "record": s.record.SCHEMA if s.record else None,
            "about": s.about,
        }
        for s in TABLE
    ]

    def render() -> Table:
        # The name is what one copies: it is never cut, the others give way.
        name = Column("stream", no_wrap=True)
        table = Table(name, "key", "partitions", "kept", "record", "about", box=None, header_style="bold")
        for row in rows:
            cells = (row["name"], row["key"], row["partitions"], row["kept"], row["record"] or "–", row["about"])
            table.add_row(*(str(cell) for cell in cells))
        return table

    show(rows, as_json, render)


def apply(generation: GenerationOption = None, as_json: JsonOption = False) -> None:
    """Create the streams that are missing, and set what differs from the table. A second call changes nothing.

    Streams are never deleted and never shrunk; another number of partitions is an error (exit 78). Where the stack has
    grown (`trends streams grow`), what is recorded there counts, and TRENDS_KAFKA_PARTITIONS does not.

    \b
    Examples:
      trends streams apply
      trends streams apply --generation g2
    """
    settings = following(current_settings(generation=generation)).settings
    admin = StreamAdmin(settings.kafka(), settings.generation)
    before = admin.apply()
    _tell_growth(admin.growth(), settings.kafka_partitions)
    done = {"ok": "unchanged", "missing": "created", "settings": "changed"}
    rows = [{"name": s.name, "partitions": s.wanted_partitions, "done": done[s.verdict]} for s in before]

    def render() -> Table:
        table = Table("stream", "partitions", "", box=None, header_style="bold")
        for row in rows:
            table.add_row(str(row["name"]), str(row["partitions"]), str(row["done"]))
        return table

    show(rows, as_json, render)


def describe(
    name: Annotated[
        str | None, typer.Argument(help="A stream's name without generation, such as items.enriched; all if not given.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of its records instead.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the table with the broker: partitions and settings, one stream or all. Ends with 78 where they differ.

    \b
    Examples:
      trends streams describe
      trends streams describe items.enriched --schema > enriched.schema.json
    """
    settings = current_settings(generation=generation)
    wanted = _named(name) if name else None
    if schema:
        if wanted is None or wanted.record is None:
            raise SettingsError("--schema needs the name of a stream with records: see `trends streams list`")
        show(json_schema(wanted.record), True, str)
        return
    settings = following(settings).settings
    admin = StreamAdmin(settings.kafka(), settings.generation)
    states = admin.describe()
    _tell_growth(admin.growth(), settings.kafka_partitions)
    chosen = [s for s in states if wanted is None or s.stream.name == wanted.name]
    show([_as_json(s) for s in chosen], as_json, lambda: _table(chosen))
    if any(s.verdict != "ok" for s in chosen):
        if not as_json:
            out().print("[yellow]the broker differs from the table: `trends streams apply` says or mends it[/yellow]")
        raise typer.Exit(int(ExitCode.NEEDS_OPERATOR))


def grow(
    partitions: Annotated[int, typer.Argument(help="How many there shall be: a power of two, twice as many or more.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Grow all keyed streams of the pipeline together, of all generations, while everything runs.

    Connectors and flows follow within seconds; nothing is lost. A trend moves with its state, and its new partition is
    held back until the old one has been read to the change, so its order is kept. There is no way back: streams are
    never shrunk. Stopped in the middle, the same command goes on.

    
    Exit codes: 0 done (or done before), 2 not a number to grow to, 69 Kafka cannot be reached, 78 streams are missing
    or have other partitions.
    
    Examples:
      trends streams grow 16 --dry-run
      trends streams grow 16
    """
    settings = current_settings()
    report = StreamAdmin(settings.kafka(), settings.generation).grow(partitions, progress, dry_run)

    def render() -> Table:
        table = Table(Column("stream", no_wrap=True), "partitions", box=None, header_style="bold")
        for name in report.grown:
            table.add_row(name, f"{report.before} → {report.after}")
        return table

    if not report.grown and not as_json:
        out().print(f"every keyed stream has {report.after} partitions; nothing to do")
        return
    show(asdict(report) | {"dry_run": dry_run}, as_json, render)


def gaps(as_json: JsonOption = False) -> None:
    """Show what flows have skipped because it was deleted before they read it (`trends run --on-gap skip`).

    One row for each hole, of all generations; offsets count transaction markers, so there were at most so many records.

    \b
    Examples:
      trends streams gaps
      trends streams gaps --json | jq 'map(.until - .first) | add'
    """
    found: dict[bytes, Gap] = {}

    def take(key: bytes, gap: Gap | None) -> None:
        if gap is None:
            found.pop(key, None)
        else:
            found[key] = gap

    reader = ControlReader(current_settings().kafka(), GAPS, Gap, take)
    with closing(reader):
        reader.catch_up(lambda: None)
    rows = sorted(found.values(), key=lambda gap: gap.accepted_at)

    def render() -> Table:
        table = Table("skipped at", "generation", "flow", Column("stream", no_wrap=True), "offsets", "how many", "by",
                      box=None, header_style="bold")  # fmt: skip
        for gap in rows:
            table.add_row(
                f"{gap.accepted_at:%Y-%m-%d %H:%M:%S}", gap.generation, gap.flow, f"{gap.stream}/{gap.partition}",
                f"{gap.first}–{gap.until - 1}", f"{gap.until - gap.first:,}", gap.process,
            )  # fmt: skip
        return table

    if not rows and not as_json:
        out().print("nothing was skipped")
        return
    show([to_builtins(gap) for gap in rows], as_json, render)


def outages(as_json: JsonOption = False) -> None:
    """Show when sources could not be read for half an hour or longer: what is missing there, score takes for unknown.

    
    Examples:
      trends streams outages
      trends streams outages --json | jq '.[].source'
    """
    found: dict[str, SourceGap] = {}
    reader = OutageFollower(current_settings().kafka(), lambda gap: found.update({gap.key: gap}))
    with closing(reader):
        reader.catch_up()
    rows = sorted(found.values(), key=lambda gap: gap.since)

    def render() -> Table:
        table = Table("from", "until", "source", "connector", "why", box=None, header_style="bold")
        for gap in rows:
            table.add_row(
                f"{gap.since:%Y-%m-%d %H:%M}", f"{gap.until:%Y-%m-%d %H:%M}", gap.source, plain(gap.connector),
                plain(gap.reason),
            )  # fmt: skip
        return table

    if not rows and not as_json:
        out().print("no source was down")
        return
    show([to_builtins(gap) for gap in rows], as_json, render)


def _tell_growth(growth: Growth, configured: int) -> None:
    if growth.count != configured:
        progress(f"grown to {growth.count} partitions; TRENDS_KAFKA_PARTITIONS={configured} no longer counts")
    if growth.coming:
        progress(f"a growth to {growth.coming} was begun and not finished: `trends streams grow {growth.coming}`")


def _named(name: str) -> Stream:
    try:
        return by_name(name)
    except KeyError as error:
        raise SettingsError(str(error.args[0])) from None


def _kept(stream: Stream) -> str:
    if stream.retention_ms is None:
        return "compacted"
    return f"{stream.retention_ms // 86_400_000} days" + (", the newest of a key" if stream.collapses else "")


def _as_json(state: StreamState) -> dict[str, Any]:
    return {
        "name": state.name,
        "partitions": state.partitions,
        "wanted_partitions": state.wanted_partitions,
        "verdict": state.verdict,
        "differing": {k: {"broker": a, "table": b} for k, (a, b) in state.differing.items()},
    }


def _table(states: list[StreamState]) -> Table:
    table = Table("stream", "partitions", "kept", "verdict", "differs in", box=None, header_style="bold")
    for s in states:
        colour = "green" if s.verdict == "ok" else "yellow"
        differs = ", ".join(f"{k}: {a} instead of {b}" for k, (a, b) in s.differing.items())
        partitions = (
            f"{s.partitions}" if s.partitions == s.wanted_partitions else f"{s.partitions}/{s.wanted_partitions}"
        )
        table.add_row(s.name, partitions, _kept(s.stream), f"[{colour}]{s.verdict}[/{colour}]", differs)
    return table
