"""Between topics and a language model: what is known already is not asked again, and nothing that the model does or
fails to do ends a flow. Stores are handed in: this process's memory, and one that all processes share.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from models.budget import DailyBudget, Ledger, MaybeAway, MemoryLedger
from models.remote import RefusedInputError
from models.summaries.base import Fallback, Summary
from models.summaries.extractive import coherence, extract
from models.summaries.llm import ReplyError, Told, borne_out
from streams.errors import SettingsError, TrendsError, UnavailableError
from streams.metrics import CACHE_HITS, SUMMARY_FALLBACKS, SUMMARY_TOKENS
from streams.records import TopicUpdate

log = logging.getLogger(__name__)

FROM_ITEMS: Final = 6
MIN_COHERENCE: Final = 0.45
"""Topics whose leading items have less in common are many stories or none: a model would make one up. Of the summaries
of labelled headlines that are due from six items on, 92% lie above, of those of unselected posts 39%."""
KEPT: Final = timedelta(days=30)
"""A summary is used again for so long."""
MEMORY_KEPT: Final = timedelta(days=1)
"""The same in the memory of a process; then the shared store is asked once more."""
REFUSED_KEPT: Final = timedelta(hours=6)
"""The same of a reply that could not be used: asked again at once, the model would hardly say something else."""
MEMORY_ENTRIES: Final = 10_000
"""Summaries (and lists of them) kept in memory, about 1 kB each."""
SAME_ITEMS: Final = 0.6
"""Of the items that a summary was made from, and of those that lead a topic now, so many must be the same for it to be
used again."""
LISTED: Final = 8
"""Summaries that are listed by an item, the latest; about 300 bytes each."""
OUTAGE_FIRST_S: Final = 15.0
OUTAGE_MAX_S: Final = 600.0
"""After an outage the model is left alone for so long; doubled with every further one in a row."""


class _Listed(msgspec.Struct, array_like=True, frozen=True):
    """A summary, as the items list it that it was made from."""

    key: bytes
    seen: dict[str, bytes]
    """What the model saw of each item, by id: 16 bytes."""


_decode_list = msgspec.msgpack.Decoder(list[_Listed]).decode

Entries = Mapping[bytes, tuple[bytes, tuple[str, ...]]]
"""By key: a summary (or a list of them) as bytes, and the items that it was made from, so that whoever forgets one of
them finds it."""


class SummaryStore(Ledger, Protocol):
    """Keeps summaries by key (32 bytes), and counts tokens; may be shared by many processes.

    All raise UnavailableError where it cannot be reached; none waits for longer than a few seconds.
    """

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """What is known of these keys and has not expired."""
        ...

    def put(self, entries: Entries, expires: datetime) -> None:
        """Keeps summaries until then, or for less long."""
        ...

    def forget(self, items: Sequence[str]) -> None:
        """Deletes whatever was made from one of these items."""
        ...


class MemoryStore(MemoryLedger):
    """The store of one process: bounded, the longest unused forgotten first. Any number of threads may use it."""

    def __init__(self, entries: int = MEMORY_ENTRIES) -> None:
        if entries < 1:
            raise ValueError(f"a store needs room for at least one entry, not {entries}")
        super().__init__()
        self._entries = entries
        self._kept: OrderedDict[bytes, tuple[bytes, tuple[str, ...], datetime]] = OrderedDict()

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """See :class:`SummaryStore`."""
        with self._lock:
            found = {key: kept[0] for key in keys if (kept := self._kept.get(key)) is not None and kept[2] > now}
            for key in found:
                self._kept.move_to_end(key)
            return found

    def put(self, entries: Entries, expires: datetime) -> None:
        """See :class:`SummaryStore`."""
        with self._lock:
            for key, (summary, items) in entries.items():
                self._kept[key] = (summary, items, expires)
                self._kept.move_to_end(key)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)

    def forget(self, items: Sequence[str]) -> None:
        """See :class:`SummaryStore`."""
        gone = set(items)
        with self._lock:
            for key in [key for key, kept in self._kept.items() if not gone.isdisjoint(kept[1])]:
                del self._kept[key]


class Model(Protocol):
    """What is asked: :class:`models.summaries.llm.ChatModel`."""

    def key(self, update: TopicUpdate) -> bytes: ...

    def list_of(self, item_id: str) -> bytes: ...

    def seen(self, update: TopicUpdate) -> dict[str, bytes]: ...

    def estimate(self, update: TopicUpdate) -> int: ...

    def ask(self, update: TopicUpdate) -> Told: ...

    def close(self) -> None: ...


class CachedSummariser:
    """Summaries by a model, each asked for once; where there is none, the extractive one, marked.

    Equal inputs are asked for once, also by several threads at the same time. A summary is used again, too, for a topic
    that most of its items lead, unedited, and whose items of now bear out every word that tells something: topics that
    a replay meets at other sizes have hardly ever the very same leading items, and nothing is said that an item alone
    has said which leads no longer. A reply that could not be used is not asked for again
    for some hours. The budget counts what requests are
    estimated to take before they are made, and what the endpoint says afterwards (:class:`models.budget.DailyBudget`).
    A store that is away is done without.

    Args:
        shared: beside this process's memory; None: there is none.
        concurrency: requests under way at the same time.
        from_items: smaller topics, and those that tell no one story, are not worth a request: extractive for good.
        tokens_per_day: of all processes that share a store, prompts included, by days of UTC.
        clock: for the day, what has expired, and pauses after an outage.
    """

    def __init__(
        self,
        model: Model,
        shared: SummaryStore | None,
        clock: Callable[[], datetime],
        *,
        concurrency: int = 4,
        tokens_per_day: int = 2_000_000,
        from_items: int = FROM_ITEMS,
        memory_entries: int = MEMORY_ENTRIES,
    ) -> None:
        self._model = model
        self._memory = MemoryStore(memory_entries)
        self._shared = shared
        self._lists_here = MemoryStore(memory_entries)
        """Which summaries an item has led to, where no store is shared."""
        self._store: MaybeAway[SummaryStore] = MaybeAway(shared, clock, "summaries are")
        self._budget = DailyBudget(tokens_per_day, self._store, clock)
        self._clock = clock
        self._from_items = from_items
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="summaries")
        self._flying: dict[bytes, Future[Summary]] = {}
        self._lock = threading.Lock()
        self._outages = 0
        self._away_until: datetime | None = None
        self._forgotten = 0
        """Grows whenever something is forgotten: what was asked for before is not kept."""

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        """See :class:`models.summaries.base.Summariser`."""
        worth = {i: u for i, u in enumerate(updates) if u.size >= self._from_items and coherence(u) >= MIN_COHERENCE}
        told = dict(zip(worth, self._told(list(worth.values())), strict=True))
        return [told[i] if i in told else extract(update) for i, update in enumerate(updates)]

    def _told(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        keys = [self._model.key(update) for update in updates]
        wanted: dict[bytes, TopicUpdate] = {}
        for key, update in zip(keys, updates, strict=True):
            wanted.setdefault(key, update)
        known = self._known({key: _items(update) for key, update in wanted.items()})
        known |= self._alike({key: update for key, update in wanted.items() if key not in known})
        futures: dict[bytes, Future[Summary]] = {}
        mine: set[bytes] = set()
        with self._lock:
            known |= self._remembered(
                [key for key in wanted if key not in known]
            )  # another thread may have had it made
            for key, update in wanted.items():
                if key in known:
                    continue
                if key not in self._flying:
                    self._flying[key] = self._pool.submit(self._asked, key, update, self._forgotten)
                    mine.add(key)
                futures[key] = self._flying[key]
        CACHE_HITS.labels("summary", "miss").inc(len(mine))
        CACHE_HITS.labels("summary", "hit").inc(len(keys) - len(mine))
        try:
            found = {key: future.result() for key, future in futures.items()}
        finally:
            with self._lock:
                for key in mine:
                    self._flying.pop(key, None)
        told: list[Summary] = []
        for key, update in zip(keys, updates, strict=True):
            summary = known[key] if key in known else found[key]
            told.append(summary if key in mine else self._again(summary, update))
            mine.discard(key)
        return told

    def forget(self, items: Sequence[str]) -> None:
        """See :class:`models.summaries.base.Summariser`."""
        with self._lock:
            self._forgotten += 1
        self._memory.forget(items)
        self._lists_here.forget(items)
        if self._shared is not None:
            self._shared.forget(items)

    def close(self) -> None:
        """See :class:`models.summaries.base.Summariser`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._model.close()
        self._store.close()

    @staticmethod
    def _again(summary: Summary, update: TopicUpdate) -> Summary:
        """A summary that was made for an equal input; quotes and headline are then of this topic's own items."""
        return extract_marked(update, summary.fallback) if summary.fallback else replace(summary, cached=True)

    # -- the stores ---------------------------------------------------------------------------------------------

    def _known(self, wanted: Mapping[bytes, Collection[str]]) -> dict[bytes, Summary]:
        """What the stores hold of keys, each with the items that it is for."""
        now = self._clock()
        known = self._memory.get(list(wanted), now)
        missing = [key for key in wanted if key not in known]
        if missing:
            nothing: dict[bytes, bytes] = {}
            found = self._store.ask(lambda store: store.get(missing, now), nothing)
            # The process forgets it with its own items, and sooner than the store does.
            self._memory.put({k: (v, tuple(wanted[k])) for k, v in found.items()}, now + MEMORY_KEPT)
            known |= found
        return _summaries(known)

    def _alike(self, wanted: Mapping[bytes, TopicUpdate]) -> dict[bytes, Summary]:
        """Summaries that were made from almost the same items, where those of now bear them out; known by these, too,
        from here on."""
        if not wanted:
            return {}
        with self._lock:
            forgotten = self._forgotten
        seen = {key: self._model.seen(update) for key, update in wanted.items()}
        lists = self._lists({item for items in seen.values() for item in items})
        near = {key: _nearest(items, [each for item in items for each in lists[item]]) for key, items in seen.items()}
        made = self._known({each.key: each.seen for listed in near.values() for each in listed})
        found: dict[bytes, Summary] = {}
        for key, listed in near.items():
            for each in listed:
                summary = made.get(each.key)
                if summary is None or summary.fallback is not None:
                    continue
                if (fitting := borne_out(summary, wanted[key])) is not None:
                    found[key] = fitting
                    self._put(key, fitting, seen[key], KEPT, forgotten)
                    break
        return found

    def _lists(self, items: Collection[str]) -> dict[str, list[_Listed]]:
        """What is listed by items, the latest first."""
        keys = {item: self._model.list_of(item) for item in items}
        nothing: dict[bytes, bytes] = {}
        if self._shared is None:
            found = self._lists_here.get(list(keys.values()), self._clock())
        else:
            found = self._store.ask(lambda store: store.get(list(keys.values()), self._clock()), nothing)
        return {item: _listed(found.get(key)) for item, key in keys.items()}

    def _remembered(self, keys: Sequence[bytes]) -> dict[bytes, Summary]:
        return _summaries(self._memory.get(keys, self._clock()))

    def _keep(self, key: bytes, update: TopicUpdate, summary: Summary, forgotten: int) -> None:
        """Keeps a summary, and lists it by its items. Of two that are listed by one item at the same time, one may be
        left out: it is then not found by almost the same items."""
        self._put(key, summary, _items(update), KEPT, forgotten)
        seen = self._model.seen(update)
        entries: dict[bytes, tuple[bytes, tuple[str, ...]]] = {}
        for item, listed in self._lists(seen).items():
            latest = [_Listed(key, seen), *(each for each in listed if each.key != key)][:LISTED]
            items = tuple(dict.fromkeys(item for each in latest for item in each.seen))
            entries[self._model.list_of(item)] = (msgspec.msgpack.encode(latest), items)
        if self._has_forgotten_since(forgotten):
            return
        expires = self._clock() + KEPT
        if self._shared is None:
            self._lists_here.put(entries, expires)
        else:
            self._store.ask(lambda store: store.put(entries, expires), None)

    def _put(self, key: bytes, summary: Summary, items: Iterable[str], kept: timedelta, forgotten: int) -> None:
        if self._has_forgotten_since(forgotten):
            return
        entries, now = {key: (msgspec.json.encode(summary), tuple(items))}, self._clock()
        self._memory.put(entries, now + min(kept, MEMORY_KEPT))
        self._store.ask(lambda store: store.put(entries, now + kept), None)

    def _has_forgotten_since(self, forgotten: int) -> bool:
        with self._lock:
            return forgotten != self._forgotten

    # -- the model ----------------------------------------------------------------------------------------------

    def _asked(self, key: bytes, update: TopicUpdate, forgotten: int) -> Summary:
        """One request; the extractive summary, marked, where nothing comes of it."""
        if self._is_away():
            return extract_marked(update, Fallback.UNAVAILABLE)
        taken = self._budget.take(self._model.estimate(update))
        if taken is None:
            return extract_marked(update, Fallback.BUDGET)
        used: int | None = None
        try:
            told = self._model.ask(update)
        except ReplyError as error:
            used, why = error.tokens, error.why
            self._is_back()
            refused = replace(extract(update), fallback=why)
            self._put(key, refused, _items(update), REFUSED_KEPT, forgotten)
            log.info("topic %s: %s", update.topic_id, error)
        except RefusedInputError as error:
            used, why = 0, Fallback.REFUSED
            log.warning("topic %s: %s", update.topic_id, error)
        except (SettingsError, UnavailableError) as error:
            used, why = 0, Fallback.REFUSED if isinstance(error, SettingsError) else Fallback.UNAVAILABLE
            self._went_away(error)
        else:
            used = told.tokens
            self._is_back()
            self._keep(key, update, told.summary, forgotten)
            return told.summary
        finally:
            spent = taken.tokens if used is None else used
            self._budget.settle(taken, spent)
            SUMMARY_TOKENS.inc(spent)
        return extract_marked(update, why)

    def _is_away(self) -> bool:
        with self._lock:
            return self._away_until is not None and self._clock() < self._away_until

    def _went_away(self, error: TrendsError) -> None:
        with self._lock:
            if self._away_until is not None and self._clock() < self._away_until:
                return  # one of several requests that failed together
            pause_s = min(OUTAGE_MAX_S, OUTAGE_FIRST_S * 2.0**self._outages)
            self._outages += 1
            self._away_until = self._clock() + timedelta(seconds=pause_s)
        log.warning("summaries are extractive for %.0f s, then the model is asked again: %s", pause_s, error)

    def _is_back(self) -> None:
        with self._lock:
            self._outages, self._away_until = 0, None


