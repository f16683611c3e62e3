"""The Hacker News source: its public API's lists, items looked up side by side, and items looked at again.

An item is looked at again at growing intervals while it is young, sooner while its engagement moves or the API says
that it has changed. Only what has changed is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from connectors.base import Batch, Context, Limits, Sighting, SourceError, bad_line, count_of, host_of
from connectors.html import plain_text
from connectors.http import FetchError
from connectors.times import parse_time
from streams.errors import SettingsError
from streams.records import Engagement, Kind

# -- options -----------------------------------------------------------------------------------------------------------


class HackerNewsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said about Hacker News."""

    base_url: Annotated[str, Meta(description="Where the API is.")] = "https://hacker-news.firebaseio.com/v0"
    interval_s: Annotated[float, Meta(gt=0, description="Time between two looks at the lists, seconds.")] = 60.0
    concurrency: Annotated[int, Meta(ge=1, le=100, description="Items looked up side by side.")] = 20
    requests_per_s: Annotated[float, Meta(gt=0, le=1_000, description="Requests a second, at most.")] = 50.0
    timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for one answer, seconds.")] = 20.0


# -- bounds ------------------------------------------------------------------------------------------------------------

LISTS: Final = ("newstories", "topstories", "beststories")
LIST_IDS: Final = 1_000
"""Ids taken of one list (the API gives up to 500)."""
GAP_ITEMS: Final = 3_000
"""After an absence: ids between the last one seen and the oldest of the lists that are looked up, newest first."""
TRACKED: Final = 4_000
"""Items that are remembered, so that only changes are sent; about 60 bytes each in the cursor."""
AGAIN_PER_PASS: Final = 400
"""Known items looked at again in one pass, the most overdue first."""
AGAIN_FIRST_S: Final = 300
AGAIN_MOST_S: Final = 43_200
AGAIN_AGE_S: Final = 5 * 86_400
"""Older items are not looked at again, unless a list or the updates name them."""
LOST_IN_A_ROW: Final = 10
"""So many items without an answer, one after the other: the API is away, the pass is given up."""
BATCH: Final = 50
BODY_BYTES: Final = 4_000_000

KINDS: Final[Mapping[str, Kind]] = {"story": Kind.POST, "job": Kind.JOB, "poll": Kind.POLL}
"""Types that are items of ours; comments and the options of polls are none."""


class _Known(Struct, array_like=True):
    """What is remembered of an item. Times are seconds since 1970."""

    digest: str
    """Of what was sent last; empty where there was nothing to send yet."""
    due: int
    wait: int
    time: int


class _Cursor(Struct):
    """``newest``: the highest id when the last whole pass began."""

    newest: int = 0
    items: dict[int, _Known] = {}


@dataclass(frozen=True, slots=True)
class _Plan:
    """Ids to look up, in order; the ids of the lists; the highest id there is; what could not be read."""

    ids: list[int]
    listed: frozenset[int]
    newest: int
    bad: tuple[str, ...]


# -- the connector -----------------------------------------------------------------------------------------------------


