"""``trends feedback``: what a person says about trends and stories, and whoever decides obeys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from models.routing import TERM_PREFIX
from streams.dead_letters import now_utc
from streams.errors import SettingsError
from streams.feedback import read_feedback
from streams.producer import CatalogFollower, Publisher
from streams.records import Feedback, FeedbackKind
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, out, print_json, show
from trends.exporting import LABEL_COLUMNS, Format, format_of, labelled_rows, write_rows
from trends.forgetting import Wanted
from trends.reading import open_reader
from trends.settings import Settings
from trends.text import moment, plain

ReasonOption = Annotated[str, typer.Option("--reason", help="Kept with it, for whoever asks later.")]
MAX_REASON = 200


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Say what the models got wrong: they obey, and it can be taken back."
    )
    group.command("merge")(merge)
    group.command("mute")(mute)
    group.command("not-a-trend")(not_a_trend)
    group.command("list")(list_feedback)
    group.command("undo")(undo)
    group.command("export")(export)
    app.add_typer(group, name="feedback")


def merge(
    one: Annotated[str, typer.Argument(help="A story, or an item of it: an id, or SOURCE/EXTERNAL_ID.", metavar="ONE")],
    other: Annotated[str, typer.Argument(help="The other one.", metavar="OTHER")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say that two stories are one: cluster merges them with the next items that it reads, and they stay one.

    Remembered are two items, so it holds in every generation, and for items that are still to come.

    \b
    Examples:
      trends feedback merge hackernews/12345 hackernews/12399
      trends feedback merge db7d8846-9776-5e79-ac98-aeabf85cb9ed 5c07ac0a-f6e1-50c8-bd9c-48c727b2e358
    """
    settings = current_settings()
    items = _item(settings, one), _item(settings, other)
    if items[0] == items[1]:
        raise SettingsError(f"{one} and {other} are one already")
    _say(settings, Feedback(kind=FeedbackKind.MERGE, items=items, **_now(reason)), as_json)


