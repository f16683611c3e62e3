"""When a topic is put into words anew, what its label was before, and which summaries are owed: the memory of the flow.

Pure but for the summariser that it asks; time comes from a clock that is passed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import asdict, replace

from models.summaries import labels
from models.summaries.base import Summariser, Summary
from models.summaries.extractive import extract
from streams.codec import RecordError, decode, encode
from streams.ids import item_hash
from streams.records import Life, TopicSummary, TopicUpdate

FIRST_SIZE: Final = 3
"""A topic is summarised from so many items on; before, its leading title says as much."""
CHANGED_GROWTH: Final = 1.5
"""Other leading items are a reason to summarise a topic again that has grown by so much since."""
MAX_TOPICS: Final = 200_000
"""Topics whose last summary is remembered, about 500 bytes each; the one longest untouched is forgotten beyond."""
MAX_OWED: Final = 1_000
"""Topics whose summary is to be tried again, up to 20 kB each; the one due first is let go beyond."""
OWED_AT_ONCE: Final = 32
OWED_ATTEMPTS: Final = 12
OWED_FIRST_S: Final = 60
OWED_MAX_S: Final = 6 * 3_600
"""A model's summary that could not be had is tried again after a minute, then after twice as long each time: for a day
in all."""


class _Owed(msgspec.Struct, array_like=True, frozen=True):
    """A summary that a model was to write and has not."""

    attempt: int
    """Tries so far."""
    at_s: int
    """When it is tried again, seconds since 1970."""
    update: bytes
    """The topic as it was to be summarised."""


class _Last(msgspec.Struct, array_like=True, frozen=True):
    """What a topic looked like when it was summarised last. Fields are only added, with a default."""

    due: int
    """The size from which it is summarised again."""
    leading: list[bytes]
    """Hashes of its leading items."""
    trend_id: str
    """Its home trend: where its state is placed."""
    headline: str = ""
    headline_of: str | None = None
    """The item whose title it is, whether or not that still leads the topic; None: nobody's."""
    keywords: tuple[str, ...] = ()
    method: str = ""
    size: int = 0
    owed: _Owed | None = None

    @property
    def quoted(self) -> Iterable[bytes]:
        """Hashes of the items that summary and label may be of."""
        return self.leading if self.headline_of is None else (*self.leading, item_hash(self.headline_of))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Last).decode


def home_of(key: bytes, value: bytes) -> str:
    """The home trend of a state record: what its place goes by."""
    return _decode(value).trend_id


