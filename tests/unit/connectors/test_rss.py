"""The feed source against a local server: formats, odd dates, broken XML, conditional requests, lost feeds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.http import Response
from connectors.rss import Entry, RssConnector, RssOptions, entries_of, feeds_of
from streams.errors import SettingsError
from streams.records import Kind
from tests.unit.connectors.helpers import NOW, Hands, Memory, bad_rows, collect, read, sightings
from tests.unit.connectors.server import Answer, Server, zipped

FAST = RssOptions(requests_per_s=1_000.0, timeout_s=0.3)


def item(number: int, more: str = "", date: str = "Sun, 01 Mar 2026 10:00:00 GMT") -> str:
    return (
        f"<item><guid>https://site.example/{number}</guid><link>https://www.site.example/{number}?x=1&amp;y=2</link>"
        f"<title>Title &lt;b&gt;{number}&lt;/b&gt; &amp;amp; more</title><pubDate>{date}</pubDate>{more}</item>"
    )


def rss(*items: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><rss version="2.0" xmlns:slash="http://purl.org/rss/1.0/modules/slash/" '
        'xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>Site</title><language>en</language>'
        + "".join(items) + "</channel></rss>"
    ).encode()  # fmt: skip


def served(body: bytes, content_type: str = "application/rss+xml", **headers: str) -> Answer:
    return Answer(body, headers={"Content-Type": content_type, **headers})


ATOM = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xml:lang="de"><title>T</title>
<entry><id>tag:site.example,2026:1</id><link href="/one"/><title type="html">One &lt;i&gt;x&lt;/i&gt;</title>
<updated>2026-03-01T10:00:00+01:00</updated><author><name>Ann</name></author><category term="fruit"/>
<content type="html">&lt;p&gt;Long&lt;/p&gt;&lt;p&gt;text&lt;/p&gt;</content></entry></feed>"""

JSON_FEED = json.dumps(
    {
        "version": "https://jsonfeed.org/version/1.1", "title": "T", "language": "en",
        "items": [
            {"id": 17, "url": "/one", "title": "One", "content_html": "<p>Text</p>", "authors": [{"name": "Ann"}],
             "date_published": "2026-03-01T10:00:00Z", "tags": ["fruit", 3],
             "attachments": [{"url": "x", "mime_type": "audio/mpeg"}]},
            "rubbish", {"id": "2"}, {"id": "3", "content_text": "No title here", "date_published": "never"},
        ],
    }
).encode()  # fmt: skip


async def test_rss(server: Server) -> None:
    body = rss(item(1, "<category>a</category><slash:comments>7</slash:comments><dc:creator xmlns:dc="
                       "'http://purl.org/dc/elements/1.1/'>Ann</dc:creator><description>&lt;p&gt;Some "
                       "&lt;script&gt;x&lt;/script&gt;text&lt;/p&gt;</description>"))  # fmt: skip
    server.put("/feed", served(body))
    (seen,) = sightings(await read(RssConnector(f"{server.base}/feed", FAST)))
    assert (seen.external_id, seen.url) == ("https://site.example/1", "https://www.site.example/1?x=1&y=2")
    assert (seen.title, seen.body) == ("Title 1 & more", "Some text")
    assert (seen.publisher, seen.author, seen.lang, seen.tags) == ("site.example", "Ann", "en", ("a",))
    assert (seen.engagement.comments, seen.kind) == (7, Kind.ARTICLE)
    assert (seen.published_at, seen.observed_at) == (datetime(2026, 3, 1, 10, tzinfo=UTC), NOW)


async def test_atom(server: Server) -> None:
    server.put("/atom", served(ATOM, "application/atom+xml"))
    (seen,) = sightings(await read(RssConnector(f"{server.base}/atom", FAST)))
    assert (seen.external_id, seen.url) == ("tag:site.example,2026:1", f"{server.base}/one")
    assert (seen.title, seen.body, seen.author, seen.tags) == ("One x", "Long\ntext", "Ann", ("fruit",))
    assert seen.published_at == datetime(2026, 3, 1, 9, tzinfo=UTC)