def mute(
    trend: Annotated[str, typer.Argument(help="A trend: its id, or the word it was found by.", metavar="TREND")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Keep a trend out of the rising ones. It is scored all the same, and found by its name.

    \b
    Examples:
      trends feedback mute giveaway --reason "sponsored, every week"
      trends feedback mute electric-aviation
    """
    settings = current_settings()
    _say(settings, Feedback(kind=FeedbackKind.MUTE, trend_id=_trend(settings, trend), **_now(reason)), as_json)


def not_a_trend(
    term: Annotated[str, typer.Argument(help="The word that the router has taken for a subject.", metavar="WORD")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say that a word is no subject: the router never chooses it again, and what it has gathered is not listed.

    Connectors that run obey within a second; items that have it as their trend keep it.

    \b
    Examples:
      trends feedback not-a-trend weekend
    """
    settings = current_settings()
    trend_id = _trend(settings, term)
    if not trend_id.startswith(TERM_PREFIX):
        raise SettingsError(
            f"{trend_id} is a tracked subject: `trends track {term!r} --stop`, or `trends feedback mute`"
        )
    _say(settings, Feedback(kind=FeedbackKind.NOT_A_TREND, trend_id=trend_id, **_now(reason)), as_json)


def list_feedback(
    everything: Annotated[bool, typer.Option("--all", help="Also what was taken back.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what was said, the last first.

    \b
    Examples:
      trends feedback list
    """
    said = [f for f in read_feedback(current_settings().kafka()).said if f.active or everything]
    said.sort(key=lambda f: (f.said_at, f.key), reverse=True)

    def render() -> RenderableType:
        if not said:
            return Text("nothing was said; `trends feedback --help`")
        table = Table("id", "when", "what", "about", "reason", box=None, header_style="bold")
        for f in said:
            what = f.kind.value if f.active else f"{f.kind.value} (taken back)"
            about = Text(plain(f.trend_id or " ".join(f.items)))
            table.add_row(f.feedback_id, moment(f.said_at), what, about, Text(plain(f.reason)))
        return table

    show([_row(f) for f in said], as_json, render)


def undo(
    feedback: Annotated[str, typer.Argument(help="Its id, as `trends feedback list` shows it.", metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Take something back: from then on the models decide by themselves again.

    What was decided because of it stays as it is: the past is not decided anew.

    \b
    Examples:
      trends feedback undo feedback-1f0c5b2a9d3
    """
    settings = current_settings()
    known = next((f for f in read_feedback(settings.kafka()).said if f.feedback_id == feedback), None)
    if known is None or not known.active:
        state = "is taken back already" if known else "does not exist"
        raise SettingsError(f"{feedback} {state}: `trends feedback list` shows what holds")
    _send(settings, replace(known, active=False, said_at=now_utc(), version=known.version + 1), as_json)


def export(
    file: Annotated[Path, typer.Argument(help="A file that ends with .jsonl or .csv.", metavar="FILE")],
) -> None:
    """Write the stories that people have merged as labelled posts, for `trends eval`.

    Each is there with all of its items (2,000 at most), as the store has them: their titles, and as the label one id
    for what is one story by what was said, whether it has been obeyed yet or not.

    \b
    Examples:
      trends feedback export labels.jsonl
    """
    settings = current_settings()
    form = format_of(file, None)
    if form is Format.PARQUET:
        raise SettingsError(f"{file}: `trends eval` reads .csv and .jsonl")
    said = [f for f in read_feedback(settings.kafka()).said if f.active and f.kind is FeedbackKind.MERGE]
    if not said:
        raise SettingsError("nobody has merged stories: `trends feedback merge`")
    with open_reader(settings) as reader:
        rows = labelled_rows(reader, [f.items for f in said])
    with file.open("wb") as opened:
        count = write_rows(rows, LABEL_COLUMNS, form, opened, lambda _: None)
    out().print(Text(f"{count:,} posts in {file}; trends eval {file} --label story"))


def _item(settings: Settings, text: str) -> str:
    """The id of an item: as given, or of the most discussed item of the story with this id."""
    text = text.strip()
    item_id = Wanted.item(text).item_id
    assert item_id is not None
    if "/" in text:
        return item_id
    with open_reader(settings) as reader:
        view = reader.ask(reader.reader.topic(text, members=1))
    return view.members[0].item_id if view and view.members else item_id


def _now(reason: str) -> dict[str, Any]:
    if len(reason) > MAX_REASON:
        raise SettingsError(f"the reason has {len(reason)} characters; it may have {MAX_REASON}")
    return {"reason": reason, "said_at": now_utc(), "version": 1}


def _trend(settings: Settings, name: str) -> str:
    """The id of a trend: as given, that of a tracked subject with this title, or that of the router's term."""
    name = name.strip()
    if not name or len(name) > 150:
        raise SettingsError("name a trend, as `trends top` shows it")
    tracked: dict[str, str] = {}
    follower = CatalogFollower(
        settings.kafka(), settings.generation, lambda d: tracked.update({d.trend_id: d.trend_id, d.title: d.trend_id})
    )
    try:
        follower.catch_up()
    finally:
        follower.close()
    if name in tracked:
        return tracked[name]
    return name if name.startswith(TERM_PREFIX) else TERM_PREFIX + name.casefold()


def _say(settings: Settings, feedback: Feedback, as_json: bool) -> None:
    """Writes a word, as the next version of what was said about the same before."""
    known = read_feedback(settings.kafka()).known(feedback.key)
    if known is not None:
        feedback = replace(feedback, version=known.version + 1)
    _send(settings, feedback, as_json)


def _send(settings: Settings, feedback: Feedback, as_json: bool) -> None:
    async def send() -> None:
        async with Publisher(settings.kafka(), settings.generation, "feedback") as publisher:
            await publisher.say(feedback)

    asyncio.run(send())
    if as_json:
        print_json(_row(feedback))
    elif feedback.active:
        about = plain(feedback.trend_id or " ".join(feedback.items))
        out().print(
            Text(f"{feedback.kind.value}: {about} — to take it back: trends feedback undo {feedback.feedback_id}")
        )
    else:
        out().print(Text(f"taken back: {feedback.kind.value} {plain(feedback.trend_id or ' '.join(feedback.items))}"))


def _row(feedback: Feedback) -> dict[str, Any]:
    return {
        "id": feedback.feedback_id, "kind": feedback.kind.value, "trend_id": feedback.trend_id,
        "items": list(feedback.items), "active": feedback.active, "reason": feedback.reason,
        "said_at": feedback.said_at.isoformat(),
    }  # fmt: skip
