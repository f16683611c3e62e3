"""``trends why``: a trend's burst taken apart, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from models.why import Share, Span, Step, Why
from sinks.views import ItemView
from streams.errors import SettingsError
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, out, print_json
from trends.cli.views import AtOption
from trends.reading import Account, account, open_reader
from trends.text import instant, moment, plain, web_link


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(name="why")(why)


def why(
    name: Annotated[str, typer.Argument(metavar="TREND", help="A trend, or a tracked subject.")],
    at: AtOption = None,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a trend trends: what was expected and what came, and which stories, sources and publishers it is of.

    Every item of the day counts once for one story, one source and one publisher (a publisher's copies within an hour
    count as one), so each list adds up to the items that were scored.

    \b
    Examples:
      trends why iphone
      trends why iphone --at 2016-09-08 --json | jq '.why.sources'
    """
    with open_reader(current_settings(generation=generation)) as sync:
        found = sync.ask(sync.reader.find(name))
        if found is None or found[0] != "trend":
            raise SettingsError(f"no trend is called {name!r}: look for it with `trends search`")
        told = account(sync, found[1], instant(at) if at else None)
    if told is None:
        raise SettingsError(
            f"{found[1]!r} had no item {f'before {at}' if at else 'yet'}: there is nothing to account for"
        )
    if as_json:
        print_json(told)
    else:
        out().print(page(told), crop=False)


def page(told: Account) -> RenderableType:
    """The whole account."""
    reasons = told.why
    parts: list[RenderableType] = [
        Text.assemble((plain(told.title), "bold cyan"), ("  " + plain(reasons.trend_id), "dim")),
        Text(f"as of {moment(reasons.at)}{' (the newest event stored)' if told.now.replayed else ''}", "dim"),
        Text(),
        *(_span(f"{_hours(span, reasons)}:", span, reasons) for span in (reasons.day, reasons.hour)),
        Text(_course(reasons)),
    ]
    if reasons.hidden >= 0.005:
        parts.append(Text(f"{reasons.hidden:.0%} of this day was not seen: sources were down", "yellow"))
    if reasons.counted != reasons.day.observed:
        parts.append(
            Text(
                f"{reasons.counted:,} of these items are in the store"
                + (
                    "; the shares below are of those"
                    if told.complete
                    else ": the latest; the shares below are of those"
                ),
                "yellow",
            )
        )
    if not reasons.counted:
        return Group(*parts, Text(), Text("no item in this day; a past time: --at 2016-09-08", "dim"))
    titles = {i: topic.headline for i, topic in told.topics.items()}
    for title, shares, names in (
        ("Stories", reasons.topics, titles),
        ("Sources", reasons.sources, {}),
        ("Publishers", reasons.by_publisher, {}),
    ):
        parts += [Text(), Text(title, "bold"), _shares(shares, names, told.items)]
    return Group(*parts, Text(), Text("How it spread", "bold"), _steps(reasons.spread, told.items))


def _hours(span: Span, reasons: Why) -> str:
    hours = span.slices * reasons.slice_s / 3_600
    return "in this hour" if hours == 1 else f"in {hours:g} hours"


def _span(label: str, span: Span, reasons: Why) -> Text:
    """The formula with its figures."""
    text = Text.assemble(
        (f"{label:14}", "dim"),
        (f"{span.observed:,} items", "bold"),
        f", {span.expected:.1f} expected: ({span.observed:,} − {span.expected:.1f}) / "
        f"({span.deviation:.1f} + {reasons.bias:g}) = ",
    )
    return text.append(f"{span.burst:.1f}", "bold green" if span.burst >= 1 else "bold")


def _course(reasons: Why) -> str:
    peak = f"peak {reasons.peak:.1f} at {moment(reasons.peaked_at)} · " if reasons.peak > 0 else ""
    return (
        f"{peak}{reasons.velocity:+.2f} items an hour against the day before, "
        f"{reasons.acceleration:+.2f} an hour each hour · {reasons.publishers:,} publishers"
    )


def _shares(shares: Sequence[Share], names: Mapping[str, str], items: Mapping[str, ItemView]) -> RenderableType:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for column in ("items", "share", "above"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column("first seen", style="dim", no_wrap=True)
    table.add_column("with", ratio=1, overflow="fold")
    for share in shares:
        name = "others" if share.name is None else names.get(share.name, share.name)
        table.add_row(
            f"{share.count:,}", f"{share.share:.0%}", f"{share.above:+.1f}",
            Text(plain(name, 80), "dim" if share.name is None else "cyan"), moment(share.first_seen),
            _first(share.item_ids, items),
        )  # fmt: skip
    return table


def _steps(steps: Sequence[Step], items: Mapping[str, ItemView]) -> RenderableType:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for step in steps:
        way = f"{plain(step.after)} → {plain(step.source)}" if step.after else plain(step.source)
        lead = f"  {_lead(step.lead_s)} later" if step.after else ""
        table.add_row(moment(step.first_seen), Text(way + lead, "cyan"), _first(step.item_ids, items))
    return table


def _lead(seconds: float) -> str:
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(int(whole.total_seconds()), 3_600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min"


def _first(item_ids: Sequence[str], items: Mapping[str, ItemView]) -> Text:
    item = next((items[i] for i in item_ids if i in items), None)
    if item is None:
        return Text("–", "dim")
    link = web_link(item.url)
    return Text(plain(item.title, 100) or item.item_id, Style(link=link) if link else "")