async def test_json_feed(server: Server) -> None:
    server.put("/json", served(JSON_FEED, "text/html"))  # servers lie about types
    batches = await read(RssConnector(f"{server.base}/json", FAST))
    first, third = sightings(batches)
    assert (first.external_id, first.url, first.kind) == ("127.0.0.1/17", f"{server.base}/one", Kind.PODCAST)
    assert (first.title, first.body, first.author, first.tags) == ("One", "Text", "Ann", ("fruit",))
    assert (third.title, third.published_at) == ("No title here", NOW)
    assert len(bad_rows(batches)) == 1


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("", NOW),
        ("yesterday evening", NOW),
        ("Sun, 01 Mar 2099 10:00:00 GMT", NOW),
        ("0000-00-00", NOW),
        ("31 Feb 2026", NOW),
        ("2026-03-01T09:00:00+02:00", datetime(2026, 3, 1, 7, tzinfo=UTC)),
        ("1772355600", datetime(2026, 3, 1, 9, tzinfo=UTC)),
    ],
)
async def test_odd_dates_are_survived_and_never_lie_ahead(server: Server, date: str, expected: datetime) -> None:
    server.put("/feed", served(rss(item(1, date=date))))
    (seen,) = sightings(await read(RssConnector(f"{server.base}/feed", FAST)))
    assert seen.published_at == expected


async def test_broken_xml_is_read_as_far_as_it_goes(server: Server) -> None:
    body = rss(item(1), item(2, "<description>a & b <br> &nbsp; é</description>"), item(3))
    server.put("/feed", served(body[:-40].replace(b'encoding="utf-8"', b'encoding="us-ascii"')))
    seen = sightings(await read(RssConnector(f"{server.base}/feed", FAST)))
    assert [each.external_id[-1] for each in seen][:2] == ["1", "2"]


async def test_other_encodings_are_read(server: Server) -> None:
    body = rss(item(1)).decode().replace("more", "crème").replace("utf-8", "iso-8859-1").encode("latin-1")
    server.put("/feed", served(body, "text/xml"))
    (seen,) = sightings(await read(RssConnector(f"{server.base}/feed", FAST)))
    assert seen.title == "Title 1 & crème"


async def test_gzip_and_redirects(server: Server) -> None:
    server.put("/old", Answer(status=301, headers={"Location": "/new"}))
    server.put("/new", zipped(rss(item(1)), "application/rss+xml"))
    assert len(sightings(await read(RssConnector(f"{server.base}/old", FAST)))) == 1


async def test_unchanged_feeds_are_not_sent_again_and_edits_are(server: Server) -> None:
    connector = RssConnector(f"{server.base}/feed", FAST)
    server.put("/feed", served(rss(item(1), item(2)), ETag='"1"'))
    _, memory = await collect(connector)
    report, _ = await collect(connector, memory)
    assert report.delivered == 0
    assert server.headers[-1]["If-None-Match"] == '"1"'
    edited = rss(item(1, "<description>now with text</description>"), item(2), item(3))
    server.put("/feed", served(edited, ETag='"2"'))
    report, _ = await collect(connector, memory)
    assert report.delivered == 2
    assert [each.external_id[-1] for each in memory.delivered] == ["1", "2", "1", "3"]
    assert memory.delivered[0].item_id == memory.delivered[2].item_id


async def test_the_same_entry_of_two_feeds_is_sent_once(server: Server, tmp_path: Path) -> None:
    server.put("/a", served(rss(item(1), item(1), item(2))))
    server.put("/b", served(rss(item(2), item(3))))
    target = tmp_path / "feeds.txt"
    target.write_text(f"# mine\n{server.base}/a\n\n{server.base}/b # the other\n{server.base}/a\n")
    seen = sightings(await read(RssConnector(str(target), FAST)))
    assert sorted(each.external_id[-1] for each in seen) == ["1", "2", "3"]


