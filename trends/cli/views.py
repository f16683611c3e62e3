"""``trends top | show | search | export | report``: what is stored, for people and for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sinks.views import ItemView, Now, SearchHit, TopicBrief, TopicView, TopTrends, TrendRow, TrendView
from streams.errors import SettingsError, UnavailableError
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, err, out, print_json
from trends.exporting import Format, format_of, write_rows
from trends.reading import RisingSubject, RisingSubjects, RisingTopics
from trends.text import ago, duration, instant, moment, plain, sparkline, web_link

SPARK_WIDTH = 24
SHORT_ID = 8
NOTHING_RISES = (
    "nothing rises: nothing is stored in this window, or all of it is as usual; "
    "look further back with --window 4w, or at a past time with --at 2016-09-08"
)

WindowOption = Annotated[str, typer.Option("--window", "-w", help="How far back: 90m, 24h, 4d, 2w.")]
AtOption = Annotated[
    str | None,
    typer.Option("--at", help="A past time instead of now: 2016-09-07, 2016-09-07T18:00.", show_default=False),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(top)
    app.command()(show)
    app.command()(search)
    app.command()(export)
    app.command()(report)


# -- top -------------------------------------------------------------------------------------------------------------


def top(
    at: AtOption = None,
    window: WindowOption = "4d",
    limit: LimitOption = 20,
    category: Annotated[str | None, typer.Option("--category", help="Only trends with items of a category.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only trends with items of a source.")] = None,
    trends: Annotated[bool, typer.Option("--trends", help="All rising trends, also mere words.")] = False,
    stories: Annotated[bool, typer.Option("--stories", help="The rising stories, over all trends.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what rises: subjects that are talked about far more than their own past lets one expect, and what is told.

    A subject is a trend, a story, or both: those that are mostly of the same items stand in one line, under the title
    that stands for them. What is not about one thing is left out (--trends has it); --category and --source show
    trends, too.

    Where a past month was replayed, "now" is its newest event; the line above the table says which time it is.
    Strength: by how many deviations a day's items are, or lately were, above what the subject's own past lets one
    expect, weighed by its publishers and by the attention it got; it halves every 12 hours.

    \b
    Examples:
      trends top
      trends top --at 2016-09-08 --limit 10
      trends top --json | jq '.subjects[].headline'
      trends top --source hackernews --json | jq '.trends[].trend_id'
    """
    from trends.reading import open_reader, rising_subjects, rising_topics

    if stories and (category or source or trends):
        raise SettingsError("--stories are over all trends and sources: leave --trends, --category and --source out")
    with open_reader(current_settings(generation=generation)) as sync:
        if stories:
            _print(rising_topics(sync, limit, instant(at) if at else None), as_json, stories_table)
            return
        if not (trends or category or source):
            found = rising_subjects(sync, limit, instant(at) if at else None, duration(window))
            _print(found, as_json, subjects_table)
            return
        listed = sync.ask(
            sync.reader.top(
                window=duration(window), limit=limit, at=instant(at) if at else None, category=category, source=source
            )
        )
    if as_json:
        print_json(listed)
    else:
        out().print(top_table(listed))


def subjects_table(found: RisingSubjects) -> RenderableType:
    """The rising subjects as a table, with the time that they are seen at."""
    head = Text.assemble(("Rising", "bold"), f" · {_now_text(found.now)}")
    if not found.subjects:
        return Group(head, Text(NOTHING_RISES, "dim"))
    table, width = _rising_table("4 d", "story")
    for number, each in enumerate(found.subjects, 1):
        slices = 4 * 86_400 // each.slice_s
        table.add_row(
            str(number), _subject_name(each), sparkline(each.counts[-slices:], width), f"{each.standing.strength:.1f}",
            f"{each.standing.items:,}", f"{each.publishers:,}", _linked(each.headline, each.url),
        )  # fmt: skip
    return Group(head, Text(), table)