class HackerNewsConnector:
    """Polls the API.

    Raises:
        SettingsError: the base URL is none.
    """

    name = "hackernews"
    source = "hackernews"

    def __init__(self, options: HackerNewsOptions | None = None) -> None:
        self._options = options = options or HackerNewsOptions()
        if host_of(options.base_url) is None:
            raise SettingsError(f"hackernews: base_url must be an http or https URL, not {options.base_url!r}")
        self._base = options.base_url.rstrip("/")
        self.interval_s: float | None = options.interval_s
        self.limits = Limits(
            priority=1, connections=options.concurrency, requests_per_s=options.requests_per_s,
            timeout_s=options.timeout_s, body_bytes=BODY_BYTES,
        )  # fmt: skip

    async def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        """One look at the lists, the updates and what is due, item by item.

        Raises:
            FetchError, SourceError: not one list could be read, or the API went away.
        """
        state = _decoded(cursor)
        plan = await self._plan(state, context)
        bad, seen = list(plan.bad), list[Sighting]()
        done = 0
        async with aclosing(self._looked_up(plan.ids, context)) as answers:
            async for item_id, answer in answers:
                done += 1
                try:
                    sighting = self._note(state, item_id, answer, context.now())
                except ValueError as error:
                    bad.append(bad_line(f"item {item_id}", error))
                else:
                    if sighting is not None:
                        seen.append(sighting)
                if len(seen) + len(bad) >= BATCH:
                    yield Batch(tuple(seen), _encoded(state), tuple(bad), done / len(plan.ids))
                    seen, bad = [], []
        state.newest = max(state.newest, plan.newest)
        self._forget(state, plan.listed)
        yield Batch(tuple(seen), _encoded(state), tuple(bad), 1.0)

    # -- what to look at -------------------------------------------------------------------------------------------

    async def _plan(self, state: _Cursor, context: Context) -> _Plan:
        """What this pass is to look at.

        Raises:
            FetchError, SourceError: not one list could be read.
        """
        names = (*LISTS, "updates", "maxitem")
        answers = await asyncio.gather(*(self._json(name, context) for name in names), return_exceptions=True)
        bad: list[str] = []
        found: dict[str, list[int]] = {}
        newest = 0
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, FetchError | ValueError):
                    raise answer
                bad.append(bad_line(name, answer))
            elif name == "maxitem":
                newest = answer if isinstance(answer, int) and not isinstance(answer, bool) else 0
            else:
                ids = answer.get("items") if isinstance(answer, dict) else answer
                if isinstance(ids, list):
                    found[name] = list(dict.fromkeys(i for i in ids if type(i) is int and i > 0))[:LIST_IDS]
                else:
                    bad.append(bad_line(name, "not a list of ids"))
        if not any(name in found for name in LISTS):
            error = next((a for a in answers if isinstance(a, FetchError)), None)
            raise error if error is not None else SourceError(f"{self._base}: {'; '.join(bad)}")
        now = int(context.now().timestamp())
        listed = dict.fromkeys(i for name in LISTS for i in found.get(name, ()))
        new = [i for i in listed if i not in state.items]
        changed = [i for i in found.get("updates", ()) if i in state.items and state.items[i].digest]
        due = sorted((i for i, known in state.items.items() if known.due <= now), key=lambda i: state.items[i].due)
        gap = self._gap(state, found.get("newstories", ()))
        newest = max(newest, *found.get("newstories", [0])[:1]) if newest else max(listed, default=0)
        ids = dict.fromkeys([*sorted(new), *changed, *due[:AGAIN_PER_PASS], *gap])
        return _Plan(list(ids), frozenset(listed), newest, tuple(bad))

    def _gap(self, state: _Cursor, new_stories: Sequence[int]) -> Iterable[int]:
        """Ids that came and left the list of new stories while nobody looked."""
        if not state.newest or not new_stories:
            return ()
        oldest = min(new_stories)
        first = max(state.newest + 1, oldest - GAP_ITEMS)
        return (i for i in range(oldest - 1, first - 1, -1) if i not in state.items)

    # -- looking up ------------------------------------------------------------------------------------------------

    async def _looked_up(self, ids: Sequence[int], context: Context) -> AsyncGenerator[tuple[int, Any], None]:
        """Items in the order of their ids here, a bounded number of them asked for at once."""
        waiting, lost = deque(ids), 0
        running: deque[tuple[int, asyncio.Task[Any]]] = deque()
        try:
            while waiting or running:
                while waiting and len(running) < 2 * self._options.concurrency:
                    item_id = waiting.popleft()
                    running.append((item_id, asyncio.create_task(self._json(f"item/{item_id}", context))))
                item_id, task = running.popleft()
                answer: Any
                try:
                    answer, lost = await task, 0
                except (FetchError, ValueError) as error:
                    answer = error
                    lost += isinstance(error, FetchError)
                    if lost == LOST_IN_A_ROW:
                        raise
                yield item_id, answer
        finally:
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    async def _json(self, path: str, context: Context) -> Any:
        """One document.

        Raises:
            FetchError: it could not be had.
            ValueError: it is no JSON.
        """
        answer = await context.http.get(f"{self._base}/{path}.json", accept="application/json")
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            what = answer.content_type or "unknown type"
            raise ValueError(f"{path}: not JSON but {len(answer.body):,} bytes of {what}") from None

    # -- what became of it -----------------------------------------------------------------------------------------

    def _note(self, state: _Cursor, item_id: int, answer: Any, now: datetime) -> Sighting | None:
        """Remembers an answer; the sighting where something is new.

        Raises:
            ValueError: the answer is no item; it is asked for again later.
        """
        now_s = int(now.timestamp())
        known = state.items.get(item_id)
        if known is None:
            known = state.items[item_id] = _Known("", now_s, AGAIN_FIRST_S, now_s)
        known.due = now_s + known.wait
        if isinstance(answer, Exception):
            known.wait = min(2 * known.wait, AGAIN_MOST_S)
            raise ValueError(str(answer))
        if answer is None:  # ids are given out before their items can be read
            known.wait = min(2 * known.wait, AGAIN_MOST_S)
            return None
        sighting = _sighting(item_id, answer, now)
        if sighting is None:
            del state.items[item_id]
            return None
        known.time = int(sighting.published_at.timestamp())
        digest = _digest(sighting)
        first, moved = not known.digest, digest != known.digest
        known.wait = AGAIN_FIRST_S if moved else min(2 * known.wait, AGAIN_MOST_S)
        known.due = now_s + known.wait
        known.digest = digest
        return (sighting if first else replace(sighting, again=True)) if moved else None

    def _forget(self, state: _Cursor, listed: Collection[int]) -> None:
        """Drops what is too old to be looked at again and in no list, then the oldest over the bound."""
        kept = {i: k for i, k in state.items.items() if i in listed or k.due - k.time < AGAIN_AGE_S}
        over = len(kept) - TRACKED
        if over > 0:
            for item_id in sorted(kept, key=lambda i: (i in listed, kept[i].time))[:over]:
                del kept[item_id]
        state.items = kept


