"""The feed source: RSS, Atom and JSON Feed, from addresses, list files and OPML files.

Feeds are asked side by side, with conditional requests; one that is broken, gone or slow is reported and waits longer,
and the others go on. Of an entry, only versions that were not delivered before are sent.
"""

from __future__ import annotations

import asyncio
import base64
import calendar
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urljoin

import feedparser
import msgspec
from msgspec import Meta, Struct

from connectors.base import BadRow, Batch, Context, Limits, Sighting, SourceError, bad_line, count_of, host_of, one_line
from connectors.html import plain_text
from connectors.http import FetchError, Response
from connectors.times import parse_time
from streams.errors import SettingsError
from streams.records import Engagement, Kind

# -- options -----------------------------------------------------------------------------------------------------------


class RssOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said about feeds."""

    interval_s: Annotated[float, Meta(gt=0, description="Time between two looks at a feed, seconds.")] = 300.0
    concurrency: Annotated[int, Meta(ge=1, le=200, description="Feeds asked side by side.")] = 10
    requests_per_s: Annotated[float, Meta(gt=0, le=1_000, description="Requests a second, at most.")] = 10.0
    timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for one feed, seconds.")] = 20.0
    body_bytes: Annotated[int, Meta(ge=1_024, description="Largest feed, bytes after decompression.")] = 8 * 1_048_576


# -- bounds ------------------------------------------------------------------------------------------------------------

FEEDS: Final = 2_000
"""Feeds of one connector."""
ENTRIES: Final = 500
"""Entries taken of one feed, from the top."""
DELIVERED: Final = 40_000
"""Versions of entries that the cursor remembers as delivered, over all feeds; 11 bytes each. With many feeds, fewer
entries of each are taken: 20 of each of 2,000."""
PATIENCE_S: Final = 20.0
"""A host that asks for a longer pause is left out of this pass."""
BACKOFF_MAX_S: Final = 86_400.0
"""Longest pause of a feed that fails again and again."""
TITLE_FROM_BODY_CHARS: Final = 120
LIST_BYTES: Final = 4_000_000
ACCEPT: Final = (
    "application/atom+xml, application/rss+xml, application/feed+json, application/rdf+xml, application/json;q=0.9, "
    "application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1"
)


class _Feed(Struct, omit_defaults=True):
    """What is remembered of a feed. ``not_before``: seconds since 1970."""

    etag: str | None = None
    modified: str | None = None
    seen: list[str] = []
    """Versions of the entries that it shows now, as delivered."""
    failures: int = 0
    not_before: int = 0


class _Cursor(Struct):
    feeds: dict[str, _Feed] = {}


# -- the connector -----------------------------------------------------------------------------------------------------


class RssConnector:
    """Reads the feeds of a target: an address, an OPML file, or a file with one address a line.

    Raises:
        SettingsError: no such file, none or too many feeds in it.
    """

    source = "rss"

    def __init__(self, target: str, options: RssOptions | None = None) -> None:
        self._options = options = options or RssOptions()
        self.feeds = feeds_of(target)
        digest = hashlib.sha256(target.encode()).hexdigest()[:12]
        place = re.sub(r"^https?://", "", target) if host_of(target) else Path(target).name
        self.name = f"rss:{one_line(place, 80)}:{digest}"
        self.interval_s: float | None = options.interval_s
        self.limits = Limits(
            priority=1, connections=options.concurrency, requests_per_s=options.requests_per_s,
            timeout_s=options.timeout_s, body_bytes=options.body_bytes, attempts=3,
        )  # fmt: skip

    async def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        """One look at every feed, a batch for each in the order in which they answer.

        Raises:
            SourceError: not one feed could be read.
        """
        state = _decoded(cursor)
        state.feeds = {url: state.feeds.get(url) or _Feed() for url in self.feeds}
        now_s = context.now().timestamp()
        due = [url for url, feed in state.feeds.items() if feed.not_before <= now_s]
        sent: OrderedDict[str, None] = OrderedDict((d, None) for feed in state.feeds.values() for d in feed.seen)
        places = asyncio.Semaphore(self._options.concurrency)
        tasks = [asyncio.create_task(self._look(url, state.feeds[url], places, context)) for url in due]
        lost: list[_Answer] = []
        try:
            for number, task in enumerate(asyncio.as_completed(tasks), start=1):
                answer = await task
                if answer.response is None:
                    lost.append(answer)
                    continue
                seen, bad = self._take(answer, state, sent, context.now())
                yield Batch(tuple(seen), msgspec.json.encode(state), tuple(bad), number / len(tasks))
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if lost and len(lost) == len(tasks):
            raise SourceError(f"not one of {len(tasks)} feeds could be read: {_why(lost[0])}")
        if lost:  # where others could be read, a feed that could not has a trouble of its own
            for answer in lost:
                self._put_off(state.feeds[answer.url], answer.error, context.now())
            bad = [bad_line("feed", _why(answer)) for answer in lost]
            yield Batch((), msgspec.json.encode(state), tuple(bad), 1.0)

    async def _look(self, url: str, feed: _Feed, places: asyncio.Semaphore, context: Context) -> _Answer:
        """Asks one feed and reads it; what goes wrong is part of the answer."""
        async with places:
            try:
                response = await context.http.get(
                    url, accept=ACCEPT, etag=feed.etag, last_modified=feed.modified, patience_s=PATIENCE_S
                )
                if response.not_modified:
                    return _Answer(url, response)
                entries = await asyncio.to_thread(entries_of, response)
            except (FetchError, ValueError) as error:
                return _Answer(url, None, (), error)
            return _Answer(url, response, entries)

    def _put_off(self, feed: _Feed, error: Exception | None, now: datetime) -> None:
        """A feed that failed is asked again next time, then at growing intervals, or when its host says."""
        feed.failures += 1
        pause = self._options.interval_s * 2 ** min(feed.failures - 1, 20) if feed.failures > 1 else 0.0
        if isinstance(error, FetchError) and error.retry_after_s:
            pause = max(pause, error.retry_after_s)
        feed.not_before = int(now.timestamp() + min(pause, BACKOFF_MAX_S))

    def _take(
        self, answer: _Answer, state: _Cursor, sent: OrderedDict[str, None], now: datetime
    ) -> tuple[list[Sighting], list[str]]:
        """What is new in an answer, and what is bad; the state then covers it."""
        feed, response = state.feeds[answer.url], answer.response
        assert response is not None
        feed.failures, feed.not_before = 0, 0
        if response.not_modified:
            return [], []
        feed.etag, feed.modified = response.etag, response.last_modified
        seen: list[Sighting] = []
        bad: list[str] = []
        shown: list[str] = []
        share = min(ENTRIES, DELIVERED // len(self.feeds))  # what is taken can be remembered as delivered
        for number, entry in enumerate(answer.entries[:share], start=1):
            try:
                sighting = entry.sighting(answer.url, now)
            except (BadRow, ValueError) as error:
                bad.append(bad_line(f"{answer.url} entry {number}", error))
                continue
            digest = _digest(sighting)
            shown.append(digest)
            if digest not in sent:
                sent[digest] = None
                seen.append(sighting)
        feed.seen = list(dict.fromkeys(shown))
        return seen, bad


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of asking a feed: entries, or an error."""

    url: str
    response: Response | None
    entries: Sequence[Entry] = ()
    error: Exception | None = None


