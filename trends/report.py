"""The report: one HTML page with the rising trends, their stories and links, that asks nothing of any network.

All text comes from strangers: everything is escaped, links are web links only, and the page forbids scripts, frames and
requests of any kind to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from sinks.postgres import SyncReader
from sinks.views import ItemView, StoredCounts, TopicBrief, TopTrends, TrendRow
from trends.atomic import whole_file
from trends.text import bins, moment, plain, web_link

STORIES: Final = 4
"""Of each trend."""
ITEMS: Final = 3
"""Links of each story."""
BARS: Final = 48
BURST: Final = timedelta(hours=24)
"""The last part of a sparkline, which the burst is about, has a colour of its own."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_report(
    sync: SyncReader,
    path: Path,
    *,
    window: timedelta = timedelta(days=4),
    at: datetime | None = None,
    limit: int = 20,
    clock_now: datetime | None = None,
) -> None:
    """Ask the store for the rising trends and write the page; it is there whole or not at all.

    Raises:
        SettingsError: the file cannot be written.
        UnavailableError: the store does not answer.
    """
    found = sync.ask(sync.reader.top(window=window, at=at, limit=limit, topics=STORIES))
    counts = sync.ask(sync.reader.counts())
    page = render(found, counts, clock_now or datetime.now(UTC))
    with whole_file(path) as file:
        file.write(page.encode())


def render(found: TopTrends, counts: StoredCounts, made_at: datetime) -> str:
    """The page as text."""
    style = (files("trends") / "report.css").read_text("utf-8")
    when = moment(found.now.time)
    note = " — the newest event stored" if found.now.replayed else ""
    told: dict[str, tuple[int, str]] = {}
    trends = "\n".join(_trend(number, row, found, told) for number, row in enumerate(found.trends, 1))
    links = "".join(
        f'<li><a href="#trend-{number}">{_text(row.title, 40)}</a></li>' for number, row in enumerate(found.trends, 1)
    )
    figures = "".join(
        f"<li><b>{value:,}</b><span class=soft>{name}</span></li>"
        for value, name in ((counts.items, "items"), (counts.topics, "stories"), (counts.trends, "trends"))
    )
    body = trends or '<p class="empty">Nothing rises: nothing is stored in this window, or all of it is as usual.</p>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>Rising trends · {when}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>Rising trends</h1>
<p class="soft">as of <time datetime="{found.now.time.astimezone(UTC).isoformat()}">{when}</time>{note}</p>
<ul class="figures">{figures}</ul>
<nav aria-label="Trends"><ol>{links}</ol></nav>
</header>
<main>
{body}
</main>
<footer><p class="soft">Strength: by how many deviations the items of a day are, or lately were, above what the trend's
own past lets one expect, weighed by its publishers and by the attention it got; it halves every 12 hours. Coloured bars
are the last day. Made {moment(made_at)}.</p></footer>
</body>
</html>
"""


def _trend(number: int, row: TrendRow, found: TopTrends, told: dict[str, tuple[int, str]]) -> str:
    """One trend; ``told`` remembers under which trend each story was told in full."""
    tags = '<span class="tag">tracked</span>' if row.tracked else ""
    tags += f'<span class="tag">{_text(row.category, 40)}</span>' if row.category else ""
    # A story with one item of the trend says little about it, unless there is no other.
    topics = [story for story in row.topics if (story.items or 0) > 1] or list(row.topics[:1])
    stories = "".join(_story(story, told.setdefault(story.topic_id, (number, row.title)), number) for story in topics)
    several = list(row.sources.items()) if len(row.sources) > 1 else []
    sources = ", ".join(f"{_text(name, 30)} {count:,}" for name, count in several[:4])
    return f"""<section class="trend" id="trend-{number}">
<div class="head">
<div><h2><span class="rank">{number}</span>{_text(row.title, 80)}{tags}</h2>
<p class="soft"><span class="strength">strength {row.strength:.1f}</span> · {row.window_items:,} items in
{_span(found.window_s)}, {row.items:,} in the last day ({row.expected:.1f} expected) ·
{row.publishers:,} publisher{"s" if row.publishers != 1 else ""}{f" · {sources}" if sources else ""}</p></div>
{spark(row.counts, row.slice_s, plain(row.title, 80))}
</div>{stories}
</section>"""


def _story(story: TopicBrief, told: tuple[int, str], number: int) -> str:
    headline = _text(story.headline, 200)
    about = [f"{story.size:,} item{'s' if story.size != 1 else ''}"]
    if story.items is not None and story.items < story.size:
        about = [f"{story.items:,} of its {story.size:,} items"]
    about.append(f"{story.publishers:,} publisher{'s' if story.publishers != 1 else ''}")
    if story.points or story.comments:
        about.append(f"{story.points:,} points, {story.comments:,} comments")
    facts = " · ".join(about)
    if told[0] != number:
        facts += f' · <a href="#trend-{told[0]}">see {_text(told[1], 40)}</a>'
        return f'\n<article class="story"><h3>{headline}</h3><p class="soft">{facts}</p></article>'
    summary = story.summary if story.summary and plain(story.summary) != plain(story.headline) else None
    items = "".join(_item(item) for item in story.leading[:ITEMS])
    return (
        f'\n<article class="story"><h3>{headline}</h3><p class="soft">{facts}</p>'
        + (f"<p>{_text(summary, 600)}</p>" if summary else "")
        + (f'<ul class="items">{items}</ul>' if items else "")
        + "</article>"
    )


def _item(item: ItemView) -> str:
    title = _text(item.title or item.item_id, 200)
    url = web_link(item.url)
    if url is not None:
        title = f'<a href="{escape(url, quote=True)}" rel="noopener noreferrer nofollow">{title}</a>'
    return (
        f'<li>{title} <span class="soft">{_text((item.publisher or item.source).removeprefix("www."), 60)}</span></li>'
    )


def spark(counts: Sequence[int], slice_s: int, name: str) -> str:
    """Counts as bars, in an inline SVG of its own."""
    values = bins(counts, BARS)
    top = max(values, default=0) or 1
    width = -(-len(counts) // BARS)
    coloured = len(values) - round(BURST.total_seconds() / (slice_s * max(1, width)))
    bars = "".join(
        f'<rect class="{"now" if i >= coloured else "then"}" x="{i * 4}" y="{40 - h:.1f}" width="3" height="{h:.1f}"/>'
        for i, value in enumerate(values)
        for h in (max(1.0, 40.0 * value / top) if value > 0 else 0.6,)
    )
    label = escape(f"{name}: items over time, at most {top:,} in {width * slice_s / 3_600:g} h", quote=True)
    return (
        f'<svg class="spark" viewBox="0 0 {len(values) * 4} 40" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{bars}</svg>'
    )


def _span(seconds: int) -> str:
    return f"{seconds / 86_400:g} days" if seconds > 86_400 else f"{seconds / 3_600:g} hours"


def _text(text: str | None, limit: int) -> str:
    return escape(plain(text or "", limit), quote=True)