def _sighting(item_id: int, answer: Any, now: datetime) -> Sighting | None:
    """An item of the API as a sighting; None for comments and the like."""
    if not isinstance(answer, dict) or answer.get("id") != item_id:
        raise ValueError(f"not an item but {str(answer)[:80]!r}")
    gone = answer.get("deleted") is True or answer.get("dead") is True
    kind = KINDS.get(str(answer.get("type")))
    if kind is None:
        return None
    title, url = plain_text(_text(answer, "title")), _text(answer, "url") or None
    if kind is Kind.POST and url is None and title.lower().startswith("ask hn"):
        kind = Kind.QUESTION
    if not title and not gone:
        raise ValueError("no title")
    published = min(parse_time(answer["time"]), now) if answer.get("time") is not None else now
    return Sighting(
        source="hackernews",
        external_id=str(item_id),
        kind=Kind.DELETED if gone else kind,
        title="" if gone else title,
        observed_at=now,
        published_at=published,
        url=url,
        body="" if gone else plain_text(_text(answer, "text")),
        author=_text(answer, "by") or None,
        publisher=host_of(url) or "news.ycombinator.com",
        lang="en",
        engagement=Engagement(points=count_of(answer.get("score")), comments=count_of(answer.get("descendants"))),
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def _digest(seen: Sighting) -> str:
    """Changes when something that readers see has changed."""
    parts = (seen.kind, seen.title, seen.url, seen.body, seen.engagement)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:12]


def _decoded(cursor: bytes | None) -> _Cursor:
    if cursor is None:
        return _Cursor()
    try:
        return msgspec.json.decode(cursor, type=_Cursor)
    except msgspec.MsgspecError:
        return _Cursor()


def _encoded(state: _Cursor) -> bytes:
    return msgspec.json.encode(state)