def _why(answer: _Answer) -> str:
    """What is wrong with which feed; errors of requests name it themselves."""
    return str(answer.error) if isinstance(answer.error, FetchError) else f"{answer.url}: {answer.error}"


# -- lists of feeds ----------------------------------------------------------------------------------------------------


def feeds_of(target: str) -> tuple[str, ...]:
    """The addresses that a target stands for.

    Raises:
        SettingsError: it stands for none.
    """
    if re.match(r"https?://", target, re.IGNORECASE):
        return (target,)
    path = Path(target)
    if not path.is_file():
        raise SettingsError(f"rss: {target!r} is neither an http(s) address nor a file (a list, or OPML)")
    if path.stat().st_size > LIST_BYTES:
        raise SettingsError(f"rss: {target} has more than {LIST_BYTES:,} bytes: no list of feeds")
    text = path.read_bytes()
    found = _opml(text, target) if text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _listed(text, target)
    if not found:
        raise SettingsError(f"rss: no feeds in {target}")
    if len(found) > FEEDS:
        raise SettingsError(f"rss: {len(found):,} feeds in {target}; at most {FEEDS:,}: split the list")
    return found


def _listed(text: bytes, target: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for number, line in enumerate(text.decode("utf-8-sig", "replace").splitlines(), start=1):
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        if host_of(line) is None or not re.match(r"https?://", line, re.IGNORECASE):
            raise SettingsError(f"rss: {target}, line {number}: not an http(s) address: {line[:80]!r}")
        found[line] = None
    return tuple(found)


def _opml(text: bytes, target: str) -> tuple[str, ...]:
    if b"<!ENTITY" in text:
        raise SettingsError(f"rss: {target} declares entities; an OPML file needs none")
    try:
        root = ET.fromstring(text)  # entities refused above, size bounded
    except ET.ParseError as error:
        raise SettingsError(f"rss: {target} is no OPML file: {error}") from None
    urls = (
        next((v for k, v in outline.attrib.items() if k.lower() == "xmlurl"), "") for outline in root.iter("outline")
    )
    return tuple(dict.fromkeys(url.strip() for url in urls if re.match(r"https?://", url.strip(), re.IGNORECASE)))


# -- reading a feed ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a feed, whatever its format."""

    guid: str | None
    link: str | None
    title: str
    body: str
    author: str | None
    site: str | None
    """The page or feed that it was taken from, where it says so."""
    lang: str | None
    tags: tuple[str, ...]
    published: tuple[object, ...]
    """What may be its time, best first."""
    comments: object
    media: str | None
    """MIME type of what is attached."""

    def sighting(self, feed_url: str, now: datetime) -> Sighting:
        """The entry as a sighting. Without a readable time it was published when it was seen, never later.

        Raises:
            BadRow: neither id nor link nor title.
        """
        title = self.title or one_line(self.body, TITLE_FROM_BODY_CHARS)
        if not title:
            raise BadRow("neither title nor text")
        external_id = self.guid or self.link
        if not external_id:
            external_id = "sha256:" + hashlib.sha256(f"{feed_url}\n{title}".encode("utf-8", "replace")).hexdigest()
        elif not re.match(r"[a-z][a-z0-9+.-]*:", external_id, re.IGNORECASE):
            external_id = f"{host_of(feed_url)}/{external_id}"  # "17" is some site's own number
        return Sighting(
            source="rss",
            external_id=external_id,
            kind=_kind(self.media),
            title=title,
            observed_at=now,
            published_at=_published(self.published, now),
            url=self.link or (self.guid if self.guid and host_of(self.guid) else None),
            body=self.body,
            author=self.author,
            publisher=host_of(self.site) or host_of(self.link) or host_of(feed_url),
            lang=self.lang,
            tags=self.tags,
            engagement=Engagement(comments=max(0, count_of(self.comments))),
        )


def entries_of(response: Response) -> tuple[Entry, ...]:
    """The entries of a feed, at most ``ENTRIES``. XML that is broken is read as far as it goes.

    Raises:
        ValueError: it is no feed.
    """
    start = response.body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    found = _json_entries(response) if start.startswith(b"{") else _xml_entries(response)
    return tuple(entry for _, entry in zip(range(ENTRIES), found, strict=False))


def _xml_entries(response: Response) -> Iterator[Entry]:
    content_type = response.content_type + (f"; charset={response.charset}" if response.charset else "")
    parsed = feedparser.parse(
        io.BytesIO(response.body),
        response_headers={"content-type": content_type, "content-location": response.url},
        sanitize_html=False,
    )
    entries = parsed.get("entries") or []
    if not entries and not parsed.get("version"):
        why = one_line(str(parsed.get("bozo_exception") or "no feed format"), 120)
        raise ValueError(f"not a feed but {len(response.body):,} bytes of {response.content_type}: {why}")
    feed = parsed.get("feed") or {}
    for each in entries:
        enclosures = each.get("enclosures") or [{}]
        source = each.get("source") or {}
        yield Entry(
            guid=_string(each.get("id")),
            link=_string(each.get("link")),
            title=plain_text(_string(each.get("title"))),
            body=plain_text(_content(each)),
            author=_string(each.get("author")),
            site=_string(source.get("link")) or _string(source.get("href")),
            lang=_string(each.get("language")) or _string(feed.get("language")),
            tags=tuple(term for tag in each.get("tags") or () if (term := _string(tag.get("term")))),
            # dict.get: the feed's own names, without the library's guesses of one for the other
            published=tuple(dict.get(each, n) for n in ("published_parsed", "published", "updated_parsed", "updated")),
            comments=each.get("slash_comments"),
            media=_string(enclosures[0].get("type")),
        )  # fmt: skip


def _content(entry: Mapping[str, Any]) -> str:
    """The longest of what an entry says."""
    texts = [_string(part.get("value")) or "" for part in entry.get("content") or ()]
    return max([*texts, _string(entry.get("summary")) or ""], key=len)


def _json_entries(response: Response) -> Iterator[Entry]:
    """JSON Feed 1.1 (jsonfeed.org), read leniently."""
    try:
        feed = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a feed: broken JSON ({error})") from None
    items = feed.get("items") if isinstance(feed, dict) else None
    if not isinstance(items, list):
        raise ValueError("not a feed: JSON without items")
    for item in items:
        if not isinstance(item, dict):
            continue
        authors = item.get("authors") if isinstance(item.get("authors"), list) else [item.get("author")]
        author = authors[0] if authors and isinstance(authors[0], dict) else {}
        attached = item.get("attachments")
        attachment = attached[0] if isinstance(attached, list) and attached and isinstance(attached[0], dict) else {}
        link = _string(item.get("url")) or _string(item.get("external_url"))
        tags = item.get("tags")
        html = _string(item.get("content_html"))
        yield Entry(
            guid=_string(item.get("id")),
            link=urljoin(response.url, link) if link else None,
            title=plain_text(_string(item.get("title"))),
            body=plain_text(html) if html else _string(item.get("content_text")) or _string(item.get("summary")) or "",
            author=_string(author.get("name")),
            site=None,
            lang=_string(item.get("language")) or _string(feed.get("language")),
            tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
            published=(item.get("date_published"), item.get("date_modified")),
            comments=None,
            media=_string(attachment.get("mime_type")),
        )


def _string(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _kind(media: str | None) -> Kind:
    if media and media.startswith("audio/"):
        return Kind.PODCAST
    return Kind.VIDEO if media and media.startswith("video/") else Kind.ARTICLE


def _published(candidates: Sequence[object], now: datetime) -> datetime:
    """The first time that can be read, but never one that is yet to come; now where none can be."""
    for value in candidates:
        try:
            # a tuple is feedparser's own reading, in UTC
            when = parse_time(calendar.timegm(value) if isinstance(value, tuple) else value)
        except (ValueError, OverflowError, TypeError):
            continue
        return min(when, now)
    return now


def _digest(seen: Sighting) -> str:
    """A version of an entry: its id and what it says. 48 bits."""
    parts = (seen.external_id, seen.title, seen.url, seen.body)
    return base64.b64encode(hashlib.sha256(msgspec.json.encode(parts)).digest()[:6]).decode()


def _decoded(cursor: bytes | None) -> _Cursor:
    if cursor is None:
        return _Cursor()
    try:
        return msgspec.json.decode(cursor, type=_Cursor)
    except msgspec.MsgspecError:
        return _Cursor()
