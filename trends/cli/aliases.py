"""``trends aliases``: trends that are one subject under several names. Readers show them as one."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from msgspec.structs import replace

from streams.aliases import shown_as
from streams.dead_letters import now_utc
from streams.errors import SettingsError
from streams.producer import Publisher, read_catalogue
from streams.records import TrendDefinition, TrendStatus
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, out, print_json
from trends.settings import Settings
from trends.text import duration, plain

app = typer.Typer(no_args_is_help=True, help="Trends that are one subject: say so, see them, propose them.")

TERM = "term:"
TITLE_CHARS = 200


def register(root: typer.Typer) -> None:
    """Add this module's commands."""
    root.add_typer(app, name="aliases")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Show which names are shown as which trend, since when, and why."""
    settings = current_settings()
    known = read_catalogue(settings.kafka(), settings.generation)
    shown = shown_as(_alias_of(known))
    names = sorted((d for d in known.values() if d.alias_of), key=lambda d: d.trend_id)
    if as_json:
        print_json(
            [{"alias": d.trend_id, "of": d.alias_of, "shown_as": shown.get(d.trend_id, d.trend_id),
              "reason": d.alias_reason, "since": d.updated_at} for d in names]
        )  # fmt: skip
        return
    if not names:
        out().print("no trend is another one's name yet: trends aliases add NAME TREND, or see trends aliases propose")
        return
    from rich.table import Table

    table = Table("name", "shown as", "why", "since", box=None, header_style="bold")
    for d in names:
        table.add_row(
            plain(d.trend_id), plain(shown.get(d.trend_id, d.trend_id)), plain(d.alias_reason or ""),
            f"{d.updated_at:%Y-%m-%d}",
        )  # fmt: skip
    out().print(table)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The trend that is another name: term:nodejs, or nodejs.")],
    trend: Annotated[str, typer.Argument(help="The trend that it is shown as from now on: term:node.js, or a slug.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who look at the list.")] = "",
) -> None:
    """Show one trend as another one. Takes effect when the store has it (a second), and can be taken back.

    Nothing that is stored changes, nor where items go: the two are put together when somebody looks, and an item of
    both counts once.

    \b
    Examples:
      trends aliases add nodejs node.js
      trends aliases add term:tesla electric-cars --reason "what we follow as electric cars"
    """
    settings = current_settings()
    known = read_catalogue(settings.kafka(), settings.generation)
    alias, target = _trend_id(name, known), _trend_id(trend, known)
    alias_of = {**_alias_of(known), alias: target}
    if alias == target or alias not in shown_as(alias_of):
        raise SettingsError(f"{alias} cannot be shown as {target}: that leads back to {alias}")
    _define(settings, _named(alias, known, target, reason.strip() or None))
    out().print(f"{alias} is shown as {shown_as(alias_of)[alias]}; take it back with `trends aliases remove {alias}`")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="The trend that is to stand by itself again.")]) -> None:
    """Show a trend by itself again, with all that it has gathered."""
    settings = current_settings()
    known = read_catalogue(settings.kafka(), settings.generation)
    alias = _trend_id(name, known)
    if alias not in known or known[alias].alias_of is None:
        raise SettingsError(f"{alias} is no other trend's name; `trends aliases list` shows which are")
    _define(settings, _named(alias, known, None, None))
    out().print(f"{alias} stands by itself again")


@app.command()
def propose(
    window: Annotated[str, typer.Option("--window", "-w", help="How far back items are compared: 7d, 4w.")] = "4w",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show pairs of trends that look like names of one subject, each with its reason; nothing is changed.

    Spelt alike but for marks, accents and a plural; or most items of either are of both, in several stories.
    """
    from models.aliases import Pair
    from models.aliases import propose as proposals
    from trends.reading import open_reader

    settings = current_settings()
    known = read_catalogue(settings.kafka(), settings.generation)
    with open_reader(settings) as sync:
        items, same = sync.ask(sync.reader.common_items(window=duration(window)))
    tracked = [d.trend_id for d in known.values() if d.keywords or d.alias_of is None]
    found = proposals(items, (Pair(*each) for each in same), tracked=tracked, known=_alias_of(known))[:limit]
    if as_json:
        print_json([{"alias": p.alias, "of": p.trend_id, "reason": p.reason, "certainty": p.certainty} for p in found])
        return
    if not found:
        out().print(f"no two trends of the last {window} look like one subject")
        return
    from rich.table import Table

    table = Table("name", "of", "why", box=None, header_style="bold")
    for p in found:
        table.add_row(plain(p.alias), plain(p.trend_id), p.reason)
    out().print(table)
    out().print("say so: trends aliases add NAME TREND")


def _alias_of(known: dict[str, TrendDefinition]) -> dict[str, str]:
    return {d.trend_id: d.alias_of for d in known.values() if d.alias_of is not None}


def _trend_id(name: str, known: dict[str, TrendDefinition]) -> str:
    """A trend as people name it: its id, a tracked subject's slug, else a term."""
    name = name.strip()
    if not name:
        raise SettingsError("a trend has a name")
    return name if ":" in name or name in known else TERM + name.casefold()


def _named(alias: str, known: dict[str, TrendDefinition], target: str | None, reason: str | None) -> TrendDefinition:
    before = known.get(alias)
    if before is None:
        return TrendDefinition(
            trend_id=alias, title=alias.removeprefix(TERM)[:TITLE_CHARS], status=TrendStatus.RETIRED,
            updated_at=now_utc(), version=1, alias_of=target, alias_reason=reason,
        )  # fmt: skip
    return replace(before, updated_at=now_utc(), version=before.version + 1, alias_of=target, alias_reason=reason)


def _define(settings: Settings, definition: TrendDefinition) -> None:
    async def send() -> None:
        async with Publisher(settings.kafka(), settings.generation, "aliases") as publisher:
            await publisher.define(definition)

    asyncio.run(send())
