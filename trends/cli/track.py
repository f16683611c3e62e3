"""``trends track``: a subject that people want followed, whether it rises or not."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from typing import Annotated

import typer

from streams.dead_letters import now_utc
from streams.errors import SettingsError
from streams.producer import Publisher, read_catalogue
from streams.records import TrendDefinition, TrendStatus
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, out, print_json

SLUG_CHARS = 80


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(track)


def track(
    subject: Annotated[str | None, typer.Argument(help="The subject as people write it; not given: list them.")] = None,
    keywords: Annotated[
        str, typer.Option("--keywords", "-k", help="Words and phrases that select an item, with commas.")
    ] = "",
    exclude: Annotated[str, typer.Option("--exclude", help="Words and phrases that veto it, with commas.")] = "",
    category: Annotated[str | None, typer.Option("--category", help="A category to show it under.")] = None,
    langs: Annotated[str, typer.Option("--lang", help="Only items in these languages, with commas: en,de.")] = "",
    stop: Annotated[bool, typer.Option("--stop", help="Follow it no longer; what it has gathered stays.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow a subject: from now on, items that match it have it as their trend. Without a subject: list them.

    The subject itself is a keyword. Matching is by whole words, whatever their case. Connectors that run follow the
    catalogue within a second.

    \b
    Examples:
      trends track "Electric aviation" --keywords "electric aircraft,eVTOL" --exclude "toy" --category science
      trends track "Electric aviation" --stop
      trends track
    """
    settings = current_settings()
    known = read_catalogue(settings.kafka(), settings.generation)
    if subject is None:
        _list(list(known.values()), as_json)
        return
    trend_id = slug(subject)
    before = known.get(trend_id)
    if stop and before is None:
        raise SettingsError(f"{subject!r} is not tracked; `trends track` lists what is")
    definition = TrendDefinition(
        trend_id=trend_id,
        title=subject.strip(),
        keywords=before.keywords if before and stop else tuple(dict.fromkeys([subject.strip(), *_split(keywords)])),
        exclude=before.exclude if before and stop else _split(exclude),
        langs=before.langs if before and stop else tuple(lang.lower() for lang in _split(langs)),
        category=before.category if before and stop else category,
        status=TrendStatus.RETIRED if stop else TrendStatus.ACTIVE,
        alias_of=before.alias_of if before else None,
        alias_reason=before.alias_reason if before else None,
        updated_at=now_utc(),
        version=before.version + 1 if before else 1,
    )

    async def send() -> None:
        async with Publisher(settings.kafka(), settings.generation, "track") as publisher:
            await publisher.define(definition)

    asyncio.run(send())
    if as_json:
        print_json({"trend_id": trend_id, "status": definition.status, "version": definition.version})
    elif stop:
        out().print(f"no longer tracked: {definition.title}")
    else:
        out().print(f"tracked: {definition.title} — see it with `trends show {trend_id}`")


def _list(definitions: list[TrendDefinition], as_json: bool) -> None:
    from rich.table import Table

    active = sorted((d for d in definitions if d.status is TrendStatus.ACTIVE), key=lambda d: d.trend_id)
    if as_json:
        print_json([{"trend_id": d.trend_id, "title": d.title, "keywords": d.keywords, "exclude": d.exclude,
                     "langs": d.langs, "category": d.category} for d in active])  # fmt: skip
        return
    if not active:
        out().print('nothing is tracked yet: trends track "SUBJECT" --keywords "a,b"')
        return
    table = Table("trend", "title", "keywords", "excluded", "category", box=None, header_style="bold")
    for d in active:
        table.add_row(d.trend_id, d.title, ", ".join(d.keywords), ", ".join(d.exclude), d.category or "")
    out().print(table)


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def slug(subject: str) -> str:
    """The trend_id of a tracked subject: lower-case words with hyphens (never a colon: `term:` is the router's).

    Raises:
        SettingsError: nothing is left of it.
    """
    text = unicodedata.normalize("NFKC", subject).casefold()
    name = re.sub(r"[^\w]+", "-", text, flags=re.UNICODE).strip("-_")[:SLUG_CHARS].rstrip("-_")
    if not name:
        raise SettingsError(f"{subject!r} has no letters or digits: give the subject a name")
    return name
