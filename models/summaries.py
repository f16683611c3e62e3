"""What a topic says, in a headline and one or two sentences: when to say it anew, the extractive way, and a cache.

Which items lead a topic is decided in ``models.clustering``; a language model behind an API is another summariser with
the same interface.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from models.text import clean_title, strip_markup, terms
from streams.ids import item_hash
from streams.metrics import CACHE_HITS
from streams.records import LeadingItem, Life, TopicSummary, TopicUpdate

MAX_HEADLINE_CHARS: Final = 200
MAX_SENTENCE_CHARS: Final = 320
"""A longer sentence of a body is no summary, a longer title is cut."""
MIN_SENTENCE_CHARS: Final = 40
MAX_KEYWORDS: Final = 8
FIRST_SIZE: Final = 3
"""A topic is summarised from so many items on; before, its leading title says as much."""
MAX_TOPICS: Final = 200_000
"""Topics whose last summary is remembered, about 250 bytes each; the one longest untouched is forgotten beyond."""
CACHE_ENTRIES: Final = 10_000
"""Summaries kept by their input, about 1 kB each."""

_HIT = CACHE_HITS.labels("summary", "hit")
_MISS = CACHE_HITS.labels("summary", "miss")


@dataclass(frozen=True, slots=True)
class Summary:
    """What was found to say, by which method and model."""

    headline: str
    summary: str
    keywords: tuple[str, ...]
    method: str
    model: str


class Summariser(Protocol):
    """Puts a topic into words."""

    def summarise(self, update: TopicUpdate) -> Summary:
        """The summary of a topic with at least one leading item.

        Raises:
            UnavailableError: a remote model cannot be reached or does not answer properly.
        """
        ...


# ------------------------------------------------------------------------------------------------------- extractive


class ExtractiveSummariser:
    """Says it in the sources' own words: the title nearest to the topic's centre, and what adds most to it."""

    def summarise(self, update: TopicUpdate) -> Summary:
        """See :class:`Summariser`. Deterministic: equal updates have equal summaries."""
        titles = list(dict.fromkeys(_title(item) for item in update.items if _title(item)))
        weights = {clean: weight for term, weight in update.terms if (clean := strip_markup(term))}
        headline = _headline(titles) or next(iter(weights), update.topic_id)
        sentences = [part for item in update.items for part in _sentences(item.body)]
        told = _best_sentence(sentences, headline, weights)
        return Summary(
            headline=_cut(headline, MAX_HEADLINE_CHARS),
            summary=f"{told} {_coverage(update)}." if told else _second_title(update, titles, headline, weights),
            keywords=_keywords(weights),
            method="extractive",
            model="extractive-1",
        )


def _title(item: LeadingItem) -> str:
    return clean_title(item.title, item.publisher, item.url)


def _flaws(title: str) -> int:
    """What makes a title a bad headline: shouting, bait, too little or too much of it."""
    letters = [c for c in title if c.isalpha()]
    shouting = len(letters) >= 8 and sum(c.isupper() for c in letters) > 0.7 * len(letters)
    bait = bool(re.search(r"[!?]{2,}|!\s*$|\.{3}\s*$|…\s*$", title))
    return 2 * shouting + bait + (len(title.split()) < 3) + (len(title) > 140)


def _headline(titles: Sequence[str]) -> str:
    """The first title, unless it has flaws and a later one has none (then the first of those)."""
    if not titles or not _flaws(titles[0]):
        return titles[0] if titles else ""
    return next((title for title in titles if not _flaws(title)), titles[0])


_SENTENCE_END = re.compile(r"(?<=[.!?。！？])[\"”’')\]]*\s+(?=[\"“‘'(\[]*[A-Z0-9\u0080-\uffff])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|inc|ltd|co|corp|vs|no|st|gen|sen|gov|e\.g|i\.e|u\.s)|\b[A-Z])\.$", re.I
)


def _sentences(body: str) -> list[str]:
    """The whole sentences of a body, in order; the last one only where it is complete."""
    parts: list[str] = []
    for part in _SENTENCE_END.split(strip_markup(body)):
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] += " " + part
        else:
            parts.append(part)
    return [part for part in parts if part.rstrip("\"”’')]").endswith((".", "!", "?", "。", "！", "？"))]


def _best_sentence(sentences: Sequence[str], headline: str, weights: dict[str, float]) -> str | None:
    """The sentence with most of the topic's terms that says more than the headline; None where there is none."""
    said = set(terms(headline))
    best: tuple[float, str] | None = None
    for sentence in sentences:
        if not MIN_SENTENCE_CHARS <= len(sentence) <= MAX_SENTENCE_CHARS or "://" in sentence:
            continue
        found = set(terms(sentence))
        on_topic = found & (said | weights.keys())
        if not on_topic or len(found - said) < 3:
            continue
        value = sum(weights.get(term, 0.0) for term in found) / (sum(weights.values()) or 1.0)
        value += len(found & said) / (len(said) or 1)
        if best is None or value > best[0]:
            best = value, sentence
    return best[1] if best else None