def extract_marked(update: TopicUpdate, why: Fallback) -> Summary:
    """The extractive summary in the place of a model's, and why."""
    SUMMARY_FALLBACKS.labels(why.value).inc()
    return replace(extract(update), fallback=why)


def _nearest(seen: Mapping[str, bytes], listed: Iterable[_Listed]) -> list[_Listed]:
    """Summaries that were made from almost the same items, none of which has been edited since; the nearest first."""
    near: dict[bytes, tuple[int, _Listed]] = {}
    for each in listed:
        both = seen.keys() & each.seen.keys()
        if len(both) >= SAME_ITEMS * max(len(seen), len(each.seen)) and all(seen[i] == each.seen[i] for i in both):
            near.setdefault(each.key, (len(both), each))
    return [each for _, each in sorted(near.values(), key=lambda pair: -pair[0])]


def _listed(value: bytes | None) -> list[_Listed]:
    """A list from a store; none where another release has written what this one cannot read."""
    try:
        return [] if value is None else _decode_list(value)
    except msgspec.MsgspecError:
        return []


def _items(update: TopicUpdate) -> tuple[str, ...]:
    return tuple(item.item_id for item in update.items)


def _summaries(found: Mapping[bytes, bytes]) -> dict[bytes, Summary]:
    return {key: summary for key, value in found.items() if (summary := _decoded(value)) is not None}


def _decoded(value: bytes) -> Summary | None:
    """A summary from a store; None where another release has written what this one cannot read."""
    try:
        return msgspec.json.decode(value, type=Summary)
    except msgspec.MsgspecError:
        return None
