"""The report: a page that shows what strangers wrote and lets none of it act."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.views import ItemView, Now, StoredCounts, TopicBrief, TopTrends, TrendRow
from trends.report import render, spark

NOW = datetime(2016, 9, 8, 12, tzinfo=UTC)
COUNTS = StoredCounts(1, 1, 1, 1, 0, 1, 1, 1, 1, ())
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "&lt;script&gt;",
    "\u202eevil\x1b[31m",
]


def item(title: str, url: str | None) -> ItemView:
    return ItemView("item-1", "rss", "", title, url, None, title, NOW, NOW, 5, 2, None, "topic-1", None)


def topic(text: str, url: str | None, topic_id: str = "topic-1") -> TopicBrief:
    return TopicBrief(
        topic_id, text, text + " and more", (text,), 9, 3, 5, 2, NOW, NOW, "term:x", "grew", (item(text, url),), 4
    )


def trend(text: str, url: str | None, trend_id: str = "term:x") -> TrendRow:
    return TrendRow(
        trend_id=trend_id, title=text, tracked=True, category=text, counts=(0, 1, 5), slice_s=3600, items=5,
        window_items=6, total=6, publishers=3, sources={text: 3, "rss": 2}, expected=1.0, burst=2.0, strength=3.0,
        peaked_at=NOW, velocity=1.0, points=5, comments=2, spread=0.5, rank=1.0, slice_start=NOW, first_seen=NOW,
        last_seen=NOW, topics=(topic(text, url),),
    )  # fmt: skip


def page(*rows: TrendRow) -> str:
    return render(TopTrends(Now(NOW, True), 345_600, rows), COUNTS, NOW)


class Reading(HTMLParser):
    """All tags with their attributes, and the text outside of the style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def tags_of_page(*rows: TrendRow) -> list[str]:
    return [tag for tag, _ in Reading(page(*rows)).tags]


@pytest.mark.parametrize("text", EVIL)
def test_text_of_strangers_stays_text(text: str) -> None:
    assert tags_of_page(trend(text, None)) == tags_of_page(trend("harmless", None))
    read = Reading(page(trend(text, None)))
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert "\x1b" not in page(trend(text, None))
    assert "\u202e" not in page(trend(text, None))


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_and_no_address_changes_the_page_around_it(text: str, url: str) -> None:
    read = Reading(page(trend("t" + text, url)))
    allowed = tags_of_page(trend("t", None)), tags_of_page(trend("t", "https://a.example/"))
    assert [tag for tag, _ in read.tags] in allowed
    for tag, attributes in read.tags:
        if tag == "a":
            assert re.match(r"(?i)#trend-|https?://", attributes["href"] or "")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>", "vbscript:x", "file:///etc/passwd", "//host/path", "http://",
        "http://[", "\x01javascript:alert(1)",
    ],
)  # fmt: skip
def test_only_web_links_become_links(url: str) -> None:
    links = [a["href"] for tag, a in Reading(page(trend("x", url))).tags if tag == "a"]
    assert links == ["#trend-1"]


def test_web_links_are_links() -> None:
    links = [a for tag, a in Reading(page(trend("x", 'https://a.example/?a=1&b="2"'))).tags if tag == "a"]
    assert links[1]["href"] == 'https://a.example/?a=1&b="2"'
    assert links[1]["rel"] == "noopener noreferrer nofollow"


def test_page_asks_for_nothing_and_forbids_what_could() -> None:
    text = page(trend("x", "https://a.example/"))
    read = Reading(text)
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & {tag for tag, _ in read.tags}
    assert not any(name in ("src", "srcset", "style", "xlink:href") for _, a in read.tags for name in a)
    assert "url(" not in text
    assert "@import" not in text
    policies = [a["content"] for tag, a in read.tags if tag == "meta" and a.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_story_of_two_trends_is_told_once() -> None:
    text = page(trend("first", "https://a.example/"), trend("second", "https://a.example/", "term:y"))
    assert text.count("first and more") == 1
    assert '<a href="#trend-1">see first</a>' in text
    assert "second and more" not in text


def test_empty_store_gives_a_page_that_says_so() -> None:
    assert "Nothing rises" in page()
    assert "the newest event stored" in page()


def test_last_day_of_a_sparkline_has_its_colour() -> None:
    svg = spark([1] * 96, 3600, "x")
    assert svg.count("<rect") == 48
    assert svg.count('class="now"') == 12
    assert spark([], 3600, "x").count("<rect") == 0
    assert spark([0, 0, 3], 3600, "x").count('class="now"') == 3
