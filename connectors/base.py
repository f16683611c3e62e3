"""What every connector shares: the sighting that it yields, the batch with its cursor, and the protocol of both sides.

No fetching here (`http.py`), no routing and no delivery (`runner.py`); a source's own words stay in its own file.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import force_setattr

from streams.errors import ExitCode, TrendsError
from streams.ids import item_id_of
from streams.records import Engagement, Kind, Observation, SourceGap

if TYPE_CHECKING:
    from connectors.http import Fetcher

BATCH_SIGHTINGS: Final = 500
"""A batch has at most this many sightings …"""
BATCH_CHARS: Final = 4_000_000
"""… and about this much text (one sighting more may pass it)."""
TITLE_CHARS: Final = 1_000
NAME_CHARS: Final = 200
"""Bound of author, publisher, category and each tag."""
TAGS: Final = 50
ID_CHARS: Final = 512
URL_CHARS: Final = 4_096
MAX_COUNT: Final = 2**53


class SourceError(TrendsError):
    """A source cannot be read now, or (``again`` false) not at all; the message says why, and what to do."""

    exit_code = ExitCode.UNAVAILABLE

    def __init__(self, message: str, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class BadRow(ValueError):
    """One row or entry that cannot be read. Counted and reported, never fatal."""


class Sighting(Struct, frozen=True, kw_only=True):
    """What a connector saw: an observation before it is routed. Whatever is put in, it can be written as JSON.

    Texts lose NUL characters and lone surrogates, titles are one line, names and tags are cut to their bounds. A body
    keeps its length: an item over the record size limit is the publisher's to turn into a dead letter.

    Raises:
        ValueError: no external id, or a time without a zone.
    """

    source: str
    external_id: str
    kind: Kind
    title: str
    observed_at: datetime
    published_at: datetime
    url: str | None = None
    body: str = ""
    author: str | None = None
    publisher: str | None = None
    lang: str | None = None
    tags: tuple[str, ...] = ()
    category: str | None = None
    engagement: Engagement = Engagement()
    again: bool = False
    """The source knows that it gave this item before: the router then counts it no second time."""

    def __post_init__(self) -> None:
        if not self.external_id:
            raise ValueError("a sighting needs an external id")
        for name in ("observed_at", "published_at"):
            if getattr(self, name).tzinfo is None:
                raise ValueError(f"{name} needs a time zone")
        force_setattr(self, "external_id", bounded_id(self.external_id))
        force_setattr(self, "title", one_line(self.title, TITLE_CHARS))
        force_setattr(self, "body", printable(self.body).strip())
        for name in ("author", "publisher", "lang", "category"):
            value = getattr(self, name)
            if value is not None:
                force_setattr(self, name, one_line(value, NAME_CHARS) or None)
        if self.url is not None:
            url = printable(self.url).strip()
            force_setattr(self, "url", url if 0 < len(url) <= URL_CHARS else None)
        if self.tags:
            tags = dict.fromkeys(one_line(tag, NAME_CHARS) for tag in self.tags)
            force_setattr(self, "tags", tuple(tag for tag in tags if tag)[:TAGS])

    @property
    def item_id(self) -> str:
        return item_id_of(self.source, self.external_id)

    @property
    def event_time(self) -> datetime:
        """``min(published_at, observed_at)``, as that of an observation."""
        return min(self.published_at, self.observed_at)

    def routed(self, route: Route) -> Observation:
        """The observation that goes to the raw stream of its source."""
        return Observation(
            item_id=self.item_id,
            source=self.source,
            external_id=self.external_id,
            kind=self.kind,
            title=self.title,
            observed_at=self.observed_at,
            published_at=self.published_at,
            trend_id=route.trend_id,
            url=self.url,
            body=self.body,
            author=self.author,
            publisher=self.publisher,
            lang=self.lang,
            tags=self.tags,
            category=self.category,
            engagement=self.engagement,
            mentions=route.mentions,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Sightings in order, and where the connector stands once all of them are delivered."""

    sightings: tuple[Sighting, ...]
    cursor: bytes
    """The connector's own JSON: a pass that starts with it gives what comes after this batch, and only that."""
    bad: tuple[str, ...] = ()
    """One line for every row that could not be read."""
    fraction: float | None = None
    """How much of the pass is done, 0 … 1; None where that cannot be known."""


class Route(Protocol):
    """Where the router sends an item: its home trend, and up to two more that it mentions."""

    @property
    def trend_id(self) -> str: ...

    @property
    def mentions(self) -> tuple[str, ...]: ...


RouteFn = Callable[[Sighting], Route]


class ItemRouter(Protocol):
    """The router of `models.routing`."""

    def route(
        self,
        title: str,
        body: str = "",
        tags: Sequence[str] = (),
        *,
        at: datetime,
        lang: str | None = None,
        publisher: str | None = None,
        url: str | None = None,
        again: bool = False,
    ) -> Route: ...