def check_value(key: bytes, value: bytes) -> None:
    """Reads a state record as the engine would.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        key.decode()
        last = _decode(value)
        if last.owed is not None:
            _update_of(last.owed)
    except (msgspec.MsgspecError, RecordError) as error:
        raise ValueError(str(error)) from None


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
    its first leading item is new, or more than half of them are, and it is half as large again; or it has shrunk, and
    one of them is gone. Its headline stays unless another is clearly better,
    its keywords unless they are clearly outweighed. Where a model was to write the summary and could not, what was said
    instead is replaced later. A topic that is merged away or fades is forgotten.

    Args:
        clock: gives ``created_at``, and when owed summaries are tried again.
        categories: of tracked subjects, by trend; may change at any time.
    """

    def __init__(
        self,
        summariser: Summariser,
        clock: Callable[[], datetime],
        *,
        categories: Mapping[str, str] | None = None,
        max_topics: int = MAX_TOPICS,
        max_owed: int = MAX_OWED,
    ) -> None:
        if max_topics < 1 or max_owed < 1:
            raise ValueError(f"max_topics ({max_topics}) and max_owed ({max_owed}) must be at least 1")
        self._summariser = summariser
        self._clock = clock
        self._categories = {} if categories is None else categories
        self._max_topics = max_topics
        self._max_owed = max_owed
        self._topics: OrderedDict[str, _Last] = OrderedDict()
        self._owed: dict[str, int] = {}
        """When each owed summary is tried again, seconds since 1970: what ``_topics`` says, to be looked up."""

    def __len__(self) -> int:
        return len(self._topics)

    @property
    def owed(self) -> int:
        """Topics whose summary is to be tried again."""
        return len(self._owed)

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Takes one record of the state stream, in log order; None is a tombstone."""
        topic_id = key.decode()
        self._drop(topic_id)
        if value is not None:
            self._keep(topic_id, _decode(value))

    def finish_restore(self) -> None:
        """Says that the state is complete; more topics than the bounds (lower ones than before) are forgotten."""
        while len(self._topics) > self._max_topics:
            self._drop(next(iter(self._topics)))
        for topic_id in self._too_many_owed():
            self._topics[topic_id] = replace(self._topics[topic_id], owed=None)
            del self._owed[topic_id]

    def waiting(self) -> bool:
        """Whether an owed summary is due."""
        return bool(self._owed) and min(self._owed.values()) <= self._clock().timestamp()

    def apply(self, updates: Sequence[TopicUpdate], forgotten: Callable[[bytes], bool] = lambda _: False) -> Summarised:
        """Looks at the newest update of each topic, and at what is owed; summaries, and the state that has changed.

        Args:
            forgotten: whether an item (by :func:`streams.ids.item_hash`) must not be quoted any more: a topic
                that it was summarised from is summarised anew.
        """
        newest: dict[str, TopicUpdate] = {}
        for update in updates:
            known = newest.get(update.topic_id)
            if known is None or update.seq >= known.seq:
                newest[update.topic_id] = update
        written: dict[str, _Last | None] = {}
        homes = {topic_id: update.trend_id for topic_id, update in newest.items()}

        def write(topic_id: str, last: _Last | None) -> None:
            written.pop(topic_id, None)  # in the order of the last records: that of the memory
            written[topic_id] = last

        for update in newest.values():
            if update.life in (Life.MERGED, Life.FADED) and update.topic_id in self._topics:
                self._drop(update.topic_id)
                write(update.topic_id, None)
        due = [update for update in newest.values() if self._is_due(update, forgotten)]
        again = self._due_again({update.topic_id for update in due})
        for topic_id, owed in list(again.items()):
            homes[topic_id] = self._topics[topic_id].trend_id
            if any(forgotten(item_hash(item.item_id)) for item in owed.items):
                write(topic_id, self._keep(topic_id, replace(self._topics[topic_id], owed=None)))
                del again[topic_id]
        asked = [*due, *again.values()]
        found = self._summariser.summarise(asked) if asked else []
        now = self._clock()
        summaries: list[TopicSummary] = []
        for update, summary in zip(asked, found, strict=True):
            attempt = 1 if update.topic_id not in again else self._attempts(update.topic_id) + 1
            if attempt > 1 and summary.fallback is not None:
                write(update.topic_id, self._postponed(update.topic_id, attempt, now))
                continue
            settled = _settled(summary, self._topics.get(update.topic_id), update, forgotten)
            summaries.append(_record(update, settled, labels.category_of(update, self._categories), attempt, now))
            write(update.topic_id, self._keep(update.topic_id, _last_of(update, summaries[-1])))
        for topic_id in self._too_many_owed():
            homes[topic_id] = self._topics[topic_id].trend_id
            write(topic_id, self._keep(topic_id, replace(self._topics[topic_id], owed=None)))
        while len(self._topics) > self._max_topics:
            topic_id = next(iter(self._topics))
            homes[topic_id] = self._topics[topic_id].trend_id
            self._drop(topic_id)
            write(topic_id, None)
        state = [(topic_id.encode(), None if last is None else _encode(last)) for topic_id, last in written.items()]
        return Summarised(summaries, state, {topic_id.encode(): trend_id for topic_id, trend_id in homes.items()})

    # -- what is due --------------------------------------------------------------------------------------------

    def _is_due(self, update: TopicUpdate, forgotten: Callable[[bytes], bool]) -> bool:
        if update.life in (Life.MERGED, Life.FADED) or not update.items:
            return False
        last = self._topics.get(update.topic_id)
        if last is not None and any(forgotten(item) for item in last.quoted):
            return True
        if update.size < FIRST_SIZE:
            return False
        if last is None or update.size >= last.due:
            return True
        leading = _leading(update)
        if update.size < last.size and not set(last.leading) <= set(leading):
            return True  # what is quoted may have been taken away
        new = [item for item in leading if item not in last.leading]
        return update.size >= CHANGED_GROWTH * last.size and (leading[0] in new or 2 * len(new) > len(leading))

    def _due_again(self, beside: set[str]) -> dict[str, TopicUpdate]:
        """The topics whose owed summary is due, those due longest first, as they were to be summarised."""
        now_s = self._clock().timestamp()
        due = sorted((at, topic_id) for topic_id, at in self._owed.items() if at <= now_s and topic_id not in beside)
        owed = {topic_id: self._topics[topic_id].owed for _, topic_id in due[:OWED_AT_ONCE]}
        return {topic_id: _update_of(each) for topic_id, each in owed.items() if each is not None}

    def _attempts(self, topic_id: str) -> int:
        owed = self._topics[topic_id].owed
        return owed.attempt if owed is not None else 0

    def _postponed(self, topic_id: str, attempt: int, now: datetime) -> _Last:
        """What was owed could not be had again: nothing is said, and it is tried later, or no more."""
        last = self._topics[topic_id]
        assert last.owed is not None
        owed = _Owed(attempt, _next_try(attempt, now), last.owed.update) if attempt < OWED_ATTEMPTS else None
        return self._keep(topic_id, replace(last, owed=owed))

    # -- memory -------------------------------------------------------------------------------------------------

    def _keep(self, topic_id: str, last: _Last) -> _Last:
        self._topics[topic_id] = last
        self._topics.move_to_end(topic_id)
        if last.owed is not None:
            self._owed[topic_id] = last.owed.at_s
        else:
            self._owed.pop(topic_id, None)
        return last

    def _drop(self, topic_id: str) -> None:
        self._topics.pop(topic_id, None)
        self._owed.pop(topic_id, None)

    def _too_many_owed(self) -> list[str]:
        """Those that are due first, as many as there are too many."""
        over = len(self._owed) - self._max_owed
        return [topic_id for _, topic_id in sorted((at, t) for t, at in self._owed.items())[:over]] if over > 0 else []


def _settled(found: Summary, last: _Last | None, update: TopicUpdate, forgotten: Callable[[bytes], bool]) -> Summary:
    """A summary with the label that the topic had before, as far as no other is clearly better."""
    if last is None or not last.headline or (found.method == "llm" and last.method != "llm"):
        return found
    if last.headline_of is not None and forgotten(item_hash(last.headline_of)):
        return found
    if found.method == "extractive":
        before = labels.Label(last.headline, last.headline_of, last.keywords)
        return replace(extract(update, before), fallback=found.fallback)
    if labels.clearly_better(found.headline, last.headline, update):
        return found
    return replace(found, headline=last.headline, headline_of=last.headline_of)


def _record(update: TopicUpdate, found: Summary, category: str | None, attempt: int, now: datetime) -> TopicSummary:
    return TopicSummary(
        generation=update.generation,
        topic_id=update.topic_id,
        trend_id=update.trend_id,
        category=category,
        topic_seq=update.seq,
        attempt=attempt,
        created_at=now,
        **asdict(found),
    )


def _last_of(update: TopicUpdate, summary: TopicSummary) -> _Last:
    owed = None
    if summary.fallback is not None:
        owed = _Owed(summary.attempt, _next_try(summary.attempt, summary.created_at), encode(_bare(update)))
    return _Last(
        due=_next_size(update.size),
        leading=_leading(update),
        trend_id=update.trend_id,
        headline=summary.headline,
        headline_of=summary.headline_of,
        keywords=summary.keywords,
        method=summary.method,
        size=update.size,
        owed=owed,
    )


def summarised_at(update: TopicUpdate, summary: TopicSummary) -> bytes:
    """The state of a topic that was summarised as it stands in an update."""
    return _encode(_last_of(update, summary))


def _leading(update: TopicUpdate) -> list[bytes]:
    return [item_hash(item.item_id) for item in update.items]


def _next_size(size: int) -> int:
    """The next of 3, 6, 12, … above a size."""
    due = FIRST_SIZE
    while due <= size:
        due *= 2
    return due


def _next_try(attempt: int, now: datetime) -> int:
    return int(now.timestamp()) + min(OWED_MAX_S, OWED_FIRST_S << (attempt - 1))


def _bare(update: TopicUpdate) -> TopicUpdate:
    return replace(update, centroid="")


def _update_of(owed: _Owed) -> TopicUpdate:
    return decode(TopicUpdate, owed.update)