async def test_lost_feeds_are_reported_wait_longer_and_leave_the_others_alone(server: Server, tmp_path: Path) -> None:
    server.put("/good", served(rss(item(1))))
    server.put("/html", served(b"<!doctype html><html><body>Sorry</body></html>", "text/html"))
    server.put("/cut", served(b'{"items": [', "application/feed+json"))
    server.put("/slow", Answer(stall_s=5.0))
    server.put("/limited", Answer(status=429, headers={"Retry-After": "3600"}))
    server.put("/big", Answer(endless=True))
    server.put("/500", Answer(status=500))
    names = ("good", "html", "cut", "slow", "limited", "gone", "big", "500")
    target = tmp_path / "feeds.txt"
    target.write_text("\n".join(f"{server.base}/{name}" for name in names))
    connector = RssConnector(str(target), FAST)
    connector.limits = type(connector.limits)(
        connections=10, requests_per_s=1_000.0, timeout_s=0.3, attempts=2, body_bytes=100_000
    )
    hands, memory = Hands(), Memory()
    report, _ = await collect(connector, memory, hands)
    assert report.ok
    assert report.delivered == 1
    assert report.bad == len(names) - 1
    asked = server.count("/html")
    hands.at_s += 60
    await collect(connector, memory, hands)  # the second failure: from now on they wait
    hands.at_s += 60
    await collect(connector, memory, hands)
    assert server.count("/html") == asked + 1
    assert server.count("/good") == 3


async def test_when_no_feed_can_be_read_the_source_has_failed(server: Server) -> None:
    report, _ = await collect(RssConnector(f"{server.base}/gone", FAST))
    assert not report.ok
    assert "HTTP 404" in str(report.error)


# -- lists -------------------------------------------------------------------------------------------------------------


def test_opml_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "feeds.opml"
    path.write_text(
        '<?xml version="1.0"?><opml version="2.0"><body><outline text="News"><outline type="rss" '
        'xmlUrl="https://a.example/feed"/><outline xmlurl=" http://b.example/feed "/></outline>'
        '<outline text="no feed"/><outline xmlUrl="https://a.example/feed"/></body></opml>'
    )
    assert feeds_of(str(path)) == ("https://a.example/feed", "http://b.example/feed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no feeds"),
        ("# nothing\n", "no feeds"),
        ("ftp://x.example/\n", "line 1: not an http"),
        ("https://x.example/\nplums\n", "line 2: not an http"),
        ("<opml><body>", "no OPML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><opml/>', "entities"),
        ("<opml/>", "no feeds"),
    ],
)
def test_lists_that_are_none_say_why(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "feeds"
    path.write_text(text)
    with pytest.raises(SettingsError, match=says):
        feeds_of(str(path))


def test_a_target_that_is_nothing() -> None:
    with pytest.raises(SettingsError, match="neither"):
        feeds_of("plums")


# -- whatever comes ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"<?xml version='1.0'?><rss><channel>", b'{"items": [', b"{"]))
def test_rubbish_is_no_feed_or_has_entries_and_nothing_else_happens(body: bytes, head: bytes) -> None:
    response = Response("https://x.example/", 200, head + body, "text/xml", None, None, None)
    try:
        entries = entries_of(response)
    except ValueError:
        return
    assert all(isinstance(entry, Entry) for entry in entries)


async def test_huge_feeds_are_cut_at_the_top(server: Server) -> None:
    server.put("/feed", served(rss(*(item(n) for n in range(700)))))
    assert len(sightings(await read(RssConnector(f"{server.base}/feed", FAST)))) == 500


def test_a_list_is_bounded(tmp_path: Path) -> None:
    target = tmp_path / "feeds.txt"
    target.write_text("\n".join(f"https://site{n}.example/feed.xml" for n in range(2_000)))
    assert len(RssConnector(str(target)).feeds) == 2_000
    target.write_text("\n".join(f"https://site{n}.example/feed.xml" for n in range(2_001)))
    with pytest.raises(SettingsError, match="at most 2,000"):
        RssConnector(str(target))


async def test_the_cursor_is_bounded(server: Server, tmp_path: Path) -> None:
    """40,000 versions over all feeds: with 1,000 feeds, the first 40 entries of each."""
    server.put("/0", served(rss(*(item(n) for n in range(100)))))
    target = tmp_path / "feeds.txt"
    target.write_text("\n".join(f"{server.base}/{n}" for n in range(1_000)))
    connector, memory = RssConnector(str(target), FAST), Memory()
    report, _ = await collect(connector, memory)
    assert report.delivered == 40
    assert len(memory.cursors[connector.name]) < 1_000 * 100
    again, _ = await collect(connector, memory)
    assert again.delivered == 0