def _rising_table(span: str, story: str) -> tuple[Table, int]:
    """An empty table of what rises, as wide as the terminal lets it be, and the width of its sparklines."""
    wide, narrow = out().width >= 100, out().width < 76
    width = SPARK_WIDTH if wide else SPARK_WIDTH // (3 if narrow else 2)
    table = Table(box=None, header_style="dim", padding=(0, 1), expand=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("trend", style="bold cyan", max_width=24 if wide else 10 if narrow else 14, overflow="fold")
    table.add_column(f"last {span}", no_wrap=True, style="green", width=width)
    for column in ("strength", "items", "publishers" if wide else "by"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(story, ratio=1, overflow="fold", min_width=10 if narrow else 20)
    return table, width


def _subject_name(subject: RisingSubject) -> Text:
    name = Text(" · ".join(plain(name, 60) for name in subject.names) or "–", "" if subject.names else "dim")
    if subject.tracked:
        name.append(" ★", "yellow")
    return name


def top_table(found: TopTrends) -> RenderableType:
    """The rising trends as a table, with the time that they are seen at."""
    head = Text.assemble(("Rising trends", "bold"), f" · {_now_text(found.now)}")
    if not found.trends:
        return Group(head, Text(NOTHING_RISES, "dim"))
    table, width = _rising_table(_span_text(found.trends[0]), "leading story")
    for number, row in enumerate(found.trends, 1):
        table.add_row(
            str(number),
            _trend_name(row),
            sparkline(row.counts, width),
            f"{row.strength:.1f}",
            f"{row.window_items:,}",
            f"{row.publishers:,}",
            _headline(row.topics[0]) if row.topics else Text("–", "dim"),
        )
    return Group(head, Text(), table)


def stories_table(found: RisingTopics) -> RenderableType:
    """The rising stories as a table."""
    head = Text.assemble(("Rising stories", "bold"), f" · {_now_text(found.now)}")
    if not found.topics:
        return Group(head, Text("no story rises in this day; a past time: --at 2016-09-08", "dim"))
    table = Table(box=None, header_style="dim", padding=(0, 1), expand=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("id", style="dim", no_wrap=True)
    table.add_column("last 4 days", no_wrap=True, style="green", width=SPARK_WIDTH // 2)
    for column in ("strength", "items", "expected", "by"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("story", ratio=1, overflow="fold", min_width=20)
    for number, each in enumerate(found.topics, 1):
        standing = each.standing
        table.add_row(
            str(number), each.topic.topic_id[:SHORT_ID], sparkline(each.counts[-96:], SPARK_WIDTH // 2),
            f"{standing.strength:.1f}", f"{standing.items:,}", f"{standing.expected:.1f}",
            f"{each.topic.publishers:,}", _headline(each.topic),
        )  # fmt: skip
    return Group(head, Text(), table)


def _now_text(now: Now) -> str:
    return f"as of {moment(now.time)}" + (" (the newest event stored)" if now.replayed else "")


def _span_text(row: TrendRow) -> str:
    hours = len(row.counts) * row.slice_s // 3_600
    return f"{hours // 24} d" if hours % 24 == 0 else f"{hours} h"


def _trend_name(row: TrendRow) -> Text:
    name = Text(plain(row.title, 60))
    if row.tracked:
        name.append(" ★", "yellow")
    return name


def _headline(story: TopicBrief) -> Text:
    return _linked(story.headline, next((item.url for item in story.leading if web_link(item.url)), None))


def _linked(title: str, url: str | None) -> Text:
    link = web_link(url)
    return Text(plain(title, 140), style=Style(link=link) if link else "")


# -- show ------------------------------------------------------------------------------------------------------------


def show(
    name: Annotated[
        str, typer.Argument(metavar="TREND|TOPIC", help="A trend, a tracked subject, or a topic's id (or its start).")
    ],
    at: AtOption = None,
    window: WindowOption = "7d",
    limit: LimitOption = 15,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trend (its course, its stories, its leading items) or one topic (its summary, items, timeline).

    A trend may be named as people write it: `iphone` finds `term:iphone`. The id of a topic that was merged into
    another leads to that one.

    \b
    Examples:
      trends show iphone
      trends show "Electric aviation" --window 2w
      trends show 3f2a9c1e
    """
    from trends.reading import open_reader

    with open_reader(current_settings(generation=generation)) as sync:
        found = sync.ask(sync.reader.find(name))
        if found is None:
            raise SettingsError(f"no trend and no topic is called {name!r}: look for it with `trends search`")
        kind, identity = found
        if kind == "trend":
            trend = sync.ask(
                sync.reader.trend(
                    identity, window=duration(window), at=instant(at) if at else None, topics=limit, items=limit
                )
            )
            if trend is None:
                raise SettingsError(f"{identity!r} did not exist yet at {at}")
            _print(trend, as_json, trend_page)
        else:
            topic = sync.ask(sync.reader.topic(identity, members=limit))
            if topic is None:
                raise SettingsError(f"topic {identity!r} is gone; try again")
            _print(topic, as_json, topic_page)


def _print(value: Any, as_json: bool, render: Callable[[Any], RenderableType]) -> None:
    if as_json:
        print_json(value)
    else:
        out().print(render(value), crop=False)


def trend_page(view: TrendView) -> RenderableType:
    """Everything about a trend."""
    row = view.row
    parts: list[RenderableType] = [
        Text.assemble(_trend_name(row), ("  " + row.trend_id, "dim"), style="bold"),
        Text(_now_text(view.now), "dim"),
    ]
    if view.status:
        words = ", ".join(plain(k) for k in view.keywords)
        parts.append(Text(f"tracked ({view.status}){f': {words}' if words else ''}", "dim"))
    if row.aliases:
        parts.append(Text(f"also {', '.join(plain(name) for name in row.aliases)}: counted together", "dim"))
    parts += [
        Text(),
        Text.assemble((f"{sparkline(row.counts, 48)}", "green"), (f"  last {_span_text(row)}", "dim")),
        Text(_standing_text(row, view.now), "bold"),
        Text(
            f"{_count(row.items, 'item')} in a day, {row.expected:.1f} expected · burst {row.burst:.1f} · "
            f"{_count(row.publishers, 'publisher')} · {_count(row.total, 'item')} since {moment(row.first_seen)}"
        ),
        Text(f"{_count(row.points, 'point')}, {_count(row.comments, 'comment')} · {_counts_text(row.sources)}", "dim"),
    ]
    if row.topics:
        parts += [Text(), Text("Stories", "bold"), topics_table(row.topics)]
    if view.items:
        parts += [Text(), Text("Leading items", "bold"), *(_item_lines(item, view.now.time) for item in view.items)]
    if not row.topics and not view.items:
        parts.append(Text("nothing in this window; a longer one: --window 4w", "dim"))
    return Group(*parts)


def _standing_text(row: TrendRow, now: Now) -> str:
    if row.peaked_at is None:
        return "not rising"
    if row.burst > 0:
        return f"rising: strength {row.strength:.1f}"
    return f"was rising {ago(row.peaked_at, now.time)}: strength {row.strength:.1f} left"


def topics_table(topics: Sequence[TopicBrief]) -> RenderableType:
    """Topics with their ids, sizes and summaries."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for story in topics:
        text = Text.assemble((plain(story.headline), "bold"))
        if story.summary and plain(story.summary) != plain(story.headline):
            text.append("\n" + plain(story.summary, 400))
        count = story.items if story.items is not None else story.size
        table.add_row(f"{count:,}×", plain(story.topic_id)[:SHORT_ID], text)
    return table


def topic_page(view: TopicView) -> RenderableType:
    """Everything about a topic."""
    brief = view.brief
    size = _count(brief.size, "item") + (
        f", of them {view.echoes:,} {'copy' if view.echoes == 1 else 'copies'}" if view.echoes else ""
    )
    parts: list[RenderableType] = [Text(plain(brief.headline), "bold"), Text(brief.topic_id, "dim")]
    if view.asked_generation:
        parts.append(Text(f"most items of {view.asked_id} (generation {view.asked_generation}) are here now", "yellow"))
    elif view.asked_id != brief.topic_id:
        why = view.merged.get(view.asked_id)
        parts.append(Text(f"{view.asked_id} was merged into it" + (f" ({plain(why)})" if why else ""), "yellow"))
    if brief.summary:
        parts += [Text(), Text(plain(brief.summary))]
    if brief.keywords:
        parts.append(Text(" · ".join(plain(k) for k in brief.keywords), "cyan"))
    if brief.entities:
        parts.append(Text(", ".join(plain(name) for name in brief.entities), "dim"))
    parts += [
        Text(),
        Text(
            f"{size} by {_count(brief.publishers, 'publisher')}, {moment(brief.first_seen)} – {moment(brief.last_seen)}"
            f" · {_count(brief.points, 'point')}, {_count(brief.comments, 'comment')} · {brief.life}"
            + (f": {plain(view.reason)}" if view.reason else "")
        ),
        Text(f"{_counts_text(view.sources)} · in {_counts_text(view.trends)}", "dim"),
    ]
    if view.timeline:
        counts = _timeline_counts(view)
        step = "hour" if view.step_s == 3_600 else "day"
        parts.append(Text.assemble((sparkline(counts, 60), "green"), (f"  {len(counts)} {step}s", "dim")))
    if brief.leading:
        parts += [Text(), Text("Nearest to its core", "bold"), *(_item_lines(item) for item in brief.leading)]
    led = {item.item_id for item in brief.leading}
    others = [item for item in view.members if item.item_id not in led]
    if others:
        parts += [Text(), Text("Others, the most discussed first", "bold"), *(_item_lines(item) for item in others)]
    return Group(*parts)


def _timeline_counts(view: TopicView) -> list[int]:
    """The timeline without gaps."""
    step = timedelta(seconds=view.step_s)
    by_start = {b.start: b.items for b in view.timeline}
    start, end = view.timeline[0].start, view.timeline[-1].start
    return [by_start.get(start + i * step, 0) for i in range(min(2_000, (end - start) // step + 1))]


def _item_lines(item: ItemView, now: datetime | None = None) -> RenderableType:
    """Title, what is known about it, and its address, unbroken, so that it can be copied from anywhere."""
    url = web_link(item.url)
    who = plain(item.publisher or item.source).removeprefix("www.")
    when = ago(item.published_at, now) if now else f"{item.published_at:%Y-%m-%d}"
    about = [who, _count(item.points, "point"), _count(item.comments, "comment"), when]
    if item.echo_of:
        about.append("a copy")
    title = plain(item.title) or item.item_id
    line = Text.assemble((title, Style(link=url) if url else ""), ("  " + " · ".join(about), "dim"))
    lines: list[RenderableType] = [Padding(line, (0, 0, 0, 2))]
    if url:
        lines.append(Text("  " + url, "blue", no_wrap=True, overflow="ignore"))
    return Group(*lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _counts_text(counts: Mapping[str, int], most: int = 6) -> str:
    shown = [f"{plain(name).removeprefix('term:')} {count:,}" for name, count in list(counts.items())[:most]]
    return ", ".join(shown) + (f", {len(counts) - most} more" if len(counts) > most else "")


# -- search ----------------------------------------------------------------------------------------------------------


def search(
    text: Annotated[str, typer.Argument(help='Words; "a phrase", or, -without.')],
    limit: LimitOption = 10,
    words: Annotated[bool, typer.Option("--words", help="By words alone, not by meaning.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find stories by words (in titles, texts and summaries) and by meaning; what both find comes first.

    \b
    Examples:
      trends search "battery recall"
      trends search '"open source" -license'
      trends search elections --json | jq '.[].topic.headline'
    """
    from trends.following import following
    from trends.reading import open_reader, query_vector

    settings = following(current_settings(generation=generation)).settings
    vector = None
    if not words:
        try:
            vector = query_vector(settings, text)
        except (SettingsError, UnavailableError) as error:
            err().print(Text(f"note: searching by words alone: {error}", "yellow"), soft_wrap=True)
    with open_reader(settings) as sync:
        hits = sync.ask(sync.reader.search(text, vector=vector, limit=limit))
    if as_json:
        print_json(hits)
    elif hits:
        out().print(Group(*(_hit_lines(number, hit) for number, hit in enumerate(hits, 1))), crop=False)
    else:
        err().print(f"nothing was found for {plain(text)!r}", markup=False)


def _hit_lines(number: int, hit: SearchHit) -> RenderableType:
    brief = hit.topic
    head = Text.assemble((f"{number}. ", "dim"), (plain(brief.headline), "bold"))
    found = f"cosine {hit.similarity:.2f}" if hit.similarity is not None else ", ".join(hit.found_by)
    about = f"{_count(brief.size, 'item')} · {moment(brief.last_seen)} · {plain(brief.topic_id)[:SHORT_ID]} · {found}"
    parts: list[RenderableType] = [head, Text("   " + about, "dim")]
    if brief.summary and plain(brief.summary) != plain(brief.headline):
        parts.append(Padding(Text(plain(brief.summary, 300)), (0, 0, 0, 3)))
    shown = [item for item in (hit.items or brief.leading) if plain(item.title) != plain(brief.headline)][:2]
    parts += [_item_lines(item) for item in shown]
    return Group(*parts, Text())


# -- export ----------------------------------------------------------------------------------------------------------


class Exported(StrEnum):
    """What can be exported."""

    ITEMS = "items"
    TOPICS = "topics"
    TRENDS = "trends"
    MENTIONS = "mentions"
    SCORES = "scores"


def export(
    kind: Annotated[Exported, typer.Argument(help="What to export.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file: .csv, .jsonl or .parquet; not given: stdout.")
    ] = None,
    chosen: Annotated[Format | None, typer.Option("--format", "-f", help="Where the name does not say it.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only from this time on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only before this time.")] = None,
    trend: Annotated[str | None, typer.Option("--trend", help="Only of this trend (its id).")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only of this source.")] = None,
    generation: GenerationOption = None,
) -> None:
    """Write what is stored as CSV, JSON lines or Parquet, in the order of time; memory stays small whatever its size.

    An item's topic_id is that of today, after all merges; joined_topic_id is the one it came to. A file is there
    whole or not at all.

    \b
    Examples:
      trends export items -o items.parquet
      trends export topics --format csv > topics.csv
      trends export items --since 2016-09-07 --trend term:iphone | jq .title
    """
    from sinks.postgres.export import KINDS, Filters
    from trends.atomic import whole_file
    from trends.reading import open_reader

    path = None if output is None or str(output) == "-" else output
    as_format = format_of(path, chosen)
    filters = Filters(
        since=_from(since), until=instant(until) if until else None, trend=trend, source=source
    )  # fmt: skip
    with (
        open_reader(current_settings(generation=generation)) as sync,
        closing(sync.export(kind.value, filters)) as rows,
    ):
        columns = KINDS[kind.value].columns
        if path is None:
            _to_stdout(lambda: write_rows(rows, columns, as_format, sys.stdout.buffer, lambda _: None))
            return
        total = sync.ask(sync.reader.count_export(kind.value, filters))
        with _bar(kind.value, total) as progress, whole_file(path) as file:
            written = write_rows(rows, columns, as_format, file, progress)
    err().print(f"{written:,} {kind.value} in {path}", markup=False)


def _from(text: str | None) -> datetime | None:
    """The beginning of a day or time."""
    if text is None:
        return None
    time = instant(text)
    return time - timedelta(days=1) if len(text.strip()) == 10 else time


def _to_stdout(write: Callable[[], int]) -> None:
    """A reader that has seen enough (`| head`) is no error."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    with Progress(
        TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=err(),
        transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


# -- report ----------------------------------------------------------------------------------------------------------


def report(
    html: Annotated[
        Path | None, typer.Option("--html", help="The file; report.html in the data folder, if not given.")
    ] = None,
    at: AtOption = None,
    window: WindowOption = "4d",
    limit: LimitOption = 20,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the rising trends, their stories, summaries and links as one page that needs nothing else to be read.

    \b
    Examples:
      trends report --html rising.html
      trends report --html september-8.html --at 2016-09-08
    """
    from trends.reading import open_reader
    from trends.report import write_report

    settings = current_settings(generation=generation)
    path = html or settings.home / "report.html"
    with open_reader(settings) as sync:
        write_report(sync, path, window=duration(window), at=instant(at) if at else None, limit=limit)
    if as_json:
        print_json({"report": str(path)})
    else:
        out().print(f"the report is in {path}", markup=False, soft_wrap=True)