def _coverage(update: TopicUpdate) -> str:
    items, publishers = max(1, update.size), update.publishers
    counted = f"{items} items" if items > 1 else "One item"
    if publishers > 1:
        return f"{counted} from {publishers} publishers"
    name = next((name for item in update.items if (name := strip_markup(item.publisher or "")[:100])), None)
    return f"{counted} from {name}" if name else counted


def _second_title(update: TopicUpdate, titles: Sequence[str], headline: str, weights: dict[str, float]) -> str:
    """How many report it, and the other title that adds most to the headline without leaving the topic."""
    said = set(terms(headline))
    best: tuple[float, str] | None = None
    for title in titles:
        found = set(terms(title))
        if title == headline or not found - said or _flaws(title) > 1:
            continue
        shared = len(found & said) / len(found | said)
        new = sum(weights.get(term, 0.1) for term in found - said)
        if shared < 0.7 and (shared > 0.0 or found & weights.keys()) and (best is None or new > best[0]):
            best = new, title
    also = f"; also: {_cut(best[1], MAX_SENTENCE_CHARS)}" if best else ""
    text = _coverage(update) + also
    return text if text.endswith((".", "!", "?", "…")) else text + "."


def _keywords(found: Iterable[str]) -> tuple[str, ...]:
    """Terms that each say something new: no numbers, no form or part of one that is there already."""
    kept: list[str] = []
    for term in found:
        if any(c.isalpha() for c in term) and not any(_same(term, other) for other in kept):
            kept.append(term)
            if len(kept) == MAX_KEYWORDS:
                break
    return tuple(kept)