def routing(router: ItemRouter) -> RouteFn:
    """A router as the runner wants it: by an item's texts, language, site and event time."""
    return lambda seen: router.route(
        seen.title,
        seen.body,
        seen.tags,
        at=seen.event_time,
        lang=seen.lang,
        publisher=seen.publisher,
        url=seen.url,
        again=seen.again,
    )


class Publisher(Protocol):
    """Where observations go. `streams.producer.Publisher` in the product."""

    async def publish(self, observations: Sequence[Observation]) -> None:
        """Returns once all are acknowledged. Raises UnavailableError."""

    async def load_cursor(self, connector: str) -> bytes | None:
        """The cursor that was saved last."""

    async def save_cursor(self, connector: str, cursor: bytes, items: int) -> None:
        """Saves a cursor. Raises UnavailableError."""

    async def save_gap(self, gap: SourceGap) -> None:
        """Says when a source could not be read. Raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one source may take, and how long it may take it."""

    priority: int = 1
    """Who publishes first when Kafka is slow: 0 before 1 before 2 (nobody starves)."""
    connections: int = 10
    requests_per_s: float = 10.0
    timeout_s: float = 20.0
    """Of one request, from connect to the last byte."""
    body_bytes: int = 16 * 1_048_576
    """Largest response, decompressed."""
    attempts: int = 4
    """Of one request, and of one pass without --follow."""
    backoff_s: float = 0.5
    """Before the second attempt; doubles, with full jitter."""
    backoff_max_s: float = 60.0
    retry_after_max_s: float = 900.0
    """A source that asks for a longer pause gets this one."""
    stall_s: float | None = 120.0
    """A pass in which nothing happens for so long is given up and begun again; None: it may wait for ever (stdin)."""
    queue_batches: int = 4
    """Batches read ahead while Kafka is slow."""


@dataclass(frozen=True, slots=True)
class Clockwork:
    """Time and chance, injected: tests turn the hands themselves."""

    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    """0 ≤ x < 1."""

    def backoff_s(self, failures: int, limits: Limits) -> float:
        """Full jitter: anywhere below base · 2^(failures−1), bounded (Brooker 2015, "Exponential Backoff And Jitter").

        Never less than a tenth of that, so that chance cannot turn a retry into a hammer.
        """
        ceiling = min(limits.backoff_s * 2.0 ** min(failures - 1, 30), limits.backoff_max_s)
        return ceiling * max(0.1, self.random())


class Context:
    """What the runner lends to one pass: time, requests, and a sign of life."""

    def __init__(self, clockwork: Clockwork, fetcher: Fetcher) -> None:
        self.clockwork = clockwork
        self.http = fetcher

    def now(self) -> datetime:
        return self.clockwork.now()

    async def sleep(self, seconds: float) -> None:
        """Waits on purpose: this is no stall."""
        await self.http.pulse.sleep(seconds)


class Connector(Protocol):
    """One source with one target. `batches` is one pass over it, from where the cursor says."""

    @property
    def name(self) -> str:
        """Connector and target, the key of the cursor: ``rss``, ``file:posts.csv:1a2b3c4d``. At most 200 characters."""

    @property
    def source(self) -> str:
        """Whose raw stream the sightings go to."""

    @property
    def limits(self) -> Limits: ...

    @property
    def interval_s(self) -> float | None:
        """Seconds between two passes when following; None: one pass is all there is."""

    def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        """One pass. Bad rows are part of the batches; raises SourceError or UnavailableError where all stands still."""


_SPACE = re.compile(r"\s+")


def printable(text: str) -> str:
    """Without what no store can hold: NUL characters go, lone surrogates become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def one_line(text: str, chars: int) -> str:
    """Printable, whitespace collapsed, cut to so many characters with an ellipsis."""
    text = _SPACE.sub(" ", printable(text)).strip()
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def bounded_id(text: str) -> str:
    """An external id of at most 512 characters: a longer one is replaced by its digest."""
    text = printable(text).strip() or text.encode("utf-8", "surrogatepass").hex()
    return text if len(text) <= ID_CHARS else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def host_of(url: str | None) -> str | None:
    """The host of a URL, lower-cased, without ``www.``; None where there is none."""
    if not url:
        return None
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.removeprefix("www.") or None if host else None


def count_of(value: object) -> int:
    """A total from whatever a source says: 3, 3.0, "1,234" and None; what is no number counts 0, bounds hold."""
    if isinstance(value, str):
        value = value.strip().replace(",", "").replace("_", "")
    try:
        number = int(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0
    return max(-MAX_COUNT, min(MAX_COUNT, number))


def bad_line(where: str, why: object) -> str:
    """What is reported of a bad row: short, one line."""
    return one_line(f"{where}: {why}", 300)
