"""``trends generations list | diff | promote | rollback | drop``: which one readers read, and what would change."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.errors import SettingsError
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, out, print_json, progress_bar, show
from trends.generations import Diff, Promoted, Row, Side
from trends.text import plain

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="Generations: which there are, compare, promote, roll back, drop.")
    group.command("list")(list_generations)
    group.command()(diff)
    group.command()(promote)
    group.command()(rollback)
    group.command()(drop)
    app.add_typer(group, name="generations")


def list_generations(as_json: JsonOption = False) -> None:
    """Show every generation: its state, its model, how much is stored of it, how far its flows are behind.

    States: building (it reads history), ready (it has caught up, and is fed beside the live one), live (the one that
    readers read), retired (it was live before), dropped.

    \b
    Examples:
      trends generations list
      trends generations list --json | jq -r '.[] | select(.state == "live").name'
    """
    from trends.generations import overview

    rows = overview(current_settings())
    show(rows, as_json, lambda: _rows(rows))


def _rows(rows: list[Row]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("generation", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in ("dimensions", "items", "topics", "disk MiB", "lag", "behind s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("topics are", no_wrap=True)
    table.add_column("built from", no_wrap=True)
    colours = {"live": "green", "building": "yellow", "dropped": "dim"}
    for row in rows:
        since = f" since {row.from_time:%Y-%m-%d}" if row.from_time else ""
        table.add_row(
            row.name, Text(row.state, colours.get(row.state, "")), plain(row.embedder), f"{row.dimensions:,}",
            *(_number(n) for n in (row.items, row.topics, row.mib, row.lag_records)),
            "–" if row.lag_s is None else f"{row.lag_s:,.1f}",
            row.granularity,
            f"{row.from_stage}{since}" if row.from_stage else "–",
        )  # fmt: skip
    return table


def _number(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A generation, such as the live one.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another one.")],
    items: Annotated[
        int, typer.Option("--items", min=1, max=5_000_000, help="Newest common items over which clusterings compare.")
    ] = 200_000,
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="Rising trends that are compared.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Say what readers would see change from one generation to another: items, topics, their sizes, what rises.

    How far the clusterings agree is measured over the newest common items: BCubed (of an item's story in NEW, the
    share that was its story in OLD, and the other way round) and normalised mutual information; 1 is the same.

    \b
    Examples:
      trends generations diff g1 g2
      trends generations diff g1 g2 --json | jq .agreement.f1
    """
    from trends.generations import diff as compare

    found = compare(current_settings(), old, new, items=items, top=top)
    show(found, as_json, lambda: _diff(found))


def _diff(found: Diff) -> RenderableType:
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for side in (found.old, found.new):
        table.add_column(side.name, justify="right", overflow="fold")

    def line(name: str, *cells: str) -> None:
        table.add_row(name, *cells)

    sides: tuple[Side, Side] = (found.old, found.new)
    line("dimensions", *(f"{s.dimensions:,}" for s in sides))
    line("items", *(f"{s.items:,}" for s in sides))
    line("only here", *(f"{s.only_here:,}" for s in sides))
    line("topics", *(f"{s.topics:,}" for s in sides))
    line("of one item", *(f"{s.single:,}" for s in sides))
    line("median size", *(f"{s.median_size:,}" for s in sides))
    line("largest", *(" ".join(f"{n:,}" for n in s.largest) for s in sides))
    line("rising", *("\n".join(plain(t).removeprefix("term:") for t in s.top) or "–" for s in sides))
    parts: list[RenderableType] = [table, Text()]
    if found.agreement is None:
        parts.append(Text("no item is in both", "yellow"))
    else:
        a = found.agreement
        parts.append(
            Text(
                f"{found.common:,} items in both; over {a.items:,} of them the clusterings agree with BCubed F1 "
                f"{a.f1:.3f} (precision {a.precision:.3f}, recall {a.recall:.3f}), NMI {a.nmi:.3f}; "
                f"{found.top_common} rising trends in both"
            )
        )
    for side in sides:
        if side.examples:
            parts.append(Text(f"only in {side.name}: {', '.join(plain(i) for i in side.examples)} …", "dim"))
    return Group(*parts)


def promote(
    name: Annotated[str, typer.Argument(metavar="GENERATION", help="The one that readers shall read.")],
    force: Annotated[bool, typer.Option("--force", help="Also while it is being built, or behind.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a generation the live one: readers follow within a second or two.

    First it is written down where the topics of the present one are in the new one (most of their items decide), so
    that ids in links and bookmarks lead on; then one record makes it live. The other one stays, and its flows go on
    feeding it, until it is dropped: `trends generations rollback` is one record, too.

    \b
    Exit codes: 0 done, 78 it is behind or being built (--force promotes it all the same).
    \b
    Examples:
      trends generations diff g1 g2 && trends generations promote g2
    """
    from trends.generations import promote as make_live

    with progress_bar("redirecting topics") as bar:
        done = make_live(current_settings(), name, force=force, progress=bar)
    _tell(done, as_json)


def rollback(as_json: JsonOption = False) -> None:
    """Make the generation live again that was live before: one record, written at once.

    \b
    Examples:
      trends generations rollback
    """
    from trends.generations import rollback as go_back

    with progress_bar("redirecting topics") as bar:
        done = go_back(current_settings(), progress=bar)
    _tell(done, as_json)


def _tell(done: Promoted, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    out().print(f"[bold]{done.live}[/bold] is live now, {done.before} before it")
    if done.redirects is not None:
        r = done.redirects
        out().print(f"{r.redirected:,} of {r.topics:,} topics of {done.before} lead to one of {done.live}")


def drop(
    name: Annotated[str, typer.Argument(metavar="GENERATION", help="The one to delete.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a generation for good: its streams, consumer groups and tables. The live one is refused.

    Its flows must have ended. Its name is not used again; ids of its topics that were redirected lead on.

    \b
    Exit codes: 0 done, 2 no such generation, 78 it is live, or its flows run.
    \b
    Examples:
      trends generations drop g1
      trends generations drop g1 --yes
    """
    from trends.generations import drop as delete
    from trends.generations import may_drop

    settings = current_settings()
    may_drop(settings, name)
    if not yes:
        console = err()
        if not console.is_terminal:
            raise SettingsError(f"dropping {name} deletes its streams and tables for good: say --yes")
        console.print(f"[bold]{escape(name)}[/bold]: its streams, groups and tables are deleted for good.")
        if console.input("Type its name to go on: ").strip() != name:
            raise SettingsError("nothing was deleted")
    done = delete(settings, name)
    show(
        done,
        as_json,
        lambda: Text(
            f"{done.name} is dropped: {done.streams} streams, {done.groups} groups, "
            f"{'its tables' if done.tables else 'no tables'}"
        ),
    )