def _same(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    if " " in long and short in long.split(" "):
        return True
    return long.startswith(short) and (len(short) >= 5 or long[len(short) :] in ("s", "es", "'s"))


def _cut(text: str, chars: int) -> str:
    """At most so many characters, cut between words."""
    if len(text) <= chars:
        return text
    head, space, _ = text[: chars - 1].rpartition(" ")
    return (head if space else text[: chars - 1]).rstrip(" ,;:-–—") + "…"


# ------------------------------------------------------------------------------------------------------- the engine


class _Last(msgspec.Struct, array_like=True):
    """What a topic looked like when it was summarised last."""

    due: int
    """The size from which it is summarised again."""
    leading: list[bytes]
    """Hashes of its leading items."""
    trend_id: str
    """Its home trend: where its state is placed."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Last).decode


def home_of(key: bytes, value: bytes) -> str:
    """The home trend of a state record: what its place goes by."""
    return _decode(value).trend_id


def input_hash(update: TopicUpdate) -> bytes:
    """sha256 of what a summariser sees of a topic, lower-cased and with single spaces: 32 bytes."""
    parts = [str(update.size), str(update.publishers), *(term for term, _ in update.terms)]
    for item in update.items:
        parts += (item.title, item.body, item.publisher or "", item.url or "")
    text = "\x1f".join(" ".join(part.casefold().split()) for part in parts)
    return sha256(text.encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class Summarised:
    """What one batch of updates led to: summaries, and the state to write (None: a tombstone)."""

    summaries: list[TopicSummary]
    state: list[tuple[bytes, bytes | None]]
    homes: dict[bytes, str]
    """The home trend of each key in ``state``, which places it."""


class SummarizeEngine:
    """Decides which topics are worth new words, and has them found.

    A topic is summarised when it has 3 items, then 6, 12, …, and when what leads it is no longer what was summarised:
    its first leading item is new, or more than half of them are. A topic that is merged away or fades is forgotten.

    Args:
        clock: gives ``created_at``.
    """

    def __init__(
        self,
        summariser: Summariser,
        clock: Callable[[], datetime],
        *,
        max_topics: int = MAX_TOPICS,
        cache_entries: int = CACHE_ENTRIES,
    ) -> None:
        if max_topics < 1 or cache_entries < 1:
            raise ValueError(f"max_topics ({max_topics}) and cache_entries ({cache_entries}) must be at least 1")
        self._summariser = summariser
        self._clock = clock
        self._max_topics = max_topics
        self._cache_entries = cache_entries
        self._topics: OrderedDict[str, _Last] = OrderedDict()
        self._cache: OrderedDict[bytes, Summary] = OrderedDict()

    def __len__(self) -> int:
        return len(self._topics)

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the state stream, in log order; None is a tombstone."""
        self._topics.pop(key.decode(), None)
        if value is not None:
            self._topics[key.decode()] = _decode(value)

    def finish_restore(self) -> None:
        """Says that the state is complete; more topics than the bound (a lower one than before) are forgotten."""
        while len(self._topics) > self._max_topics:
            self._topics.popitem(last=False)

    def forget(self) -> None:
        """Drops what was kept to spare the summariser: texts that may be of items that are to be forgotten."""
        self._cache.clear()

    def apply(self, updates: Sequence[TopicUpdate], forgotten: Callable[[bytes], bool] = lambda _: False) -> Summarised:
        """Looks at the newest update of each topic; summaries and the state of the topics that were summarised.

        Args:
            forgotten: whether an item (by :func:`streams.ids.item_hash`) must not be quoted any more: a topic
                that it was summarised from is summarised anew.

        Raises:
            UnavailableError: see :meth:`Summariser.summarise`; nothing of the batch is remembered then.
        """
        newest: dict[str, TopicUpdate] = {}
        for update in updates:
            known = newest.get(update.topic_id)
            if known is None or update.seq >= known.seq:
                newest[update.topic_id] = update
        due = [update for update in newest.values() if self._is_due(update, forgotten)]
        summaries = [self._summary(update) for update in due]
        state: list[tuple[bytes, bytes | None]] = []
        for update in due:
            last = _Last(_next_size(update.size), _leading(update), update.trend_id)
            self._topics[update.topic_id] = last
            self._topics.move_to_end(update.topic_id)
            state.append((update.topic_id.encode(), _encode(last)))
        homes = {update.topic_id.encode(): update.trend_id for update in newest.values()}
        for update in newest.values():
            if update.life in (Life.MERGED, Life.FADED) and self._topics.pop(update.topic_id, None) is not None:
                state.append((update.topic_id.encode(), None))
        while len(self._topics) > self._max_topics:
            topic_id, oldest = self._topics.popitem(last=False)
            state.append((topic_id.encode(), None))
            homes[topic_id.encode()] = oldest.trend_id
        return Summarised(summaries, state, homes)

    def _is_due(self, update: TopicUpdate, forgotten: Callable[[bytes], bool]) -> bool:
        if update.life in (Life.MERGED, Life.FADED) or not update.items:
            return False
        last = self._topics.get(update.topic_id)
        if last is not None and any(forgotten(item) for item in last.leading):
            return True
        if update.size < FIRST_SIZE:
            return False
        if last is None or update.size >= last.due:
            return True
        leading = _leading(update)
        new = [item for item in leading if item not in last.leading]
        return leading[0] in new or 2 * len(new) > len(leading)

    def _summary(self, update: TopicUpdate) -> TopicSummary:
        key = input_hash(update)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._summariser.summarise(update)
            cached = False
            _MISS.inc()
            if len(self._cache) > self._cache_entries:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
            cached = True
            _HIT.inc()
        return TopicSummary(
            generation=update.generation,
            topic_id=update.topic_id,
            trend_id=update.trend_id,
            headline=found.headline,
            summary=found.summary,
            keywords=found.keywords,
            method=found.method,
            model=found.model,
            cached=cached,
            topic_seq=update.seq,
            created_at=self._clock(),
        )


def check_value(key: bytes, value: bytes) -> None:
    """Reads a state record as the engine would.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        key.decode()
        _decode(value)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def summarised_at(update: TopicUpdate) -> bytes:
    """The state of a topic that was summarised as it stands in an update."""
    return _encode(_Last(_next_size(update.size), _leading(update), update.trend_id))


def _leading(update: TopicUpdate) -> list[bytes]:
    return [item_hash(item.item_id) for item in update.items]


def _next_size(size: int) -> int:
    """The next of 3, 6, 12, … above a size."""
    due = FIRST_SIZE
    while due <= size:
        due *= 2
    return due
